"""The commands that measure codecs: evaluate and bench."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_common import (
    add_command,
    add_data,
    add_machine,
    add_mode,
    check_output,
    columns,
    frame_size,
    named_weights,
    names,
    number,
    use_machine,
    whole,
)

if TYPE_CHECKING:
    from .curves import BDRow
    from .records import Measurement


# --- evaluate ------------------------------------------------------------------------------------


def add_evaluate(commands: Any) -> None:
    command = add_command(
        commands,
        "evaluate",
        _run_evaluate,
        "Measure codecs on real files and compare them. Each image is coded to a file, the file "
        "is read back and decoded. Prints mean bpp (of the target image's pixels; of a pair's "
        "file the target's part) and PSNR in dB, and BD-rate in % against the anchor with its "
        "quartiles over images.",
    )
    add = command.add_argument
    add_data(command)
    add("--split", default="test", help="train, valid, test or all (default: test)")
    add("--codecs", type=names, metavar="A,B,…", help="shipped weights by name, names given with "
        "--weights, and classical codecs: hevc, av1, avif, jpeg2000, webp, jpeg (default: "
        "pair,alone,minnen,hevc,jpeg2000, as far as shipped)")  # fmt: skip
    add("--weights", type=named_weights, action="append", default=[], metavar="NAME=FILE",
        help="weights for a name; several of one name (one model a λ) make one curve")  # fmt: skip
    add("--lmbda", type=number, nargs="+", metavar="L", help="λ of the learned codecs "
        "(default: all that each was trained for)")  # fmt: skip
    add("--reference", nargs="+", default=["true"], choices=("true", "other", "blank", "mirrored"),
        help="controls: the reference that encoder and decoder get (default: true)")  # fmt: skip
    add_mode(command)
    add("--target", choices=("infrared", "visible"), default="infrared",
        help="what is coded and measured (default: infrared)")  # fmt: skip
    add("--limit", type=whole, metavar="N", help="only the first N pairs")
    add("--estimate", action="store_true", help="also the bpp that the likelihoods promise")
    add("--anchor", help="codec to compare with (default: the first)")
    add("--range", type=number, nargs=2, metavar=("LOW", "HIGH"),
        help="compare between these rates in bpp only (default: where they overlap)")  # fmt: skip
    add("--interpolation", choices=("pchip", "akima"), default="pchip",
        help="between the points of a curve (default: pchip)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write every measurement")
    add_machine(command)


def _run_evaluate(args: argparse.Namespace) -> None:
    if args.json is not None:
        check_output(args.json)
    if args.range is not None and not 0 < args.range[0] < args.range[1]:
        raise ValueError(f"--range {args.range[0]:g} {args.range[1]:g}; expected 0 < LOW < HIGH")
    from . import evaluation
    from .curves import bd_table
    from .data import open_pairs
    from .pretrained import available
    from .records import save_results

    use_machine(args)
    weights: dict[str, list[str]] = {}
    for name, path in args.weights:
        weights.setdefault(name, []).append(path)
    names = args.codecs or [
        *(name for name in ("pair", "alone", "minnen") if name in {*available(), *weights}),
        *("hevc", "jpeg2000"),
    ]
    codecs = evaluation.contenders(
        names, weights, args.lmbda, list(dict.fromkeys(args.reference)), args.device, args.mode
    )
    labels = [label for contender in codecs for label in contender.labels]
    if args.anchor is not None and args.anchor not in labels:
        raise ValueError(f"anchor {args.anchor!r} is not measured; expected one of {labels}")
    pairs = open_pairs(args.data, args.split)[: args.limit]
    records = evaluation.evaluate(codecs, pairs, args.target, args.estimate)
    if args.json is not None:
        save_results(
            args.json,
            [record.to_dict() for record in records],
            args.command_line,
            args.device,
            data={"kind": pairs.kind, "split": pairs.split, "pairs": len(pairs)},
            target=args.target,
        )
    count = f"{len(pairs)} pair{'s' * (len(pairs) > 1)}"
    print(f"{count} of {pairs.kind} ({pairs.split}), {args.target}\n")
    print(_mean_table(records))
    bpp_range = None if args.range is None else tuple(args.range)
    rows = bd_table(records, args.anchor, bpp_range, args.interpolation)
    if rows:
        span = (
            "where curves overlap" if bpp_range is None else "{:g} to {:g} bpp".format(*bpp_range)
        )
        print(f"\nAgainst {rows[0].anchor}, {span} ({args.interpolation}):\n")
        print(_bd_table(rows))


def _mean_table(records: Sequence[Measurement]) -> str:
    from .curves import mean_curves

    optional = [name for name in ("total_bpp", "estimate_bpp")
                if any(getattr(record, name) is not None for record in records)]  # fmt: skip
    head = ["codec", "λ or setting", "bpp", "PSNR dB"]
    head += [{"total_bpp": "file bpp", "estimate_bpp": "estimate bpp"}[name] for name in optional]
    return columns(
        head,
        (
            [label, f"{row['point']:g}", f"{row['bpp']:.4f}", f"{row['psnr']:.3f}"]
            + [f"{row[name]:.4f}" if name in row else "" for name in optional]
            for label, curve in mean_curves(records).items()
            for row in curve
        ),
    )


def _bd_table(rows: Sequence[BDRow]) -> str:
    def quartiles(values: tuple[float, float, float], form: str) -> str:
        return " / ".join("–" if math.isnan(value) else format(value, form) for value in values)

    table = columns(
        ["codec", "BD-rate %", "quartiles", "BD-PSNR dB", "quartiles", "images", "overlap"],
        (
            [
                row.codec,
                "–" if math.isnan(row.mean.rate) else f"{row.mean.rate:+.2f}",
                quartiles(row.rate_quartiles, "+.1f"),
                "–" if math.isnan(row.mean.psnr) else f"{row.mean.psnr:+.3f}",
                quartiles(row.psnr_quartiles, "+.2f"),
                str(row.images),
                f"{100 * row.mean.overlap:.0f} %",
            ]
            for row in rows
        ),
    )
    apart = [
        f"{row.codec}: no overlap on {len(row.apart)} images ({', '.join(row.apart)})"
        for row in rows
        if row.apart
    ]
    return "\n".join([table, *apart])


# --- bench ---------------------------------------------------------------------------------------


def add_bench(commands: Any) -> None:
    command = add_command(
        commands,
        "bench",
        _run_bench,
        "Time every stage of codecs on the same pair. Prints seconds of the wall clock and of the "
        "CPUs, peak memory in MiB, and millions of pixels per second of the frame that a stage "
        "works on, beside CompressAI's mbt2018 (N = M = 192, serial context, untrained) on the "
        "infrared frame; and parameters and multiply-adds. Each codec runs in its own process.",
    )
    add = command.add_argument
    add("codecs", nargs="*", default=["lite", "paper"], metavar="CODEC", help="presets lite and "
        "paper (untrained), shipped weights, weights files (default: lite paper)")  # fmt: skip
    add("--size", type=frame_size, nargs="+", default=[(512, 640)], metavar="WxH", help="of the "
        "infrared frame in pixels, an embedded scene; the visible one is twice that "
        "(default: 640x512)")  # fmt: skip
    add("--lmbda", type=number, default=1024, metavar="L", help="(default: 1024)")
    add("--repeat", type=whole, default=3, metavar="N", help="runs a stage; the median counts "
        "(default: 3)")  # fmt: skip
    add("--without-mbt2018", action="store_true", help="leave CompressAI's codec out")
    add("--json", type=Path, metavar="FILE", help="write the numbers, in bytes and seconds")
    add_machine(command)


def _run_bench(args: argparse.Namespace) -> None:
    if args.json is not None:
        check_output(args.json)
    from tqdm.auto import tqdm

    from . import benchmark
    from .records import save_results
    from .scenes import render_scene

    use_machine(args)
    names = [*args.codecs, *([] if args.without_mbt2018 else [benchmark.REFERENCE_SPEED])]
    for name in names:
        benchmark.check_name(name)
    records = []
    with tqdm(total=len(names) * len(args.size), desc="timing", disable=None) as bar:
        for height, width in args.size:
            scene = render_scene(0, height, width)
            for name in names:
                bar.set_postfix_str(f"{name} {width}×{height}")
                records.append(
                    benchmark.bench(
                        name, scene.visible, scene.infrared, args.lmbda, args.repeat,
                        args.threads, args.device,
                    )
                )  # fmt: skip
                bar.update()
    if args.json is not None:
        save_results(args.json, records, args.command_line, args.device)
    threads = records[0]["threads"]
    print(f"{args.device}, {threads} thread{'s' * (threads > 1)}, median of {args.repeat}\n")
    print(_cost_table(records))
    print("\n" + _stage_table(records))


def _cost_table(records: Sequence[dict[str, Any]]) -> str:
    head = ["codec", "size", "parameters", "reference's", "multiply-adds", "reference's",
            "kMAC/pixel", "bytes", "at rest MiB"]  # fmt: skip
    return columns(
        head,
        (
            [
                r["codec"],
                f"{r['width']}×{r['height']}",
                f"{r['parameters'] / 1e6:.2f} M",
                f"{r['reference_parameters'] / 1e6:.2f} M",
                f"{r['multiply_adds'] / 1e9:.1f} G",
                f"{r['reference_multiply_adds'] / 1e9:.1f} G",
                f"{r['multiply_adds'] / (r['height'] * r['width']) / 1e3:.1f}",
                str(r["bytes"]),
                f"{r['memory_at_rest'] / 2**20:.0f}",
            ]
            for r in records
        ),
    )


def _stage_table(records: Sequence[dict[str, Any]]) -> str:
    return columns(
        ["codec", "size", "stage", "seconds", "CPU s", "peak MiB", "Mpixel/s"],
        (
            [
                r["codec"],
                f"{r['width']}×{r['height']}",
                stage["stage"],
                f"{stage['seconds']:.3f}",
                f"{stage['cpu_seconds']:.3f}",
                f"{stage['peak_memory'] / 2**20:.0f}",
                f"{stage['pixels_per_second'] / 1e6:.3f}",
            ]
            for r in records
            for stage in r["stages"]
        ),
    )
