"""Coding: any codec by the same two calls, and the two numbers of its file (chapters 2 and 8).

What a file costs is in bytes; how near its image comes to the original is PSNR in dB on 8 bits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from .bitstream import SYMBOL_CRC_BYTES, section_sizes, unpack
from .config import Modality
from .image_codec import ImageCodec, as_batch, pad, padded_size
from .loss import psnr
from .pair_codec import Encoded, Mode, PairCodec, Reconstruction
from .pretrained import Codec

HEADER_ENTRY_BYTES = 8  # a coded image's height, width and λ in the .xmc header


def target_of(codec: Codec) -> Modality:
    """The modality that a codec is measured on."""
    return codec.modality if isinstance(codec, ImageCodec) else codec.config.target


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
