"""Figures: one style for all of them, and the few that several chapters draw.

A codec has one colour, marker and line wherever it appears. Functions return Matplotlib figures or
axes and leave `plt.show()` to the caller; `use_style()` is the only one that changes settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .frames import Pair

WIDTH = 8.0
"""Of every figure, in inches, so that text has the same size in all of them."""

THERMAL = "inferno"
"""Perceptually uniform, so that a step of heat looks the same at every level, also in grey."""

STYLE: dict[Any, Any] = {
    "figure.figsize": (WIDTH, 3.4),
    "figure.dpi": 180,  # about twice what a page shows
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",  # opaque: a dark page must not shine through
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "image.cmap": "gray",
    "axes.prop_cycle": plt.cycler(
        color=["#0072B2", "#C4530A", "#009E73", "#CC79A7", "#56B4E9", "#1D2733"]
    ),
}

VISIBLE, INFRARED = "#0072B2", "#C4530A"
"""The two cameras, here and in the system map."""


@dataclass(frozen=True)
class CodecStyle:
    """How a codec is drawn: legend label, colour, marker, and a line that is solid if learned."""

    label: str
    colour: str
    marker: str
    line: str = "-"


# Within the learned and within the classical codecs the colours stay apart for colour-blind
# readers (a test simulates it); across the two, the line tells.
CODEC_STYLES = {
    "pair": CodecStyle("pair codec", "#0072B2", "o"),
    "alone": CodecStyle("the same, no reference", "#E69F00", "s"),
    "minnen": CodecStyle("like Minnen 2018", "#009E73", "D"),
    "channel": CodecStyle("channel alignment only", "#56B4E9", "^"),
    "spatial": CodecStyle("spatial alignment only", "#CC79A7", "v"),
    "entropy": CodecStyle("entropy context only", "#900000", "<"),
    "both": CodecStyle("channel and space (the paper)", "#7A3FF2", ">"),
    "visible": CodecStyle("visible codec", "#1D2733", "P"),
    "hevc": CodecStyle("HEVC intra (BPG)", "#D55E00", "o", "--"),
    "av1": CodecStyle("AV1 intra", "#332288", "D", "--"),
    "avif": CodecStyle("AVIF", "#33BBEE", "s", "--"),
    "jpeg2000": CodecStyle("JPEG 2000", "#AA4499", "^", "--"),
    "webp": CodecStyle("WebP", "#661100", "v", "--"),
    "jpeg": CodecStyle("JPEG", "#8C8C8C", "X", "--"),
}


def use_style() -> None:
    """Set Matplotlib up for this book; once a notebook, in its first cell."""
    plt.rcParams.update(STYLE)
    with contextlib.suppress(ImportError):  # outside Jupyter there is nothing to set
        from matplotlib_inline.config import InlineBackend

        # untrimmed: a trimmed figure is enlarged to the width of the page, and its words with it
        InlineBackend.instance().set_trait("print_figure_kwargs", {"bbox_inches": None})


def codec_style(name: str) -> CodecStyle:
    """The style of a codec by the name it has in `results/`.

    A control such as ``"pair (mirrored)"`` looks like its codec, dotted.

    Raises:
        ValueError: no such codec; the message lists those that are.
    """
    codec, _, control = name.partition(" (")
    if codec not in CODEC_STYLES:
        raise ValueError(f"codec {name!r} has no style; expected one of {', '.join(CODEC_STYLES)}")
    style = CODEC_STYLES[codec]
    return replace(style, label=f"{style.label} ({control}", line=":") if control else style


def codec_colour(name: str) -> str:
    """The colour of a codec, as `#rrggbb`."""
    return codec_style(name).colour


# --- pictures ------------------------------------------------------------------------------------


def as_picture(image: Any) -> np.ndarray:
    """An image as Matplotlib wants it: (H, W) or (H, W, 3); float images are clipped to [0, 1].

    Args:
        image: uint8 or float, array or tensor, (H, W), (H, W, C), (C, H, W) or (1, C, H, W) with
            C = 1 or 3.

    Raises:
        ValueError: another shape, naming it.
    """
    array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[-1] != 3):
        raise ValueError(f"an image of shape {shape}; expected one image of 1 or 3 channels")
    return array if array.dtype == np.uint8 else np.clip(array, 0, 1)


def stretched(values: Any, scale: Any = None) -> np.ndarray:
    """A map of any range as a grey image: the 1st percentile is black (0), the 99th white (1).

    Args:
        values: array or tensor, e.g. one channel of a feature (H, W).
        scale: whose percentiles, those of `values` if None; maps on one scale can be compared. If
            it is flat, its value is mid-grey, what is below black, what is above white.

    Raises:
        ValueError: a value that is not finite.
    """
    array, range_of = (
        np.asarray(x.detach().cpu() if hasattr(x, "detach") else x, dtype=float)
        for x in (values, values if scale is None else scale)
    )
    if not (np.isfinite(array).all() and np.isfinite(range_of).all()):
        raise ValueError("a value of the map is not finite; expected numbers to draw")
    low, high = np.quantile(range_of, (0.01, 0.99))
    if low == high:
        return 0.5 + np.sign(array - low) / 2
    return np.clip((array - low) / (high - low), 0, 1)


def show_images(
    images: Sequence[Any],
    captions: Sequence[str],
    columns: int | None = None,
    colormap: str | Sequence[str] = "gray",
) -> Figure:
    """Images in rows, each with its caption above; all columns are equally wide.

    Args:
        images: what `as_picture` takes, in reading order. Grey levels are absolute: 0 and 255
            (or 0.0 and 1.0) have the same tone in every image.
        captions: one for each image.
        columns: images in a row; all in one row if None.
        colormap: of grey images; one for all, or one for each.

    Raises:
        ValueError: no image, or another number of captions or colormaps than of images.
    """
    colormaps = [colormap] * len(images) if isinstance(colormap, str) else list(colormap)
    if not len(images) or not len(images) == len(captions) == len(colormaps):
        raise ValueError(
            f"{len(images)} images, {len(captions)} captions, {len(colormaps)} colormaps; "
            "expected the same number of each, at least one"
        )
    pictures = [as_picture(image) for image in images]
    columns = min(columns or len(pictures), len(pictures))
    rows = [pictures[k : k + columns] for k in range(0, len(pictures), columns)]
    heights = [max(p.shape[0] / p.shape[1] for p in row) for row in rows]
    line = 0.3  # inches for a caption
    height = sum(WIDTH / columns * h + line for h in heights)
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(WIDTH, height),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, picture, caption, cmap in zip(
        grid.flat, pictures, captions, colormaps, strict=False
    ):
        top = 255 if picture.dtype == np.uint8 else 1
        axes.imshow(picture, cmap=cmap, vmin=0, vmax=top)
        axes.set_title(caption)
    return figure


def show_pair(pair: Pair, colormap: str = "gray") -> Figure:
    """Both frames of a pair side by side, drawn at the same size, with their sizes in pixels."""
    (h, w), (height, width) = pair.visible.shape[:2], pair.infrared.shape
    captions = [f"visible, {w}×{h}", f"infrared, {width}×{height}"]
    return show_images([pair.visible, pair.infrared], captions, colormap=colormap)


def show_maps(
    maps: Sequence[Any],
    captions: Sequence[str],
    labels: tuple[str, str, str],
    top: float | None = None,
    marks: Sequence[tuple[float, float]] | None = None,
) -> Figure:
    """Maps of one quantity in a row, on one colour scale from zero, with one colour bar.

    Args:
        maps: (rows, columns), arrays or tensors, nothing negative.
        captions: one for each map.
        labels: of the columns, of the rows, and of the quantity, with its unit.
        top: the brightest colour; the largest value of all maps if None.
        marks: a (row, column) for each map, shown as a red cross; rows and columns are then
            counted from the middle of the map, where (0, 0) is.

    Raises:
        ValueError: no map, or another number of captions or marks than of maps.
    """
    if not len(maps) or not len(maps) == len(captions) == len(marks or maps):
        raise ValueError(
            f"{len(maps)} maps, {len(captions)} captions, {len(marks or maps)} marks; "
            "expected the same number of each, at least one"
        )
    arrays = [np.asarray(m.detach().cpu() if hasattr(m, "detach") else m) for m in maps]
    limit = top if top is not None else max(float(array.max()) for array in arrays)
    figure, panels = plt.subplots(
        1,
        len(arrays),
        figsize=(WIDTH, 0.5 + 7.6 / (len(arrays) + 0.4)),
        sharey=True,
        squeeze=False,
    )
    for k, (axes, array, caption) in enumerate(zip(panels[0], arrays, captions, strict=True)):
        rows, columns = array.shape
        down, across = ((rows - 1) / 2, (columns - 1) / 2) if marks else (0, 0)
        extent = (-0.5 - across, columns - 0.5 - across, rows - 0.5 - down, -0.5 - down)
        picture = axes.imshow(array, cmap="viridis", vmin=0, vmax=limit, extent=extent)
        if marks:
            row, column = marks[k]
            axes.plot(column, row, "+", color="#ff4d4d", ms=11, mew=2, clip_on=False)
            axes.set(xlim=extent[:2], ylim=extent[2:])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(title=caption, xlabel=labels[0])
        axes.grid(False)
    panels[0, 0].set_ylabel(labels[1])
    figure.colorbar(picture, ax=panels, label=labels[2])
    return figure


def plot_dots(axes: Axes, rows: Mapping[str, Sequence[float]]) -> None:
    """Every value as a dot in the row of its name, the mean of a row as a bar; the first on top.

    Raises:
        ValueError: no row, or a row without a value, naming it.
    """
    empty = [name for name, values in rows.items() if not len(values)]
    if empty or not rows:
        raise ValueError(f"no value for {', '.join(empty) or 'any row'}; expected at least one")
    for row, values in enumerate(rows.values()):
        axes.plot(values, [row] * len(values), "o", alpha=0.5, color="0.4")
        axes.plot([np.mean(values)] * 2, [row - 0.2, row + 0.2], color=INFRARED)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)


def signed(number: float, form: str = "+.2f") -> str:
    """A number for text and labels, in a format of Python's, with a real minus; a dash if NaN.

    What rounds to zero has no sign.
    """
    if np.isnan(number):
        return "–"
    text = format(number, form)
    if not float(text.replace(",", "")):  # what rounds to nothing has no sign
        text = text.lstrip("+-")
    return text.replace("-", "−")


# --- rate and distortion -------------------------------------------------------------------------


def rate_distortion_axes(axes: Axes | None = None, target: str = "infrared") -> Axes:
    """Axes of a rate–distortion plot: rate in bits per pixel of `target`, PSNR in dB."""
    if axes is None:
        axes = plt.subplots()[1]
    axes.set_xlabel(f"rate (bits per {target} pixel)")
    axes.set_ylabel("PSNR (dB)")
    axes.set_xlim(left=0)
    return axes


def plot_rate_distortion(
    axes: Axes, name: str, bpp: Sequence[float], psnr: Sequence[float], **line: Any
) -> None:
    """One codec's curve in its own style; `line` overrides, e.g. `label="λ = 256 … 4096"`."""
    style = codec_style(name)
    look: dict[str, Any] = {
        "color": style.colour,
        "marker": style.marker,
        "linestyle": style.line,
        "label": style.label,
    }
    axes.plot(bpp, psnr, **{**look, **line})


