"""Bit budget explorer: where the bytes of a file go (chapter 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from . import explorer_page as html
from .bitstream import section_sizes, unpack
from .coding import code, padded_batches, psnr_image
from .config import LATENT_STRIDE
from .explorer_core import SECTIONS, Explorer, halved, lambda_control
from .explorer_page import Control, Picture, View
from .pair_codec import PairCodec
from .plots import INFRARED, THERMAL, VISIBLE, show_images


class BitsExplorer(Explorer):
    """See :func:`explorers.bits_explorer`."""

    kind = "bits"
    title = "Bit budget explorer"

    def __init__(
        self,
        codec: PairCodec,
        pairs: Iterable[Any],
        lambdas: Sequence[float],
        size: tuple[int, int],
    ):
        super().__init__(codec, "uses_reference", pairs, size)
        shown = ("infrared", "visible")
        self.controls += (lambda_control(lambdas, codec), Control("frame", "Frame", shown, shown))
        self._coded: dict[tuple[int, float], dict[str, Any]] = {}

    def record(self, pair: int, lmbda: float, frame: str) -> dict[str, Any]:
        if (pair, lmbda) not in self._coded:
            self._coded[pair, lmbda] = self._code(pair, lmbda)
        coded = self._coded[pair, lmbda]
        blocks = coded["_maps"][frame]
        ordered = np.sort(blocks.ravel())[::-1]
        tenth = ordered[: max(1, ordered.size // 10)].sum() / ordered.sum()
        return {
            "pair": self.frames[pair].name,
            "lmbda": float(lmbda),
            "frame": frame,
            "file_bytes": coded["file_bytes"],
            "sections": coded["sections"],
            "map": blocks.round(2).tolist(),
            "estimate_bytes": round(float(blocks.sum() + coded["_rest"][frame]) / 8, 1),
            "busiest_tenth": float(tenth),
            "_pair": pair,
            "_psnr": coded["_psnr"],
        }

    @torch.no_grad()
    def _code(self, pair: int, lmbda: float) -> dict[str, Any]:
        codec, frames = self.codec, self.frames[pair]
        data, decoded = code(codec, frames.images, lmbda)
        assert decoded.infrared is not None
        batches = padded_batches(codec, frames.images)
        weight = torch.tensor([lmbda], device=batches["infrared"].device)
        visible = codec.reference_codec(batches["visible"], weight)
        mode = codec.mode_of(unpack(data)[0])
        infrared = codec(batches["visible"], batches["infrared"], weight, mode)
        maps, rest = {}, {}
        for name, out in (("visible", visible), ("infrared", infrared)):
            likelihoods: Any = out["likelihoods"]
            bits = -likelihoods["y"].log2().sum(1)[0].cpu().numpy()  # (rows, columns) of ŷ
            # columns and rows of ŷ that only padding made are not shown, but they count
            height, width = frames.images[name].shape[:2]
            shown = bits[: -(-height // LATENT_STRIDE), : -(-width // LATENT_STRIDE)]
            maps[name], rest[name] = shown, float(bits.sum() - shown.sum())
        return {
            "file_bytes": len(data),
            "sections": section_sizes(data),
            "_maps": maps,
            "_rest": rest,
            "_psnr": psnr_image(frames.infrared, decoded.infrared),
        }

    def view(self, record: dict[str, Any]) -> View:
        frames, name, lmbda = self.frames[record["_pair"]], record["frame"], record["lmbda"]
        blocks = np.array(record["map"])
        image = frames.images[name]
        if name == "visible":  # at the size of the infrared one: a page should stay light
            image = halved(image)
        sections, whole = record["sections"], record["file_bytes"]
        real = sections[f"{name}_y"]
        where = np.unravel_index(int(blocks.argmax()), blocks.shape)
        legend = html.scale_bar(THERMAL, "0", f"{blocks.max():.0f} bits")
        parts: dict[str, Picture | str] = {
            "frame": Picture(
                html.lossless(image), f"{name} frame of {frames.name}", f"<b>{name}</b> frame"
            ),
            "map": Picture(
                html.mapped(blocks, 0, max(float(blocks.max()), 1e-6), THERMAL, 64),
                f"Bits per block of the {name} frame at λ {lmbda:.0f}: mean {blocks.mean():.0f}, "
                f"most, {blocks.max():.0f}, in row {where[0] + 1} and column {where[1] + 1} of "
                f"{blocks.shape[0]} by {blocks.shape[1]}",
                f"<b>bits of ŷ in each block</b> of {LATENT_STRIDE}×{LATENT_STRIDE} pixels "
                f"(estimate) {legend}",
            ),
        }
        status = (
            f"λ = {lmbda:.0f}: the file has <b>{whole:,} bytes</b>, {name} ŷ takes {real:,} of "
            f"them (<b>{100 * real / whole:.0f} %</b>; its likelihoods promise "
            f"{record['estimate_bytes']:,.0f}). The most expensive tenth of the blocks "
            f"holds <b>{100 * record['busiest_tenth']:.0f} %</b> of its bits. Infrared PSNR "
            f"{record['_psnr']:.2f} dB."
        )
        rows = [
            (SECTIONS[key], f"{count:,}", f"{100 * count / whole:.1f}")
            for key, count in sections.items()
        ]
        rows.append(("<b>whole file</b>", f"{whole:,}", "100"))
        parts["chart"] = self._bars(sections, whole)
        parts["table"] = html.table(["section", "bytes", "% of the file"], rows, "The file")
        return View(status, parts)

    @staticmethod
    def _bars(sections: dict[str, int], whole: int) -> str:
        shapes = ""
        for k, (key, count) in enumerate(sections.items()):
            y = 8 + 24 * k
            colour = VISIBLE if key.startswith("visible") else "#7f8a96"
            colour = INFRARED if key.startswith("infrared") else colour
            wide = 150 * count / whole
            shapes += html.words(82, y + 12, SECTIONS[key], "end")
            shapes += (
                f'<rect x="88" y="{y}" width="{max(wide, 0.5):.1f}" height="16" fill="{colour}" '
                'stroke="currentColor" stroke-opacity=".5"/>'
            )
            shapes += html.words(94 + wide, y + 12, f"{100 * count / whole:.1f} %", "start")
        listed = ", ".join(f"{SECTIONS[k]} {100 * n / whole:.1f} %" for k, n in sections.items())
        return html.chart(shapes, 320, 12 + 24 * len(sections), f"Shares of the file: {listed}")

    def summary(self) -> str:
        rows = [
            (
                r["pair"],
                f"{r['lmbda']:g}",
                *(f"{r['sections'].get(key, 0):,}" for key in SECTIONS),
                f"{r['file_bytes']:,}",
            )
            for r in self._records.values()
            if r["frame"] == "infrared"
        ]
        head = ["pair", "λ", *SECTIONS.values(), "file"]
        return html.table(head, rows, "Bytes, section by section, in every state")

    def figure(self, pair: int = 0, frame: str = "infrared") -> Figure:
        """The frame and the map of its bits at every λ, for print; one scale for each map."""
        k = self.controls[2].values.index(frame)
        records = [r for at, r in self._records.items() if at[0] == pair and at[2] == k]
        maps = [np.array(r["map"]) for r in records]
        captions = [frame]
        for r, blocks in zip(records, maps, strict=True):
            captions.append(f"λ {r['lmbda']:g}: up to {blocks.max():.0f} bits")
        images = [self.frames[pair].images[frame], *(b / max(b.max(), 1e-6) for b in maps)]
        colormap = ["gray"] + [THERMAL] * len(maps)
        return show_images(images, captions, columns=3, colormap=colormap)
