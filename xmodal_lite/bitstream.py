"""The .xmc container: what a coded pair looks like on disk (chapter 8).

The container knows sizes, sections and checksums, and no network. All numbers are little-endian.

======== ======================================================================================
bytes    header
======== ======================================================================================
4        magic ``XMC\\x1a``
1        version
1        flags: bit 0 visible coded, bit 1 infrared coded, bits 2-3 target (0 none, 1 infrared,
         2 visible)
1        modes: bits 0-3 context, bits 4-7 coefficient format
8        fingerprint of the weights
8 each   a coded image, visible first: height u16, width u16, λ float32
4        CRC-32 of the header so far
======== ======================================================================================

Then the sections that the header calls for, in the order of `Section`: kind (u8), length (LEB128,
1 to 4 bytes), CRC-32 of kind, length and payload (u32), payload. Nothing may follow the last one.
"""

from __future__ import annotations

import math
import operator
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

MAGIC = b"XMC\x1a"
VERSION = 1
MAX_SIDE = 65_535  # what a u16 holds
MAX_PIXELS = 2**24  # per image: bounds what a decoder allocates on the word of a header
MAX_LENGTH = 2**28 - 1  # of a section: four LEB128 bytes, more than MAX_PIXELS plain RGB pixels
FINGERPRINT_BYTES = 8
SYMBOL_CRC_BYTES = 4

_FIXED = struct.Struct(f"<4sBBB{FINGERPRINT_BYTES}s")
_IMAGE = struct.Struct("<HHf")
_CRC = struct.Struct("<I")

ImageName = Literal["visible", "infrared"]
# The position in each tuple is the number on the wire: append only, or raise VERSION.
_IMAGES: tuple[ImageName, ...] = ("visible", "infrared")
_TARGETS = (None, "infrared", "visible")
_CONTEXTS = ("checkerboard", "autoregressive")
_COEFFICIENT_FORMATS = ("none", "float32", "float16", "int8")


class BitstreamError(ValueError):
    """A malformed stream, or values no stream can hold; the message says what and where."""


