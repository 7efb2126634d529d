"""Frames: one frame, or the two of a scene, read and checked (chapter 1).

Whatever is wrong with a file ends in a `DataError` of one line. A visible frame is brought to
exactly twice the infrared size, the geometry of the paper (1280×1024 beside 640×512).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

# Beyond this ratio of the two aspect ratios a pair cannot show the same field of view (RoadScene
# stays within 1.12, FLIR's 720×480 beside 640×512 is 1.2).
MAX_ASPECT_RATIO = 1.25


class DataError(ValueError):
    """Data that cannot be used; one line says the file, its value and what was expected."""


@dataclass(frozen=True)
class Pair:
    """One scene: `visible` uint8 (2H, 2W, 3) and `infrared` uint8 (H, W)."""

    name: str
    visible: np.ndarray
    infrared: np.ndarray


def _open(path: str | Path) -> Image.Image:
    """The decoded image at `path`: 8 bits a channel, mode L or RGB, upright."""
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected an 8-bit image")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty file (0 bytes); expected an 8-bit image")
        with Image.open(path) as image:
            image.load()
            bits, mode, frames = _bits(path, image), image.mode, getattr(image, "n_frames", 1)
            alpha = mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in image.info
            upright = ImageOps.exif_transpose(image)
    except DataError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds on broken files
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "not an image" if unknown else " ".join(str(error).split())
        raise DataError(f"{path}: unreadable ({reason}); expected a whole image") from None
    if bits > 8:
        raise DataError(f"{path}: {bits} bits a channel (mode {mode}); expected 8")
    if frames > 1:
        raise DataError(f"{path}: holds {frames} images; expected one")
    if mode == "P":
        raise DataError(f"{path}: palette image (mode P); expected grey or RGB")
    if alpha:
        raise DataError(f"{path}: has transparency (mode {mode}); expected grey or RGB without")
    if mode not in ("L", "RGB"):
        raise DataError(f"{path}: mode {mode}; expected 8-bit grey (L) or RGB")
    return upright


def _bits(path: Path, image: Image.Image) -> int:
    """Bits a channel in the file: Pillow hands 16-bit RGB over as 8-bit RGB without a word."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # the depth in IHDR, after signature, length, type and size
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]  # BitsPerSample
    return 16 if image.mode.startswith("I;16") else 32 if image.mode in ("I", "F") else 8


def read_visible(path: str | Path) -> np.ndarray:
    """A visible frame as uint8 (H, W, 3), a grey one repeated three times; raises DataError."""
    return np.asarray(_open(path).convert("RGB"))


def read_infrared(path: str | Path) -> np.ndarray:
    """An infrared frame as uint8 (H, W), or RGB with equal channels; raises DataError."""
    frame = np.asarray(_open(path))
    if frame.ndim == 3:
        spread = int(np.ptp(frame, axis=-1).max())
        if spread > 1:  # a grey frame through lossy WebP differs by 1
            raise DataError(f"{path}: in colour (channels {spread} apart); expected a grey frame")
        frame = np.ascontiguousarray(frame[..., 1])
    return frame


def match_sizes(visible: np.ndarray, infrared: np.ndarray, scale: int = 2) -> np.ndarray:
    """`visible` (h, w, 3) resized (Lanczos) to (scale·H, scale·W, 3) for `infrared` (H, W).

    Raises:
        DataError: the aspect ratios differ by more than a quarter: not the same field of view.
    """
    (h, w), (height, width) = visible.shape[:2], infrared.shape
    ratio = (w * height) / (h * width)
    if not 1 / MAX_ASPECT_RATIO <= ratio <= MAX_ASPECT_RATIO:
        raise DataError(
            f"visible {w}×{h} and infrared {width}×{height} differ in aspect ratio by a factor of "
            f"{max(ratio, 1 / ratio):.2f}; expected the same scene (at most {MAX_ASPECT_RATIO})"
        )
    size = (scale * width, scale * height)
    if (w, h) == size:
        return visible
    return resize(visible, size, Image.Resampling.LANCZOS)


def resize(image: np.ndarray, size: tuple[int, int], kernel: Image.Resampling) -> np.ndarray:
    """`image` uint8 (h, w) or (h, w, C) at `size` (width, height)."""
    picture = Image.fromarray(np.ascontiguousarray(image))  # 20 times as fast as from a view
    return np.asarray(picture.resize(size, kernel))


def read_pair(visible_path: str | Path, infrared_path: str | Path, name: str = "") -> Pair:
    """Two frames of one scene, visible at twice the infrared size; raises DataError."""
    visible, infrared = read_visible(visible_path), read_infrared(infrared_path)
    try:
        visible = match_sizes(visible, infrared)
    except DataError as error:
        raise DataError(f"{visible_path} and {infrared_path}: {error}") from None
    return Pair(name or Path(infrared_path).stem, visible, infrared)


def to_tensor(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """`pair` as float32 in [0, 1]: visible (1, 3, 2H, 2W), infrared (1, 1, H, W)."""
    return to_float(pair.visible)[None], to_float(pair.infrared)[None]


def to_float(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, C) or (H, W) → float32 (C, H, W) in [0, 1]; C is 1 for (H, W)."""
    planes = np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]
    return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32)).div_(255)
