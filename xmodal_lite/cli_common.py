"""What the commands share: kinds of arguments, shipped weights, tables and the line while busy."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).with_name("weights")

MODES = {
    "none": "the reference is not used",
    "space": "the reference is used without coefficients",
    "all": "the reference is used",
}
"""What a file in each mode makes of its reference, for one line."""


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str, **options: Any
) -> argparse.ArgumentParser:
    brief = text.partition(". ")[0]
    command = commands.add_parser(
        name, help=brief[0].lower() + brief[1:], description=text, **options
    )
    command.set_defaults(run=run)
    return command


# --- arguments -----------------------------------------------------------------------------------


def whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number")
    return value


def names(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("no names; expected some, with commas between")
    return found


def named_weights(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=FILE")
    return name, path


def frame_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected WIDTHxHEIGHT, such as 640x512")
    return int(height), int(width)


def add_data(command: argparse.ArgumentParser, many: bool = False) -> None:
    command.add_argument(
        "--data",
        metavar="FOLDER",
        action="append" if many else "store",
        help="folder of pairs: FLIR ADAS v1.3 or v2, RoadScene, or visible/ and infrared/ with "
        "equal names (default: XMODAL_DATA, else the embedded scenes)"
        + ("; give it again to mix folders evenly" if many else ""),
    )


def add_mode(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mode", choices=("auto", *MODES), default="auto", help="what a file uses of its "
        "reference: nothing, all but the coefficients, all, or whichever of these costs least by "
        "λ·D + R (default: auto)"
    )  # fmt: skip


def add_machine(command: argparse.ArgumentParser, device: bool = True) -> None:
    if device:
        command.add_argument(
            "--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)"
        )
    command.add_argument(
        "--threads", type=whole, metavar="N", help="threads of PyTorch (default: its own choice)"
    )


# --- before, while and after a command works -----------------------------------------------------


def use_machine(args: argparse.Namespace) -> None:
    import torch

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if getattr(args, "device", "cpu") == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device 'cuda' is not there; expected cpu")
        torch.backends.cudnn.deterministic = True  # encoder and decoder must see the same image


def check_output(path: Path) -> None:
    """Before the work: better to hear it now than in an hour."""
    folder = path.parent
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected the name of a file to write")
    if not folder.is_dir():
        raise ValueError(f"{path}: cannot be written (no folder {folder})")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: cannot be written (no permission in {folder})")


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
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


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
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


# --- weights, without waiting for PyTorch --------------------------------------------------------


def weights_path(name: str) -> str:
    shipped = WEIGHTS / f"{name}.safetensors"
    return str(shipped) if shipped.is_file() else name


def shipped_by(fingerprint: bytes) -> str | None:
    """The name of the shipped weights of that fingerprint."""
    paths = sorted(WEIGHTS.glob("*.safetensors"))
    return next((path.stem for path in paths if _fingerprint(path) == fingerprint), None)


def _fingerprint(path: Path) -> bytes:
    """What the file says of its own weights, without waiting for PyTorch."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return bytes.fromhex((file.metadata() or {}).get("fingerprint", ""))
