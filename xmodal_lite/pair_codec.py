"""Pair codec: one modality coded given the other, end to end (chapter 8)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .bitstream import BitstreamError, Header, Section, pack, unpack
from .channel_alignment import ChannelAlignment, pack_coefficients, unpack_coefficients
from .config import CHANNELS, LATENT_STRIDE, CodecConfig, Modality
from .entropy import EntropyModel
from .features import FeatureDecoder, FeatureEncoder
from .image_codec import (
    MID_GREY,
    ImageCodec,
    analysis_transform,
    as_batch,
    as_image,
    check_header,
    crop,
    device_of,
    fingerprint,
    pad,
    padded_size,
    sections_of,
    upsampling_stage,
    wire_lambda,
)
from .spatial_alignment import SpatialAlignment

Mode = Literal["none", "space", "all"]
"""What one file uses of the reference. Nothing, so that its target is decoded by itself; every
branch but the channel alignment, so that no coefficients are sent; all that the codec has."""


class Reference(NamedTuple):
    """All that a decoder knows of the reference frame: nothing here needs the original.

    ``x_hat`` (B, C, s·H, s·W) in [0, 1], ``hidden`` h_1..h_3 of its decoder, ``y_coded`` its
    dequantised latent.
    """

    x_hat: Tensor
    hidden: list[Tensor]
    y_coded: Tensor


class Reconstruction(NamedTuple):
    """Decoded uint8 images: visible (s·H, s·W, 3) and infrared (H, W); None where not decoded."""

    visible: np.ndarray | None
    infrared: np.ndarray | None


class Encoded(NamedTuple):
    """A stream, and what its decoder will see, bit for bit on this machine."""

    data: bytes
    reconstruction: Reconstruction


class PairCodec(nn.Module):
    """Code a target frame with the decoded reference frame of the same scene.

    In the main direction the target is infrared and the reference visible; nothing below depends
    on it. With every reference branch off it is the single-modality baseline: the same network,
    and no frame beside the target in the stream.

    Features of both modalities live on the infrared grid (H, W); the visible frame has s times as
    many pixels on each side.

    Args:
        config: see :class:`CodecConfig`.

    Shapes:
        visible: (B, 3, s·H, s·W), infrared: (B, 1, H, W), in [0, 1]; H and W multiples of 64 in
        :meth:`forward`, any size from 1×1 in :meth:`compress`
    """

    def __init__(self, config: CodecConfig):
        super().__init__()
        F, N, M = config.feature_channels, config.transform_channels, config.latent_channels
        target, reference = config.target, config.reference
        stride, reference_stride = config.stride_of(target), config.stride_of(reference)
        self.config = config
        # modules that a configuration may leave out
        self.reference_codec: Any = (
            ImageCodec(config, reference) if config.uses_reference else None
        )
        self.reference_features: Any = None
        self.channel_alignment: Any = None
        self.spatial_alignment: Any = None
        beside_f = beside_h = 0  # channels that the reference adds to features and hidden features
        if config.channel_alignment:
            beside_f = F
            self.reference_features = FeatureEncoder(CHANNELS[reference], F, reference_stride)
            self.channel_alignment = ChannelAlignment(F, config.coefficient_format)
        if config.spatial_alignment:
            beside_h = N
            self.spatial_alignment = nn.ModuleList(
                SpatialAlignment(
                    N,
                    config.embedding,
                    config.heads,
                    config.window,
                    config.patch,
                    config.blocks,
                    reference_stride,
                    config.attention_shortcut,
                )
                for _ in range(3)
            )
        self.target_features = FeatureEncoder(CHANNELS[target], F, stride)
        self.g_a = analysis_transform(F + beside_f, N, M)
        self.entropy = EntropyModel(config, M if config.entropy_reference else 0, reference_stride)
        self.g_s = nn.ModuleList(
            [
                upsampling_stage(M, N),
                upsampling_stage(N + beside_h, N),
                upsampling_stage(N + beside_h, N),
                upsampling_stage(N + beside_h, F, gdn=False),
            ]
        )
        self.feature_decoder = FeatureDecoder(F + beside_f, F, CHANNELS[target], stride)
        last: Any = self.feature_decoder.last
        nn.init.constant_(last.bias, MID_GREY)
        self.freeze_reference()

    # --- the reference ---------------------------------------------------------------------

    def freeze_reference(self) -> None:
        """The visible codec is trained first, then never again."""
        if self.reference_codec is not None:
            self.reference_codec.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PairCodec:
        """As usual, but the frozen codec keeps rounding instead of adding noise."""
        super().train(mode)
        if self.reference_codec is not None:
            self.reference_codec.eval()
        return self

    @torch.no_grad()
    def start_from(self, baseline: nn.Module) -> None:
        """Take over a trained codec's weights; channels that it does not have start at zero.

        A pair codec that starts from its baseline computes exactly what the baseline computes. The
        reference codec is left alone.

        Raises:
            ValueError: the two differ in more than their reference branches.
        """
        own: dict[str, Any] = dict(self.named_parameters())
        for name, theirs in baseline.named_parameters():
            if name.startswith("reference_codec."):
                continue
            mine: Any = own.get(name)
            fits = mine is not None and len(mine.shape) == len(theirs.shape)
            if not fits or any(m < t for m, t in zip(mine.shape, theirs.shape, strict=True)):
                here = "has no place here" if mine is None else f"is {tuple(mine.shape)} here"
                raise ValueError(f"{name} is {tuple(theirs.shape)} in the baseline, and {here}")
            mine.zero_()
            mine[tuple(slice(side) for side in theirs.shape)] = theirs

    @torch.no_grad()
    def take_branches(self, other: PairCodec) -> None:
        """Take over the reference branches that another pair codec has trained.

        Where they join this codec's baseline nothing changes: the features under those joints are
        not those that the other codec's were trained on, and they start at zero again. A branch
        that the other codec has not stays as it is.

        Raises:
            ValueError: a branch has another size there, or it has none of this codec's.
        """
        branches = ("reference_features.", "channel_alignment.", "spatial_alignment.",
                    "entropy.side.0.")  # fmt: skip
        mine: dict[str, Any] = dict(self.named_parameters())
        shared = [
            (name, parameter)
            for name, parameter in other.named_parameters()
            if name.startswith(branches) and name in mine
        ]
        if not shared:
            raise ValueError("none of this codec's reference branches is there")
        for name, theirs in shared:
            if mine[name].shape != theirs.shape:
                here = tuple(mine[name].shape)
                raise ValueError(f"{name} is {tuple(theirs.shape)} there, and {here} here")
        for name, theirs in shared:
            mine[name].copy_(theirs)

    def decode_reference(self, y_coded: Tensor, lmbda: float) -> Reference:
        """The reference as encoder and decoder both compute it from the decoded latent."""
        x_hat, hidden = self.reference_codec.decode_latent(y_coded, lmbda)
        return Reference(x_hat, hidden, y_coded)

    @torch.no_grad()
    def estimate_reference(self, image: Tensor, lmbda: Tensor) -> Reference:
        """The same without bytes, for training: (B, C, s·H, s·W), λ (B,)."""
        out = self.reference_codec(image, lmbda)
        return Reference(out["x_hat"].clamp(0, 1), out["hidden"], out["y_coded"])

    # --- training and estimates ------------------------------------------------------------

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that a file of this codec can be in, the one that uses least first."""
        config = self.config
        if not config.uses_reference:
            return ("none",)
        if config.channel_alignment and (config.spatial_alignment or config.entropy_reference):
            return ("none", "space", "all")
        return ("none", "all")

    def forward(
        self,
        visible: Tensor | None,
        infrared: Tensor | None,
        lmbda: Tensor,
        mode: Mode = "all",
        sent: Tensor | None = None,
    ) -> dict[str, object]:
        """Code without bytes.

        Args:
            visible, infrared: batches; the reference may be None where it is not used.
            lmbda: (B,).
            mode: what is used of the reference.
            sent: (B,), 1 where the coefficients are sent, 0 where the sample is coded in mode
                ``"space"``; all are sent where not given.

        Returns:
            ``x_hat`` of the target, ``likelihoods`` of its ``y`` and ``z``, ``gamma`` and
            ``beta`` (None without channel alignment).
        """
        given: Any = (infrared, visible)
        target, image = given if self.config.target == "infrared" else given[::-1]
        reference = None
        if self.reference_codec is not None and mode != "none":
            reference = self.estimate_reference(image, lmbda)
        y, f_aligned, gamma, beta = self.analyse(target, reference, mode, sent)
        out = self.entropy(y, lmbda, self._side(reference))
        x_hat = self.synthesise(out["y_hat"], reference, f_aligned)
        return {
            "x_hat": x_hat,
            "likelihoods": out["likelihoods"],
            "gamma": gamma,
            "beta": beta,
        }

    def analyse(
        self, target: Tensor, reference: Any, mode: Mode = "all", sent: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Encoder side: y, f̄ and the coefficients that go on the wire.

        f̄ is zero and there are no coefficients unless the mode is ``"all"``; ``sent`` as in
        :meth:`forward`.
        """
        f_target = self.target_features(target)  # (B, F, H, W)
        if self.channel_alignment is None:
            return self.g_a(f_target), None, None, None
        gamma = beta = None
        f_aligned = torch.zeros_like(f_target)
        if mode == "all" and reference is not None:
            f_reference = self.reference_features(reference.x_hat)  # (B, F, H, W)
            gamma, beta = self.channel_alignment(f_reference, f_target)  # (B, F, 1, 1)
            f_aligned = self.channel_alignment.align(f_reference, gamma, beta)
            if sent is not None:
                f_aligned = f_aligned * sent[:, None, None, None]
        y = self.g_a(torch.cat([f_target, f_aligned], 1))  # (B, M, H/16, W/16)
        return y, f_aligned, gamma, beta

    def synthesise(
        self,
        y_hat: Tensor,
        reference: Any,
        f_aligned: Tensor | None,
        weights: list[list[Tensor]] | None = None,
    ) -> Tensor:
        """Decoder side: x̂ (B, C, ·, ·), not clamped.

        Args:
            y_hat: (B, M, H/16, W/16).
            reference: None in mode ``"none"``: where the codec has branches, they give zeros.
            f_aligned: f̄, None or zeros where no coefficients were sent.
            weights: a list to which each stage appends its blocks' attention weights.
        """
        x = self.g_s[0](y_hat)  # (B, N, H/8, W/8)
        for j, stage in enumerate(self.g_s[1:]):
            if self.spatial_alignment is not None and reference is None:
                x = torch.cat([x, torch.zeros_like(x)], 1)
            elif self.spatial_alignment is not None:
                align = self.spatial_alignment[j].align
                aligned, stage_weights = align(x, reference.hidden[j])
                x = torch.cat([x, aligned], 1)  # (B, 2N, ·, ·)
                if weights is not None:
                    weights.append(stage_weights)
            x = stage(x)
        if self.channel_alignment is not None:
            beside = torch.zeros_like(x) if f_aligned is None else f_aligned
            x = torch.cat([x, beside], 1)  # (B, 2F, H, W)
        return self.feature_decoder(x)

    def _side(self, reference: Any) -> Tensor | None:
        sees = self.config.entropy_reference and reference is not None
        return reference.y_coded if sees else None

    # --- real bytes ------------------------------------------------------------------------

    def compress(
        self,
        visible: np.ndarray | Tensor | None,
        infrared: np.ndarray | Tensor | None,
        lmbda: float = 1024,
        reference_lmbda: float | None = None,
        mode: Mode | Literal["auto"] = "auto",
    ) -> bytes:
        """Code a pair into an ``.xmc`` stream.

        Args:
            visible: uint8 (s·H, s·W, 3) or float (3, s·H, s·W) in [0, 1]; None for a codec
                without reference.
            infrared: uint8 (H, W) or float (1, H, W) in [0, 1].
            lmbda: λ of the target, within the trained range.
            reference_lmbda: λ of the reference; the target's where not given.
            mode: what the file uses of the reference. ``"auto"`` is the encoder's mode decision:
                it codes the target in each of :attr:`modes` and keeps the file with the least
                λ·D + R, real bytes and the decoder's 8-bit image counted. The time of encoding
                grows with the number of modes, that of decoding does not.

        Raises:
            ValueError: wrong types, shapes or ranges, sizes that do not belong together, a mode
                that this codec has not.
            BitstreamError: images larger than a stream can hold.
        """
        return self._encode(visible, infrared, lmbda, reference_lmbda, mode)[0]

    def encode(
        self,
        visible: np.ndarray | Tensor | None,
        infrared: np.ndarray | Tensor | None,
        lmbda: float = 1024,
        reference_lmbda: float | None = None,
        mode: Mode | Literal["auto"] = "auto",
    ) -> Encoded:
        """As :meth:`compress`, with the reconstruction that the decoder will compute."""
        data, decode = self._encode(visible, infrared, lmbda, reference_lmbda, mode)
        return Encoded(data, decode())

    @torch.no_grad()
    def _encode(  # type: ignore[no-untyped-def]
        self, visible, infrared, lmbda, reference_lmbda, mode
    ) -> tuple[bytes, Callable[[], Reconstruction]]:
        """The bytes, and a function for what their decoder will see."""
        config = self.config
        if mode != "auto" and mode not in self.modes:
            raise ValueError(f"mode {mode!r}; expected auto or one of {', '.join(self.modes)}")
        given = {"visible": visible, "infrared": infrared}
        lmbdas = {config.target: wire_lambda(lmbda, config)}
        if self.reference_codec is not None:
            lmbdas[config.reference] = wire_lambda(
                lmbda if reference_lmbda is None else reference_lmbda, config
            )
        for name in lmbdas:
            if given[name] is None:
                raise ValueError(f"no {name} image; this codec codes {' and '.join(lmbdas)}")
        device = device_of(self)
        images = {name: as_batch(given[name], name).to(device) for name in lmbdas}
        sizes: dict[str, Any] = {name: tuple(x.shape[-2:]) for name, x in images.items()}
        grid = self._grid(sizes)
        trials: tuple[Mode, ...] = self.modes if mode == "auto" else (mode,)
        headers = {
            trial: Header(
                visible_size=sizes.get("visible"),
                infrared_size=sizes.get("infrared"),
                visible_lmbda=lmbdas.get("visible"),
                infrared_lmbda=lmbdas.get("infrared"),
                context=config.context,
                fingerprint=fingerprint(self),
                **self._header_fields(trial),
            )
            for trial in trials
        }
        padded = {name: pad(image, *self._padded(grid, name)) for name, image in images.items()}
        reference: Any = None
        coded_reference: Any = None
        if self.reference_codec is not None:
            coded_reference = self.reference_codec.encode_latent(
                padded[config.reference], lmbdas[config.reference]
            )
            reference = self.decode_reference(coded_reference.y_coded, lmbdas[config.reference])
        candidates = [
            self._encode_target(
                padded[config.target], trial, headers[trial], coded_reference, reference
            )
            for trial in trials
        ]
        if len(candidates) == 1:
            return candidates[0]
        original = images[config.target]

        def cost(candidate: tuple[bytes, Callable[[], Reconstruction]]) -> float:
            data, decode = candidate
            decoded = as_batch(getattr(decode(), config.target), config.target)
            mse = (decoded.to(device) - original).square().mean().item()
            pixels = original.shape[-2] * original.shape[-1]
            return lmbdas[config.target] * mse + 8 * len(data) / pixels

        return min(candidates, key=cost)  # the first of equals, which uses least

    def _encode_target(
        self, target: Tensor, mode: Mode, header: Header, coded_reference: Any, reference: Any
    ) -> tuple[bytes, Callable[[], Reconstruction]]:
        """A whole stream in one mode, for a padded target and the reference as coded."""
        config = self.config
        sections: dict[Section, bytes] = {}
        checksums = {}
        if coded_reference is not None:
            z, y = sections_of(config.reference)
            sections |= {z: coded_reference.z, y: coded_reference.y}
            checksums[config.reference] = coded_reference.checksum
        used: Any = None if mode == "none" else reference
        latent, f_aligned, gamma, beta = self.analyse(target, used, mode)
        if gamma is not None and beta is not None:
            sections[Section.COEFFICIENTS] = pack_coefficients(
                gamma, beta, config.coefficient_format
            )
        lmbda = getattr(header, f"{config.target}_lmbda")
        coded = self.entropy.compress(latent, lmbda, self._side(used))
        z, y = sections_of(config.target)
        sections |= {z: coded.z, y: coded.y}
        checksums[config.target] = coded.checksum
        sections[Section.SYMBOLS] = b"".join(
            checksums[image].to_bytes(4, "little") for image in header.images
        )

        @functools.cache
        def decode() -> Reconstruction:
            images = {config.target: self._target_image(header, coded.y_coded, used, f_aligned)}
            if reference is not None:
                images[config.reference] = self._reference_image(header, reference)
            return _reconstruction(images)

        return pack(header, sections), decode

    @torch.no_grad()
    def decompress(self, data: bytes, only: Modality | None = None) -> Reconstruction:
        """Decode a stream; ``only`` the reference's name leaves the target's sections unread.

        Raises:
            BitstreamError: malformed, another codec's, or decoded differently on this machine.
        """
        config = self.config
        header, sections = unpack(data, only)
        both = self.reference_codec is not None
        check_header(header, self, ("visible", "infrared") if both else (config.target,))
        mode = self.mode_of(header)
        checksums = dict(
            zip(
                header.images,
                np.frombuffer(sections[Section.SYMBOLS], "<u4").tolist(),
                strict=True,
            )
        )
        sizes: dict[str, Any] = {
            image: getattr(header, f"{image}_size") for image in header.images
        }
        grid = self._stream_grid(sizes)

        def latent_of(name: Modality, entropy: EntropyModel, side: Tensor | None) -> Tensor:
            z, y = sections_of(name)
            # the target's features are on the grid, the reference codec works on its own pixels
            size = grid if name == config.target else self._padded(grid, name)
            shape = (size[0] // LATENT_STRIDE, size[1] // LATENT_STRIDE)
            return entropy.decompress(sections[z], sections[y], checksums[name], shape, side)

        decoded = {}
        reference: Any = None
        if both and not (mode == "none" and only == config.target):
            y_coded = latent_of(config.reference, self.reference_codec.entropy, None)
            reference = self.decode_reference(
                y_coded, getattr(header, f"{config.reference}_lmbda")
            )
            if only != config.target:
                decoded[config.reference] = self._reference_image(header, reference)
        if only != config.reference or not both:
            used: Any = None if mode == "none" else reference
            f_aligned = None
            if Section.COEFFICIENTS in sections:
                gamma, beta = unpack_coefficients(
                    sections[Section.COEFFICIENTS],
                    config.feature_channels,
                    config.coefficient_format,
                )
                device = device_of(self)
                f_reference = self.reference_features(used.x_hat)
                f_aligned = ChannelAlignment.align(f_reference, gamma.to(device), beta.to(device))
            y_coded = latent_of(config.target, self.entropy, self._side(used))
            decoded[config.target] = self._target_image(header, y_coded, used, f_aligned)
        return _reconstruction(decoded)

    # the images: one piece of code for encoder and decoder, so that both compute the same

    @torch.no_grad()
    def _reference_image(self, header: Header, reference: Reference) -> np.ndarray:
        size = getattr(header, f"{self.config.reference}_size")
        return as_image(crop(reference.x_hat, size))

    @torch.no_grad()
    def _target_image(
        self, header: Header, y_coded: Tensor, reference: Any, f_aligned: Tensor | None
    ) -> np.ndarray:
        name = self.config.target
        y_hat = self.entropy.dequantise(y_coded, getattr(header, f"{name}_lmbda"))
        x_hat = self.synthesise(y_hat, reference, f_aligned)
        return as_image(crop(x_hat, getattr(header, f"{name}_size")))

    def _header_fields(self, mode: Mode) -> dict[str, Any]:
        """What a stream in that mode says of its target and its coefficients."""
        config = self.config
        sends = mode == "all" and config.channel_alignment
        return {
            "target": None if mode == "none" else config.target,
            "coefficient_format": config.coefficient_format if sends else "none",
        }

    def mode_of(self, header: Header) -> Mode:
        """The mode that a stream of this codec is in.

        Raises:
            BitstreamError: target or coefficients are not those of any of this codec's modes.
        """
        known = {mode: self._header_fields(mode) for mode in self.modes}
        found = {name: getattr(header, name) for name in known["none"]}
        for mode, fields in known.items():
            if fields == found:
                return mode
        for name, value in found.items():
            expected = sorted({str(fields[name]) for fields in known.values()})
            if str(value) not in expected:
                raise BitstreamError(f"{name} {value}; this codec's is {' or '.join(expected)}")
        both = f"target {found['target']} and coefficient_format {found['coefficient_format']}"
        raise BitstreamError(f"{both}; this codec has no mode with both")

    def _grid(self, sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
        """Padded size of the feature grid, for these image sizes.

        Raises:
            ValueError: visible is not s times infrared.
        """
        scale = self.config.scale
        if "infrared" not in sizes:
            height, width = sizes["visible"]
            return padded_size((-(-height // scale), -(-width // scale)))
        height, width = sizes["infrared"]
        if "visible" in sizes and sizes["visible"] != (scale * height, scale * width):
            raise ValueError(
                f"visible is {sizes['visible'][0]}×{sizes['visible'][1]}, infrared "
                f"{height}×{width}; expected visible {scale * height}×{scale * width}"
            )
        return padded_size((height, width))

    def _stream_grid(self, sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
        try:
            return self._grid(sizes)
        except ValueError as error:
            raise BitstreamError(str(error)) from None

    def _padded(self, grid: tuple[int, int], modality: str) -> tuple[int, int]:
        stride = self.config.stride_of(modality)  # type: ignore[arg-type]
        return stride * grid[0], stride * grid[1]

    def update_tables(self) -> None:
        """Fill the target's probability tables; the reference codec brings its own."""
        self.entropy.update_tables()


def _reconstruction(images: dict[Modality, np.ndarray]) -> Reconstruction:
    return Reconstruction(images.get("visible"), images.get("infrared"))
