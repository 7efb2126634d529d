"""The commands that come before a codec: fetch and train."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from . import config
from .cli_common import (
    add_command,
    add_data,
    add_machine,
    number,
    use_machine,
    weights_path,
    whole,
)


def add_fetch(commands: Any) -> None:
    command = add_command(
        commands,
        "fetch",
        _run_fetch,
        "Download RoadScene, 196 aligned visible and infrared road scenes (20 MB). Every file is "
        "checked by its SHA-256; what was cut off goes on where it ended.",
    )
    command.add_argument("folder", type=Path, help="where to, made if it is not there")


def _run_fetch(args: argparse.Namespace) -> None:
    from .download import fetch_roadscene

    folder = fetch_roadscene(args.folder)
    print(f"{folder} is ready; use it with --data {shlex.quote(str(folder))}")


def add_train(commands: Any) -> None:
    command = add_command(
        commands,
        "train",
        _run_train,
        "Train one stage of a codec. Stage visible comes first; alone is the infrared side "
        "without reference, which is also the baseline; pair starts from both; infrared is the "
        "plain codec of Minnen et al. on infrared. A run that was stopped goes on from its last "
        "checkpoint when the same command is given again; on several devices with: accelerate "
        "launch -m xmodal_lite train …",
    )
    add = command.add_argument
    add("--stage", choices=("visible", "alone", "pair", "infrared"), required=True)
    add("--out", type=Path, required=True, metavar="FOLDER", help="of the run: checkpoint, "
        "metrics as CSV, weights.safetensors at the end")  # fmt: skip
    add("--preset", default="lite", help="sizes and switches: lite or paper (default: lite)")
    add_data(command, many=True)
    add("--steps", type=whole, default=2000, metavar="N", help="optimiser steps (default: 2000)")
    add("--batch", type=whole, default=8, metavar="N", help="crops a step (default: 8)")
    add("--crop", type=whole, default=128, metavar="PIXELS", help="infrared pixels on a crop's "
        "side, a multiple of 64; visible crops have twice that (default: 128)")  # fmt: skip
    add("--every", type=whole, default=500, metavar="N", help="steps between checkpoints "
        "(default: 500)")  # fmt: skip
    add("--visible", metavar="WEIGHTS", help="the trained reference codec, for stage pair: a "
        "file, or the name of shipped weights")  # fmt: skip
    add("--start", metavar="WEIGHTS", help="where to start from: for stage pair the baseline")
    add("--branches", metavar="WEIGHTS", help="a pair codec whose reference branches to take "
        "over; where they join the baseline they start at zero again")  # fmt: skip
    add("--target", choices=("infrared", "visible"), default="infrared", help="what is coded "
        "given the other (default: infrared)")  # fmt: skip
    add("--lmbda", type=number, metavar="L", help="train for one λ only: the weight of the MSE "
        "on [0, 1] against bits per pixel (default: the preset's)")  # fmt: skip
    add("--lmbda-range", type=number, nargs=2, metavar=("LOW", "HIGH"), help="draw λ from here "
        "only (default: all that the codec covers)")  # fmt: skip
    add("--context", choices=("checkerboard", "autoregressive"), help="(default: the preset's)")
    add("--coefficients", choices=("float32", "float16", "int8"), help="wire format of γ and β "
        "(default: the preset's)")  # fmt: skip
    parts = ("channel", "spatial", "entropy")
    add("--without", nargs="+", choices=parts, default=[], help="reference branches to leave out")
    add("--with", dest="with_", nargs="+", choices=parts, default=[], help="branches to add")
    add("--learning-rate", type=number, default=1e-3, metavar="R", help="Adam's (default: 0.001)")
    add("--muon-rate", type=number, default=0.02, metavar="R", help="Muon's, on weight matrices; "
        "0 is Adam for all (default: 0.02)")  # fmt: skip
    add("--reference-rate", type=number, metavar="R", help="Adam's on the weights that the "
        "reference runs through (default: they are treated like all others)")  # fmt: skip
    add("--only-reference", action="store_true", help="leave every weight that the baseline has "
        "as it is, train the reference branches alone")  # fmt: skip
    add("--without-coefficients", type=number, default=0.0, metavar="SHARE", help="of the "
        "crops, coded without γ and β, so that the other branches learn to do without "
        "(default: 0)")  # fmt: skip
    add("--decay-from", type=number, default=0.5, metavar="SHARE", help="of the run, after which "
        "the rates fall linearly to zero (default: 0.5)")  # fmt: skip
    add("--seed", type=int, default=0, help="of weights, crops, λ and noise (default: 0)")
    add_machine(command, device=False)


def _run_train(args: argparse.Namespace) -> None:
    from dataclasses import replace

    changes: dict[str, Any] = {"target": args.target}
    branches = {"channel": "channel_alignment", "spatial": "spatial_alignment",
                "entropy": "entropy_reference"}  # fmt: skip
    if both := sorted({*args.with_} & {*args.without}):
        raise ValueError(f"branch {both[0]} is both in --with and --without")
    changes |= {branches[name]: True for name in args.with_}
    changes |= {branches[name]: False for name in args.without}
    if args.lmbda is not None:
        changes["lambdas"] = (args.lmbda,)
    if args.context:
        changes["context"] = args.context
    if args.coefficients:
        changes["coefficient_format"] = args.coefficients
    codec_config = replace(config.preset(args.preset), **changes)
    if args.crop % 64:
        raise ValueError(f"crop {args.crop}; expected a multiple of 64")
    lmbda_range = None
    if args.lmbda_range is not None:
        low, high = (config.check_lambda(end, codec_config.lambdas) for end in args.lmbda_range)
        if low > high:
            raise ValueError(f"λ range {low:g} to {high:g}; expected the lower end first")
        lmbda_range = (low, high)
    import torch

    from .stages import build_codec
    from .training import Trainer, TrainingConfig

    use_machine(args)
    torch.manual_seed(args.seed)
    weights = [
        None if name is None else weights_path(name)
        for name in (args.visible, args.start, args.branches)
    ]
    codec = build_codec(codec_config, args.stage, *weights)
    schedule = TrainingConfig(
        stage=args.stage,
        steps=args.steps,
        batch=args.batch,
        crop=args.crop,
        learning_rate=args.learning_rate,
        muon_rate=args.muon_rate,
        reference_rate=args.reference_rate,
        only_reference=args.only_reference,
        without_coefficients=args.without_coefficients,
        decay_from=args.decay_from,
        data=tuple(args.data or [""]),  # no name: XMODAL_DATA, else the embedded scenes
        lmbda_range=lmbda_range,
        seed=args.seed,
    )
    Trainer(codec, schedule, args.out, every=args.every).run()
    print(f"{args.out / 'weights.safetensors'} holds the trained codec")
