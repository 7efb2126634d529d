"""λ explorer: what λ buys in picture, error and bytes (chapter 11)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from . import explorer_page as html
from .bitstream import section_sizes, unpack
from .coding import code, psnr_image, target_bytes, target_of
from .evaluation import reference_image
from .explorer_core import SECTIONS, Explorer, lambda_control
from .explorer_page import Control, Picture, View
from .pair_codec import PairCodec
from .plots import CODEC_STYLES, THERMAL, show_images, signed
from .pretrained import Codec
from .records import REFERENCES, ReferenceKind

USES = {
    "none": "The encoder <b>declined</b> it: the infrared part is coded by itself.",
    "space": "The encoder used it without sending γ and β.",
    "all": "The encoder used all of it.",
}
"""What a file's mode says of its reference, for readers."""

ERROR_TOP = 32
"""Grey levels at which an error map is brightest."""


class LambdaExplorer(Explorer):
    """See :func:`lambda_explorer`."""

    kind = "lambda"
    title = "λ explorer"

    def __init__(
        self,
        codec: PairCodec,
        baseline: Codec,
        pairs: Iterable[Any],
        lambdas: Sequence[float],
        references: Sequence[ReferenceKind],
        size: tuple[int, int],
    ):
        super().__init__(codec, "uses_reference", pairs, size)
        alone = isinstance(baseline, PairCodec) and baseline.config.uses_reference
        if not hasattr(baseline, "compress") or alone or target_of(baseline) != "infrared":
            raise ValueError("the baseline must code infrared without a reference")
        known = [kind for kind in REFERENCES if kind != "other"]
        if not references or not set(references) <= set(known):
            raise ValueError(f"references {references!r}; expected some of {', '.join(known)}")
        self.baseline = baseline
        texts = tuple("its own" if kind == "true" else kind for kind in references)
        self.controls += (
            lambda_control(lambdas, codec, baseline),
            Control("reference", "Reference", tuple(references), texts),
        )
        self._without: dict[tuple[int, float], dict[str, Any]] = {}

    def record(self, pair: int, lmbda: float, reference: ReferenceKind) -> dict[str, Any]:
        frames = self.frames[pair]
        visible = reference_image(frames.visible, reference)
        images = {"visible": visible, "infrared": frames.infrared}
        if (pair, lmbda) not in self._without:
            self._without[pair, lmbda] = self._coded(self.baseline, frames.images, lmbda)
        with_it, alone = self._coded(self.codec, images, lmbda), self._without[pair, lmbda]
        return {
            "pair": frames.name,
            "lmbda": float(lmbda),
            "reference": reference,
            **with_it,
            **{
                f"_alone{name}" if name.startswith("_") else f"alone_{name}": value
                for name, value in alone.items()
            },
            "_frames": frames,
            "_curve": (pair, reference),
        }

    @staticmethod
    def _coded(codec: Codec, images: dict[str, np.ndarray], lmbda: float) -> dict[str, Any]:
        data, promised = code(codec, images, lmbda)
        infrared, decoded = images["infrared"], promised.infrared
        assert decoded is not None
        own = target_bytes(data, target_of(codec))
        return {
            "bytes": own,
            "bpp": 8 * own / infrared.size,
            "psnr": psnr_image(infrared, decoded),
            "file_bytes": len(data),
            "sections": section_sizes(data),
            "mode": codec.mode_of(unpack(data)[0]) if isinstance(codec, PairCodec) else "none",
            "_decoded": decoded,
        }

    def _points(self, pair: int, reference: str) -> dict[str, list[tuple[float, float]]]:
        """The two curves through this explorer's own states, (bpp, dB)."""
        k = self.controls[2].values.index(reference)
        records = [r for at, r in self._records.items() if at[0] == pair and at[2] == k]
        return {
            "pair": [(r["bpp"], r["psnr"]) for r in records],
            "alone": [(r["alone_bpp"], r["alone_psnr"]) for r in records],
        }

    def view(self, record: dict[str, Any]) -> View:
        frames, lmbda = record["_frames"], f"{record['lmbda']:.0f}"
        what = {"true": "its own", "mirrored": "a mirrored", "blank": "a blank"}
        given = what[record["reference"]]
        parts: dict[str, Picture | str] = {
            "original": Picture(
                html.lossless(frames.infrared),
                f"Infrared original of {frames.name}",
                "<b>original</b>, 8 bpp",
            ),
            "chart": self._chart(record),
        }
        sides = {"": f"with {given} reference", "alone_": "without reference"}
        for prefix, side in sides.items():
            bpp, level = record[f"{prefix}bpp"], record[f"{prefix}psnr"]
            parts[f"{prefix}decoded"] = Picture(
                html.lossless(record["_alone_decoded" if prefix else "_decoded"]),
                f"Reconstruction {side} at λ {lmbda}: {bpp:.3f} bits per pixel, {level:.2f} dB",
                f"<b>{side}</b>, {bpp:.3f} bpp, {level:.2f} dB",
            )
        legend = html.scale_bar(THERMAL, "0", f"{ERROR_TOP} and more")
        for prefix, side in sides.items():
            decoded = record["_alone_decoded" if prefix else "_decoded"]
            error = np.abs(decoded.astype(int) - frames.infrared)
            parts[f"{prefix}error"] = Picture(
                html.mapped(error, 0, ERROR_TOP, THERMAL),
                f"Error {side} at λ {lmbda}: mean {error.mean():.1f} grey levels, largest "
                f"{error.max()}",
                f"<b>error {side}</b>, mean {error.mean():.1f} grey levels<br>{legend}",
            )
        parts["table"] = self._bytes(record)
        more = 100 * (record["bytes"] / record["alone_bytes"] - 1)
        status = (
            f"λ = {lmbda}: with {given} reference <b>{record['bpp']:.3f} bpp</b> and "
            f"<b>{record['psnr']:.2f} dB</b>, without {record['alone_bpp']:.3f} bpp and "
            f"{record['alone_psnr']:.2f} dB. The reference changes the infrared part by "
            f"{signed(more, '+.1f')} % bytes and "
            f"{signed(record['psnr'] - record['alone_psnr'])} dB. {USES[record['mode']]}"
        )
        return View(status, parts)

    def _chart(self, record: dict[str, Any]) -> str:
        curves = self._points(*record["_curve"])
        # one pair of axes for all states, so that a move of the point is a move
        every = [
            (r[f"{p}bpp"], r[f"{p}psnr"]) for r in self._records.values() for p in ("", "alone_")
        ]
        levels = [y for _, y in every]
        axes = html.Axes(
            (0, 1.08 * max(x for x, _ in every)),
            (math.floor(min(levels) - 0.5), math.ceil(max(levels) + 0.5)),
            ("bits per infrared pixel", "PSNR (dB)"),
        )
        shapes = axes.frame()
        for name, now in (("alone", "alone_"), ("pair", "")):
            style = CODEC_STYLES[name]
            at = [(axes.x(x), axes.y(y)) for x, y in curves[name]]
            line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
            shapes += f'<path d="{line}" fill="none" stroke="{style.colour}" stroke-width="2"/>'
            for x, y in at:
                shapes += _mark(style.marker, x, y, 3, f'fill="{style.colour}"')
            x, y = axes.x(record[f"{now}bpp"]), axes.y(record[f"{now}psnr"])
            ring = f'class="xm-now" fill="none" stroke="{style.colour}" stroke-width="2.5"'
            shapes += _mark(style.marker, x, y, 8, ring)
        for k, (name, text) in enumerate((("pair", "with reference"), ("alone", "without"))):
            style, y = CODEC_STYLES[name], axes.bottom - 34 + 17 * k
            shapes += _mark(style.marker, 196, y, 4, f'fill="{style.colour}"')
            shapes += html.words(206, y + 4, text, "start")
        about = (
            f"Rate and PSNR at every λ; the rings mark λ {record['lmbda']:.0f}: "
            f"{record['bpp']:.3f} bpp and {record['psnr']:.2f} dB with reference, "
            f"{record['alone_bpp']:.3f} bpp and {record['alone_psnr']:.2f} dB without"
        )
        return html.chart(shapes, axes.width, axes.height, about)

    @staticmethod
    def _bytes(record: dict[str, Any]) -> str:
        alone = record["alone_sections"]
        rows: list[tuple[object, ...]] = [
            (SECTIONS[name], f"{count:,}", f"{alone[name]:,}" if name in alone else "–")
            for name, count in record["sections"].items()
        ]
        rows.append(("whole file", f"{record['file_bytes']:,}", f"{record['alone_file_bytes']:,}"))
        rows.append(("<b>infrared part</b>", f"{record['bytes']:,}", f"{record['alone_bytes']:,}"))
        return html.table(["", "with", "without"], rows, "Bytes in the file")

    def summary(self) -> str:
        rows = [
            (
                r["pair"],
                f"{r['lmbda']:g}",
                r["reference"],
                r["mode"],
                f"{r['bytes']:,}",
                f"{r['bpp']:.3f}",
                f"{r['psnr']:.2f}",
                f"{r['alone_bytes']:,}",
                f"{r['alone_bpp']:.3f}",
                f"{r['alone_psnr']:.2f}",
            )
            for r in self._records.values()
        ]
        head = ["pair", "λ", "reference", "mode", "bytes", "bpp", "dB"]
        return html.table(
            [*head, "bytes without", "bpp without", "dB without"], rows, "Every state"
        )

    def figure(self, pair: int = 0, reference: str | None = None) -> Figure:
        """The reconstruction and its error at every λ, for print."""
        k = 0 if reference is None else self.controls[2].values.index(reference)
        records = [r for at, r in self._records.items() if at[0] == pair and at[2] == k]
        frames = records[0]["_frames"]
        images = [r["_decoded"] for r in records]
        errors = [np.abs(decoded.astype(int) - frames.infrared) for decoded in images]
        captions = [f"λ {r['lmbda']:g}: {r['bpp']:.2f} bpp\n{r['psnr']:.2f} dB" for r in records]
        captions += [f"error, mean {error.mean():.1f}" for error in errors]
        return show_images(
            [*images, *(error / ERROR_TOP for error in errors)],
            captions,
            columns=len(records),
            colormap=["gray"] * len(images) + [THERMAL] * len(errors),
        )


def _mark(marker: str, x: float, y: float, size: float, look: str) -> str:
    """A circle or, for every other marker, a square around (x, y)."""
    if marker == "o":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {look}/>'
    side = f'width="{2 * size}" height="{2 * size}"'
    return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" {side} {look}/>'
