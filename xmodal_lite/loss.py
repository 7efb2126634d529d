"""Loss: the rate–distortion Lagrangian that every codec here is trained on (chapter 9)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor, nn

from .channel_alignment import coefficient_bits
from .image_codec import ImageCodec


class RateDistortion(NamedTuple):
    """One batch, one value a sample, each (B,).

    ``loss`` is λ·D + R; ``mse`` on [0, 1]; the rates are bits per pixel of the coded image.
    """

    loss: Tensor
    mse: Tensor
    bpp: Tensor
    bpp_y: Tensor
    bpp_z: Tensor


def rate_distortion(
    x_hat: Tensor,
    target: Tensor,
    likelihoods: dict[str, Tensor],
    lmbda: Tensor,
    coefficient_bits: Tensor | int = 0,
) -> RateDistortion:
    """L = λ·D + R, Eq. 5 of the paper with everything counted that is sent: ŷ, ẑ, γ and β.

    Args:
        x_hat, target: (B, C, H, W).
        likelihoods: ``y`` and ``z``, probabilities of the quantised values.
        lmbda: (B,).
        coefficient_bits: bits of γ and β per image, a constant; or (B,), where not all send them.
    """
    pixels = target.shape[-2] * target.shape[-1]
    mse = (x_hat.float() - target).square().mean((1, 2, 3))
    bpp_y, bpp_z = (likelihoods[name].log2().sum((1, 2, 3)).neg() / pixels for name in ("y", "z"))
    bpp = bpp_y + bpp_z + coefficient_bits / pixels
    return RateDistortion(lmbda * mse + bpp, mse, bpp, bpp_y, bpp_z)


def run_codec(
    codec: nn.Module,
    visible: Tensor,
    infrared: Tensor,
    lmbda: Tensor,
    sent: Tensor | None = None,
) -> RateDistortion:
    """Forward pass and loss of one batch, whatever the kind of codec.

    Args:
        sent: (B,), of a pair codec: see :meth:`.PairCodec.forward`.

    Shapes:
        visible: (B, 3, s·H, s·W), infrared: (B, 1, H, W), lmbda: (B,)
    """
    plain: Any = getattr(codec, "module", codec)  # inside DistributedDataParallel
    if isinstance(plain, ImageCodec):
        target = visible if plain.modality == "visible" else infrared
        out = codec(target, lmbda)
        bits: Any = 0
    else:
        target = infrared if plain.config.target == "infrared" else visible
        out = codec(visible, infrared, lmbda, sent=sent)
        bits = coefficient_bits(plain.config) * (1 if sent is None else sent)
    return rate_distortion(out["x_hat"], target, out["likelihoods"], lmbda, bits)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB, for a mean squared error on [0, 1]; infinite for 0."""
    return math.inf if mse <= 0 else -10 * math.log10(mse)
