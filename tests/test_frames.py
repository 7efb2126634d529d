"""A frame is checked as it is read, and a pair comes in one geometry."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers import assert_one_line, saved, write, write_pair
from PIL import Image

from xmodal_lite.frames import (
    DataError,
    match_sizes,
    read_infrared,
    read_pair,
    read_visible,
    to_tensor,
)

# --- one frame -----------------------------------------------------------------------------------


def test_grey_visible_frame_is_repeated_over_three_channels(tmp_path):
    path = write(tmp_path / "a.png", mode="L")
    frame = read_visible(path)
    assert frame.shape == (8, 10, 3) and frame.dtype == np.uint8
    assert (frame == np.asarray(Image.open(path))[..., None]).all()


def test_infrared_frame_may_be_rgb_with_equal_channels(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (8, 10), dtype=np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "a.png")
    assert (read_infrared(tmp_path / "a.png") == grey).all()


def test_grey_jpeg_stored_as_colour_is_an_infrared_frame(tmp_path):
    write(tmp_path / "grey.png", mode="L")
    Image.open(tmp_path / "grey.png").convert("RGB").save(tmp_path / "a.jpg", quality=70)
    assert read_infrared(tmp_path / "a.jpg").shape == (8, 10)


@pytest.mark.parametrize("change", [2, 200])
def test_colour_infrared_frame_is_refused(tmp_path, change):
    path = tmp_path / "a.png"
    pixels = np.full((8, 10, 3), 50, np.uint8)
    pixels[3, 4, 2] += change  # one pixel is enough
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError) as error:
        read_infrared(path)
    assert_one_line(error, path, "in colour", "expected a grey")


@pytest.mark.parametrize("reader", [read_visible, read_infrared])
def test_one_pixel_is_an_image(tmp_path, reader):
    path = write(tmp_path / "a.png", 1, 1, "L", 7)
    assert (reader(path) == 7).all() and reader(path).shape[:2] == (1, 1)


def _sixteen_bit_rgb_png():
    """Pillow cannot write one: the header of an 8-bit file, told to hold 16 bits, and its rows."""
    import struct
    import zlib

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(12)) * 2)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


GREY = Image.new("L", (10, 8), 9)
PNG = saved(Image.effect_noise((10, 8), 50))
BAD_FRAMES = {
    "empty file": (b"", "0 bytes"),
    "text": (b"not an image at all", "not an image"),
    "truncated PNG": (PNG[: len(PNG) // 2], "unreadable"),
    "truncated JPEG": (saved(Image.effect_noise((64, 64), 50), "JPEG")[:-40], "unreadable"),
    "header only": (PNG[:20], "unreadable"),
    "no pixel": (PNG[:16] + bytes(4) + PNG[20:], "unreadable"),
    "16-bit grey": (saved(Image.fromarray(np.ones((4, 4), np.uint16))), "16 bits"),
    "16-bit RGB": (_sixteen_bit_rgb_png(), "16 bits"),
    "16-bit TIFF": (saved(Image.fromarray(np.ones((4, 4), np.uint16)), "TIFF"), "16 bits"),
    "float TIFF": (saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "32 bits"),
    "RGB with alpha": (saved(Image.new("RGBA", (4, 4))), "transparency"),
    "grey with alpha": (saved(Image.new("LA", (4, 4))), "transparency"),
    "transparent colour": (
        saved(Image.new("RGB", (4, 4)), transparency=(0, 0, 0)),
        "transparency",
    ),
    "palette": (saved(GREY.convert("P")), "palette"),
    "one bit": (saved(GREY.convert("1")), "mode 1"),
    "CMYK": (saved(Image.new("CMYK", (8, 8)), "JPEG"), "mode CMYK"),
    "two pages": (
        saved(GREY, "TIFF", save_all=True, append_images=[GREY]),
        "2 images",
    ),
}


@pytest.mark.parametrize("reader", [read_visible, read_infrared])
@pytest.mark.parametrize("what", BAD_FRAMES)
def test_bad_frame_is_named_with_what_is_wrong(tmp_path, what, reader):
    content, reason = BAD_FRAMES[what]
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        reader(path)
    assert_one_line(error, path, reason, "expected")


@pytest.mark.parametrize("reader", [read_visible, read_infrared])
def test_frame_that_is_not_there_is_named(tmp_path, reader):
    with pytest.raises(DataError) as error:
        reader(tmp_path / "none.png")
    assert_one_line(error, tmp_path / "none.png", "no such file")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about TIFF tags
def test_broken_bytes_end_in_a_data_error_or_an_image(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.effect_noise((24, 16), 80)
    seeds = [saved(noise, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")]
    path, outcomes = tmp_path / "broken.png", Counter()
    for turn in range(300):
        content = bytearray(seeds[turn % len(seeds)])
        for place in rng.integers(0, min(len(content), 200), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            outcomes[read_visible(path).dtype.name] += 1
        except DataError as error:
            outcomes["error"] += 1
            assert "\n" not in str(error)
    assert set(outcomes) == {"uint8", "error"}


# --- a pair --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(27, 21), (10, 8), (5, 4), (20, 16), (22, 16)])
def test_visible_frame_comes_at_twice_the_infrared_size(size):
    visible = np.full((size[1], size[0], 3), 50, np.uint8)
    matched = match_sizes(visible, np.zeros((8, 10), np.uint8))
    assert matched.shape == (16, 20, 3) and (matched == 50).all()


def test_visible_frame_of_the_right_size_is_left_alone():
    visible = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    assert match_sizes(visible, np.zeros((8, 10), np.uint8)) is visible


@pytest.mark.parametrize("size", [(20, 10), (10, 20), (26, 16)])
def test_pair_of_other_shapes_is_refused_with_both_sizes(tmp_path, size):
    visible = write(tmp_path / "v.png", size[1], size[0])
    infrared = write(tmp_path / "i.png", 8, 10, "L")
    with pytest.raises(DataError) as error:
        read_pair(visible, infrared)
    assert_one_line(error, visible, infrared, f"{size[0]}×{size[1]}", "10×8")


def test_pair_of_one_pixel_is_read(tmp_path):
    write_pair(tmp_path / "v.png", tmp_path / "a.png", 1, 1)
    pair = read_pair(tmp_path / "v.png", tmp_path / "a.png")
    assert (pair.name, pair.visible.shape, pair.infrared.shape) == ("a", (2, 2, 3), (1, 1))


def test_tensors_are_batched_floats_between_zero_and_one(tmp_path):
    write_pair(tmp_path / "v.png", tmp_path / "i.png")
    pair = read_pair(tmp_path / "v.png", tmp_path / "i.png")
    visible, infrared = to_tensor(pair)
    assert visible.shape == (1, 3, 16, 20) and infrared.shape == (1, 1, 8, 10)
    assert visible.dtype == infrared.dtype == torch.float32
    assert (visible[0].permute(1, 2, 0).mul(255).round().numpy() == pair.visible).all()
    assert (infrared[0, 0].mul(255).round().numpy() == pair.infrared).all()


def test_pairs_of_the_session_have_the_geometry_of_the_paper(test_pair):
    height, width = test_pair.infrared.shape
    assert test_pair.visible.shape == (2 * height, 2 * width, 3)
    assert test_pair.visible.dtype == test_pair.infrared.dtype == np.uint8
