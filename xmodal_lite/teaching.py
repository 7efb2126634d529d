"""For the book's cells only: a reader's result against ours, and results for text and tables."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """What a passed :func:`check` shows as the result of its cell."""

    name: str
    shape: tuple[int, ...]
    difference: float

    def __repr__(self) -> str:
        what = "×".join(map(str, self.shape)) + " values" if self.shape else "one value"
        apart = f"at most {self.difference:.2g} apart" if self.difference else "equal"
        return f"✓ {self.name}: yours and ours agree ({what}, {apart})"


def check(name: str, yours: Any, ours: Any, tolerance: float = 1e-6) -> Agreement:
    """Compare a reader's result with the package's; numbers, arrays, tensors or lists of them.

    Args:
        name: of what is compared, for the message.
        tolerance: the largest absolute difference that still counts as equal.

    Raises:
        AssertionError: they differ; the message says in what, where and by how much.
    """
    mine, reference = (
        np.asarray(x.detach().cpu() if hasattr(x, "detach") else x) for x in (yours, ours)
    )
    if mine.shape != reference.shape:
        raise AssertionError(f"{name}: yours has shape {mine.shape}; expected {reference.shape}")
    if mine.size == 0:
        raise AssertionError(f"{name}: both are empty, so there is nothing to compare")
    # in float64, so that uint8 values do not wrap around; inf − inf is no difference
    with np.errstate(invalid="ignore"):
        apart = np.abs(mine.astype(np.float64) - reference.astype(np.float64))
    apart = np.where(mine == reference, 0.0, apart)
    worst = np.unravel_index(int(np.argmax(np.nan_to_num(apart, nan=np.inf))), apart.shape)
    if not apart[worst] <= tolerance:  # also catches NaN
        where = f" at {tuple(map(int, worst))}" if worst else ""
        raise AssertionError(
            f"{name}: yours is {mine[worst]:.6g}{where}; expected {reference[worst]:.6g} "
            f"(within {tolerance:g})"
        )
    return Agreement(name, mine.shape, float(apart[worst]))


def complaint(action: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """What the error says that a call is expected to end in.

    Raises:
        AssertionError: the call ends well.
    """
    try:
        action(*arguments, **options)
    except (ValueError, RuntimeError) as error:
        return str(error)
    name = getattr(action, "__name__", repr(action))
    raise AssertionError(f"{name} found nothing to complain about")


def quote(**values: float | int | str) -> None:
    """Lend results to the text of the page: `quote(gain=0.31)`, and `{glue:text}` shows the gain.

    Raises:
        ValueError: a number that is not finite, which no sentence should quote.
    """
    from myst_nb import glue  # of the book's environment, not of the package's

    for name, value in values.items():
        plain = value.item() if hasattr(value, "item") else value
        if not isinstance(plain, str) and not math.isfinite(plain):
            raise ValueError(f"{name} is {plain}; expected a number that the text can quote")
        glue(name, plain, display=False)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 3) -> Any:
    """A table as the result of a cell, numbers to the right, also those given as "+0.5" or "7 %".

    The cell needs ``mystnb: {markdown_format: myst}`` in its metadata: without it the page shows
    the bars of the source.

    Args:
        rows: of text, whole numbers and numbers; a number that is not one (NaN) is a dash.
        digits: after the point.

    Raises:
        ValueError: no row, or one with more or fewer cells than the head.
    """
    from IPython.display import Markdown  # of the book's environment, not of the package's

    rows = [list(row) for row in rows]
    lengths = {len(row) for row in rows}
    if lengths != {len(head)}:
        found = ", ".join(map(str, sorted(lengths))) or "no row"
        raise ValueError(f"rows of {found} cells; expected {len(head)}, as many as in the head")
    first, *others = zip(*rows, strict=True)
    right = [all(map(_is_number, first)), *map(_reads_as_numbers, others)]
    rules = ["---:" if numbers else "---" for numbers in right]
    unbroken = [title.replace("-", "\u2011") for title in head]  # no break at a hyphen
    lines = [unbroken, rules, *([_text(cell, digits) for cell in row] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


_FIGURE = re.compile(r"[+−]?\d")


def _reads_as_numbers(cells: Sequence[Any]) -> bool:
    """Whether every cell begins with a figure, with or without a sign; empty ones do not count."""
    full = [cell for cell in cells if cell != ""]
    return bool(full) and all(_is_number(c) or c == "–" or _FIGURE.match(str(c)) for c in full)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _text(value: Any, digits: int) -> str:
    if not _is_number(value):
        return str(value)
    if not math.isfinite(value):
        return "–"
    return format(value, f",.{0 if isinstance(value, int | np.integer) else digits}f").replace(
        "-", "−"
    )
