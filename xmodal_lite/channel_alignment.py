"""Channel alignment: one affine map per feature channel, from visible to infrared (chapter 6)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .bitstream import BitstreamError
from .config import CodecConfig, CoefficientFormat

INT8_STEP = 1 / 32
"""Step of the 8-bit format, from −4 to 3.97. The features learn their own scale."""

_DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1"}


class ChannelAlignment(nn.Module):
    """Predict the affine coefficients that carry visible features over to infrared.

    f̄ = γ · f^v + β, Eq. 1 of the paper with the features that its text and figure mean (the
    printed equation has ŷ^v). γ and β are spatial means, F numbers each whatever the image size,
    and they are rounded to the precision of the wire before anybody uses them.

    Args:
        channels: F, feature channels.
        coefficient_format: wire format, see :func:`round_coefficients`.

    Shapes:
        f_visible, f_infrared: (B, F, H, W) → gamma, beta: (B, F, 1, 1)
    """

    def __init__(self, channels: int, coefficient_format: CoefficientFormat = "int8"):
        super().__init__()
        self.coefficient_format = coefficient_format
        layers: list[nn.Module] = []
        for k in range(4):
            layers += [nn.Conv2d(2 * channels if k == 0 else channels, channels, 3, padding=1)]
            layers += [nn.LeakyReLU()]
        self.trunk = nn.Sequential(*layers)
        self.gamma_head = nn.Conv2d(channels, channels, 3, padding=1)
        self.beta_head = nn.Conv2d(channels, channels, 3, padding=1)
        # An untrained head predicts the identity map, so that f̄ starts as f^v.
        for head, value in ((self.gamma_head, 1.0), (self.beta_head, 0.0)):
            assert head.bias is not None
            nn.init.constant_(head.bias, value)

    def forward(self, f_visible: Tensor, f_infrared: Tensor) -> tuple[Tensor, Tensor]:
        """γ and β, on the encoder's side only: the decoder receives them."""
        trunk = self.trunk(torch.cat([f_visible, f_infrared], 1))  # (B, F, H, W)
        gamma, beta = (
            round_coefficients(
                head(trunk).mean((2, 3), keepdim=True).float(), self.coefficient_format
            )
            for head in (self.gamma_head, self.beta_head)
        )
        return gamma, beta

    @staticmethod
    def align(f_visible: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """f̄ = γ · f^v + β, the same line in encoder and decoder."""
        return gamma * f_visible + beta


def round_coefficients(coefficients: Tensor, coefficient_format: CoefficientFormat) -> Tensor:
    """Values as the wire carries them; gradients pass straight through the rounding.

    ``"float32"`` changes nothing, ``"float16"`` rounds to half precision, ``"int8"`` to multiples
    of 1/32 in [−4, 127/32].
    """
    if coefficient_format == "float32":
        return coefficients
    if coefficient_format == "float16":
        limit = torch.finfo(torch.float16).max
        clamped = coefficients.clamp(-limit, limit)
        rounded = clamped.half().float()
    else:
        clamped = coefficients.clamp(-128 * INT8_STEP, 127 * INT8_STEP)
        rounded = (clamped / INT8_STEP).round() * INT8_STEP
    return clamped + (rounded - clamped).detach()


def coefficient_bits(config: CodecConfig) -> int:
    """Bits of γ and β per image."""
    if not config.channel_alignment:
        return 0
    width = 8 * np.dtype(_DTYPES[config.coefficient_format]).itemsize
    return 2 * config.feature_channels * width


def pack_coefficients(gamma: Tensor, beta: Tensor, coefficient_format: CoefficientFormat) -> bytes:
    """γ then β of one image, little-endian: 8, 4 or 2 bytes a channel.

    Raises:
        ValueError: a coefficient that is not finite.
    """
    values = torch.cat([gamma.flatten(), beta.flatten()]).cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError("an affine coefficient is not finite; are the weights sound?")
    if coefficient_format == "int8":
        values = np.rint(values / INT8_STEP)
    return values.astype(_DTYPES[coefficient_format]).tobytes()


def unpack_coefficients(
    data: bytes, channels: int, coefficient_format: CoefficientFormat
) -> tuple[Tensor, Tensor]:
    """γ and β, each (1, F, 1, 1) float32.

    Raises:
        BitstreamError: another number of bytes than F needs, or a value that is not finite.
    """
    dtype = np.dtype(_DTYPES[coefficient_format])
    if len(data) != 2 * channels * dtype.itemsize:
        raise BitstreamError(
            f"{len(data)} bytes of coefficients; expected {2 * channels * dtype.itemsize} "
            f"({channels} channels in {coefficient_format})"
        )
    values = np.frombuffer(data, dtype).astype(np.float32)
    if not np.isfinite(values).all():
        raise BitstreamError("an affine coefficient is not finite")
    if coefficient_format == "int8":
        values = values * np.float32(INT8_STEP)
    gamma, beta = torch.from_numpy(values).view(2, 1, channels, 1, 1)
    return gamma, beta
