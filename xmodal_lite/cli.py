"""Command line: ``xmodal-lite`` or ``python -m xmodal_lite``.

Reading arguments, printing and files are here and in the helpers of this module; everything that
computes is in the modules above, which are imported only by the command that needs them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .cli_coding import add_decode, add_encode, add_info
from .cli_measuring import add_bench, add_evaluate
from .cli_training import add_fetch, add_train

PROGRAM = "xmodal-lite"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit code, 0, 2 after an error (one line on stderr), 130 after Ctrl-C.
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
    for add in (add_fetch, add_train, add_evaluate, add_encode, add_decode, add_info, add_bench):
        add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__

        print(PROGRAM, __version__)
        parser.exit()