OWN: dict[str, Any] = {"color": "0.2", "marker": "*", "markersize": 8}
"""How a codec is drawn that the reader has built."""


def plot_curves(curves: Mapping[str, Any], axes: Axes | None = None, **legend: Any) -> Axes:
    """Rate–distortion curves on axes with units and a legend, each codec in its own style.

    Args:
        curves: by codec, (n, 2) each: bpp, PSNR in dB. A name that no codec of `CODEC_STYLES` has
            is the reader's own codec, in black stars.
        axes: new ones if None.
        legend: settings of Matplotlib's legend, e.g. `loc="lower right"`.

    Raises:
        ValueError: a curve of another shape, naming it.
    """
    if axes is None:
        axes = plt.subplots()[1]
    for name, curve in curves.items():
        points = np.asarray(curve, dtype=float)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"{name}: a curve of shape {points.shape}; expected (n, 2): bpp, dB")
        if name.partition(" (")[0] in CODEC_STYLES:
            plot_rate_distortion(axes, name, *points.T)
        else:
            axes.plot(*points.T, label=name, **OWN)
    rate_distortion_axes(axes).legend(**legend)
    return axes


def plot_lines(
    x: Any,
    lines: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    height: float = 3.0,
    **settings: Any,
) -> Axes:
    """Lines over one quantity, told apart by colour and dashes; a legend if there are several.

    Args:
        x: (n,), where the values lie.
        lines: by legend label, up to four; (n,) each.
        height: of the figure in inches.
        settings: of the axes, e.g. `yscale="log"`.

    Raises:
        ValueError: no line, or more than there are dashes.
    """
    dashes = ("-", "--", ":", "-.")
    if not 0 < len(lines) <= len(dashes):
        raise ValueError(f"{len(lines)} lines; expected 1 to {len(dashes)}")
    axes = plt.subplots(figsize=(WIDTH, height))[1]
    for (label, values), dash in zip(lines.items(), dashes, strict=False):
        axes.plot(x, values, dash, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel, **settings)
    if len(lines) > 1:
        axes.legend()
    return axes


