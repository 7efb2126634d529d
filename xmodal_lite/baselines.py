"""Classical codecs on the same frames: HEVC, AV1, AVIF, JPEG 2000, WebP, JPEG (chapter 2).

Every codec that can be is tuned for PSNR, because PSNR is what the book measures, and runs at the
slowest setting that still paid on validation frames. `encode` returns all that a decoder needs
except the image's shape; the rate is `8 * len(data) / (H * W)` bits per pixel.

HEVC, AV1 and JPEG 2000 are bare coded streams; AVIF, WebP and JPEG are files as they lie on disk.
That matters at low rates: the boxes of an AVIF file take some 270 bytes, 0.02 bpp of a frame of
109,000 pixels, so "av1" is the same coded frame without them.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, features

HEVC_MIN_SIDE = 16  # libx265 refuses smaller pictures
HEVC_OPTIONS = {
    # placebo came out 0.1 % above veryslow; deblocking offsets and 10 bits were within 0.4 %
    "preset": "veryslow",
    "tune": "psnr",  # no adaptive quantisation, no psychovisual decisions
}
HEVC_PARAMETERS = (
    "qp={qp}:ipratio=1"  # x265 otherwise codes intra frames at 3 QP less than it was asked for
    ":keyint=1:info=0:vui-timing-info=0:aq-mode=0"  # one intra frame, no SEI, no timing
    ":pools=none:frame-threads=1:wpp=0:log-level=none"  # one thread: the same bytes everywhere
)
# libaom at speed 0 took twice as long as at 1 and gained nothing; libavif's own tuning costs 8 %.
AVIF_OPTIONS = {"codec": "aom", "speed": 1, "advanced": {"tune": "psnr"}}
AVIF_OPTIONS |= {"max_threads": 1, "autotiling": False}

# Full-range BT.601, as in JPEG. RGB to YCbCr; the chroma rows are offset by 128.
_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


class MissingCodecError(RuntimeError):
    """The installed PyAV or Pillow was built without a codec; the message names the package."""


@dataclass(frozen=True)
class ClassicalCodec:
    """A codec with one knob.

    Args:
        name: its key in `CODECS`.
        label: what a figure's legend says.
        unit: what the knob is: "QP", "quality" or "bpp" (target rate in bits per pixel).
        settings: default sweep, by rising rate; about 0.1 to 1 bpp on grey thermal frames.
        bounds: smallest and largest setting; whole numbers unless the unit is "bpp".
    """

    name: str
    label: str
    unit: str
    settings: tuple[float, ...]
    bounds: tuple[float, float]
    _encode: Callable[[np.ndarray, Any], bytes]
    _decode: Callable[[bytes, tuple[int, ...]], np.ndarray]

    def encode(self, image: np.ndarray, setting: float) -> bytes:
        """Code an image, (H, W) grey or (H, W, 3) RGB, uint8, at one setting of the knob.

        Raises:
            ValueError: another type or shape, a setting out of bounds, a size beyond the format's.
            MissingCodecError: a RuntimeError; the installed package lacks the encoder.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            raise ValueError(f"{self.name}: image of {kind}; expected a uint8 array")
        _check_shape(self.name, image.shape)
        low, high = self.bounds
        whole = self.unit != "bpp"
        valid = isinstance(setting, Real) and low <= setting <= high
        if not valid or (whole and setting != int(setting)):
            expected = f"a {'whole ' if whole else ''}number from {low} to {high}"
            raise ValueError(f"{self.name}: {self.unit} {setting!r}; expected {expected}")
        with _one_line(f"{self.name} cannot code {image.shape} at {self.unit} {setting}"):
            return self._encode(np.ascontiguousarray(image), int(setting) if whole else setting)

    def decode(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        """The image of the given shape, (H, W) or (H, W, 3), uint8, that `data` holds.

        Raises:
            ValueError: data of another shape, or damage that the decoder notices. None of these
                formats carries a checksum: other damage only shows as another image.
            MissingCodecError: a RuntimeError; the installed package lacks the decoder.
        """
        _check_shape(self.name, shape)
        if not isinstance(data, bytes | bytearray | memoryview) or not data:
            what = f"a {type(data).__name__}" if data else "no data"
            raise ValueError(f"{self.name}: {what}; expected the bytes of a coded image")
        with _one_line(f"{self.name} cannot decode {len(data)} bytes as {shape}"):
            image = self._decode(bytes(data), tuple(shape))
            if image.shape != tuple(shape):
                raise ValueError(f"the data hold {image.shape}")
        return image


def encode(codec: str, image: np.ndarray, setting: float) -> bytes:
    """`CODECS[codec].encode`, with a clear ValueError for a name that is not there."""
    return _named(codec).encode(image, setting)


def decode(codec: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """`CODECS[codec].decode`, with a clear ValueError for a name that is not there."""
    return _named(codec).decode(data, shape)


def _named(codec: str) -> ClassicalCodec:
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r}; expected one of {', '.join(CODECS)}")
    return CODECS[codec]


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or min(shape) < 1:
        raise ValueError(f"{name}: shape {tuple(shape)}; expected (H, W) or (H, W, 3), not empty")


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn whatever a library raises (Pillow and PyAV raise many kinds) into one ValueError."""
    try:
        yield
    except (MissingCodecError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what}: {error}") from error


# --- HEVC and AV1, through PyAV ---


def _pyav(codec: str, mode: str) -> ModuleType:
    try:
        av = importlib.import_module("av")
        av.codec.Codec(codec, mode)
    except (ImportError, ValueError) as error:
        hint = "install the package av (PyAV) from its wheel"
        raise MissingCodecError(f"{codec} is missing: {hint} ({error})") from None
    return av


def _to_planes(image: np.ndarray) -> np.ndarray:
    """(H, W) as it is; (H, W, 3) RGB → (3, H, W) YCbCr 4:4:4, which beats 4:2:0 by 5 %."""
    if image.ndim == 2:
        return image
    ycbcr = image @ _YCBCR.T + [0, 128, 128]
    return np.ascontiguousarray(ycbcr.round().clip(0, 255).astype(np.uint8).transpose(2, 0, 1))


def _from_planes(planes: np.ndarray) -> np.ndarray:
    if planes.ndim == 2:
        return planes
    rgb = (planes.transpose(1, 2, 0) - np.array([0, 128, 128])) @ np.linalg.inv(_YCBCR).T
    return rgb.round().clip(0, 255).astype(np.uint8)


def _pixel_format(shape: tuple[int, ...]) -> str:
    return "gray" if len(shape) == 2 else "yuv444p"


def _decode_frame(codec: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The samples of the one frame in an elementary stream, (H, W) or (3, H, W)."""
    av = _pyav(codec, "r")
    context = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    frames = context.decode(av.Packet(data)) + context.decode(None)
    if len(frames) != 1 or frames[0].format.name not in (_pixel_format(shape), "yuvj444p"):
        raise ValueError(f"the stream holds {[f.format.name for f in frames]}")
    return frames[0].to_ndarray()


def _encode_hevc(image: np.ndarray, qp: int) -> bytes:
    height, width = image.shape[:2]
    missing = [(0, max(0, HEVC_MIN_SIDE - side)) for side in (height, width)]
    planes = _to_planes(np.pad(image, missing + [(0, 0)] * (image.ndim - 2), "edge"))
    av = _pyav("libx265", "w")
    context = av.CodecContext.create("libx265", "w")
    context.height, context.width = planes.shape[-2:]
    context.pix_fmt = _pixel_format(image.shape)
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = HEVC_OPTIONS | {"x265-params": HEVC_PARAMETERS.format(qp=qp)}
    frame = av.VideoFrame.from_ndarray(planes, format=context.pix_fmt)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _decode_hevc(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    image = _from_planes(_decode_frame("hevc", data, shape))
    if image.shape[:2] != (max(shape[0], HEVC_MIN_SIDE), max(shape[1], HEVC_MIN_SIDE)):
        return image
    return image[: shape[0], : shape[1]]


def _encode_av1(image: np.ndarray, quality: int) -> bytes:
    """The coded frame of an AVIF file: the contents of its last box, "mdat"."""
    data = _encode_avif(image, quality)
    start = data.index(b"mdat")
    if int.from_bytes(data[start - 4 : start], "big") != len(data) - start + 4:
        raise ValueError("the coded frame is not the last box of the AVIF file")
    return data[start + 4 :]


def _decode_av1(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return _from_planes(_decode_frame("libdav1d", data, shape))


# --- AVIF, JPEG 2000, WebP and JPEG, through Pillow ---


def _save(image: np.ndarray, feature: str, file_format: str, **options: Any) -> bytes:
    _pillow(feature)
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, **options)
    return file.getvalue()


def _pillow(feature: str) -> None:
    if not features.check(feature):
        raise MissingCodecError(f"{feature} is missing: install the package pillow from its wheel")


def _decoder(feature: str, file_format: str) -> Callable[[bytes, tuple[int, ...]], np.ndarray]:
    def decode_file(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        _pillow(feature)
        try:
            file = Image.open(io.BytesIO(data), formats=[file_format])
        except UnidentifiedImageError:  # its own message holds an address in memory
            raise ValueError(f"no {file_format} file") from None
        with file:
            # before anything of that size is allocated
            if file.size != (shape[1], shape[0]):
                raise ValueError(f"the data hold {file.size[1]}×{file.size[0]} pixels")
            return np.array(file.convert("L" if len(shape) == 2 else "RGB"))

    return decode_file


def _encode_avif(image: np.ndarray, quality: int) -> bytes:
    subsampling = "4:0:0" if image.ndim == 2 else "4:4:4"  # 4:4:4 beats 4:2:0 by 6 % on RGB
    options = AVIF_OPTIONS | {"subsampling": subsampling}
    return _save(image, "avif", "AVIF", quality=quality, **options)


def _encode_jpeg2000(image: np.ndarray, bpp: float) -> bytes:
    """A bare codestream of the irreversible 9/7 wavelet, cut at the target rate."""
    return _save(
        image,
        "jpg_2000",
        "JPEG2000",
        irreversible=True,
        quality_mode="rates",
        quality_layers=[8 * image[0, 0].size / bpp],
        num_resolutions=min(6, min(image.shape[:2]).bit_length()),
        mct=int(image.ndim == 3),
        no_jp2=True,
        comment=" ",  # an empty one would be replaced by 33 bytes of the library's version
    )


def _encode_webp(image: np.ndarray, quality: int) -> bytes:
    return _save(image, "webp", "WEBP", quality=quality, method=6)


def _encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """The smaller of the sequential and the progressive file, with tables made for the image."""
    options: dict[str, Any] = {"quality": quality, "optimize": True}
    files = [_save(image, "jpg", "JPEG", progressive=mode, **options) for mode in (False, True)]
    return min(files, key=len)


CODECS: dict[str, ClassicalCodec] = {
    codec.name: codec
    for codec in (
        ClassicalCodec(
            name="hevc",
            label="HEVC intra (BPG)",
            unit="QP",
            settings=(42, 37, 32, 27, 22),
            bounds=(0, 51),
            _encode=_encode_hevc,
            _decode=_decode_hevc,
        ),
        ClassicalCodec(
            name="av1",
            label="AV1 intra",
            unit="quality",
            settings=(10, 20, 30, 45, 60, 70),
            bounds=(0, 100),
            _encode=_encode_av1,
            _decode=_decode_av1,
        ),
        ClassicalCodec(
            name="avif",
            label="AVIF",
            unit="quality",
            settings=(6, 20, 30, 45, 60, 70),
            bounds=(0, 100),
            _encode=_encode_avif,
            _decode=_decoder("avif", "AVIF"),
        ),
        ClassicalCodec(
            name="jpeg2000",
            label="JPEG 2000",
            unit="bpp",
            settings=(0.1, 0.2, 0.4, 0.7, 1.0),
            bounds=(0.01, 8),
            _encode=_encode_jpeg2000,
            _decode=_decoder("jpg_2000", "JPEG2000"),
        ),
        ClassicalCodec(
            name="webp",
            label="WebP",
            unit="quality",
            settings=(0, 5, 20, 45, 65, 80),
            bounds=(0, 100),
            _encode=_encode_webp,
            _decode=_decoder("webp", "WEBP"),
        ),
        ClassicalCodec(
            name="jpeg",
            label="JPEG",
            unit="quality",
            settings=(5, 8, 15, 25, 55),
            bounds=(1, 100),
            _encode=_encode_jpeg,
            _decode=_decoder("jpg", "JPEG"),
        ),
    )
}
