"""Command line: ``xmodal-lite`` or ``python -m xmodal_lite``.

Reading arguments, printing and files are here; everything that computes is in the modules above,
which are imported only by the command that needs them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import bitstream, config

if TYPE_CHECKING:
    from .curves import BDRow
    from .records import Measurement

PROGRAM = "xmodal-lite"
INTERRUPTED = 130
WEIGHTS = Path(__file__).with_name("weights")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit code: 0, 2 after an error (one line on stderr), 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a console that has no λ
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries' deprecations are not the reader's
            args = _parser().parse_args(argv)
            args.command_line = shlex.join(["python", "-m", "xmodal_lite", *argv])
            args.run(args)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        if os.environ.get("XMODAL_TRACEBACK"):
            raise
        print(f"{PROGRAM}: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    elif isinstance(error, ImportError):
        text = f"{error}; pip install -r requirements.txt brings every package"
    elif isinstance(error, MemoryError):
        text = "out of memory"
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__


# --- arguments -----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Compress an infrared frame with the visible frame of the same scene as "
        "reference: a pair goes in, one .xmc file comes out, the pair comes back.",
        epilog=f"{PROGRAM} COMMAND --help says more. Sizes are in bytes, rates in bits per pixel "
        "(bpp), qualities in dB (PSNR on 8-bit images). Errors are one line, exit code 2.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for add in (_fetch, _train, _evaluate, _encode, _decode, _info, _bench):
        add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__

        print(PROGRAM, __version__)
        parser.exit()


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, **options: Any
) -> argparse.ArgumentParser:
    brief = text.partition(". ")[0]
    command = commands.add_parser(
        name, help=brief[0].lower() + brief[1:], description=text, **options
    )
    command.set_defaults(run=run)
    return command


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number")
    return value


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("no names; expected some, with commas between")
    return names


def _named_weights(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=FILE")
    return name, path


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected WIDTHxHEIGHT, such as 640x512")
    return int(height), int(width)


def _add_data(command: argparse.ArgumentParser, many: bool = False) -> None:
    command.add_argument(
        "--data",
        metavar="FOLDER",
        action="append" if many else "store",
        help="folder of pairs: FLIR ADAS v1.3 or v2, RoadScene, or visible/ and infrared/ with "
        "equal names (default: XMODAL_DATA, else the embedded scenes)"
        + ("; give it again to mix folders evenly" if many else ""),
    )


def _add_machine(command: argparse.ArgumentParser, device: bool = True) -> None:
    if device:
        command.add_argument(
            "--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)"
        )
    command.add_argument(
        "--threads", type=_count, metavar="N", help="threads of PyTorch (default: its own choice)"
    )


def _use_machine(args: argparse.Namespace) -> None:
    import torch

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if getattr(args, "device", "cpu") == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device 'cuda' is not there; expected cpu")
        torch.backends.cudnn.deterministic = True  # encoder and decoder must see the same image


def _check_output(path: Path) -> None:
    """Before the work: better to hear it now than in an hour."""
    folder = path.parent
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected the name of a file to write")
    if not folder.is_dir():
        raise ValueError(f"{path}: cannot be written (no folder {folder})")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: cannot be written (no permission in {folder})")


@contextlib.contextmanager
def _busy(what: str) -> Iterator[None]:
    """A line in the terminal that counts seconds while something without steps runs."""
    from tqdm.auto import tqdm

    done = threading.Event()
    with tqdm(desc=what, bar_format="{desc} … {elapsed}", leave=False, disable=None) as bar:

        def tick() -> None:
            while not done.wait(0.5):
                bar.refresh()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns under their heads, the first to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    lines.insert(1, ["─" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


# --- fetch ---------------------------------------------------------------------------------------


def _fetch(commands: Any) -> None:
    command = _command(
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


# --- train ---------------------------------------------------------------------------------------


def _train(commands: Any) -> None:
    command = _command(
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
    _add_data(command, many=True)
    add("--steps", type=_count, default=2000, metavar="N", help="optimiser steps (default: 2000)")
    add("--batch", type=_count, default=8, metavar="N", help="crops a step (default: 8)")
    add("--crop", type=_count, default=128, metavar="PIXELS", help="infrared pixels on a crop's "
        "side, a multiple of 64; visible crops have twice that (default: 128)")  # fmt: skip
    add("--every", type=_count, default=500, metavar="N", help="steps between checkpoints "
        "(default: 500)")  # fmt: skip
    add("--visible", metavar="WEIGHTS", help="the trained reference codec, for stage pair: a "
        "file, or the name of shipped weights")  # fmt: skip
    add("--start", metavar="WEIGHTS", help="where to start from: for stage pair the baseline")
    add("--branches", metavar="WEIGHTS", help="a pair codec whose reference branches to take "
        "over; where they join the baseline they start at zero again")  # fmt: skip
    add("--target", choices=("infrared", "visible"), default="infrared", help="what is coded "
        "given the other (default: infrared)")  # fmt: skip
    add("--lmbda", type=_number, metavar="L", help="train for one λ only: the weight of the MSE "
        "on [0, 1] against bits per pixel (default: the preset's)")  # fmt: skip
    add("--lmbda-range", type=_number, nargs=2, metavar=("LOW", "HIGH"), help="draw λ from here "
        "only (default: all that the codec covers)")  # fmt: skip
    add("--context", choices=("checkerboard", "autoregressive"), help="(default: the preset's)")
    add("--coefficients", choices=("float32", "float16", "int8"), help="wire format of γ and β "
        "(default: the preset's)")  # fmt: skip
    parts = ("channel", "spatial", "entropy")
    add("--without", nargs="+", choices=parts, default=[], help="reference branches to leave out")
    add("--with", dest="with_", nargs="+", choices=parts, default=[], help="branches to add")
    add("--learning-rate", type=_number, default=1e-3, metavar="R", help="Adam's (default: 0.001)")
    add("--muon-rate", type=_number, default=0.02, metavar="R", help="Muon's, on weight matrices; "
        "0 is Adam for all (default: 0.02)")  # fmt: skip
    add("--reference-rate", type=_number, metavar="R", help="Adam's on the weights that the "
        "reference runs through (default: they are treated like all others)")  # fmt: skip
    add("--only-reference", action="store_true", help="leave every weight that the baseline has "
        "as it is, train the reference branches alone")  # fmt: skip
    add("--without-coefficients", type=_number, default=0.0, metavar="SHARE", help="of the "
        "crops, coded without γ and β, so that the other branches learn to do without "
        "(default: 0)")  # fmt: skip
    add("--decay-from", type=_number, default=0.5, metavar="SHARE", help="of the run, after which "
        "the rates fall linearly to zero (default: 0.5)")  # fmt: skip
    add("--seed", type=int, default=0, help="of weights, crops, λ and noise (default: 0)")
    _add_machine(command, device=False)


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

    _use_machine(args)
    torch.manual_seed(args.seed)
    weights = [
        None if name is None else _weights_path(name)
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


def _weights_path(name: str) -> str:
    shipped = WEIGHTS / f"{name}.safetensors"
    return str(shipped) if shipped.is_file() else name


# --- evaluate ------------------------------------------------------------------------------------


def _evaluate(commands: Any) -> None:
    command = _command(
        commands,
        "evaluate",
        _run_evaluate,
        "Measure codecs on real files and compare them. Each image is coded to a file, the file "
        "is read back and decoded. Prints mean bpp (of the target image's pixels; of a pair's "
        "file the target's part) and PSNR in dB, and BD-rate in % against the anchor with its "
        "quartiles over images.",
    )
    add = command.add_argument
    _add_data(command)
    add("--split", default="test", help="train, valid, test or all (default: test)")
    add("--codecs", type=_names, metavar="A,B,…", help="shipped weights by name, names given with "
        "--weights, and classical codecs: hevc, av1, avif, jpeg2000, webp, jpeg (default: "
        "pair,alone,minnen,hevc,jpeg2000, as far as shipped)")  # fmt: skip
    add("--weights", type=_named_weights, action="append", default=[], metavar="NAME=FILE",
        help="weights for a name; several of one name (one model a λ) make one curve")  # fmt: skip
    add("--lmbda", type=_number, nargs="+", metavar="L", help="λ of the learned codecs "
        "(default: all that each was trained for)")  # fmt: skip
    add("--reference", nargs="+", default=["true"], choices=("true", "other", "blank", "mirrored"),
        help="controls: the reference that encoder and decoder get (default: true)")  # fmt: skip
    _add_mode(command)
    add("--target", choices=("infrared", "visible"), default="infrared",
        help="what is coded and measured (default: infrared)")  # fmt: skip
    add("--limit", type=_count, metavar="N", help="only the first N pairs")
    add("--estimate", action="store_true", help="also the bpp that the likelihoods promise")
    add("--anchor", help="codec to compare with (default: the first)")
    add("--range", type=_number, nargs=2, metavar=("LOW", "HIGH"),
        help="compare between these rates in bpp only (default: where they overlap)")  # fmt: skip
    add("--interpolation", choices=("pchip", "akima"), default="pchip",
        help="between the points of a curve (default: pchip)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write every measurement")
    _add_machine(command)


def _run_evaluate(args: argparse.Namespace) -> None:
    if args.json is not None:
        _check_output(args.json)
    if args.range is not None and not 0 < args.range[0] < args.range[1]:
        raise ValueError(f"--range {args.range[0]:g} {args.range[1]:g}; expected 0 < LOW < HIGH")
    from . import evaluation
    from .curves import bd_table
    from .data import open_pairs
    from .pretrained import available
    from .records import save_results

    _use_machine(args)
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
    return _table(
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

    table = _table(
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


# --- encode, decode, info ------------------------------------------------------------------------


def _encode(commands: Any) -> None:
    command = _command(
        commands,
        "encode",
        _run_encode,
        "Code a pair into one .xmc file. The visible frame is brought to twice the infrared "
        "size. Prints bytes, bits per pixel of each image's own pixels, and the PSNR in dB that "
        "the decoder will see.",
    )
    add = command.add_argument
    add("frames", nargs="+", type=Path, metavar="FRAME", help="VISIBLE then INFRARED, 8-bit "
        "images; just the one frame for weights that code one")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="such as pair.xmc")
    add("--lmbda", type=_number, default=1024, metavar="L", help="λ: weight of the MSE on [0, 1] "
        "against bits per pixel, 256 (small file) to 4096 (best) (default: 1024)")  # fmt: skip
    add("--reference-lmbda", type=_number, metavar="L", help="λ of the reference frame (default: "
        "the same)")  # fmt: skip
    add("--weights", default="pair", metavar="NAME", help="shipped weights by name, or a "
        ".safetensors file (default: pair)")  # fmt: skip
    _add_mode(command)
    _add_machine(command)


_MODES = {
    "none": "the reference is not used",
    "space": "the reference is used without coefficients",
    "all": "the reference is used",
}


def _add_mode(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mode", choices=("auto", *_MODES), default="auto", help="what a file uses of its "
        "reference: nothing, all but the coefficients, all, or whichever of these costs least by "
        "λ·D + R (default: auto)"
    )  # fmt: skip


def _run_encode(args: argparse.Namespace) -> None:
    _check_output(args.output)
    from . import coding
    from .frames import read_infrared, read_pair, read_visible
    from .pair_codec import PairCodec
    from .pretrained import load_codec, write_whole

    _use_machine(args)
    codec = load_codec(args.weights, args.device)
    target = coding.target_of(codec)
    pair_codec = isinstance(codec, PairCodec) and codec.reference_codec is not None
    if len(args.frames) != (2 if pair_codec else 1):
        wanted = "two frames, VISIBLE and INFRARED" if pair_codec else f"one, {target.upper()}"
        raise ValueError(f"weights {args.weights!r} take {wanted}; got {len(args.frames)}")
    if pair_codec:
        pair = read_pair(*args.frames)
        images = {"visible": pair.visible, "infrared": pair.infrared}
    else:
        if args.reference_lmbda is not None:
            raise ValueError(
                f"weights {args.weights!r} code no reference; --reference-lmbda is of no use"
            )
        read = read_infrared if target == "infrared" else read_visible
        images = {target: read(args.frames[0])}
    with _busy("coding"):
        coded = coding.code(codec, images, args.lmbda, args.reference_lmbda, args.mode)
    write_whole(args.output, coded.data)
    rows = []
    for name, image in images.items():
        own = coding.target_bytes(coded.data, target)
        own = own if name == target else len(coded.data) - own
        height, width = image.shape[:2]
        quality = coding.psnr_image(image, getattr(coded.reconstruction, name))
        rows.append([name, f"{width}×{height}", str(own), f"{8 * own / (height * width):.4f}",
                     f"{quality:.2f}"])  # fmt: skip
    print(_table(["image", "size", "bytes", "bpp", "PSNR dB"], rows))
    used = ""
    if isinstance(codec, PairCodec) and pair_codec:
        used = f", {_MODES[codec.mode_of(bitstream.unpack(coded.data)[0])]}"
    print(f"{args.output}: {len(coded.data)} bytes at λ = {args.lmbda:g}{used}")


def _decode(commands: Any) -> None:
    command = _command(
        commands,
        "decode",
        _run_decode,
        "Decode an .xmc file into visible.png and infrared.png. The file and the weights it was "
        "written with are all that is needed.",
    )
    add = command.add_argument
    add("file", type=Path)
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the images go, "
        "made if it is not there")  # fmt: skip
    add("--only", choices=("visible", "infrared"), help="decode and write this one; the "
        "reference alone is quicker")  # fmt: skip
    add("--weights", metavar="NAME", help="shipped weights by name, or a .safetensors file "
        "(default: the shipped ones that wrote the file)")  # fmt: skip
    _add_machine(command)


def _run_decode(args: argparse.Namespace) -> None:
    data = args.file.read_bytes()
    header = _of_file(args.file, bitstream.unpack, data, args.only)[0]
    weights = args.weights or _shipped_by(header.fingerprint)
    if weights is None:
        raise ValueError(
            f"{args.file}: written with weights {header.fingerprint.hex()}, which are none of the "
            "shipped; name their file with --weights"
        )
    from . import coding
    from .pretrained import load_codec, write_whole

    _use_machine(args)
    codec = load_codec(weights, args.device)
    with _busy("decoding"):
        decoded = _of_file(args.file, coding.decode, codec, data, args.only)
    images = {name: image for name, image in decoded._asdict().items() if image is not None}
    args.output.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        path = args.output / f"{name}.png"
        write_whole(path, _png(image))
        print(f"{path}: {image.shape[1]}×{image.shape[0]}")


def _png(image: Any) -> bytes:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _of_file(path: Path, run: Callable[..., Any], *arguments: Any) -> Any:
    """What ``run`` returns; a stream's error gets the file's name."""
    try:
        return run(*arguments)
    except bitstream.BitstreamError as error:
        raise bitstream.BitstreamError(f"{path}: {error}") from None


def _info(commands: Any) -> None:
    command = _command(
        commands,
        "info",
        _run_info,
        "Print what an .xmc file holds, without decoding it. Sizes in pixels, λ, the context "
        "model, and bytes per section; bpp is per pixel of the image that a section belongs to, "
        "of the target where it belongs to both (of the infrared image where neither refers to "
        "the other).",
    )
    command.add_argument("file", type=Path)


def _run_info(args: argparse.Namespace) -> None:
    data = args.file.read_bytes()
    header = _of_file(args.file, bitstream.unpack, data)[0]
    sizes = bitstream.section_sizes(data)
    print(f"{args.file}: {len(data)} bytes, version {bitstream.VERSION}")
    pixels = {}
    for name in header.images:
        height, width = getattr(header, f"{name}_size")
        pixels[name] = height * width
        role = ", the target" if header.target == name else ", the reference"
        if header.target is None:
            role = ", coded by itself" if len(header.images) > 1 else ""
        print(f"{name}: {width}×{height} at λ = {getattr(header, f'{name}_lmbda'):g}{role}")
    shipped = _shipped_by(header.fingerprint)
    print(f"context {header.context}, coefficients {header.coefficient_format}")
    print(f"weights {header.fingerprint.hex()}, " + (
        f"shipped as {shipped!r}" if shipped else "none of the shipped ones"))  # fmt: skip
    shared = pixels[header.target or header.images[-1]]
    rows = []
    for name, size in sizes.items():
        bpp = 8 * size / pixels.get(name.partition("_")[0], shared)
        rows.append([name, str(size), f"{100 * size / len(data):.1f}", f"{bpp:.4f}"])
    print("\n" + _table(["section", "bytes", "%", "bpp"], rows))


def _shipped_by(fingerprint: bytes) -> str | None:
    """The name of the shipped weights of that fingerprint."""
    paths = sorted(WEIGHTS.glob("*.safetensors"))
    return next((path.stem for path in paths if _fingerprint(path) == fingerprint), None)


def _fingerprint(path: Path) -> bytes:
    """What the file says of its own weights, without waiting for PyTorch."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return bytes.fromhex((file.metadata() or {}).get("fingerprint", ""))


# --- bench ---------------------------------------------------------------------------------------


def _bench(commands: Any) -> None:
    command = _command(
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
    add("--size", type=_size, nargs="+", default=[(512, 640)], metavar="WxH", help="of the "
        "infrared frame in pixels, an embedded scene; the visible one is twice that "
        "(default: 640x512)")  # fmt: skip
    add("--lmbda", type=_number, default=1024, metavar="L", help="(default: 1024)")
    add("--repeat", type=_count, default=3, metavar="N", help="runs a stage; the median counts "
        "(default: 3)")  # fmt: skip
    add("--without-mbt2018", action="store_true", help="leave CompressAI's codec out")
    add("--json", type=Path, metavar="FILE", help="write the numbers, in bytes and seconds")
    _add_machine(command)


def _run_bench(args: argparse.Namespace) -> None:
    if args.json is not None:
        _check_output(args.json)
    from tqdm.auto import tqdm

    from . import benchmark
    from .records import save_results
    from .scenes import render_scene

    _use_machine(args)
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
    return _table(
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
    return _table(
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
