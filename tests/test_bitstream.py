"""The .xmc container: what is written comes back, and nothing else ever does."""

import struct
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xmodal_lite.bitstream import (
    MAGIC,
    MAX_PIXELS,
    VERSION,
    BitstreamError,
    Header,
    Section,
    pack,
    required_sections,
    section_sizes,
    unpack,
)

PAIR = Header(
    visible_size=(322, 702),
    infrared_size=(161, 351),
    visible_lmbda=1024.0,
    infrared_lmbda=512.0,
    target="infrared",
    coefficient_format="int8",
    fingerprint=b"\x01\x23\x45\x67\x89\xab\xcd\xef",
)
REVERSED = replace(PAIR, target="visible")
SEPARATE = replace(PAIR, target=None, coefficient_format="none")
ALONE = Header(infrared_size=(161, 351), infrared_lmbda=256.0, fingerprint=bytes(8))
HEADER_BYTES = 35  # of a pair: 15 fixed, 8 an image, 4 of checksum


def filled(header: Header) -> dict[Section, bytes]:
    """A payload for every section; one is long enough for a length of two bytes."""
    sections = {section: bytes(range(7 + 3 * section)) for section in required_sections(header)}
    sections[Section.SYMBOLS] = b"\x0a\x0b\x0c\x0d" * len(header.images)
    sections[required_sections(header)[1]] = bytes(range(200))
    return sections


def raw_section(kind: int, payload: bytes, length: bytes | None = None) -> bytes:
    """A section with a right checksum, whatever it says."""
    head = bytes([kind]) + (bytes([len(payload)]) if length is None else length)
    return head + struct.pack("<I", zlib.crc32(head + payload)) + payload


def raw_header(
    flags: int = 2,
    modes: int = 0,
    images: bytes = struct.pack("<HHf", 161, 351, 256.0),
    version: int = VERSION,
) -> bytes:
    """A header with a right checksum, whatever it says; by default the one of ALONE."""
    head = struct.pack("<4sBBB8s", MAGIC, version, flags, modes, bytes(8)) + images
    return head + struct.pack("<I", zlib.crc32(head))


GOOD_TAIL = b"".join(raw_section(kind, bytes(4)) for kind in (4, 5, 6))

sides = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
lmbdas = st.floats(min_value=2.0**-126, max_value=2.0**127, width=32)


@st.composite
def headers(draw) -> Header:
    images = draw(st.sampled_from([("visible",), ("infrared",), ("visible", "infrared")]))
    fields: dict = {f"{image}_size": draw(sides) for image in images}
    fields |= {f"{image}_lmbda": draw(lmbdas) for image in images}
    if len(images) == 2:
        fields["target"] = draw(st.sampled_from([None, "infrared", "visible"]))
    if fields.get("target"):
        formats = ["none", "float32", "float16", "int8"]
        fields["coefficient_format"] = draw(st.sampled_from(formats))
    assume(all(h * w <= MAX_PIXELS for h, w in (fields[f"{image}_size"] for image in images)))
    context = draw(st.sampled_from(["checkerboard", "autoregressive"]))
    fingerprint = draw(st.binary(min_size=8, max_size=8))
    return Header(context=context, fingerprint=fingerprint, **fields)


@st.composite
def streams(draw) -> tuple[Header, dict[Section, bytes]]:
    header = draw(headers())
    sections = {s: draw(st.binary(min_size=1, max_size=300)) for s in required_sections(header)}
    symbols = 4 * len(header.images)
    sections[Section.SYMBOLS] = draw(st.binary(min_size=symbols, max_size=symbols))
    return header, sections


PACKED = pack(PAIR, filled(PAIR))


# --- what is written comes back ---


@given(streams())
def test_what_is_packed_comes_back(stream):
    header, sections = stream
    data = pack(header, sections)
    assert unpack(data) == (header, sections)
    assert list(unpack(data)[1]) == list(required_sections(header))


