"""Affine coefficient explorer: what is sent for each channel, and what it is for (chapter 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from . import explorer_page as html
from .bitstream import Section, unpack
from .channel_alignment import ChannelAlignment, unpack_coefficients
from .coding import code, psnr_image
from .explorer_core import Explorer, lambda_control
from .explorer_page import Control, Picture, View
from .image_codec import as_image, crop
from .pair_codec import PairCodec
from .plots import INFRARED, VISIBLE, signed

CHANGE_TOP = 8
"""Grey levels at which a map of changes has its full colour."""

_CHANGE_MAP = "RdBu_r"


class AffineExplorer(Explorer):
    """See :func:`explorers.affine_explorer`."""

    kind = "affine"
    title = "Affine coefficient explorer"

    def __init__(
        self,
        codec: PairCodec,
        pairs: Iterable[Any],
        lambdas: Sequence[float],
        size: tuple[int, int],
    ):
        super().__init__(codec, "channel_alignment", pairs, size)
        channels = range(codec.config.feature_channels)
        resets = Control(
            "reset",
            "Reset to γ = 1, β = 0",
            ("none", "all", *channels),
            ("no channel", "all channels", *(f"channel {k}" for k in channels)),
            start=1,  # what is reset first should be seen
        )
        self.controls += (lambda_control(lambdas, codec), resets)
        self._decoders: dict[tuple[int, float], dict[str, Any]] = {}

    @torch.no_grad()
    def _decoder(self, pair: int, lmbda: float) -> dict[str, Any]:
        """One file, and what its decoder holds just before γ and β are used."""
        if (pair, lmbda) not in self._decoders:
            codec, frames, seen = self.codec, self.frames[pair], []
            hooks = [
                codec.reference_features.register_forward_hook(lambda *io: seen.append(io[-1])),
                codec.feature_decoder.register_forward_pre_hook(lambda _, x: seen.append(x[0])),
            ]
            try:
                data, decoded = code(codec, frames.images, lmbda, mode="all")
            finally:
                for hook in hooks:
                    hook.remove()
            f_visible, features = seen  # (1, F, H, W), (1, 2F, H, W)
            config = codec.config
            gamma, beta = unpack_coefficients(
                unpack(data)[1][Section.COEFFICIENTS],
                config.feature_channels,
                config.coefficient_format,
            )
            assert decoded.infrared is not None
            self._decoders[pair, lmbda] = {
                "f_visible": f_visible,
                "own": features[:, : -config.feature_channels],
                "gamma": gamma.to(f_visible.device),
                "beta": beta.to(f_visible.device),
                "decoded": decoded.infrared,
            }
        return self._decoders[pair, lmbda]

    @torch.no_grad()
    def record(self, pair: int, lmbda: float, reset: str | int) -> dict[str, Any]:
        """The picture of the same ŷ with some coefficients put back to where training began."""
        frames, held = self.frames[pair], self._decoder(pair, lmbda)
        gamma, beta = held["gamma"].clone(), held["beta"].clone()
        image = held["decoded"]
        if reset != "none":
            channels = slice(None) if reset == "all" else int(reset)
            gamma[:, channels], beta[:, channels] = 1, 0
            f_aligned = ChannelAlignment.align(held["f_visible"], gamma, beta)
            x_hat = self.codec.feature_decoder(torch.cat([held["own"], f_aligned], 1))
            height, width = frames.infrared.shape
            image = as_image(crop(x_hat, (height, width)))
        before = psnr_image(frames.infrared, held["decoded"])
        after = psnr_image(frames.infrared, image)
        return {
            "pair": frames.name,
            "lmbda": float(lmbda),
            "reset": reset,
            "gamma": held["gamma"].flatten().tolist(),
            "beta": held["beta"].flatten().tolist(),
            "psnr": before,
            "psnr_reset": after,
            "change": after - before,
            "_image": image,
            "_decoded": held["decoded"],
            "_at": (pair, lmbda),
        }

    def view(self, record: dict[str, Any]) -> View:
        reset, lmbda = record["reset"], f"{record['lmbda']:.0f}"
        what = {"none": "nothing", "all": "all channels"}.get(reset, f"channel {reset}")
        change = record["_image"].astype(int) - record["_decoded"]
        legend = html.scale_bar(_CHANGE_MAP, f"−{CHANGE_TOP} or less", f"+{CHANGE_TOP} or more")
        parts = dict(self._as_sent(*record["_at"]))
        parts["change"] = Picture(
            html.mapped(change, -CHANGE_TOP, CHANGE_TOP, _CHANGE_MAP, 2 * CHANGE_TOP + 1),
            f"Change of the reconstruction with {what} reset: mean size "
            f"{np.abs(change).mean():.2f} grey levels, largest {np.abs(change).max()}",
            f"<b>change with {what} reset</b>, grey levels {legend}",
        )
        if reset == "none":
            status = (
                f"λ = {lmbda}: as sent, nothing reset, <b>{record['psnr']:.3f} dB</b>. Choose a "
                "channel to see where in the picture it is at work."
            )
        else:
            status = (
                f"λ = {lmbda}: as sent {record['psnr']:.3f} dB, with {what} reset "
                f"{record['psnr_reset']:.3f} dB: <b>{signed(record['change'], '+.3f')} dB</b>. "
                f"Pixels change by {np.abs(change).mean():.2f} grey levels on average, by "
                f"{np.abs(change).max()} at most; the other bytes of the file are the same."
            )
        return View(status, parts)

    def _as_sent(self, pair: int, lmbda: float) -> dict[str, Picture | str]:
        """The parts that do not depend on what is reset, made once for a file."""
        frames, held = self.frames[pair], self._decoder(pair, lmbda)
        if "parts" not in held:
            level = psnr_image(frames.infrared, held["decoded"])
            held["parts"] = {
                "decoded": Picture(
                    html.lossless(held["decoded"]),
                    f"Reconstruction of {frames.name} with the coefficients of the file, "
                    f"λ {lmbda:.0f}, {level:.2f} dB",
                    f"<b>as sent</b>, {level:.2f} dB",
                ),
                "change": "",  # keeps its place beside the picture
                "gamma": self._bars("γ", held["gamma"].flatten().tolist()),
                "beta": self._bars("β", held["beta"].flatten().tolist()),
            }
        return held["parts"]

    def _bars(self, letter: str, values: list[float]) -> str:
        """A bar for each channel from where training began, a line for its range over files."""
        name, start = {"γ": ("gamma", 1.0), "β": ("beta", 0.0)}[letter]
        files = product(*(control.values for control in self.controls[:2]))
        every = np.array([self._decoder(*file)[name].flatten().tolist() for file in files])
        low, high = min(float(every.min()), start), max(float(every.max()), start)
        room = max(0.1 * (high - low), 0.05)
        axes = html.Axes(
            (-0.7, len(values) - 0.3),
            (low - room, high + room),
            ("feature channel", letter),
        )
        shapes = ""
        for v in html.ticks(*axes.y_range):
            shapes += f'<path class="xm-grid" d="M{axes.left} {axes.y(v):.1f}H{axes.right}"/>'
            shapes += html.words(axes.left - 5, axes.y(v) + 4, f"{v:g}".replace("-", "−"), "end")
        wide = 0.7 * (axes.x(1) - axes.x(0))
        zero = axes.y(start)
        for k, value in enumerate(values):
            x, y = axes.x(k), axes.y(value)
            shape = html.box(x - wide / 2, min(y, zero), wide, max(abs(y - zero), 0.8))
            shapes += f'<rect {shape} fill="{INFRARED}"/>'
            reach = f"M{x:.1f} {axes.y(every[:, k].min()):.1f}V{axes.y(every[:, k].max()):.1f}"
            shapes += f'<path d="{reach}" stroke="currentColor" stroke-width="1.5"/>'
            if k % 2 == 0 or len(values) <= 10:
                shapes += html.words(x, axes.bottom + 15, str(k))
        shapes += f'<path d="M{axes.left} {zero:.1f}H{axes.right}" stroke="{VISIBLE}"/>'
        shapes += html.words((axes.left + axes.right) / 2, axes.bottom + 34, axes.names[0])
        shapes += html.words(11, (axes.top + axes.bottom) / 2, letter)
        listed = ", ".join(f"{k}: {value:.2f}" for k, value in enumerate(values))
        about = (
            f"<p><b>{letter} as sent</b>: bars from {start:g}, where training began; thin lines: "
            "the range over the pairs and λ of this explorer</p>"
        )
        drawn = f"{letter} of every channel: {listed}"
        return about + html.chart(shapes, axes.width, axes.height, drawn)

    def summary(self) -> str:
        at_once: dict[tuple[int, ...], list[dict[str, Any]]] = {}  # by pair and λ
        for at, record in self._records.items():
            at_once.setdefault(at[:2], []).append(record)
        columns = [
            (
                f"{records[0]['pair']}, λ {records[0]['lmbda']:g}",
                f"{records[0]['psnr']:.2f}",
                *(signed(r["change"], "+.3f") for r in records[1:]),
            )
            for records in at_once.values()
        ]
        names = ["reset", "dB as sent", *self.controls[2].texts[1:]]
        head, *rows = zip(names, *columns, strict=True)
        return html.table(head, rows, "PSNR as sent (dB), and its change with γ = 1, β = 0 in …")

    def figure(self, pair: int = 0) -> Figure:
        """γ and β at every λ, and what resetting each channel costs, for print."""
        records = {at[1:]: r for at, r in self._records.items() if at[0] == pair}
        lambdas, resets = (self.controls[k].values for k in (1, 2))
        figure, panels = plt.subplots(3, 1, figsize=(8, 5.4), sharex=True, layout="constrained")
        channels = np.arange(self.codec.config.feature_channels)
        tones = html.colours("viridis", len(lambdas) + 1) / 255
        for k, value in enumerate(lambdas):
            look = {"marker": "o", "linestyle": "", "color": tones[k], "label": f"λ {value:g}"}
            at = channels + 0.12 * (k - (len(lambdas) - 1) / 2)
            panels[0].plot(at, records[k, 0]["gamma"], **look)
            panels[1].plot(at, records[k, 0]["beta"], **look)
            changes = [records[k, n]["change"] for n in range(2, len(resets))]
            panels[2].plot(at, changes, **look)
        for axes, label, start in zip(
            panels, ("γ", "β", "change if\nreset (dB)"), (1, 0, 0), strict=True
        ):
            axes.axhline(start, color="0.4", linewidth=1)
            axes.set_ylabel(label)
        panels[2].set_xlabel("feature channel")
        panels[2].set_xlim(-0.6, len(channels) - 0.4)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(lambdas)
        )
        return figure
