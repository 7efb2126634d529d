"""Spatial alignment: window cross-attention from infrared to visible features (chapter 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import Modality


class WindowCrossAttention(nn.Module):
    """Multi-head attention inside M×M windows: infrared queries, visible keys and values.

    softmax(Q Kᵀ / √d + B) V, Eqs. 3 and 4 of the paper, d = embedding / heads, with a learned bias
    B for each relative position in the window.

    Args:
        embedding: channels of both inputs.
        heads: their number, h.
        window: M, tokens on a window's side.
        shift: tokens by which the windows are displaced, 0 or M/2 (Swin, Liu et al. 2021).
            Displaced windows wrap around the frame; a mask keeps the two sides apart.

    Shapes:
        infrared, visible: (B, H, W, embedding), H and W multiples of ``window`` → the same
        weights: (B, H/M, W/M, heads, M², M²), rows are queries
    """

    relative: Tensor

    def __init__(self, embedding: int, heads: int, window: int, shift: int = 0):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.scale = (embedding // heads) ** -0.5
        self.query = nn.Linear(embedding, embedding)
        self.key = nn.Linear(embedding, embedding)
        self.value = nn.Linear(embedding, embedding)
        self.project = nn.Linear(embedding, embedding)
        side = 2 * window - 1
        self.position_bias = nn.Parameter(torch.zeros(heads, side * side))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        place = torch.stack(torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"), -1)
        offset = place.view(-1, 1, 2) - place.view(1, -1, 2) + window - 1  # (M², M², 2)
        self.register_buffer("relative", offset[..., 0] * side + offset[..., 1], persistent=False)

    def forward(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """The attended values, and the weights that made them."""
        size = infrared.shape[1:3]
        if self.shift:
            back = (-self.shift, -self.shift)
            infrared, visible = (torch.roll(x, back, dims=(1, 2)) for x in (infrared, visible))
        queries = self._windows(self.query(infrared))  # (B, H/M, W/M, h, M², d)
        keys = self._windows(self.key(visible))
        values = self._windows(self.value(visible))
        logits = queries @ keys.transpose(-1, -2) * self.scale  # (B, H/M, W/M, h, M², M²)
        logits = logits + self.position_bias[:, self.relative]
        if self.shift:
            logits = logits.masked_fill(~self._same_side(size, logits.device), float("-inf"))
        weights = logits.softmax(-1)
        attended = self._unwindow(weights @ values)  # (B, H, W, embedding)
        if self.shift:
            attended = torch.roll(attended, (self.shift, self.shift), dims=(1, 2))
        return self.project(attended), weights

    def _windows(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H/M, W/M, heads, M², C/heads)."""
        B, H, W, C = x.shape
        M, h = self.window, self.heads
        x = x.view(B, H // M, M, W // M, M, h, C // h).permute(0, 1, 3, 5, 2, 4, 6)
        return x.reshape(B, H // M, W // M, h, M * M, C // h)

    def _unwindow(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`_windows`."""
        B, rows, columns, h, _, d = x.shape
        M = self.window
        x = x.view(B, rows, columns, h, M, M, d).permute(0, 1, 4, 2, 5, 3, 6)
        return x.reshape(B, rows * M, columns * M, h * d)

    def _same_side(self, size: torch.Size, device: torch.device) -> Tensor:
        """(H/M, W/M, 1, M², M²): True where query and key were neighbours before the roll."""
        H, W = size
        M = self.window
        row, column = torch.arange(H, device=device), torch.arange(W, device=device)
        wrapped = (row >= H - self.shift)[:, None] * 2 + (column >= W - self.shift)[None]  # (H, W)
        region = wrapped.view(H // M, M, W // M, M).transpose(1, 2).reshape(H // M, W // M, M * M)
        return (region[..., :, None] == region[..., None, :])[:, :, None]


class CrossAttentionBlock(nn.Module):
    """LayerNorm, window cross-attention, residual; LayerNorm, MLP, residual (Eq. 2).

    The printed equation takes keys and values from infrared; they must come from visible. Its
    residual adds the visible embedding; ``shortcut`` chooses.

    Shapes:
        infrared, visible: (B, H, W, embedding) → (B, H, W, embedding), weights
    """

    def __init__(self, embedding: int, heads: int, window: int, shift: int, shortcut: Modality):
        super().__init__()
        self.shortcut = shortcut
        self.norm_infrared = nn.LayerNorm(embedding)
        self.norm_visible = nn.LayerNorm(embedding)
        self.attention = WindowCrossAttention(embedding, heads, window, shift)
        self.norm_mlp = nn.LayerNorm(embedding)
        self.mlp = nn.Sequential(
            nn.Linear(embedding, 4 * embedding), nn.GELU(), nn.Linear(4 * embedding, embedding)
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        attended, weights = self.attention(
            self.norm_infrared(infrared), self.norm_visible(visible)
        )
        aligned = attended + (infrared if self.shortcut == "infrared" else visible)
        return aligned + self.mlp(self.norm_mlp(aligned)), weights


class SpatialAlignment(nn.Module):
    """Warp the reference decoder's hidden features to where the coded modality needs them.

    Patch embedding of both inputs, cross-attention blocks of which every second one works on
    shifted windows, and a transposed convolution back. The infrared queries of a block are the
    previous block's output; keys and values are always the visible embedding.

    Args:
        channels: N of both decoders.
        embedding, heads, window, patch, blocks: sizes; 96, 3, 4, 2, 2 in the paper.
        stride: size of h_j over that of the stage's infrared features (s for a visible
            reference); a stride-s convolution brings h_j down.
        shortcut: which embedding the residual of the attention adds.

    Shapes:
        infrared: (B, N, H, W), hidden: (B, N, stride·H, stride·W) → aligned: (B, N, H, W)
    """

    def __init__(
        self,
        channels: int,
        embedding: int = 96,
        heads: int = 3,
        window: int = 4,
        patch: int = 2,
        blocks: int = 2,
        stride: int = 1,
        shortcut: Modality = "infrared",
    ):
        super().__init__()
        self.down = (
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
            if stride > 1
            else nn.Identity()
        )
        self.embed_infrared = nn.Conv2d(channels, embedding, patch, stride=patch)
        self.embed_visible = nn.Conv2d(channels, embedding, patch, stride=patch)
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(embedding, heads, window, (window // 2) * (k % 2), shortcut)
            for k in range(blocks)
        )
        self.unembed = nn.ConvTranspose2d(embedding, channels, patch, stride=patch)

    def forward(self, infrared: Tensor, hidden: Tensor) -> Tensor:
        """The aligned features."""
        return self.align(infrared, hidden)[0]

    def align(self, infrared: Tensor, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The aligned features and each block's attention weights, for the figures."""
        queries = self.embed_infrared(infrared).permute(0, 2, 3, 1)  # (B, H/p, W/p, embedding)
        visible = self.embed_visible(self.down(hidden)).permute(0, 2, 3, 1)
        weights = []
        for block in self.blocks:
            queries, block_weights = block(queries, visible)
            weights.append(block_weights)
        return self.unembed(queries.permute(0, 3, 1, 2)), weights