@given(streams())
def test_section_sizes_account_for_every_byte(stream):
    header, sections = stream
    data = pack(header, sections)
    sizes = section_sizes(data)
    assert sum(sizes.values()) == len(data)
    assert list(sizes) == [
        "header",
        *(section.name.lower() for section in required_sections(header)),
    ]


def test_a_section_of_two_mebibytes_comes_back():
    sections = filled(ALONE) | {Section.INFRARED_Y: bytes(2**21)}
    assert unpack(pack(ALONE, sections))[1] == sections


def test_overhead_is_six_bytes_a_short_section_and_eight_an_image():
    sizes = section_sizes(pack(PAIR, filled(PAIR)))
    assert sizes["header"] == HEADER_BYTES
    assert sizes["symbols"] == 6 + 8
    assert sizes["visible_y"] == 7 + 200
    assert section_sizes(pack(ALONE, filled(ALONE)))["header"] == HEADER_BYTES - 8


def test_order_of_the_dictionary_does_not_matter():
    sections = filled(PAIR)
    backwards = dict(reversed(list(sections.items())))
    assert pack(PAIR, backwards) == pack(PAIR, sections)


def test_bytearrays_and_memoryviews_are_read_and_written():
    data = pack(PAIR, filled(PAIR))
    wrapped = {section: memoryview(payload) for section, payload in filled(PAIR).items()}
    assert pack(PAIR, wrapped) == data
    assert unpack(bytearray(data)) == unpack(memoryview(data)) == unpack(data)


def test_layout_on_disk_does_not_change_by_accident():
    data = pack(ALONE, {kind: bytes(4) for kind in required_sections(ALONE)})
    assert data == raw_header() + GOOD_TAIL
    assert data[:7] == b"XMC\x1a\x01\x02\x00"


# --- one image of two ---


def test_visible_alone_needs_only_its_own_sections():
    sections = filled(PAIR)
    header, read = unpack(pack(PAIR, sections), only="visible")
    wanted = (Section.VISIBLE_Z, Section.VISIBLE_Y, Section.SYMBOLS)
    assert header == PAIR and read == {section: sections[section] for section in wanted}
    assert required_sections(PAIR, only="visible") == wanted


@pytest.mark.parametrize("header, image", [(PAIR, "infrared"), (REVERSED, "visible")])
def test_the_target_needs_its_reference_too(header, image):
    assert unpack(pack(header, filled(header)), only=image)[1] == filled(header)


def test_the_reference_of_a_visible_target_is_the_infrared_image():
    read = unpack(pack(REVERSED, filled(REVERSED)), only="infrared")[1]
    assert set(read) == {Section.INFRARED_Z, Section.INFRARED_Y, Section.SYMBOLS}


def test_without_a_target_each_image_stands_alone():
    read = unpack(pack(SEPARATE, filled(SEPARATE)), only="infrared")[1]
    assert set(read) == {Section.INFRARED_Z, Section.INFRARED_Y, Section.SYMBOLS}


def test_reading_the_visible_image_survives_damage_elsewhere_and_no_other():
    data = bytearray(pack(PAIR, filled(PAIR)))
    sizes = section_sizes(bytes(data))
    inside_infrared_y = sum(list(sizes.values())[:5]) + sizes["infrared_y"] - 1
    data[inside_infrared_y] ^= 1
    assert unpack(bytes(data), only="visible")[1].keys() == set(required_sections(PAIR, "visible"))
    with pytest.raises(BitstreamError, match="INFRARED_Y is damaged"):
        unpack(bytes(data))
    data[HEADER_BYTES + 6] ^= 1
    with pytest.raises(BitstreamError, match=f"byte {HEADER_BYTES}: section VISIBLE_Z is damaged"):
        unpack(bytes(data), only="visible")


def test_every_truncation_is_noticed_even_when_the_rest_is_not_wanted():
    data = pack(PAIR, filled(PAIR))
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            unpack(data[:length], only="visible")


@pytest.mark.parametrize("only", ["visible", "thermal", 7])
def test_an_image_that_is_not_in_the_stream_cannot_be_read(only):
    with pytest.raises(BitstreamError, match=f"no {only} image in this stream, only infrared"):
        unpack(pack(ALONE, filled(ALONE)), only=only)


