"""Attention explorer: where each place of the infrared frame looks (chapters 7 and 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from . import explorer_page as html
from .coding import padded_batches
from .config import LATENT_STRIDE, check_lambda
from .explorer_core import Explorer, Frames, halved
from .explorer_page import Control, Picture, View
from .image_codec import as_image, crop
from .pair_codec import PairCodec
from .plots import as_picture, signed


@torch.no_grad()
def attention_maps(
    codec: PairCodec, images: dict[str, np.ndarray], lmbda: float
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """The decoded visible frame, and where every token looks.

    Args:
        images: ``"visible"`` and ``"infrared"``, uint8.

    Returns:
        x̂^v as uint8; for each stage a list of its blocks' weights (rows, columns, heads, M, M),
        those of each query token over the M×M tokens of its window. Tokens cover the padded frame.
    """
    batches = padded_batches(codec, images)
    weight = torch.tensor([float(lmbda)], device=batches["infrared"].device)
    reference = codec.estimate_reference(batches["visible"], weight)
    y, f_aligned, _, _ = codec.analyse(batches["infrared"], reference)
    side = reference.y_coded if codec.config.entropy_reference else None
    stages: list[list[Tensor]] = []
    codec.synthesise(codec.entropy(y, weight, side)["y_hat"], reference, f_aligned, stages)
    maps = []
    for stage, alignment in zip(stages, codec.spatial_alignment, strict=True):
        shifts = [block.attention.shift for block in alignment.blocks]
        maps.append([_by_token(w[0], s) for w, s in zip(stage, shifts, strict=True)])
    height, width = images["visible"].shape[:2]
    return as_image(crop(reference.x_hat, (height, width))), maps


def _by_token(weights: Tensor, shift: int) -> np.ndarray:
    """(H/M, W/M, heads, M², M²) → (H, W, heads, M, M), queries where they stand in the frame."""
    rows, columns, heads, area, _ = weights.shape
    M = round(area**0.5)
    by_place = weights.view(rows, columns, heads, M, M, M, M).permute(0, 3, 1, 4, 2, 5, 6)
    by_place = by_place.reshape(rows * M, columns * M, heads, M, M)
    return torch.roll(by_place, (shift, shift), (0, 1)).cpu().numpy()


def window_start(token: int, tokens: int, shift: int, window: int) -> int:
    """The first token of the window around a query, along one side.

    Displaced windows wrap around: where this is below 0, or where start + window is above
    ``tokens``, the tokens outside belong to the far side of the frame and are masked.
    """
    return token - (token - shift) % tokens % window


class AttentionExplorer(Explorer):
    """See :func:`explorers.attention_explorer`."""

    kind = "attention"
    title = "Attention explorer"

    def __init__(
        self, codec: PairCodec, pairs: Iterable[Any], lmbda: float, size: tuple[int, int]
    ):
        super().__init__(codec, "spatial_alignment", pairs, size)
        self.lmbda = check_lambda(lmbda, codec.config.lambdas)
        config = codec.config
        stage = codec.spatial_alignment[0]
        self.window = config.window
        self.shifts = [block.attention.shift for block in stage.blocks]
        # infrared pixels along a token: stage j works at 2^j / 16 of the frame, in p×p patches
        count = len(codec.spatial_alignment)
        self.tokens = [config.patch * LATENT_STRIDE // 2 ** (j + 1) for j in range(count)]
        self.pitch = self.tokens[0]
        sides = np.array([frame.infrared.shape for frame in self.frames]).min(0)
        rows, columns = (max(1, int(side + self.pitch // 2) // self.pitch) for side in sides)
        self.controls += (
            self._places("row", rows),
            self._places("column", columns),
            _numbered("stage", [f": {t}-pixel tokens" for t in self.tokens]),
            _numbered("block", [": windows moved" * bool(s) for s in self.shifts]),
            _numbered("head", [""] * config.heads),
        )

    def _places(self, name: str, count: int) -> Control:
        texts = tuple(f"{k + 1} of {count}" for k in range(count))
        start = min(count // 2 + 1, count - 1)  # the middle itself is the corner of a window
        return Control(name, name.capitalize(), tuple(range(count)), texts, start, True)

    @cached_property
    def _maps(self) -> list[tuple[np.ndarray, list[list[np.ndarray]]]]:
        return [attention_maps(self.codec, f.images, self.lmbda) for f in self.frames]

    def _token(self, pair: int, row: int, column: int, stage: int) -> tuple[int, int]:
        """The token at the middle of a place, at most the last one inside the frame."""
        t = self.tokens[stage]
        height, width = self.frames[pair].infrared.shape
        y, x = (
            min(int((k + 0.5) * self.pitch), n - 1) for k, n in ((row, height), (column, width))
        )
        return y // t, x // t

    def record(
        self, pair: int, row: int, column: int, stage: int, block: int, head: int
    ) -> dict[str, Any]:
        """One query: its window in tokens, its weights, where they point."""
        maps, t = self._maps[pair][1][stage][block], self.tokens[stage]
        r, c = self._token(pair, row, column, stage)
        weights = maps[r, c, head]
        start = [
            window_start(k, n, self.shifts[block], self.window)
            for k, n in ((r, maps.shape[0]), (c, maps.shape[1]))
        ]
        reach = np.arange(self.window)
        down = t * float(weights.sum(1) @ (start[0] + reach - r))
        right = t * float(weights.sum(0) @ (start[1] + reach - c))
        return {
            "pair": self.frames[pair].name,
            "query": (r, c),
            "token_pixels": t,
            "window_start": tuple(start),
            "tokens": maps.shape[:2],
            "weights": weights.round(4).tolist(),
            "places": _perplexity(weights),
            "displacement": (down, right),
            "shift": self.frames[pair].shift,
            "_at": (pair, row, column, stage, block, head),
        }

    @property
    def states(self) -> list[dict[str, Any]]:
        """One for each pair, stage, block and head: weights at every place, and their means.

        ``weights`` (rows, columns, M, M); ``places`` is 2 to the entropy, the mean number of
        tokens that a query spreads its weight over; ``displacement`` the mean (down, right) in
        infrared pixels over all tokens of the frame; ``shift`` the true one where it is known.
        """
        names = ("pair", "row", "column", "stage", "block", "head")
        many = {c.name: range(len(c.values)) for c in self.controls}
        listed = []
        for pair, stage, block, head in product(*(many[n] for n in names if n not in names[1:3])):
            records = [
                [self.record(pair, row, column, stage, block, head) for column in many["column"]]
                for row in many["row"]
            ]
            places, displacement = self._means(pair, stage, block, head)
            listed.append(
                {
                    "pair": self.frames[pair].name,
                    "stage": stage + 1,
                    "block": block + 1,
                    "head": head + 1,
                    "token_pixels": self.tokens[stage],
                    "weights": [[record["weights"] for record in line] for line in records],
                    "places": places,
                    "displacement": displacement,
                    "shift": self.frames[pair].shift,
                }
            )
        return listed

    def _means(
        self, pair: int, stage: int, block: int, head: int
    ) -> tuple[float, tuple[float, float]]:
        """Over all queries of a frame: a query's place in its window cancels in the mean."""
        weights = self._maps[pair][1][stage][block][:, :, head]  # (rows, columns, M, M)
        spread = np.mean([_perplexity(w) for w in weights.reshape(-1, *weights.shape[2:])])
        mean = weights.mean((0, 1))
        apart = []
        for axis, tokens in enumerate(weights.shape[:2]):
            # from a query to the first token of its window, and on to where the weights are
            shift = self.shifts[block]
            own = [window_start(k, tokens, shift, self.window) - k for k in range(tokens)]
            centre = mean.sum(1 - axis) @ np.arange(self.window)
            apart.append(self.tokens[stage] * float(np.mean(own) + centre))
        return float(spread), (apart[0], apart[1])

    def view(self, record: dict[str, Any]) -> View:
        pair = record["_at"][0]
        parts: dict[str, Picture | str] = {}
        for name, picture in self._pictures(self.frames[pair], self._maps[pair][0]).items():
            drawn = self._overlay(record, pair, name == "visible")
            parts[name] = picture._replace(overlay=drawn)
        return View(self._status(record), parts)

    def _pictures(self, frames: Frames, decoded: np.ndarray) -> dict[str, Picture]:
        known = ""
        if frames.shift is not None:
            known = "; the pink cross is where the same point really is"
        return {
            "infrared": Picture(
                html.lossless(frames.infrared),
                f"Infrared frame of {frames.name}, with the query token and its window",
                "<b>infrared</b>: the query (blue), its window (white)",
            ),
            "visible": Picture(
                html.lossless(halved(decoded)),
                f"Decoded visible frame of {frames.name}, with the weights in the window",
                f"<b>visible</b>, decoded: the weights (full yellow: the largest of them){known}",
            ),
        }

    def _overlay(self, record: dict[str, Any], pair: int, looked_at: bool) -> str:
        """The window over a frame; the script in the page draws the same."""
        height, width = self.frames[pair].infrared.shape
        t, m = record["token_pixels"], self.window
        (top, left), (rows, columns) = record["window_start"], record["tokens"]
        weights = np.array(record["weights"])
        shapes = ""
        if looked_at:
            for a, b in product(range(m), range(m)):
                if 0 <= top + a < rows and 0 <= left + b < columns:
                    share = weights[a, b] / weights.max()
                    box = html.box((left + b) * t, (top + a) * t, t, t)
                    shapes += f'<rect {box} fill="#ffd400" fill-opacity="{0.75 * share:.2f}"/>'
        y0, y1 = max(top, 0) * t, min(top + m, rows) * t
        x0, x1 = max(left, 0) * t, min(left + m, columns) * t
        shapes += f'<rect {html.box(x0, y0, x1 - x0, y1 - y0)} class="xm-window"/>'
        r, c = record["query"]
        shapes += f'<rect {html.box(c * t, r * t, t, t)} class="xm-query"/>'
        shift = self.frames[pair].shift
        if looked_at and shift is not None:
            y, x = (r + 0.5) * t + shift[0], (c + 0.5) * t + shift[1]
            shapes += f'<path class="xm-truth" d="M{x - 4:g} {y:g}h8M{x:g} {y - 4:g}v8"/>'
        return f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{shapes}</svg>'

    def _status(self, record: dict[str, Any]) -> str:
        t, (down, right) = record["token_pixels"], record["displacement"]
        truth = ""
        if record["shift"] is not None:
            dy, dx = record["shift"]
            truth = f" True shift: {signed(dx, '+.1f')} px right, {signed(dy, '+.1f')} px down."
        side = t * self.window
        middle = [
            t * (start + (self.window - 1) / 2 - query)
            for start, query in zip(record["window_start"], record["query"], strict=True)
        ]
        return (
            f"A token is {t}×{t} infrared pixels, the window {side}×{side}. The largest of the "
            f"weights is <b>{np.max(record['weights']):.2f}</b>; they spread over "
            f"<b>{record['places']:.1f}</b> of {self.window**2} tokens. Their centre lies "
            f"<b>{signed(right, '+.1f')} px right, {signed(down, '+.1f')} px down</b> of the "
            f"query (the middle of the window: {signed(middle[1], '+.1f')}, "
            f"{signed(middle[0], '+.1f')})."
            f"{truth}"
        )

    def html(self) -> str:
        self._times_shown += 1
        start = {c.name: c.values[c.start] for c in self.controls}
        # numbers for the script; what changes with the pair alone is a state like any other
        still: dict[tuple[int, ...], View] = {
            (k,): View("", {**self._pictures(self.frames[k], self._maps[k][0])})
            for k in range(len(self.frames))
        }
        first = self.view(self.record(**start))
        many = [range(len(c.values)) for c in self.controls[1:]]
        whole = [
            np.array(
                [
                    np.rint(10000 * np.array(self.record(k, *rest)["weights"])).astype(int).ravel()
                    for rest in product(*many)
                ]
            )
            .ravel()
            .tolist()
            for k in range(len(self.frames))
        ]
        more = {
            "tokens": self.tokens,
            "shifts": self.shifts,
            "window": self.window,
            "pitch": self.pitch,
            "counts": [len(m) for m in many],
            "weights": whole,
            "frames": [
                {
                    "size": list(frame.infrared.shape),
                    "padded": [n * self.tokens[0] for n in maps[0][0].shape[:2]],
                    "shift": frame.shift,
                }
                for frame, (_, maps) in zip(self.frames, self._maps, strict=True)
            ],
        }
        text = html.page(
            self.kind,
            self.title,
            self.controls,
            still,
            self.summary(),
            by=["pair"],
            more=more,
            draw="drawWindow(chosen);",
            start=_DRAW_WINDOW,
            times_shown=self._times_shown,
            first=first,
        )
        return text.replace("</style>", f"{_WINDOW_STYLE}</style>", 1)

    def _live(self, view: View) -> str:
        return super()._live(view).replace("</style>", f"{_WINDOW_STYLE}</style>", 1)

    def summary(self) -> str:
        rows = []
        for state in self.states:
            truth = ["–", "–"] if state["shift"] is None else [f"{v:+.1f}" for v in state["shift"]]
            rows.append(
                (
                    state["pair"],
                    *(state[name] for name in ("stage", "block", "head", "token_pixels")),
                    f"{state['places']:.1f}",
                    *(signed(v) for v in state["displacement"][::-1]),
                    *(text.replace("-", "−") for text in truth[::-1]),
                )
            )
        head = ["pair", "stage", "block", "head", "token (px)", "spread (tokens)"]
        head += ["right (px)", "down (px)", "true right", "true down"]
        return html.table(head, rows, "Means over all queries")

    def figure(self, pair: int = 0, row: int | None = None, column: int | None = None) -> Figure:
        """The weights of one place: stages below each other, heads of both blocks side by side."""
        at = {c.name: c.values[c.start] for c in self.controls} | {"pair": pair}
        at |= {"row": at["row"] if row is None else row}
        at |= {"column": at["column"] if column is None else column}
        blocks, heads = len(self.shifts), self.codec.config.heads
        figure, grid = plt.subplots(
            len(self.tokens), blocks * heads, figsize=(8, 1.6 * len(self.tokens)), squeeze=False
        )
        grey = as_picture(self._maps[pair][0])
        for stage, line in enumerate(grid):
            for k, axes in enumerate(line):
                block, head = divmod(k, heads)
                record = self.record(**{**at, "stage": stage, "block": block, "head": head})
                self._draw_window(axes, grey, record)
                axes.set_title(f"{stage + 1}.{block + 1}, head {head + 1}", fontsize=8)
        return figure

    def _draw_window(self, axes: Any, visible: np.ndarray, record: dict[str, Any]) -> None:
        t, m, (top, left) = record["token_pixels"], self.window, record["window_start"]
        height, width = visible.shape[0] / 2, visible.shape[1] / 2
        weights = np.array(record["weights"])
        axes.imshow(visible, extent=(0, width, height, 0))
        colour = np.zeros((m, m, 4))
        colour[..., :3] = (1, 0.83, 0)
        colour[..., 3] = 0.75 * weights / weights.max()
        where = (left * t, (left + m) * t, (top + m) * t, top * t)
        axes.imshow(colour, extent=where, interpolation="nearest")
        r, c = record["query"]
        axes.add_patch(plt.Rectangle((c * t, r * t), t, t, fill=False, color="#00b7ff"))
        axes.set(xlim=where[:2], ylim=where[2:], xticks=[], yticks=[])
        axes.grid(False)


