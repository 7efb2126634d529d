"""Image codec: Minnen's transforms around the entropy model, for one modality (chapters 3 and 5).

It codes the visible frame that the pair codec refers to, and with one channel it is the plain
single-modality baseline.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from compressai.layers import GDN
from torch import Tensor, nn
from torch.nn import functional as F

from .bitstream import BitstreamError, Header, Section, pack, unpack
from .config import CHANNELS, LATENT_STRIDE, PAD_MULTIPLE, CodecConfig, Modality, check_lambda
from .entropy import CodedLatent, EntropyModel

MID_GREY = 0.45
"""Where the last layer starts, or the first thousand steps would go into the mean level."""


def analysis_transform(in_channels: int, N: int, M: int) -> nn.Sequential:
    """g_a of Minnen et al. 2018: four stride-2 convolutions with GDN.

    Shapes:
        (B, in_channels, H, W) → (B, M, H/16, W/16)
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, N, 5, stride=2, padding=2),
        GDN(N),
        nn.Conv2d(N, N, 5, stride=2, padding=2),
        GDN(N),
        nn.Conv2d(N, N, 5, stride=2, padding=2),
        GDN(N),
        nn.Conv2d(N, M, 5, stride=2, padding=2),
    )


def upsampling_stage(in_channels: int, out_channels: int, gdn: bool = True) -> nn.Sequential:
    """One stage of g_s: a stride-2 transposed convolution and, but for the last, inverse GDN."""
    deconv = nn.ConvTranspose2d(
        in_channels, out_channels, 5, stride=2, padding=2, output_padding=1
    )
    return nn.Sequential(deconv, GDN(out_channels, inverse=True)) if gdn else nn.Sequential(deconv)