# --- damage ---


@pytest.mark.parametrize("header", [PAIR, REVERSED, SEPARATE, ALONE])
def test_every_single_bit_flip_is_noticed(header):
    data = pack(header, filled(header))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError, match="^byte "):
            unpack(bytes(damaged))


@pytest.mark.parametrize("header", [PAIR, ALONE])
def test_every_truncation_is_noticed(header):
    data = pack(header, filled(header))
    for length in range(len(data)):
        with pytest.raises(BitstreamError, match="^byte "):
            unpack(data[:length])
        with pytest.raises(BitstreamError, match="^byte "):
            section_sizes(data[:length])


@st.composite
def mutations(draw) -> bytes:
    """A stream after one to three flips, cuts, inserts, overwritten or duplicated slices."""
    data = bytearray(PACKED)
    for _ in range(draw(st.integers(1, 3))):
        if not data:
            break
        begin = draw(st.integers(0, len(data) - 1))
        end = min(len(data), begin + draw(st.integers(1, 64)))
        match draw(st.sampled_from(["flip", "cut", "tail", "insert", "overwrite", "duplicate"])):
            case "flip":
                data[begin] ^= draw(st.integers(1, 255))
            case "cut":
                del data[begin:end]
            case "tail":
                del data[begin:]
            case "insert":
                data[begin:begin] = draw(st.binary(min_size=1, max_size=64))
            case "overwrite":
                data[begin:end] = draw(st.binary(min_size=end - begin, max_size=end - begin))
            case "duplicate":
                position = draw(st.integers(0, len(data)))
                data[position:position] = data[begin:end]
    return bytes(data)


@settings(max_examples=2500, deadline=None)
@given(mutations())
def test_a_mutated_stream_is_an_error_and_nothing_but_a_bitstream_error(data):
    if data == PACKED:
        assert unpack(data) == (PAIR, filled(PAIR))
        return
    with pytest.raises(BitstreamError, match="^byte "):
        unpack(data)


@settings(max_examples=300)
@given(
    st.binary(max_size=200), st.sampled_from([b"", MAGIC, MAGIC + bytes([VERSION]), raw_header()])
)
def test_noise_is_an_error_and_nothing_but_a_bitstream_error(noise, start):
    assume(start + noise != raw_header() + GOOD_TAIL)
    for only in (None, "infrared"):
        with pytest.raises(BitstreamError, match="^byte "):
            unpack(start + noise, only=only)


# --- streams that lie with right checksums ---


def section_bytes(header: Header) -> dict[Section, bytes]:
    return {kind: raw_section(kind, bytes(8)) for kind in required_sections(header)}


@pytest.mark.parametrize("missing", required_sections(PAIR))
def test_a_missing_section_is_named(missing):
    data = pack(PAIR, {kind: bytes(8) for kind in required_sections(PAIR)})[:HEADER_BYTES]
    data += b"".join(raw for kind, raw in section_bytes(PAIR).items() if kind is not missing)
    with pytest.raises(BitstreamError, match=f"section {missing.name} is due"):
        unpack(data)


@pytest.mark.parametrize("twice", required_sections(PAIR))
def test_a_section_twice_is_named(twice):
    data = pack(PAIR, {kind: bytes(8) for kind in required_sections(PAIR)})[:HEADER_BYTES]
    data += b"".join(
        raw * 2 if kind is twice else raw for kind, raw in section_bytes(PAIR).items()
    )
    with pytest.raises(BitstreamError, match=f"section {twice.name} a second time"):
        unpack(data)


def test_sections_out_of_order_are_named():
    tail = b"".join(raw_section(kind, bytes(4)) for kind in (5, 4, 6))
    with pytest.raises(BitstreamError, match="INFRARED_Y out of place; section INFRARED_Z is due"):
        unpack(raw_header() + tail)


def test_an_unknown_section_is_an_error_with_its_place():
    with pytest.raises(BitstreamError, match="byte 27: unknown section 9"):
        unpack(raw_header() + raw_section(9, bytes(4)) + GOOD_TAIL)