def _numbered(name: str, notes: Sequence[str]) -> Control:
    """A control whose texts count from 1, each with a note."""
    texts = tuple(f"{k + 1}{note}" for k, note in enumerate(notes))
    return Control(name, name.capitalize(), tuple(range(len(notes))), texts)


def _perplexity(weights: np.ndarray) -> float:
    """2 to the entropy: over how many tokens weights spread."""
    some = weights[weights > 0]
    return float(2 ** -(some * np.log2(some)).sum())


_WINDOW_STYLE = """
.xm-explorer .xm-window{fill:none;stroke:#fff;stroke-width:2;vector-effect:non-scaling-stroke;
filter:drop-shadow(0 0 1px #000)}
.xm-explorer .xm-query{fill:none;stroke:#00b7ff;stroke-width:2.5;
vector-effect:non-scaling-stroke}
.xm-explorer .xm-truth{fill:none;stroke:#ff2fa0;stroke-width:2.5;
vector-effect:non-scaling-stroke}
"""

_DRAW_WINDOW = """
  function signed(v, digits) {
    var text = (v < 0 ? "" : "+") + v.toFixed(digits);
    return text.replace("-", "\\u2212");
  }
  function box(x, y, w, h, rest) {
    return '<rect x="' + x + '" y="' + y + '" width="' + w + '" height="' + h + '" ' + rest + "/>";
  }
  function drawWindow(chosen) {
    var frame = data.frames[chosen.pair], t = data.tokens[chosen.stage], m = data.window;
    var shift = data.shifts[chosen.block], n = data.counts, at = 0;
    ["row", "column", "stage", "block", "head"].forEach(function (name, k) {
      at = at * n[k] + chosen[name];
    });
    var weights = data.weights[chosen.pair].slice(at * m * m, (at + 1) * m * m);
    var count = frame.padded.map(function (side) { return side / t; });
    var query = [chosen.row, chosen.column].map(function (k, side) {
      var middle = Math.min(Math.floor((k + 0.5) * data.pitch), frame.size[side] - 1);
      return Math.floor(middle / t);
    });
    var start = query.map(function (q, side) {
      return q - ((q - shift + count[side]) % count[side]) % m;
    });
    var most = Math.max.apply(null, weights), sum = 0, entropy = 0, down = 0, right = 0;
    var cells = "";
    weights.forEach(function (w) { sum += w; });
    weights.forEach(function (w, k) {
      var r = start[0] + Math.floor(k / m), c = start[1] + k % m, p = w / sum;
      if (p > 0) { entropy -= p * Math.log2(p); }
      down += p * (r - query[0]) * t;
      right += p * (c - query[1]) * t;
      if (r >= 0 && r < count[0] && c >= 0 && c < count[1]) {
        var opacity = (0.75 * w / most).toFixed(2);
        cells += box(c * t, r * t, t, t, 'fill="#ffd400" fill-opacity="' + opacity + '"');
      }
    });
    var y0 = Math.max(start[0], 0) * t, y1 = Math.min(start[0] + m, count[0]) * t;
    var x0 = Math.max(start[1], 0) * t, x1 = Math.min(start[1] + m, count[1]) * t;
    var lines = box(x0, y0, x1 - x0, y1 - y0, 'class="xm-window"');
    lines += box(query[1] * t, query[0] * t, t, t, 'class="xm-query"');
    var cross = "", truth = "";
    if (frame.shift) {
      var y = (query[0] + 0.5) * t + frame.shift[0], x = (query[1] + 0.5) * t + frame.shift[1];
      cross = '<path class="xm-truth" d="M' + (x - 4) + " " + y + "h8M" + x + " " + (y - 4) +
        'v8"/>';
      truth = " True shift: " + signed(frame.shift[1], 1) + " px right, " +
        signed(frame.shift[0], 1) + " px down.";
    }
    var middle = start.map(function (s, side) { return t * (s + (m - 1) / 2 - query[side]); });
    var open = '<svg viewBox="0 0 ' + frame.size[1] + " " + frame.size[0] +
      '" aria-hidden="true">';
    fill("infrared-overlay", open + lines + "</svg>");
    fill("visible-overlay", open + cells + lines + cross + "</svg>");
    fill("status", "A token is " + t + "×" + t + " infrared pixels, the window " + t * m + "×" +
      t * m + ". The largest of the weights is <b>" + (most / 10000).toFixed(2) +
      "</b>; they spread over <b>" + Math.pow(2, entropy).toFixed(1) + "</b> of " + m * m +
      " tokens. Their centre lies <b>" + signed(right, 1) + " px right, " + signed(down, 1) +
      " px down</b> of the query (the middle of the window: " + signed(middle[1], 1) + ", " +
      signed(middle[0], 1) + ")." + truth);
  }
  ["infrared", "visible"].forEach(function (name) {
    part(name).addEventListener("click", function (event) {
      var place = part(name).getBoundingClientRect(), frame = data.frames[0];
      controls.forEach(function (control) {
        if (control.dataset.control === "pair") { frame = data.frames[Number(control.value)]; }
      });
      var y = (event.clientY - place.top) / place.height * frame.size[0];
      var x = (event.clientX - place.left) / place.width * frame.size[1];
      controls.forEach(function (control) {
        var to = { row: y, column: x }[control.dataset.control];
        if (to !== undefined) { control.value = Math.floor(to / data.pitch); }
      });
      update();
    });
  });
"""
