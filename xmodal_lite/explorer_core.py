"""What every explorer has: controls, states, a live form and one for a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from . import explorer_page as html
from .config import check_lambda
from .explorer_page import Control, View
from .pair_codec import PairCodec
from .pretrained import Codec

SECTIONS = {
    "header": "header",
    "visible_z": "visible ẑ",
    "visible_y": "visible ŷ",
    "coefficients": "γ and β",
    "infrared_z": "infrared ẑ",
    "infrared_y": "infrared ŷ",
    "symbols": "checksums",
}
"""Sections of a file, and what a reader calls them."""


class Frames(NamedTuple):
    """What an explorer needs of a pair; ``shift`` is known for drawn scenes only."""

    name: str
    visible: np.ndarray
    infrared: np.ndarray
    shift: tuple[float, float] | None

    @property
    def images(self) -> dict[str, np.ndarray]:
        return {"visible": self.visible, "infrared": self.infrared}


class Explorer:
    """What the functions of `explorers` return; show it as the last line of a cell.

    Args:
        needs: the part of the codec that this kind looks into, by its name in the configuration.

    Attributes:
        controls: the choice of a pair, and those that each kind adds.
        frames: the middle of each pair.
        states: a dictionary of plain numbers for each combination of the controls. They are
            computed when they are first asked for, as are the pictures.
    """

    kind = ""
    title = ""
    note = ""

    def __init__(self, codec: PairCodec, needs: str, pairs: Iterable[Any], size: tuple[int, int]):
        check_codec(codec, needs)
        self.codec = codec
        self.frames = cut_frames(pairs, codec, size)
        self.controls: tuple[Control, ...] = (pair_control(self.frames),)
        self._widget: Any = None
        self._times_shown = 0

    # each kind of explorer fills in these three

    def record(self, *args: Any, **choice: Any) -> dict[str, Any]:
        """Run the model for one choice: numbers, and what only the views need under ``_names``."""
        raise NotImplementedError

    def view(self, record: dict[str, Any]) -> View:
        """What to show of a record."""
        raise NotImplementedError

    def summary(self) -> str:
        """Every state in one table."""
        raise NotImplementedError

    # and these are common to all

    @cached_property
    def _records(self) -> dict[tuple[int, ...], dict[str, Any]]:
        places = product(*(range(len(control.values)) for control in self.controls))
        return {at: self.record(**self._choice(at)) for at in places}

    def _choice(self, at: Sequence[int]) -> dict[str, Any]:
        return {c.name: c.values[k] for c, k in zip(self.controls, at, strict=True)}

    @property
    def states(self) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in record.items() if not name.startswith("_")}
            for record in self._records.values()
        ]

    def html(self) -> str:
        """The form for a page: every state inside, nothing outside."""
        self._times_shown += 1
        views = {at: self.view(record) for at, record in self._records.items()}
        return html.page(
            self.kind,
            self.title,
            self.controls,
            views,
            self.summary(),
            times_shown=self._times_shown,
        )

    def widget(self) -> Any:
        """The live form, made when it is first asked for: ipywidgets that run the model."""
        if self._widget is None:
            import ipywidgets

            fields = {control.name: _field(control) for control in self.controls}
            start = {control.name: control.values[control.start] for control in self.controls}
            body = ipywidgets.HTML(self._live(self.view(self.record(**start))))

            def change(_: Any) -> None:
                choice = {name: field.value for name, field in fields.items()}
                body.value = self._live(self.view(self.record(**choice)))

            for field in fields.values():
                field.observe(change, names="value")
            row = ipywidgets.HBox(
                list(fields.values()), layout=ipywidgets.Layout(flex_flow="row wrap")
            )
            self._widget = ipywidgets.VBox([row, body])
        return self._widget

    def _live(self, view: View) -> str:
        style = f"<style>{html.STYLE}</style>"
        return f'<div class="xm-explorer">{style}{html.view_html(view)}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        live = self.widget()._repr_mimebundle_()
        return {**live, "text/plain": repr(self), "text/html": self.html()}

    def __repr__(self) -> str:
        count = math.prod(len(control.values) for control in self.controls)
        return f"<{self.title}: {count} states>"


def _field(control: Control) -> Any:
    """A control as a widget: λ is continuous, in the logarithm."""
    import ipywidgets

    if control.name == "lmbda" and len(control.values) > 1:
        low, high = (math.log2(control.values[k]) for k in (0, -1))
        return ipywidgets.FloatLogSlider(
            value=control.values[control.start],
            base=2,
            min=low,
            max=high,
            step=(high - low) / 64,
            description=control.label,
            continuous_update=False,
            readout_format=".0f",
        )
    options = list(zip(control.texts, control.values, strict=True))
    value = control.values[control.start]
    if control.slider:
        return ipywidgets.SelectionSlider(
            options=options, value=value, description=control.label, continuous_update=False
        )
    return ipywidgets.Dropdown(options=options, value=value, description=control.label)


# --- what all of them check and cut --------------------------------------------------------------


def cut_frames(pairs: Iterable[Any], codec: Codec, size: tuple[int, int]) -> list[Frames]:
    """The middle of each pair or scene, at most ``size`` infrared pixels.

    Args:
        codec: whose scale s the visible frames must have.

    Raises:
        ValueError: no pairs, something else among them, or frames of another scale.
    """
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise ValueError(f"pairs are a {type(pairs).__name__}; expected pairs of frames")
    cut = []
    for pair in pairs:
        if not hasattr(pair, "visible") or not hasattr(pair, "infrared"):
            raise ValueError(f"a {type(pair).__name__} among the pairs; expected Pair or Scene")
        (height, width), s = pair.infrared.shape, codec.config.scale
        if pair.visible.shape != (s * height, s * width, 3):
            raise ValueError(
                f"visible frame {pair.visible.shape} beside infrared {pair.infrared.shape}; "
                f"expected {(s * height, s * width, 3)}"
            )
        h, w = min(size[0], height), min(size[1], width)
        top, left = (height - h) // 2, (width - w) // 2
        name = getattr(pair, "name", None) or f"scene {pair.seed}, {pair.condition}"
        cut.append(
            Frames(
                name,
                pair.visible[s * top : s * (top + h), s * left : s * (left + w)].copy(),
                pair.infrared[top : top + h, left : left + w].copy(),
                getattr(pair, "shift", None),
            )
        )
    if not cut:
        raise ValueError("no pairs; expected at least one")
    return cut


def check_codec(codec: Any, needs: str) -> None:
    """That a codec codes infrared given visible, with the part that an explorer looks into."""
    config = getattr(codec, "config", None)
    if not isinstance(codec, PairCodec) or not getattr(config, needs):
        what = {
            "uses_reference": "a reference",
            "spatial_alignment": "spatial alignment",
            "channel_alignment": "channel alignment",
        }[needs]
        raise ValueError(f"this explorer needs a pair codec with {what}")
    if codec.config.target != "infrared":
        raise ValueError("this codec codes visible given infrared; explorers show the opposite")


def pair_control(frames: list[Frames]) -> Control:
    names = tuple(f.name for f in frames)
    return Control("pair", "Pair", tuple(range(len(names))), names)


def lambda_control(lambdas: Sequence[float], *codecs: Codec) -> Control:
    values = tuple(lambdas)
    if not values:
        raise ValueError("no λ; an explorer needs at least one")
    for codec in codecs:
        values = tuple(check_lambda(value, codec.config.lambdas) for value in values)
    if list(values) != sorted(set(values)):
        raise ValueError(f"λ are {values}; expected rising values")
    texts = tuple(f"{value:g}" for value in values)
    return Control("lmbda", "λ", values, texts, len(values) // 2, slider=True)


def halved(image: np.ndarray) -> np.ndarray:
    """A visible frame at half its size, (H, W, 3) uint8."""
    h, w = (side // 2 * 2 for side in image.shape[:2])
    blocks = image[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).astype(np.float32)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)