def test_a_section_that_the_header_does_not_call_for_is_an_error():
    with pytest.raises(BitstreamError, match="section COEFFICIENTS out of place"):
        unpack(raw_header() + raw_section(3, bytes(4)) + GOOD_TAIL)


@pytest.mark.parametrize("tail", [b"\0", b"\n", raw_section(6, bytes(4)), bytes(1000)])
def test_bytes_after_the_last_section_are_an_error(tail):
    data = raw_header() + GOOD_TAIL
    with pytest.raises(BitstreamError, match=f"byte {len(data)}: .* should end here"):
        unpack(data + tail)


@pytest.mark.parametrize(
    "length, message",
    [
        (b"\x05", "out of place|unknown section|INFRARED_Z is damaged|is due"),
        (b"\x00", "byte 28: section INFRARED_Z of 0 bytes; expected 1 to"),
        (b"\x84\x00", "byte 28: a length with leading zeros"),
        (b"\xff\xff\xff\x7f", "byte 28: section INFRARED_Z of 268435455 bytes, the stream has"),
        (b"\xff\xff\xff\xff\x7f", "byte 28: a length of more than 268435455 bytes"),
        (b"\x80", "section INFRARED_Z of|leading zeros"),
    ],
)
def test_a_length_that_lies_is_an_error(length, message):
    liar = raw_section(4, bytes(4), length)
    with pytest.raises(BitstreamError, match=message):
        unpack(raw_header() + liar + raw_section(5, bytes(4)) + raw_section(6, bytes(4)))


def test_nothing_is_allocated_on_the_word_of_a_length_or_a_size():
    side = struct.pack("<HHf", 5792, 5792, 256.0)
    huge = raw_header(images=side) + raw_section(4, bytes(4), b"\xff\xff\xff\x7f")
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError):
            unpack(huge)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_symbols_hold_four_bytes_an_image():
    tail = b"".join(raw_section(kind, bytes(8)) for kind in (4, 5, 6))
    with pytest.raises(BitstreamError, match="section SYMBOLS of 8 bytes; expected 4"):
        unpack(raw_header() + tail)


def test_another_version_is_refused_with_the_version_this_reader_knows():
    with pytest.raises(BitstreamError, match=f"version 2; this reader knows version {VERSION}"):
        unpack(raw_header(version=2) + GOOD_TAIL)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "the stream is empty"),
        (b"\x89PNG\r\n\x1a\n", "not an .xmc stream"),
        (b"XM", "ends inside the header"),
        (MAGIC, "ends inside the header"),
        (raw_header()[:-1], "ends inside the header"),
        (raw_header(flags=0, images=b"") + GOOD_TAIL, "no image is coded"),
        (raw_header(flags=0b1110) + GOOD_TAIL, "unknown flags 0x0e"),
        (raw_header(flags=0b10010) + GOOD_TAIL, "unknown flags 0x12"),
        (raw_header(modes=2) + GOOD_TAIL, "unknown flags 0x02 or modes 0x02"),
        (raw_header(modes=0x40) + GOOD_TAIL, "modes 0x40"),
        (raw_header(modes=0x10) + GOOD_TAIL, "float32 coefficients, but no target"),
        (raw_header(flags=0b0110) + GOOD_TAIL, "target 'infrared', but only infrared"),
        (raw_header(images=struct.pack("<HHf", 0, 9, 1.0)) + GOOD_TAIL, "infrared size 0×9"),
        (raw_header(images=struct.pack("<HHf", 5793, 5793, 1.0)), "infrared size 5793×5793"),
        (raw_header(images=struct.pack("<HHf", 9, 9, 0.0)) + GOOD_TAIL, "infrared λ 0.0"),
        (raw_header(images=struct.pack("<HHf", 9, 9, -1.0)) + GOOD_TAIL, "infrared λ -1.0"),
        (raw_header(images=struct.pack("<HHf", 9, 9, float("nan"))), "infrared λ nan"),
        (raw_header(images=struct.pack("<HHf", 9, 9, float("inf"))), "infrared λ inf"),
    ],
)
def test_a_bad_start_says_what_is_wrong(data, message):
    with pytest.raises(BitstreamError, match=f"^byte .*{message}"):
        unpack(data)


