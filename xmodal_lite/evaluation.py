"""Evaluation: rate–distortion points on real bytes, BD-rate and controls (chapters 2 and 10).

Every rate is the size of a file: a stream is written, its size taken, read back and decoded from
those bytes alone. Rates are bits per pixel of the coded image, PSNR is in dB on the rounded 8-bit
reconstruction at full size, and means are over images.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur
from tqdm.auto import tqdm

from . import baselines
from .bitstream import SYMBOL_CRC_BYTES, section_sizes, unpack
from .config import Modality, check_lambda
from .data import PairSource
from .frames import Pair
from .image_codec import ImageCodec, as_batch, pad, padded_size
from .loss import psnr, rate_distortion
from .pair_codec import Encoded, Mode, PairCodec, Reconstruction
from .pretrained import Codec, WeightsError, available, load_pretrained, load_weights, write_whole
from .training import coefficient_bits

ReferenceKind = Literal["true", "other", "blank", "mirrored"]
REFERENCES: tuple[ReferenceKind, ...] = ("true", "other", "blank", "mirrored")

HEADER_ENTRY_BYTES = 8  # a coded image's height, width and λ in the .xmc header
MID_GREY = 128

Decoded = TypeVar("Decoded")


class EvaluationError(RuntimeError):
    """A measurement that cannot be trusted, or that did not come to an end."""


# --- one measurement -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One image coded once.

    Args:
        codec: its name; ``pair``: the scene's name.
        lmbda, setting: the point on the rate axis: λ of a learned codec, else the classical
            codec's own setting (QP, quality, …).
        bytes: what the image costs in the file, see :func:`target_bytes`; the whole file of a
            codec that codes one image.
        bpp: 8 · bytes per pixel of the coded image.
        psnr: dB, infinite for a perfect copy.
        reference: which reference encoder and decoder had; None for a codec without.
        mode: what the file uses of it, as its encoder decided.
        total_bytes, total_bpp: the whole file; bits per pixel of the coded image here too, so
            that the reference's share is the difference.
        reference_psnr: dB, of the reference frame as decoded.
        estimate_bpp: what the likelihoods promised, coefficients included, container excluded.
    """

    codec: str
    lmbda: float | None = None
    setting: float | None = None
    pair: str
    bytes: int
    bpp: float
    psnr: float
    reference: ReferenceKind | None = None
    mode: Mode | None = None
    total_bytes: int | None = None
    total_bpp: float | None = None
    reference_psnr: float | None = None
    estimate_bpp: float | None = None

    @property
    def label(self) -> str:
        """The curve it belongs to; see :func:`label_of`."""
        return label_of(self.codec, self.reference)

    @property
    def point(self) -> float:
        """λ or setting, whichever it has."""
        value = self.setting if self.lmbda is None else self.lmbda
        if value is None:
            raise ValueError(f"a measurement of {self.codec} has neither λ nor setting")
        return value

    def to_dict(self) -> dict[str, Any]:
        """For JSON: fields without a value left out, an infinite PSNR as null."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        for name, value in values.items():
            if name.endswith("psnr") and math.isinf(value):
                values[name] = None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measurement:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: fields are missing or unknown.
        """
        infinite = {k: math.inf for k, v in values.items() if k.endswith("psnr") and v is None}
        try:
            return cls(**values | infinite)
        except TypeError as error:
            raise ValueError(f"not a measurement: {error}") from None


def label_of(name: str, reference: ReferenceKind | None) -> str:
    """A curve's name: the codec's, and the reference where it is a wrong one."""
    return name if reference in (None, "true") else f"{name} ({reference})"