class Section(IntEnum):
    """Kinds of section, in the order in which they stand in a file."""

    VISIBLE_Z = 1
    VISIBLE_Y = 2
    COEFFICIENTS = 3
    INFRARED_Z = 4
    INFRARED_Y = 5
    SYMBOLS = 6  # CRC-32 of the decoded symbols, 4 bytes a coded image, visible first


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a decoder must know before the first section.

    λ is rounded to float32 here: the encoder works with the very number that the decoder reads.

    Args:
        visible_size, infrared_size: (height, width) in pixels, None for an image not in the file.
        visible_lmbda, infrared_lmbda: λ of each coded image's codec, > 0; None where the size is.
        target: the image that is coded given the other one; None when images are coded alone.
        context: "checkerboard" or "autoregressive".
        coefficient_format: of γ and β: "none" (no section), "float32", "float16" or "int8".
        fingerprint: the first 8 bytes of the weights' hash.

    Raises:
        BitstreamError: a value out of range, or values that contradict each other.
    """

    visible_size: tuple[int, int] | None = None
    infrared_size: tuple[int, int] | None = None
    visible_lmbda: float | None = None
    infrared_lmbda: float | None = None
    target: ImageName | None = None
    context: str = "checkerboard"
    coefficient_format: str = "none"
    fingerprint: bytes

    def __post_init__(self) -> None:
        for image in _IMAGES:
            size, lmbda = getattr(self, f"{image}_size"), getattr(self, f"{image}_lmbda")
            if (size is None) != (lmbda is None):
                raise BitstreamError(
                    f"{image} size {size} and λ {lmbda}; expected both or neither"
                )
            if size is not None:
                object.__setattr__(self, f"{image}_size", _checked_size(size, image))
                object.__setattr__(self, f"{image}_lmbda", _checked_lmbda(lmbda, image))
        if not self.images:
            raise BitstreamError("no image is coded; a size and a λ are needed for at least one")
        for name, value, allowed in (
            ("target", self.target, _TARGETS),
            ("context", self.context, _CONTEXTS),
            ("coefficient_format", self.coefficient_format, _COEFFICIENT_FORMATS),
        ):
            if value not in allowed:
                raise BitstreamError(f"{name} {value!r}; expected one of {allowed}")
        if self.target is not None and len(self.images) < 2:
            raise BitstreamError(f"target {self.target!r}, but only {self.images[0]} is coded")
        if self.target is None and self.coefficient_format != "none":
            raise BitstreamError(f"{self.coefficient_format} coefficients, but no target")
        if not isinstance(self.fingerprint, bytes) or len(self.fingerprint) != FINGERPRINT_BYTES:
            expected = f"{FINGERPRINT_BYTES} bytes"
            raise BitstreamError(f"fingerprint {self.fingerprint!r}; expected {expected}")

    @property
    def images(self) -> tuple[ImageName, ...]:
        """The coded images, visible first."""
        return tuple(image for image in _IMAGES if getattr(self, f"{image}_size") is not None)


def required_sections(header: Header, only: ImageName | None = None) -> tuple[Section, ...]:
    """The sections that a file with this header holds, in order, each exactly once.

    With `only`, those that decoding that one image takes: its own two and SYMBOLS, or all of them
    where the image is the target and so cannot be decoded without its reference.

    Raises:
        BitstreamError: `only` is no image's name, or that image is not in the file.
    """
    if only is not None and only not in header.images:
        raise BitstreamError(f"no {only} image in this stream, only {' and '.join(header.images)}")
    images = header.images if only is None or only == header.target else (only,)
    wanted = {Section.SYMBOLS}
    for image in images:
        wanted |= {Section[f"{image.upper()}_Z"], Section[f"{image.upper()}_Y"]}
    if header.coefficient_format != "none" and len(images) == 2:
        wanted.add(Section.COEFFICIENTS)
    return tuple(sorted(wanted))


def pack(header: Header, sections: Mapping[Section, bytes]) -> bytes:
    """Write a stream.

    Raises:
        BitstreamError: sections other than `required_sections`, or an impossible length.
    """
    required = required_sections(header)
    if set(sections) != set(required):
        given = ", ".join(str(getattr(section, "name", section)) for section in sections)
        expected = ", ".join(section.name for section in required)
        raise BitstreamError(f"sections {given or 'none'}; expected {expected}")
    parts = [_header_bytes(header)]
    for section in required:
        payload = sections[section]
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise BitstreamError(
                f"section {section.name} is a {type(payload).__name__}, not bytes"
            )
        payload = bytes(payload)
        _check_length(section, len(payload), header, where="")
        head = bytes([section]) + _leb128(len(payload))
        parts += [head, _CRC.pack(zlib.crc32(payload, zlib.crc32(head))), payload]
    return b"".join(parts)


def unpack(data: bytes, only: ImageName | None = None) -> tuple[Header, dict[Section, bytes]]:
    """Read a stream, every checksum verified before a payload is handed out.

    Args:
        data: a whole stream.
        only: read just what one image takes (see `required_sections`). The other sections are
            walked over: places and lengths must be right, contents are neither copied nor checked.

    Raises:
        BitstreamError: anything at all is wrong with `data`, or `only` is not in it.
    """
    view = _view(data)
    header, start = _parse_header(view)
    wanted = required_sections(header, only)
    sections = {}
    for section, begin, body, end in _walk(view, header, start):
        if section not in wanted:
            continue
        head, payload = view[begin : body - _CRC.size], view[body:end]
        if zlib.crc32(payload, zlib.crc32(head)) != _CRC.unpack_from(view, body - _CRC.size)[0]:
            raise BitstreamError(f"byte {begin}: section {section.name} is damaged (checksum)")
        sections[section] = bytes(payload)
    return header, sections


def section_sizes(data: bytes) -> dict[str, int]:
    """Bytes of "header" and of each section, overhead included, in order; sums to `len(data)`.

    Raises:
        BitstreamError: as `unpack`.
    """
    unpack(data)
    view = _view(data)
    header, start = _parse_header(view)
    walk = _walk(view, header, start)
    return {"header": start} | {s.name.lower(): end - begin for s, begin, _, end in walk}


def _checked_size(size: Any, image: str) -> tuple[int, int]:
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        raise BitstreamError(f"{image} size {size!r}; expected (height, width)") from None
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        limits = f"sides of 1 to {MAX_SIDE}, at most {MAX_PIXELS} pixels"
        raise BitstreamError(f"{image} size {height}×{width}; expected {limits}")
    return height, width


def _checked_lmbda(lmbda: Any, image: str) -> float:
    try:
        rounded = struct.unpack("<f", struct.pack("<f", lmbda))[0]
    except (struct.error, OverflowError, TypeError):
        rounded = math.nan
    if not (math.isfinite(rounded) and rounded > 0):
        raise BitstreamError(f"{image} λ {lmbda!r}; expected a finite float32 above 0")
    return rounded


def _header_bytes(header: Header) -> bytes:
    flags = sum(1 << _IMAGES.index(image) for image in header.images)
    flags |= _TARGETS.index(header.target) << 2
    modes = _CONTEXTS.index(header.context)
    modes |= _COEFFICIENT_FORMATS.index(header.coefficient_format) << 4
    head = _FIXED.pack(MAGIC, VERSION, flags, modes, header.fingerprint)
    for image in header.images:
        head += _IMAGE.pack(*getattr(header, f"{image}_size"), getattr(header, f"{image}_lmbda"))
    return head + _CRC.pack(zlib.crc32(head))


def _view(data: bytes) -> memoryview:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BitstreamError(f"byte 0: a {type(data).__name__}, not the bytes of a stream")
    return memoryview(bytes(data))


def _parse_header(view: memoryview) -> tuple[Header, int]:
    """The header and the byte at which the sections start."""
    if not view:
        raise BitstreamError("byte 0: the stream is empty")
    if view[: len(MAGIC)] != MAGIC[: len(view)]:
        raise BitstreamError(f"byte 0: not an .xmc stream, it starts with {bytes(view[:4])!r}")
    if len(view) > len(MAGIC) and view[len(MAGIC)] != VERSION:
        known = f"this reader knows version {VERSION}"
        raise BitstreamError(f"byte {len(MAGIC)}: version {view[len(MAGIC)]}; {known}")
    if len(view) < _FIXED.size:
        raise BitstreamError(f"byte {len(view)}: the stream ends inside the header")
    _, _, flags, modes, fingerprint = _FIXED.unpack_from(view)
    images = [image for bit, image in enumerate(_IMAGES) if flags >> bit & 1]
    end = _FIXED.size + _IMAGE.size * len(images)
    if len(view) < end + _CRC.size:
        raise BitstreamError(f"byte {len(view)}: the stream ends inside the header")
    if zlib.crc32(view[:end]) != _CRC.unpack_from(view, end)[0]:
        raise BitstreamError("byte 0: the header is damaged (its checksum differs)")
    try:
        target, context = _TARGETS[flags >> 2], _CONTEXTS[modes & 15]
        coefficient_format = _COEFFICIENT_FORMATS[modes >> 4]
    except IndexError:
        raise BitstreamError(f"byte 5: unknown flags {flags:#04x} or modes {modes:#04x}") from None
    fields: dict[str, Any] = {}
    for i, image in enumerate(images):
        height, width, lmbda = _IMAGE.unpack_from(view, _FIXED.size + i * _IMAGE.size)
        fields |= {f"{image}_size": (height, width), f"{image}_lmbda": lmbda}
    fields |= {"target": target, "context": context, "coefficient_format": coefficient_format}
    try:
        return Header(**fields, fingerprint=fingerprint), end + _CRC.size
    except BitstreamError as error:
        raise BitstreamError(f"byte 5: impossible header: {error}") from None


def _walk(view: memoryview, header: Header, start: int) -> Iterator[tuple[Section, int, int, int]]:
    """Each section's kind, first byte, first payload byte and end, all of which are checked."""
    position = start
    done: list[Section] = []
    for due in required_sections(header):
        if position == len(view):
            raise BitstreamError(f"byte {position}: the stream ends; section {due.name} is due")
        kind = view[position]
        if kind != due:
            what = _unexpected(kind, done)
            raise BitstreamError(f"byte {position}: {what}; section {due.name} is due")
        length, after = _read_leb128(view, position + 1)
        body = after + _CRC.size
        where = f"byte {position + 1}: "
        _check_length(due, length, header, where)
        if length > len(view) - body:
            left = f"the stream has {max(len(view) - body, 0)} left"
            raise BitstreamError(f"{where}section {due.name} of {length} bytes, {left}")
        yield due, position, body, body + length
        done.append(due)
        position = body + length
    if position != len(view):
        what = _unexpected(view[position], done)
        raise BitstreamError(f"byte {position}: {what}; the stream should end here")