@pytest.mark.parametrize("data", [None, "XMC\x1a", 7, [88, 77, 67], open])
def test_what_is_not_bytes_is_refused(data):
    with pytest.raises(BitstreamError, match="not the bytes of a stream"):
        unpack(data)


# --- values that no stream can hold ---


@pytest.mark.parametrize(
    "change, message",
    [
        ({"infrared_size": (0, 5)}, "infrared size 0×5"),
        ({"infrared_size": (1, 65536)}, "infrared size 1×65536"),
        ({"visible_size": (5793, 5793)}, "visible size 5793×5793"),
        ({"visible_size": (5.5, 3)}, "expected \\(height, width\\)"),
        ({"visible_size": (5, 3, 1)}, "visible size"),
        ({"visible_size": 5}, "expected \\(height, width\\)"),
        ({"visible_size": None}, "visible size None and λ 1024.0; expected both or neither"),
        ({"infrared_lmbda": None}, "infrared size .* and λ None"),
        ({"infrared_lmbda": 0.0}, "infrared λ 0.0; expected a finite float32 above 0"),
        ({"infrared_lmbda": -3}, "infrared λ -3"),
        ({"infrared_lmbda": float("nan")}, "infrared λ nan"),
        ({"infrared_lmbda": float("inf")}, "infrared λ inf"),
        ({"infrared_lmbda": 1e39}, "infrared λ 1e\\+39"),
        ({"infrared_lmbda": 1e-60}, "infrared λ 1e-60"),
        ({"infrared_lmbda": "1024"}, "infrared λ '1024'"),
        ({"target": "thermal"}, "target 'thermal'; expected one of"),
        ({"visible_size": None, "visible_lmbda": None}, "target 'infrared', but only infrared"),
        ({"target": None}, "int8 coefficients, but no target"),
        ({"context": "none"}, "context 'none'"),
        ({"coefficient_format": "int4"}, "coefficient_format 'int4'"),
        ({"fingerprint": b"short"}, "fingerprint b'short'; expected 8 bytes"),
        ({"fingerprint": "12345678"}, "fingerprint '12345678'"),
    ],
)
def test_a_header_refuses_what_it_cannot_hold(change, message):
    with pytest.raises(BitstreamError, match=message):
        replace(PAIR, **change)


def test_a_header_without_an_image_is_refused():
    with pytest.raises(BitstreamError, match="no image is coded"):
        Header(fingerprint=bytes(8))


def test_lmbda_is_rounded_to_what_the_decoder_will_read():
    header = replace(ALONE, infrared_lmbda=0.1)
    assert header.infrared_lmbda == struct.unpack("<f", struct.pack("<f", 0.1))[0] != 0.1
    assert unpack(pack(header, filled(header)))[0] == header


@pytest.mark.parametrize(
    "change, message",
    [
        ({Section.INFRARED_Y: b""}, "section INFRARED_Y of 0 bytes; expected 1 to"),
        ({Section.INFRARED_Y: "text"}, "section INFRARED_Y is a str, not bytes"),
        ({Section.INFRARED_Y: None}, "section INFRARED_Y is a NoneType, not bytes"),
        ({Section.SYMBOLS: bytes(8)}, "section SYMBOLS of 8 bytes; expected 4"),
        ({Section.VISIBLE_Z: b"x"}, "expected INFRARED_Z, INFRARED_Y, SYMBOLS"),
        ({9: b"x"}, "9; expected INFRARED_Z, INFRARED_Y, SYMBOLS"),
    ],
)
def test_pack_refuses_sections_that_no_reader_would_take(change, message):
    with pytest.raises(BitstreamError, match=message):
        pack(ALONE, filled(ALONE) | change)
    with pytest.raises(BitstreamError, match="sections none; expected"):
        pack(ALONE, {})
