"""Evaluation: real files of every codec, measured on every pair, and controls (chapter 10).

Every rate is the size of a file: a stream is written, its size taken, read back and decoded from
those bytes alone. Rates are bits per pixel of the coded image, PSNR is in dB on the rounded 8-bit
reconstruction at full size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur
from tqdm.auto import tqdm

from . import baselines
from .bitstream import unpack
from .channel_alignment import coefficient_bits
from .coding import code, decode, padded_batches, psnr_image, target_bytes, target_of
from .config import Modality, check_lambda
from .data import PairSource
from .frames import Pair
from .image_codec import ImageCodec, as_batch, pad, padded_size
from .loss import rate_distortion
from .pair_codec import Mode, PairCodec
from .pretrained import Codec, available, load_codec
from .records import REFERENCES, Measurement, ReferenceKind, label_of

MID_GREY = 128

Decoded = TypeVar("Decoded")


class EvaluationError(RuntimeError):
    """A measurement that cannot be trusted, or that did not come to an end."""


# --- one measurement -----------------------------------------------------------------------------


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


def through_file(data: bytes, decode: Callable[[bytes], Decoded]) -> tuple[int, Decoded]:
    """Size in bytes of a real file with this content, and what ``decode`` makes of that file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream"
        path.write_bytes(data)
        return path.stat().st_size, decode(path.read_bytes())


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