CHANGE_COLOURS = (CODEC_STYLES["pair"].colour, "#56B4E9", "#1D2733")


def plot_changes(
    axes: Axes,
    names: Iterable[object],
    groups: Mapping[str, Sequence[float]],
    written: bool = False,
) -> None:
    """Changes as bars up and down from a line at zero, one bar a group at each name.

    Args:
        names: on the horizontal axis.
        groups: by legend label, up to three; each has one value a name.
        written: the value stands at its bar.

    Raises:
        ValueError: another number of values than of names, or more groups than colours.
    """
    ticks = [str(name) for name in names]
    if len(groups) > len(CHANGE_COLOURS) or any(len(v) != len(ticks) for v in groups.values()):
        sizes = ", ".join(str(len(values)) for values in groups.values())
        most = len(CHANGE_COLOURS)
        raise ValueError(f"groups of {sizes} values; expected up to {most} groups of {len(ticks)}")
    width = 0.8 / len(groups)
    for k, (label, values) in enumerate(groups.items()):
        places = np.arange(len(ticks)) + width * (k - (len(groups) - 1) / 2)
        bars = axes.bar(places, values, 0.95 * width, color=CHANGE_COLOURS[k], label=label)
        if written:
            notes = [signed(value, "+.1f") for value in values]
            axes.bar_label(bars, notes, padding=3, fontsize=7.5, rotation=90)
    axes.axhline(0, color="0.4", linewidth=1)
    axes.set_xticks(range(len(ticks)), ticks, fontsize=10 if len(ticks) <= 10 else 7.5)
    axes.grid(axis="x", visible=False)
    if written:
        axes.margins(y=0.3)
