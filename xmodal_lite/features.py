"""Features: from pixels into the space where both modalities meet, and back (chapter 6)."""

from __future__ import annotations

from typing import Any

from compressai.layers import ResidualBlock
from torch import Tensor, nn


class FeatureEncoder(nn.Module):
    """Pixels to features: a 3×3 convolution, three residual blocks, one skip around them.

    Args:
        in_channels: 3 for visible, 1 for infrared.
        channels: F, feature channels.
        stride: s for the visible frame, so that both modalities meet on the infrared grid.

    Shapes:
        image: (B, in_channels, stride·H, stride·W) → features: (B, F, H, W)
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1):
        super().__init__()
        self.first = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels, channels) for _ in range(3)))

    def forward(self, image: Tensor) -> Tensor:
        first = self.first(image)  # (B, F, H, W)
        return first + self.blocks(first)


class FeatureDecoder(nn.Module):
    """Features to pixels: three residual blocks around a 1×1 skip, then a transposed convolution.

    Args:
        in_channels: F for a codec without reference, 2F when f̄ is concatenated.
        channels: F, feature channels.
        out_channels: 3 for visible, 1 for infrared.
        stride: pixels per feature sample on each side.

    Shapes:
        features: (B, in_channels, H, W) → image: (B, out_channels, stride·H, stride·W)
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(in_channels, channels),
            ResidualBlock(channels, channels),
            ResidualBlock(channels, channels),
        )
        if in_channels > channels:
            # f̄ comes last, and its part of the block's own skip starts at zero: a codec that
            # starts from its baseline, whose block has none, computes what the baseline computes
            nn.init.dirac_(self.block_skip.weight)
            nn.init.zeros_(self.block_skip.bias)
        self.skip = nn.Conv2d(in_channels, channels, 1)
        self.last = nn.ConvTranspose2d(
            channels, out_channels, 3, stride=stride, padding=1, output_padding=stride - 1
        )

    @property
    def block_skip(self) -> Any:
        """The first block's own 1×1 skip; None where it has no more inputs than outputs."""
        first: Any = self.blocks[0]
        return first.skip

    def forward(self, features: Tensor) -> Tensor:
        return self.last(self.skip(features) + self.blocks(features))