class ImageCodec(nn.Module):
    """Joint autoregressive and hierarchical codec (Minnen, Ballé, Toderici 2018) of one modality.

    Args:
        config: N, M, context and λ.
        modality: ``"visible"`` (three channels) or ``"infrared"`` (one).

    Shapes:
        image: (B, C, H, W) in [0, 1], H and W multiples of 64 in :meth:`forward`; any size from
        1×1 in :meth:`compress`.
    """

    def __init__(self, config: CodecConfig, modality: Modality = "visible"):
        super().__init__()
        N, M = config.transform_channels, config.latent_channels
        channels = CHANNELS[modality]
        self.config, self.modality = config, modality
        self.g_a = analysis_transform(channels, N, M)
        self.g_s = nn.ModuleList(
            [
                upsampling_stage(M, N),
                upsampling_stage(N, N),
                upsampling_stage(N, N),
                upsampling_stage(N, channels, gdn=False),
            ]
        )
        last: Any = self.g_s[-1]
        nn.init.constant_(last[0].bias, MID_GREY)
        self.entropy = EntropyModel(config)

    def forward(self, image: Tensor, lmbda: Tensor) -> dict[str, object]:
        """Code without bytes, for training and estimates.

        Args:
            image: (B, C, H, W).
            lmbda: (B,), one λ a sample.

        Returns:
            ``x_hat`` (B, C, H, W), ``hidden`` h_1..h_3 of the decoder, ``y_coded`` and
            ``likelihoods`` (see :class:`EntropyModel`).
        """
        out = self.entropy(self.g_a(image), lmbda)
        x_hat, hidden = self.synthesise(out["y_hat"])
        return {"x_hat": x_hat, "hidden": hidden, **out}

    def synthesise(self, y_hat: Tensor) -> tuple[Tensor, list[Tensor]]:
        """g_s: the image, and the hidden features that the pair codec's decoder attends to.

        Shapes:
            y_hat: (B, M, H/16, W/16) → x_hat (B, C, H, W), h_j (B, N, H·2^j/16, W·2^j/16)
        """
        hidden = []
        x = y_hat
        for stage in self.g_s[:-1]:
            x = stage(x)
            hidden.append(x)
        return self.g_s[-1](x), hidden

    def encode_latent(self, image: Tensor, lmbda: float) -> CodedLatent:
        """Bytes of one padded image (1, C, H, W)."""
        with torch.no_grad():
            return self.entropy.compress(self.g_a(image), lmbda)

    @torch.no_grad()
    def decode_latent(self, y_coded: Tensor, lmbda: float) -> tuple[Tensor, list[Tensor]]:
        """x̂ clamped to [0, 1] and hidden features, as encoder and decoder both compute them."""
        x_hat, hidden = self.synthesise(self.entropy.dequantise(y_coded, lmbda))
        return x_hat.clamp(0, 1), hidden

    def compress(self, image: np.ndarray | Tensor, lmbda: float = 1024) -> bytes:
        """Code an image on its own into an ``.xmc`` stream.

        Args:
            image: uint8 (H, W) or (H, W, 3), or float (C, H, W) in [0, 1].
            lmbda: within the trained range.

        Raises:
            ValueError: wrong type, shape or range of the image, or λ out of range.
            BitstreamError: an image larger than a stream can hold.
        """
        batch = as_batch(image, self.modality).to(device_of(self))
        lmbda = wire_lambda(lmbda, self.config)
        image_fields: dict[str, Any] = {
            f"{self.modality}_size": tuple(batch.shape[-2:]),
            f"{self.modality}_lmbda": lmbda,
        }
        header = Header(fingerprint=fingerprint(self), context=self.config.context, **image_fields)
        coded = self.encode_latent(pad(batch, *padded_size(batch.shape[-2:])), lmbda)
        z, y = sections_of(self.modality)
        symbols = coded.checksum.to_bytes(4, "little")
        return pack(header, {z: coded.z, y: coded.y, Section.SYMBOLS: symbols})

    def decompress(self, data: bytes) -> np.ndarray:
        """The uint8 image of a stream that :meth:`compress` wrote.

        Raises:
            BitstreamError: malformed, another codec's, or decoded differently here.
        """
        header, sections = unpack(data)
        check_header(header, self, images=(self.modality,))
        size = getattr(header, f"{self.modality}_size")
        lmbda = getattr(header, f"{self.modality}_lmbda")
        z, y = sections_of(self.modality)
        height, width = padded_size(size)
        y_coded = self.entropy.decompress(
            sections[z],
            sections[y],
            int.from_bytes(sections[Section.SYMBOLS], "little"),
            (height // LATENT_STRIDE, width // LATENT_STRIDE),
        )
        return as_image(crop(self.decode_latent(y_coded, lmbda)[0], size))

    def update_tables(self) -> None:
        """Fill the probability tables; see :meth:`EntropyModel.update_tables`."""
        self.entropy.update_tables()


def padded_size(size: Sequence[int], multiple: int = PAD_MULTIPLE) -> tuple[int, int]:
    """The size rounded up to what the network needs."""
    height, width = (math.ceil(side / multiple) * multiple for side in size)
    return height, width


def pad(batch: Tensor, height: int, width: int) -> Tensor:
    """Replicate the last row and column up to (height, width): cheap to code, no seam."""
    bottom, right = height - batch.shape[-2], width - batch.shape[-1]
    return F.pad(batch, (0, right, 0, bottom), mode="replicate")


def crop(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo :func:`pad`."""
    return batch[..., : size[0], : size[1]]


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights are."""
    return next(module.parameters()).device


def as_batch(image: np.ndarray | Tensor, modality: Modality) -> Tensor:
    """An image of that modality as (1, C, H, W) float32 in [0, 1].

    Raises:
        ValueError: neither uint8 (H, W[, 3]) nor float (C, H, W) in [0, 1], or no pixels.
    """
    channels = CHANNELS[modality]
    shape = tuple(getattr(image, "shape", ()))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        plain = image.ndim == 2 if channels == 1 else image.ndim == 3 and shape[2] == channels
        tensor = torch.from_numpy(np.ascontiguousarray(image)).float() / 255
        if plain:
            tensor = tensor[None, None] if channels == 1 else tensor.permute(2, 0, 1)[None]
    elif isinstance(image, Tensor) and image.is_floating_point():
        tensor = image.float() if image.ndim == 4 else image.float()[None]
        plain = tensor.ndim == 4 and tuple(tensor.shape[:2]) == (1, channels)
        if plain and tensor.numel() and not (tensor.min() >= 0 and tensor.max() <= 1):
            low, high = float(tensor.min()), float(tensor.max())
            raise ValueError(
                f"{modality} image has values in [{low:g}, {high:g}]; expected [0, 1]"
            )
    else:
        kind = getattr(image, "dtype", type(image).__name__)
        raise ValueError(f"{modality} image is {kind}; expected a uint8 array or a float tensor")
    if not plain or 0 in shape:
        expected = "(H, W)" if channels == 1 else f"(H, W, {channels})"
        raise ValueError(
            f"{modality} image has shape {shape}; expected uint8 {expected} or float "
            f"({channels}, H, W), at least one pixel"
        )
    return tensor


def as_image(batch: Tensor) -> np.ndarray:
    """(1, C, H, W) in [0, 1], rounded to uint8 (H, W) or (H, W, 3): what is saved and measured."""
    image = (batch[0].clamp(0, 1) * 255).round().byte().cpu().numpy()
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def sections_of(modality: Modality) -> tuple[Section, Section]:
    """The z and y sections of a modality."""
    return Section[f"{modality.upper()}_Z"], Section[f"{modality.upper()}_Y"]


def wire_lambda(lmbda: float, config: CodecConfig) -> float:
    """λ as the file holds it (float32), checked against the trained range."""
    return float(np.float32(check_lambda(lmbda, config.lambdas)))


def fingerprint(codec: nn.Module) -> bytes:
    """The first 8 bytes of a SHA-256 over names and values of every weight and table."""
    return fingerprint_of(codec.state_dict())


def fingerprint_of(state: Mapping[str, Tensor]) -> bytes:
    """:func:`fingerprint` of a codec with this state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()[:8]


def check_header(header: Header, codec: Any, images: tuple[Modality, ...]) -> None:
    """That this codec wrote the stream, and that the stream holds these images.

    Raises:
        BitstreamError: other weights, other images, another context, or λ out of range.
    """
    config = codec.config
    if header.images != images:
        raise BitstreamError(
            f"the stream holds {' and '.join(header.images)}; "
            f"this codec reads {' and '.join(images)}"
        )
    if header.fingerprint != (own := fingerprint(codec)):
        raise BitstreamError(
            f"written with weights {header.fingerprint.hex()}, these are {own.hex()}"
        )
    if header.context != config.context:
        raise BitstreamError(f"context {header.context}; this codec's is {config.context}")
    for image in images:
        try:
            check_lambda(getattr(header, f"{image}_lmbda"), config.lambdas)
        except ValueError as error:
            raise BitstreamError(str(error)) from None