def _unexpected(kind: int, done: list[Section]) -> str:
    if kind not in set(Section):
        return f"unknown section {kind}"
    return f"section {Section(kind).name} " + ("a second time" if kind in done else "out of place")


def _check_length(section: Section, length: int, header: Header, where: str) -> None:
    """Nothing beyond the bound, and nothing empty: range decoders read past an empty string."""
    expected = SYMBOL_CRC_BYTES * len(header.images)
    lengths = (expected, expected) if section is Section.SYMBOLS else (1, MAX_LENGTH)
    if not lengths[0] <= length <= lengths[1]:
        limits = " to ".join(map(str, sorted(set(lengths))))
        raise BitstreamError(f"{where}section {section.name} of {length} bytes; expected {limits}")


def _leb128(value: int) -> bytes:
    """Seven bits a byte, lowest first, the top bit set on all but the last byte."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes(parts + bytes([value]))


def _read_leb128(view: memoryview, position: int) -> tuple[int, int]:
    """The number at `position` and the byte after it; one number has one spelling."""
    value = 0
    for i, byte in enumerate(view[position : position + 4]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            if byte == 0 and i > 0:
                raise BitstreamError(f"byte {position}: a length with leading zeros")
            return value, position + i + 1
    if len(view) - position < 4:
        raise BitstreamError(f"byte {len(view)}: the stream ends inside a length")
    raise BitstreamError(f"byte {position}: a length of more than {MAX_LENGTH} bytes")