def psnr_image(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB between two uint8 images of one shape, over all pixels and channels.

    Raises:
        ValueError: shapes or types differ.
    """
    if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(
            f"images {a.shape} {a.dtype} and {b.shape} {b.dtype}; expected uint8 twins"
        )
    return psnr(float(np.square(a.astype(np.int32) - b).mean()) / 255**2)


def target_bytes(data: bytes, target: Modality | None = None) -> int:
    """Bytes of a stream that its target image costs.

    A file in which two images are coded without each other does not say which of them is meant;
    ``target`` does, where it is given.

    The whole file, minus what only the reference is there for: its z and y sections with their
    own overhead (kind, length, CRC-32), its 8 bytes in the header and its 4 bytes in SYMBOLS. The
    fixed part of the header, both its CRC and SYMBOLS' frame are charged to the target. So a pair
    codec pays the same overhead as the same network without reference, whose file holds nothing
    but the target; of such a stream, and of an image codec's, every byte counts.

    Raises:
        BitstreamError: not a whole stream.
    """
    header, _ = unpack(data)
    reference_bytes = 0
    target = target or header.target
    if target is not None:
        sizes = section_sizes(data)
        for image in header.images:
            if image != target:
                reference_bytes += sizes[f"{image}_z"] + sizes[f"{image}_y"]
                reference_bytes += HEADER_ENTRY_BYTES + SYMBOL_CRC_BYTES
    return len(data) - reference_bytes


def through_file(data: bytes, decode: Callable[[bytes], Decoded]) -> tuple[int, Decoded]:
    """Size in bytes of a real file with this content, and what ``decode`` makes of that file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream"
        path.write_bytes(data)
        return path.stat().st_size, decode(path.read_bytes())


def target_of(codec: Codec) -> Modality:
    """The modality that a codec is measured on."""
    return codec.modality if isinstance(codec, ImageCodec) else codec.config.target


def reference_image(
    image: np.ndarray, kind: ReferenceKind, other: np.ndarray | None = None
) -> np.ndarray:
    """The reference that a control is given, of the same size as the true one.

    Args:
        image: the true reference, uint8.
        kind: ``"true"``; ``"other"``, another scene's frame, resized; ``"blank"``, grey of value
            128; ``"mirrored"``, left and right exchanged.
        other: the other scene's frame.

    Raises:
        ValueError: unknown kind, or ``"other"`` without another frame.
    """
    if kind == "true":
        return image
    if kind == "blank":
        return np.full_like(image, MID_GREY)
    if kind == "mirrored":
        return np.ascontiguousarray(image[:, ::-1])
    if kind != "other":
        raise ValueError(f"unknown reference {kind!r}; expected one of {', '.join(REFERENCES)}")
    if other is None:
        raise ValueError("a reference from another scene needs at least two pairs")
    size = (image.shape[1], image.shape[0])
    return np.array(Image.fromarray(other).resize(size, Image.Resampling.LANCZOS))


def measure_learned(
    name: str,
    codec: Codec,
    pair: Pair,
    lmbda: float,
    reference: ReferenceKind = "true",
    other: Pair | None = None,
    estimate: bool = False,
    mode: Mode | Literal["auto"] = "auto",
) -> Measurement:
    """Code one pair at one λ into a file, decode the file, measure.

    Args:
        reference: what encoder *and* decoder have as reference (see :func:`reference_image`);
            the file holds that frame, so a control is an honest file of its own.
        other: the other scene, for ``"other"``.
        estimate: also run the likelihoods.
        mode: of a pair codec, see :meth:`PairCodec.compress`.

    Raises:
        EvaluationError: the file decodes to other images than the encoder promised.
        ValueError: λ out of range, or a reference for a codec that has none.
    """
    target, side = target_of(codec), None
    images: dict[str, np.ndarray] = {"visible": pair.visible, "infrared": pair.infrared}
    if isinstance(codec, PairCodec) and codec.reference_codec is not None:
        side = codec.config.reference
        others = None if other is None else getattr(other, side)
        images[side] = reference_image(images[side], reference, others)
    elif reference != "true":
        raise ValueError(f"codec {name!r} has no reference; {reference!r} makes no sense for it")
    data, promised = code(codec, images, lmbda, mode=mode)
    size, decoded = through_file(data, lambda read: decode(codec, read))
    for image in filter(None, (side, target)):
        if not np.array_equal(getattr(promised, image), getattr(decoded, image)):
            raise EvaluationError(
                f"{pair.name}: {name} at λ {lmbda:g} decodes to another {image} image than its "
                "encoder promised"
            )
    height, width = images[target].shape[:2]
    own = target_bytes(data, target)
    used = None
    if isinstance(codec, PairCodec) and side is not None:
        used = codec.mode_of(unpack(data)[0])
    return Measurement(
        codec=name,
        lmbda=float(lmbda),
        pair=pair.name,
        bytes=own,
        bpp=8 * own / (height * width),
        psnr=psnr_image(images[target], getattr(decoded, target)),
        reference=reference if side else None,
        mode=used,
        total_bytes=size,
        total_bpp=8 * size / (height * width),
        reference_psnr=psnr_image(images[side], getattr(decoded, side)) if side else None,
        estimate_bpp=estimate_bpp(codec, images, lmbda, used or "all") if estimate else None,
    )


def code(
    codec: Codec,
    images: dict[str, np.ndarray],
    lmbda: float,
    reference_lmbda: float | None = None,
    mode: Mode | Literal["auto"] = "auto",
) -> Encoded:
    """Stream and reconstruction of any codec, from uint8 images by modality.

    Raises:
        ValueError: an image is missing or of the wrong size, λ is out of range, or a mode that the
            codec has not.
    """
    if isinstance(codec, PairCodec):
        visible, infrared = images.get("visible"), images.get("infrared")
        return codec.encode(visible, infrared, lmbda, reference_lmbda, mode)
    if mode != "auto":
        raise ValueError(f"mode {mode!r}; expected auto, this codec has no reference")
    data = codec.compress(images[codec.modality], lmbda)
    return Encoded(data, decode(codec, data))


def decode(codec: Codec, data: bytes, only: Modality | None = None) -> Reconstruction:
    """The images of a stream, by any codec; see :meth:`PairCodec.decompress`."""
    if isinstance(codec, PairCodec):
        return codec.decompress(data, only)
    images: dict[str, np.ndarray | None] = {"visible": None, "infrared": None}
    return Reconstruction(**images | {codec.modality: codec.decompress(data)})


@torch.no_grad()
def estimate_bpp(
    codec: Codec, images: dict[str, np.ndarray], lmbda: float, mode: Mode = "all"
) -> float:
    """Bits per pixel of the target that the likelihoods promise, coefficients included.

    Args:
        images: uint8, by modality, as :meth:`PairCodec.compress` takes them.
        mode: what is used of the reference, where the codec has one.
    """
    target = target_of(codec)
    device = next(codec.parameters()).device
    weight = torch.tensor([lmbda], device=device)
    if isinstance(codec, ImageCodec):
        batch = as_batch(images[target], target).to(device)
        out = codec(pad(batch, *padded_size(batch.shape[-2:])), weight)
        bits = 0
    else:
        batches = padded_batches(codec, images)
        out = codec(batches.get("visible"), batches.get("infrared"), weight, mode)
        bits = 0 if out["gamma"] is None else coefficient_bits(codec.config)
    rates = rate_distortion(out["x_hat"], out["x_hat"], out["likelihoods"], weight)
    padded = out["x_hat"].shape[-2] * out["x_hat"].shape[-1]
    pixels = images[target].shape[0] * images[target].shape[1]
    return (rates.bpp.item() * padded + bits) / pixels


def padded_batches(codec: PairCodec, images: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The images that a pair codec codes, as padded batches (1, C, ·, ·) in [0, 1]."""
    config = codec.config
    used = [config.target] if codec.reference_codec is None else [config.reference, config.target]
    stride = config.stride_of(config.target)
    height, width = images[config.target].shape[:2]
    grid = padded_size((-(-height // stride), -(-width // stride)))
    device = next(codec.parameters()).device
    return {
        name: pad(
            as_batch(images[name], name).to(device),
            *(config.stride_of(name) * side for side in grid),
        )
        for name in used
    }


def measure_classical(
    name: str, pair: Pair, setting: float, target: Modality = "infrared"
) -> Measurement:
    """Code one image with a classical codec at one setting into a file, decode it, measure.

    Raises:
        ValueError: unknown codec or setting.
        EvaluationError: the decoded image has another size.
    """
    image = pair.infrared if target == "infrared" else pair.visible
    data = baselines.encode(name, image, setting)
    size, decoded = through_file(data, lambda read: baselines.decode(name, read, image.shape))
    if decoded.shape != image.shape:
        raise EvaluationError(f"{pair.name}: {name} decodes to {decoded.shape}, not {image.shape}")
    return Measurement(
        codec=name,
        setting=setting,
        pair=pair.name,
        bytes=size,
        bpp=8 * size / (image.shape[0] * image.shape[1]),
        psnr=psnr_image(image, decoded),
    )


# --- many measurements ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """A codec to be measured, and where.

    Args:
        name: in the records; a classical codec's own name.
        points: λ, or settings of a classical codec.
        codec: None for a classical one.
        references: which references a codec with a reference gets.
        mode: of a codec with a reference, see :meth:`PairCodec.compress`.
    """

    name: str
    points: tuple[float, ...]
    codec: Codec | None = None
    references: tuple[ReferenceKind, ...] = ("true",)
    mode: Mode | Literal["auto"] = "auto"

    @property
    def labels(self) -> list[str]:
        """The curves that it makes."""
        return [label_of(self.name, reference) for reference in self.references]


def load_codec(name: str, device: str | torch.device = "cpu") -> Codec:
    """A codec by the name of shipped weights, or by the path of a weights file.

    Raises:
        WeightsError: neither; or a file that is not sound.
    """
    if name in available():
        return load_pretrained(name, device)
    if Path(name).suffix == ".safetensors" or Path(name).exists():
        return load_weights(name, device)
    shipped = ", ".join(available()) or "none"
    raise WeightsError(
        f"no weights {name!r}; shipped are {shipped}, else name a .safetensors file"
    )


def contenders(
    names: Sequence[str],
    weights: dict[str, list[str]] | None = None,
    lambdas: Sequence[float] | None = None,
    references: Sequence[ReferenceKind] = ("true",),
    device: str | torch.device = "cpu",
    mode: Mode | Literal["auto"] = "auto",
) -> list[Contender]:
    """The codecs of these names, loaded and checked before anything is measured.

    Args:
        names: classical codecs, shipped weights, or names in ``weights``.
        weights: files by name; several files of one name (one model a λ) make one curve.
        lambdas: of the learned codecs; all five (or the one) that each was trained for if None.
        references, mode: of the codecs with a reference.

    Raises:
        ValueError: an unknown or repeated name, or a λ that a codec was not trained for.
    """
    weights = weights or {}
    found = []
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"codec {name!r} is named twice")
        if name in weights or name in available():
            for path in weights.get(name, [name]):
                codec = load_codec(path, device)
                points = tuple(lambdas or codec.config.lambdas)
                for point in points:
                    check_lambda(point, codec.config.lambdas)
                referred = isinstance(codec, PairCodec) and codec.reference_codec is not None
                kinds = tuple(references) if referred else ("true",)
                found.append(Contender(name, points, codec, kinds, mode if referred else "auto"))
        elif name in baselines.CODECS:
            found.append(Contender(name, tuple(baselines.CODECS[name].settings)))
        else:
            known = [*baselines.CODECS, *available(), *weights]
            raise ValueError(f"unknown codec {name!r}; expected some of {', '.join(known)}")
    unused = sorted(set(weights) - set(names))
    if unused:
        raise ValueError(f"weights are given for {', '.join(unused)}, which is not to be measured")
    return found


def evaluate(
    codecs: Sequence[Contender],
    pairs: Sequence[Pair] | PairSource,
    target: Modality = "infrared",
    estimate: bool = False,
    progress: bool | None = None,
) -> list[Measurement]:
    """Every codec at every point on every pair.

    Args:
        pairs: indexable, read one by one; a pair's neighbour is its other scene.
        target: what classical codecs code; learned ones must agree.
        progress: a bar on stderr; None shows it in a terminal only.

    Raises:
        ValueError: a learned codec of another target, no pairs, or no other scene where a
            control needs one.
        EvaluationError: a file that does not decode to what its encoder promised.
    """
    for c in codecs:
        if c.codec is not None and target_of(c.codec) != target:
            raise ValueError(f"codec {c.name!r} codes {target_of(c.codec)}; expected {target}")
        if "other" in c.references and len(pairs) < 2:
            raise ValueError("a reference from another scene needs at least two pairs")
    if not len(pairs):
        raise ValueError("no pairs to measure")
    records = []
    count = len(pairs) * sum(len(c.points) * len(c.references) for c in codecs)
    disable = None if progress is None else not progress
    with tqdm(total=count, desc="measuring", unit="file", disable=disable) as bar:
        for index in range(len(pairs)):
            pair = pairs[index]
            other = None
            if any("other" in c.references for c in codecs):
                other = pairs[(index + 1) % len(pairs)]
            for c in codecs:
                for kind in c.references:
                    for point in c.points:
                        bar.set_postfix_str(f"{c.name} {point:g}")
                        records.append(
                            measure_classical(c.name, pair, point, target)
                            if c.codec is None
                            else measure_learned(
                                c.name, c.codec, pair, point, kind, other, estimate, c.mode
                            )
                        )
                        bar.update()
    return records


def shared_detail(visible: Tensor, infrared: Tensor) -> float:
    """How much detail two frames share: 0 where none, 1 where all, whatever its sign.

    Detail is what a Gaussian blur of 3 pixels takes away (chapter 1); the result is the mean
    absolute correlation of both frames' over blocks of 16×16 infrared pixels. Of frames that have
    nothing to do with each other it is not quite 0: compare with a frame moved aside.

    Shapes:
        visible (1, 3, 2·H, 2·W), infrared (1, 1, H, W).
    """
    grey = F.avg_pool2d(visible.mean(1, keepdim=True), 2)  # (1, 1, H, W)
    fine = [x - gaussian_blur(x, [19, 19], [3.0, 3.0]) for x in (grey, infrared)]
    blocks = [F.unfold(x, 16, stride=16) for x in fine]  # (1, 256, blocks)
    a, b = (x - x.mean(1, keepdim=True) for x in blocks)
    return float(F.cosine_similarity(a, b, 1).abs().mean())


# --- curves and Bjøntegaard deltas ---------------------------------------------------------------


def mean_curves(records: Iterable[Measurement]) -> dict[str, list[dict[str, float]]]:
    """Each codec's mean over images at each of its points, lowest rate first.

    Returns:
        By label: ``point`` (λ or setting), ``bytes``, ``bpp``, ``psnr`` (dB), ``images``, and the
        mean ``total_bpp`` and ``estimate_bpp`` where there are any.

    Raises:
        ValueError: the points of one codec were measured on different images.
    """
    groups: dict[str, dict[float, list[Measurement]]] = {}
    for record in records:
        groups.setdefault(record.label, {}).setdefault(record.point, []).append(record)
    curves = {}
    for label, points in groups.items():
        names = [sorted(record.pair for record in group) for group in points.values()]
        if any(other != names[0] for other in names) or len(set(names[0])) < len(names[0]):
            raise ValueError(f"{label}: not every point was measured once on the same images")
        rows = []
        for point, group in points.items():
            row: dict[str, float] = {"point": point, "images": len(group)}
            for name in ("bytes", "bpp", "psnr", "total_bpp", "estimate_bpp"):
                values = [getattr(record, name) for record in group]
                if None not in values:
                    row[name] = statistics.fmean(values)
            rows.append(row)
        curves[label] = sorted(rows, key=lambda row: row["bpp"])
    return curves


def mean_cost(records: Iterable[Measurement], label: str, lmbda: float) -> float:
    """λ·D + R of a codec at one λ, mean over images; D is the MSE on [0, 1], R in bpp.

    Raises:
        ValueError: no record of that label and λ.
    """
    chosen = [r for r in records if (r.label, r.lmbda) == (label, lmbda)]
    if not chosen:
        raise ValueError(f"no record of {label!r} at λ = {lmbda:g}")
    return statistics.fmean(lmbda * 10 ** (-r.psnr / 10) + r.bpp for r in chosen)


class Delta(NamedTuple):
    """One curve against an anchor: Bjøntegaard's average differences.

    ``rate`` in % of bits at equal PSNR (negative: cheaper), ``psnr`` in dB at equal bits, and
    ``overlap``, the share of the PSNR span of both curves that both cover. NaN where none is.
    """

    rate: float
    psnr: float
    overlap: float


@dataclass(frozen=True)
class BDRow:
    """A line of the BD table: the delta of the mean curves, and its spread over images.

    ``rate_quartiles`` (%) and ``psnr_quartiles`` (dB) are lower quartile, median and upper
    quartile of the deltas of single images; ``apart`` names the images whose two curves do not
    overlap and so are in neither.
    """

    codec: str
    anchor: str
    mean: Delta
    rate_quartiles: tuple[float, float, float]
    psnr_quartiles: tuple[float, float, float]
    images: int
    apart: tuple[str, ...]


Curve = Sequence[tuple[float, float]]
"""(bpp, PSNR in dB) of one codec, in any order."""

PUBLISHED: dict[str, Curve] = {
    "pair": ((0.0923, 32.283), (0.1384, 33.382), (0.2013, 34.378), (0.3097, 35.390)),
    "minnen": ((0.0986, 32.148), (0.1436, 33.262), (0.2117, 34.323), (0.3180, 35.323)),
    "hevc": ((0.1188, 32.272), (0.1550, 33.034), (0.2048, 33.799), (0.3010, 34.740)),
}
"""Released points of Lu et al. 2022 on FLIR infrared frames: their own codec with reference,
Minnen et al. 2018, and BPG. Other frames than ours, so only distances compare."""


def bd_delta(
    anchor: Curve,
    test: Curve,
    bpp_range: tuple[float, float] | None = None,
    method: str = "pchip",
) -> Delta:
    """BD-rate and BD-PSNR between two curves, over log rate, with the `bjontegaard` package.

    Points that cost more than another and are no better are left out: the integral needs curves
    that rise. With ``bpp_range`` both curves are first cut to it, at interpolated ends.

    Args:
        method: ``"pchip"`` or ``"akima"``.

    Raises:
        ValueError: another method, or an empty range.
    """
    from bjontegaard import bd_psnr, bd_rate  # imports matplotlib

    if method not in ("pchip", "akima"):
        raise ValueError(f"unknown interpolation {method!r}; expected pchip or akima")
    curves = [_rising(curve, bpp_range, method) for curve in (anchor, test)]
    if any(len(curve) < 2 for curve in curves):
        return Delta(math.nan, math.nan, 0.0)
    (anchor_bpp, anchor_psnr), (test_bpp, test_psnr) = (curve.T for curve in curves)
    both = min(anchor_psnr[-1], test_psnr[-1]) - max(anchor_psnr[0], test_psnr[0])
    either = max(anchor_psnr[-1], test_psnr[-1]) - min(anchor_psnr[0], test_psnr[0])
    shared_bpp = min(anchor_bpp[-1], test_bpp[-1]) - max(anchor_bpp[0], test_bpp[0])
    values = (anchor_bpp, anchor_psnr, test_bpp, test_psnr)
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    return Delta(
        float(bd_rate(*values, **options)) if both > 0 else math.nan,
        float(bd_psnr(*values, **options)) if shared_bpp > 0 else math.nan,
        max(0.0, float(both / either)),
    )


def _rising(curve: Curve, bpp_range: tuple[float, float] | None, method: str) -> np.ndarray:
    """(points, 2), strictly rising in both columns, cut to the range."""
    from bjontegaard.interpolation import interpolate

    def front(points: Iterable[tuple[float, float]]) -> np.ndarray:
        kept: list[tuple[float, float]] = []
        for bpp, quality in sorted(points, key=lambda point: (point[0], -point[1])):
            if math.isfinite(quality) and (not kept or quality > kept[-1][1]):
                kept.append((bpp, quality))
        return np.array(kept).reshape(-1, 2)

    points = front(curve)
    if bpp_range is None:
        return points
    low, high = bpp_range
    if not 0 < low < high:
        raise ValueError(f"range {low:g} to {high:g} bpp; expected 0 < low < high")
    if len(points) < 2:
        return points
    at = interpolate(np.log10(points[:, 0]), points[:, 1], method)
    ends = [(b, float(at(math.log10(b)))) for b in bpp_range if points[0, 0] < b < points[-1, 0]]
    inside = [(b, q) for b, q in points.tolist() if low <= b <= high]
    return front([*inside, *ends])


def bd_by_image(
    records: Iterable[Measurement],
    test: str,
    anchor: str,
    bpp_range: tuple[float, float] | None = None,
    method: str = "pchip",
) -> dict[str, Delta]:
    """:func:`bd_delta` of one label against another on each image by itself, by image name.

    Raises:
        ValueError: the two were measured on different images.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {test: {}, anchor: {}}
    for record in records:
        if record.label in curves:
            points = curves[record.label].setdefault(record.pair, [])
            points.append((record.bpp, record.psnr))
    if curves[test].keys() != curves[anchor].keys():
        raise ValueError(f"{test} and {anchor} were measured on different images")
    return {
        pair: bd_delta(curves[anchor][pair], points, bpp_range, method)
        for pair, points in curves[test].items()
    }


def bd_table(
    records: Sequence[Measurement],
    anchor: str | None = None,
    bpp_range: tuple[float, float] | None = None,
    method: str = "pchip",
) -> list[BDRow]:
    """Every other codec against the anchor, from mean curves and image by image.

    Args:
        anchor: a label (:attr:`Measurement.label`); the first in the records if None.

    Raises:
        ValueError: no such label, or codecs measured on different images.
    """
    means = mean_curves(records)
    anchor = next(iter(means), "") if anchor is None else anchor
    if anchor not in means:
        raise ValueError(f"anchor {anchor!r} was not measured; there are {', '.join(means)}")
    rows = []
    for label, curve in means.items():
        if label == anchor:
            continue
        deltas = bd_by_image(records, label, anchor, bpp_range, method)
        mean = bd_delta(
            [(row["bpp"], row["psnr"]) for row in means[anchor]],
            [(row["bpp"], row["psnr"]) for row in curve],
            bpp_range,
            method,
        )
        compared = [d for d in deltas.values() if not math.isnan(d.rate + d.psnr)]
        rows.append(
            BDRow(
                codec=label,
                anchor=anchor,
                mean=mean,
                rate_quartiles=_quartiles([d.rate for d in compared]),
                psnr_quartiles=_quartiles([d.psnr for d in compared]),
                images=len(compared),
                apart=tuple(p for p, d in deltas.items() if math.isnan(d.rate + d.psnr)),
            )
        )
    return rows


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if not values:
        return (math.nan, math.nan, math.nan)
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return low, median, high


# --- results as JSON -----------------------------------------------------------------------------


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where a measurement was made: what its seconds and its last bits depend on."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    found = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    if device != "cpu":
        found["device"] = torch.cuda.get_device_name(device)
    return found


def commit() -> str | None:
    """The git commit of this code, ``-dirty`` if changed since; None outside a checkout."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], ["describe", "--always",
                        "--abbrev=12", "--dirty", "--exclude=*"]):  # fmt: skip
            done = subprocess.run(
                ["git", "-C", str(here.parent), *command],
                capture_output=True, text=True, timeout=10, check=True,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def save_results(
    path: str | Path,
    records: Sequence[dict[str, Any]],
    command: str,
    device: str = "cpu",
    **about: Any,
) -> None:
    """Write ``{"command", "commit", "machine", …, "records"}`` as JSON, whole or not at all.

    Args:
        command: what makes the numbers again.
        about: further entries.

    Raises:
        OSError: the file cannot be written.
    """
    head: dict[str, Any] = {"command": command}
    if (known := commit()) is not None:
        head["commit"] = known
    head |= {"machine": machine(device), **about}
    lines = ",\n".join("  " + json.dumps(record, allow_nan=False) for record in records)
    text = (
        json.dumps(head, indent=1, ensure_ascii=False)[:-2]
        + f',\n "records": [\n{lines}\n ]\n}}\n'
    )
    write_whole(path, text.encode())


def load_measurements(path: str | Path) -> list[Measurement]:
    """The records of a file that ``evaluate`` wrote.

    Raises:
        ValueError: not such a file.
        OSError: it cannot be read.
    """
    try:
        return [Measurement.from_dict(r) for r in json.loads(Path(path).read_text())["records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no measurements ({error})") from None


def speed_table(
    path: str | Path, stages: Sequence[str]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Head and rows of a table, one column a codec, from a file of `benchmark.bench`'s records.

    Rows are parameters (of the target's codec + of the reference's, millions), multiply-adds per
    target pixel (thousands) and the seconds of each stage, empty where a codec has no such stage.

    Raises:
        ValueError: not such a file.
        OSError: it cannot be read.
    """
    try:
        records = json.loads(Path(path).read_text())["records"]
        columns = [("parameters, millions", "multiply-adds a pixel, thousands", *stages)]
        for record in records:
            seconds = {s["stage"]: f"{s['seconds']:.2f} s" for s in record["stages"]}
            reference = record["reference_parameters"]
            size = f"{(record['parameters'] - reference) / 1e6:.1f} + {reference / 1e6:.1f}"
            work = record["multiply_adds"] / (record["height"] * record["width"]) / 1e3
            timed = (seconds.get(stage, "") for stage in stages)
            columns.append((size, f"{work:,.0f}", *timed))
        head = ["", *(f"`{record['codec']}`" for record in records)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no measurements of speed ({error!r})") from None
    return head, list(zip(*columns, strict=True))
