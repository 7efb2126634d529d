"""Stages: the codec that each stage of training starts with, and what it may move (chapter 9).

Stage 1 trains the visible codec. Stage 2 trains the infrared side with it frozen: first without
reference, which is also the baseline, then with it, from the baseline's weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .config import CodecConfig
from .image_codec import ImageCodec
from .pair_codec import PairCodec
from .pretrained import Codec, load_weights

Stage = Literal["visible", "infrared", "alone", "pair"]


def build_codec(
    config: CodecConfig,
    stage: Stage,
    visible: str | Path | None = None,
    start: str | Path | None = None,
    branches: str | Path | None = None,
) -> Codec:
    """The codec that a stage trains.

    Args:
        config: for ``"alone"`` its reference branches are switched off.
        visible: weights of the trained reference codec; stage ``"pair"`` needs them.
        start: weights to start from: the baseline's for ``"pair"``, any earlier run's otherwise.
        branches: weights of a pair codec whose reference branches to take over; see
            :meth:`.PairCodec.take_branches`.

    Raises:
        ValueError: stage ``"pair"`` without the reference codec, or weights of another kind.
    """
    if stage not in get_args(Stage):
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(get_args(Stage))}")
    codec: Codec
    if stage in ("visible", "infrared"):
        codec = ImageCodec(config, stage)
    elif stage == "alone":
        codec = PairCodec(_alone(config))
    else:
        if not config.uses_reference:
            raise ValueError(
                "stage 'pair' needs a codec with a reference; no reference branch is on"
            )
        codec = PairCodec(config)
        if visible is None:
            raise ValueError("stage 'pair' needs the weights of a trained reference codec")
        reference = load_weights(visible)
        if not isinstance(reference, ImageCodec) or reference.modality != config.reference:
            raise ValueError(f"{visible}: expected weights of a {config.reference} codec")
        theirs, ours = reference.config.to_dict(), config.to_dict()
        for key in ("transform_channels", "latent_channels", "context", "lambdas"):
            if theirs[key] != ours[key]:
                raise ValueError(f"{visible}: {key} is {theirs[key]}; expected {ours[key]}")
        codec.reference_codec.load_state_dict(reference.state_dict())
    if start is not None:
        source = load_weights(start)
        if isinstance(codec, PairCodec) and isinstance(source, PairCodec):
            try:
                codec.start_from(source)
            except ValueError as error:
                raise ValueError(f"{start}: {error}") from None
        elif type(codec) is type(source):
            try:
                codec.load_state_dict(source.state_dict())
            except RuntimeError as error:
                first = str(error).splitlines()[1].strip()
                raise ValueError(
                    f"{start}: weights do not fit this {stage} codec: {first}"
                ) from None
        else:
            raise ValueError(f"{start}: weights of another kind of codec than stage {stage!r}")
    if branches is not None:
        source = load_weights(branches)
        if (
            stage != "pair"
            or not isinstance(source, PairCodec)
            or not isinstance(codec, PairCodec)
        ):
            raise ValueError(f"{branches}: branches are for stage 'pair', from a pair codec")
        try:
            codec.take_branches(source)
        except ValueError as error:
            raise ValueError(f"{branches}: {error}") from None
    return codec


def _alone(config: CodecConfig) -> CodecConfig:
    """The baseline of a pair codec: every reference branch off."""
    return replace(
        config, channel_alignment=False, spatial_alignment=False, entropy_reference=False
    )


def reference_weights(codec: nn.Module) -> set[str]:
    """Names of the weights that the reference runs through: what its baseline has not, or has
    with fewer input channels."""
    if not isinstance(codec, PairCodec) or not codec.config.uses_reference:
        return set()
    shapes = _baseline_shapes(codec)
    return {name for name, p in codec.named_parameters() if shapes.get(name) != p.shape}


def _baseline_shapes(codec: PairCodec) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in PairCodec(_alone(codec.config)).named_parameters()}


def hold_baseline(codec: nn.Module) -> None:
    """No gradient for what the baseline has; of weights with more input channels, the new ones.

    The skip around the feature decoder's first block is new too, but the baseline's own features
    run through it: what it does to them is set to nothing, and held. So mode ``"none"`` stays the
    baseline, and no other mode can gain by it.

    Raises:
        ValueError: a codec without a reference.
    """
    touched = reference_weights(codec)
    if not isinstance(codec, PairCodec) or not touched:
        raise ValueError("only_reference is True; expected a codec with a reference")
    shapes = _baseline_shapes(codec)
    for name, parameter in codec.named_parameters():
        if name not in touched:
            parameter.requires_grad_(False)
        elif name in shapes:
            _hold(parameter, shapes[name])
    skip = codec.feature_decoder.block_skip
    if skip is not None:
        F = codec.config.feature_channels
        with torch.no_grad():
            skip.weight[:, :F] = nn.init.dirac_(torch.empty_like(skip.weight[:, :F]))
            skip.bias.zero_()
        _hold(skip.weight, skip.weight[:, :F].shape)
        _hold(skip.bias, skip.bias.shape)


def _hold(parameter: Tensor, held: torch.Size) -> None:
    """No gradient for the first entries of a parameter, on each axis as many as are held."""
    if parameter.requires_grad:
        new = torch.ones_like(parameter)
        new[tuple(slice(side) for side in held)] = 0
        parameter.register_hook(lambda gradient: gradient * new.to(gradient.device))
