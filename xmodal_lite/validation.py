"""Validation: the cost on held-out pairs while training, and what a wrong one adds (chapter 9)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .data import PairSource
from .frames import Pair, match_sizes, to_tensor
from .image_codec import padded_size
from .loss import psnr, run_codec
from .pair_codec import PairCodec
from .pretrained import Codec


@torch.no_grad()
def validate(
    codec: Codec, source: PairSource, lambdas: tuple[float, ...], limit: int = 256
) -> list[dict[str, float]]:
    """Estimated cost on centre crops, and the control: the same with the reference mirrored.

    A codec that uses its reference pays for a wrong one; ``control`` is how much, in units of the
    loss. Near zero means that the reference is ignored.

    Returns:
        One record a λ with ``lmbda, cost, bpp, psnr, control``, means over the source.
    """
    codec.eval()
    device = next(codec.parameters()).device
    records = []
    for lmbda in lambdas:
        costs, rates, quality, controls = [], [], [], []
        weight = torch.tensor([lmbda], device=device)
        for pair in source:
            frame = match_sizes(pair.visible, pair.infrared, codec.config.scale)
            pair = Pair(pair.name, frame, pair.infrared)
            visible, infrared = _centre(*to_tensor(pair), limit)
            visible, infrared = visible.to(device), infrared.to(device)
            out = run_codec(codec, visible, infrared, weight)
            costs.append(out.loss.item())
            rates.append(out.bpp.item())
            quality.append(psnr(out.mse.item()))
            if isinstance(codec, PairCodec) and codec.config.uses_reference:
                if codec.config.reference == "visible":
                    visible = visible.flip(-1)
                else:
                    infrared = infrared.flip(-1)
                wrong = run_codec(codec, visible, infrared, weight)
                controls.append(wrong.loss.item() - costs[-1])
        mean = lambda values: sum(values) / len(values) if values else math.nan  # noqa: E731
        records.append(
            {
                "lmbda": lmbda,
                "cost": mean(costs),
                "bpp": mean(rates),
                "psnr": mean(quality),
                "control": mean(controls),
            }
        )
    codec.train()
    return records


def _centre(visible: Tensor, infrared: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    scale = visible.shape[-1] // infrared.shape[-1]
    size = [min(limit, side // 64 * 64 or 64) for side in infrared.shape[-2:]]
    height, width = padded_size((size[0], size[1]))
    crops = []
    for image, s in ((visible, scale), (infrared, 1)):
        if min(infrared.shape[-2:]) < 64:
            image = nn.functional.interpolate(image, (height * s, width * s))
        top, left = (
            (full // s - part) // 2 * s
            for full, part in zip(image.shape[-2:], (height, width), strict=True)
        )
        crops.append(image[..., top : top + height * s, left : left + width * s])
    return crops[0], crops[1]
