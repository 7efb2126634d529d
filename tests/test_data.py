"""Pairs are recognised, checked, split, cropped and fetched as the data module promises."""

import hashlib
import io
import json
import pickle
import sys
import threading
import types
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from xmodal_lite import data
from xmodal_lite.data import (
    CropDataset,
    DataError,
    fetch_roadscene,
    match_sizes,
    open_pairs,
    read_infrared,
    read_pair,
    read_visible,
    to_tensor,
)


def write(path, height=8, width=10, mode="RGB", value=None, **options):
    """A small image of one value (random without), in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(path.name.encode()))
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = rng.integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8), mode).save(path, **options)
    return path


def write_pair(visible, infrared, height=8, width=10):
    write(visible, 2 * height, 2 * width)
    write(infrared, height, width, "L")


def plain(folder, names, splits=None):
    for name in names:
        write_pair(folder / "visible" / f"{name}.png", folder / "infrared" / f"{name}.png")
    if splits is not None:
        (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def names_of(folder):
    return {part: open_pairs(folder, part).names for part in ("train", "valid", "test", "all")}


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


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


def _saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GREY = Image.new("L", (10, 8), 9)
PNG = _saved(Image.effect_noise((10, 8), 50))
BAD_FRAMES = {
    "empty file": (b"", "0 bytes"),
    "text": (b"not an image at all", "not an image"),
    "truncated PNG": (PNG[: len(PNG) // 2], "unreadable"),
    "truncated JPEG": (_saved(Image.effect_noise((64, 64), 50), "JPEG")[:-40], "unreadable"),
    "header only": (PNG[:20], "unreadable"),
    "no pixel": (PNG[:16] + bytes(4) + PNG[20:], "unreadable"),
    "16-bit grey": (_saved(Image.fromarray(np.ones((4, 4), np.uint16))), "16 bits"),
    "16-bit RGB": (_sixteen_bit_rgb_png(), "16 bits"),
    "16-bit TIFF": (_saved(Image.fromarray(np.ones((4, 4), np.uint16)), "TIFF"), "16 bits"),
    "float TIFF": (_saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "32 bits"),
    "RGB with alpha": (_saved(Image.new("RGBA", (4, 4))), "transparency"),
    "grey with alpha": (_saved(Image.new("LA", (4, 4))), "transparency"),
    "transparent colour": (
        _saved(Image.new("RGB", (4, 4)), transparency=(0, 0, 0)),
        "transparency",
    ),
    "palette": (_saved(GREY.convert("P")), "palette"),
    "one bit": (_saved(GREY.convert("1")), "mode 1"),
    "CMYK": (_saved(Image.new("CMYK", (8, 8)), "JPEG"), "mode CMYK"),
    "two pages": (
        _saved(GREY, "TIFF", save_all=True, append_images=[GREY]),
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
    seeds = [_saved(noise, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")]
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


# --- layouts -------------------------------------------------------------------------------------


def flir_v1(folder, train=40, val=30):
    for part, first, count in (("train", 1, train), ("val", 8863, val)):
        for number in range(first, first + count):
            write_pair(
                folder / part / "RGB" / f"FLIR_{number:05d}.jpg",
                folder / part / "thermal_8_bit" / f"FLIR_{number:05d}.jpeg",
            )
    return folder


def test_flir_v1_is_recognised_and_tested_on_twenty_validation_pairs(tmp_path):
    source = open_pairs(flir_v1(tmp_path), "test")
    assert (source.kind, source.split, len(source)) == ("flir-v1", "test", 20)
    assert all(name >= "FLIR_08863" for name in source.names)
    parts = names_of(tmp_path)
    assert parts["test"] == source.names == sorted(source.names)
    assert parts["test"] != parts["all"][40:60]  # drawn, not the first
    assert all(name < "FLIR_08863" for name in parts["train"] + parts["valid"])
    assert sorted(parts["train"] + parts["valid"]) == parts["all"][:40]
    assert parts["valid"] and not set(parts["train"]) & set(parts["valid"])
    assert len(parts["all"]) == 70


def test_flir_v1_infrared_frames_without_visible_one_are_left_out(tmp_path):
    flir_v1(tmp_path, train=4, val=3)
    (tmp_path / "train/RGB/FLIR_00002.jpg").unlink()
    assert "FLIR_00002" not in open_pairs(tmp_path, "all").names
    assert len(open_pairs(tmp_path, "all")) == 6


def test_flir_v1_inside_one_more_folder_is_found(tmp_path):
    flir_v1(tmp_path / "FLIR_ADAS_1_3", train=3, val=3)
    (tmp_path / "docs").mkdir()
    assert open_pairs(tmp_path, "test").kind == "flir-v1"


def test_flir_v1_without_validation_part_has_no_test_split(tmp_path):
    flir_v1(tmp_path, train=3, val=0)
    assert len(open_pairs(tmp_path, "train")) == 2
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, "test")
    assert_one_line(error, tmp_path, "'test'", "empty", "at least one pair")


def test_flir_v1_with_no_common_name_is_an_error(tmp_path):
    write(tmp_path / "train/RGB/FLIR_00001.jpg")
    write(tmp_path / "train/thermal_8_bit/FLIR_00002.jpeg", mode="L")
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, "train")
    assert_one_line(error, tmp_path / "train", "thermal_8_bit", "expected pairs")


def video_frame(video, frame, tag):
    return f"video-{video}-frame-{frame:06d}-{tag}.jpg"


def flir_v2_videos(folder, videos=5, frames=6):
    """Video part: names have nothing in common, a table pairs them."""
    table = {}
    for video in range(videos):
        for frame in range(frames):
            visible = video_frame(f"Rgb{video}", frame, f"a{frame}")
            infrared = video_frame(f"Heat{video}", frame + 1, f"b{frame}")
            table[visible] = infrared
            write_pair(
                folder / "video_rgb_test/data" / visible,
                folder / "video_thermal_test/data" / infrared,
            )
    (folder / "rgb_to_thermal_vid_map.json").write_text(json.dumps(table))
    return table


def flir_v2_images(folder, train=40, val=30):
    for part, count in (("train", train), ("val", val)):
        for n in range(count):
            write_pair(
                folder / f"images_rgb_{part}/data" / video_frame(f"{part}{n // 10}", n, "rgb"),
                folder
                / f"images_thermal_{part}/data"
                / video_frame(f"{part}{n // 10}", n, "heat"),
            )
        # frames of one camera only, as in the real set
        write(folder / f"images_rgb_{part}/data" / video_frame("lonely", 0, "rgb"))


def test_flir_v2_images_pair_where_video_and_frame_agree(tmp_path):
    flir_v2_images(tmp_path)
    parts = names_of(tmp_path)
    assert open_pairs(tmp_path, "all").kind == "flir-v2"
    assert [len(parts[p]) for p in ("train", "valid", "test", "all")] == [38, 2, 20, 70]
    assert all(name.startswith("video-val") for name in parts["test"])
    entry = open_pairs(tmp_path, "train").entries[0]
    key = entry.visible.name.rsplit("-", 1)[0]
    assert entry.infrared.name == f"{key}-heat.jpg"


def test_flir_v2_videos_pair_by_their_table(tmp_path):
    table = flir_v2_videos(tmp_path)
    source = open_pairs(tmp_path, "all")
    assert source.kind == "flir-v2" and len(source) == 30
    for entry in source.entries:
        assert table[entry.visible.name] == entry.infrared.name
    assert source[0].infrared.shape == (8, 10)


def test_flir_v2_videos_are_held_out_whole(tmp_path):
    flir_v2_videos(tmp_path)
    parts = names_of(tmp_path)
    videos = {part: {name.split("-")[1] for name in names} for part, names in parts.items()}
    assert len(videos["test"]) == 1
    assert not videos["test"] & (videos["train"] | videos["valid"])


def test_flir_v2_table_may_lie_beside_the_folder(tmp_path):
    flir_v2_videos(tmp_path / "FLIR_ADAS_v2", 2, 2)
    name = "rgb_to_thermal_vid_map.json"
    (tmp_path / "FLIR_ADAS_v2" / name).rename(tmp_path / name)
    assert len(open_pairs(tmp_path, "all")) == 4
    assert len(open_pairs(tmp_path / "FLIR_ADAS_v2", "all")) == 4


def test_flir_v2_frame_that_the_table_names_but_the_folder_lacks_is_named(tmp_path):
    table = flir_v2_videos(tmp_path, 2, 2)
    missing = tmp_path / "video_thermal_test/data" / list(table.values())[1]
    missing.unlink()
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, "all")
    assert_one_line(error, missing, "rgb_to_thermal_vid_map.json expects it")


@pytest.mark.parametrize("content", ["{broken", "[1, 2]", '{"a.jpg": 3}'])
def test_flir_v2_table_that_is_none_is_named(tmp_path, content):
    flir_v2_videos(tmp_path, 2, 2)
    (tmp_path / "rgb_to_thermal_vid_map.json").write_text(content)
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, "all")
    assert_one_line(error, tmp_path / "rgb_to_thermal_vid_map.json", "expected")


def test_flir_v2_without_any_pair_says_what_would_pair(tmp_path):
    write(tmp_path / "images_rgb_train/data" / video_frame("a", 0, "x"))
    write(tmp_path / "images_thermal_train/data" / video_frame("b", 0, "y"), mode="L")
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, "train")
    assert_one_line(error, tmp_path, "no pair", "rgb_to_thermal_vid_map.json")


def manifest_splits():
    return json.loads(data.MANIFEST.read_text())["splits"]


def test_roadscene_keeps_the_splits_of_the_manifest(tmp_path):
    splits = manifest_splits()
    for part in ("train", "valid", "test"):
        for name in splits[part][:2]:
            write_pair(
                tmp_path / "crop_HR_visible" / f"{name}.jpg",
                tmp_path / "cropinfrared" / f"{name}.jpg",
            )
    for name in ("FLIR_00001", "FLIR_10200"):  # not in the manifest: before, after FLIR's cut
        write_pair(
            tmp_path / "crop_HR_visible" / f"{name}.jpg", tmp_path / "cropinfrared" / f"{name}.jpg"
        )
    assert not {"FLIR_00001", "FLIR_10200"} & {n for part in splits.values() for n in part}
    parts = names_of(tmp_path)
    assert open_pairs(tmp_path, "test").kind == "roadscene"
    assert parts["test"] == splits["test"][:2] and parts["valid"] == splits["valid"][:2]
    assert parts["train"] == ["FLIR_00001", *splits["train"][:2]]
    assert len(parts["all"]) == 8


def test_roadscene_falls_back_to_low_resolution(tmp_path):
    name = manifest_splits()["test"][0]
    write(tmp_path / "crop_LR_visible" / f"{name}.jpg", 8, 10)
    write(tmp_path / "cropinfrared" / f"{name}.jpg", 8, 10, "L")
    source = open_pairs(tmp_path, "test")
    assert source.kind == "roadscene" and source[0].visible.shape == (16, 20, 3)


def test_manifest_tests_on_flirs_validation_part_only():
    splits = manifest_splits()
    assert [len(splits[part]) for part in ("train", "valid", "test")] == [163, 13, 20]
    assert min(splits["test"]) >= "FLIR_08863" > max(splits["train"] + splits["valid"])
    files = json.loads(data.MANIFEST.read_text())["files"]
    assert {name.removesuffix(".jpg") for name in files} == {n for p in splits.values() for n in p}


def test_plain_folder_pairs_equal_names_of_any_format(tmp_path):
    for suffix_v, suffix_i in (("jpg", "jpeg"), ("png", "bmp"), ("tif", "webp"), ("PNG", "tiff")):
        name = f"{suffix_v}.{suffix_i}"
        write_pair(
            tmp_path / f"visible/{name}.{suffix_v}", tmp_path / f"infrared/{name}.{suffix_i}"
        )
    (tmp_path / "visible/notes.txt").write_text("no frame")
    source = open_pairs(tmp_path, "all")
    assert source.kind == "plain" and len(source) == 4
    assert [pair.name for pair in source] == source.names


def test_plain_folder_without_splits_is_split_by_seed(tmp_path):
    plain(tmp_path, [f"{n:02d}" for n in range(20)])
    parts = names_of(tmp_path)
    assert [len(parts[p]) for p in ("train", "valid", "test", "all")] == [14, 2, 4, 20]
    assert sorted(parts["train"] + parts["valid"] + parts["test"]) == parts["all"]
    assert parts["test"] != parts["all"][:4] and parts == names_of(tmp_path)


@pytest.mark.parametrize("split", ["train", "valid", "test", "all"])
def test_plain_folder_follows_its_splits(tmp_path, split):
    splits = {"train": ["a", "b"], "valid": ["c"], "test": ["d", "e"]}
    plain(tmp_path, "abcdef", splits)
    assert open_pairs(tmp_path, split).names == splits.get(split, list("abcdef"))


@pytest.mark.parametrize("extra", [{}, {"valid": []}])
def test_validation_pairs_that_splits_lack_come_from_train(tmp_path, extra):
    plain(tmp_path, "abcd", {"train": ["a", "b", "c"], "test": ["d"], **extra})
    parts = names_of(tmp_path)
    assert (parts["train"], parts["valid"], parts["test"]) == (["b", "c"], ["a"], ["d"])


@pytest.mark.parametrize("modality, other", [("visible", "infrared"), ("infrared", "visible")])
def test_frame_without_partner_is_named(tmp_path, modality, other):
    plain(tmp_path, "abc")
    (tmp_path / other / "b.png").unlink()
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path)
    assert_one_line(error, tmp_path / modality / "b.png", "b.*", tmp_path / other)


def test_two_frames_of_one_name_are_named(tmp_path):
    plain(tmp_path, "ab")
    write(tmp_path / "visible/a.jpg")
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path)
    assert_one_line(error, "a.jpg", "a.png", "expected one")


BAD_SPLITS = {
    "a missing pair": ('{"train": ["a", "z"]}', ("train", "'z'", "no such pair")),
    "a name that is none": ('{"train": [["a"]]}', ("train", "no such pair")),
    "an unknown split": ('{"train": ["a"], "dev": ["b"]}', ("'dev'", "train, valid, test")),
    "a pair twice": ('{"train": ["a"], "test": ["a"]}', ("'a'", "train", "test")),
    "no JSON": ("{train", ("not JSON",)),
    "no object": ('["a"]', ("no object",)),
    "no list": ('{"train": "a"}', ("no list",)),
}


@pytest.mark.parametrize("what", BAD_SPLITS)
def test_bad_splits_are_named(tmp_path, what):
    content, parts = BAD_SPLITS[what]
    plain(tmp_path, "ab")
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, "train")
    assert_one_line(error, tmp_path / "splits.json", *parts)


def test_unknown_split_is_refused_before_the_folder_is_read(tmp_path):
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path / "none", "val")
    assert_one_line(error, "'val'", "train, valid, test, all")


def test_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path / "none")
    assert_one_line(error, tmp_path / "none", "no such folder")
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError) as error:
        open_pairs()
    assert_one_line(error, tmp_path / "none", "XMODAL_DATA")


def test_file_instead_of_a_folder_is_named(tmp_path):
    path = write(tmp_path / "a.png")
    with pytest.raises(DataError) as error:
        open_pairs(path)
    assert_one_line(error, path, "is a file", "expected a folder")


def test_unknown_layout_says_what_was_looked_for(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path)
    assert_one_line(
        error, tmp_path, "photos", "train/RGB", "images_rgb_train", "crop_HR_visible", "visible"
    )


def test_two_data_sets_in_one_folder_are_not_guessed_between(tmp_path):
    plain(tmp_path / "one", "ab")
    plain(tmp_path / "two", "ab")
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path)
    assert_one_line(error, "no known layout", "one, two")


def test_plain_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "visible").mkdir()
    (tmp_path / "infrared").mkdir()
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path)
    assert_one_line(error, tmp_path, "no images")


def test_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XMODAL_DATA", str(plain(tmp_path, "abc")))
    assert open_pairs(split="all").names == ["a", "b", "c"]


@pytest.mark.parametrize("value", [None, ""])
def test_embedded_scenes_serve_without_a_folder(monkeypatch, value):
    drawn = []

    def render_scene(seed):
        drawn.append(seed)
        return types.SimpleNamespace(
            visible=np.zeros((8, 8, 3), np.uint8), infrared=np.zeros((4, 4), np.uint8)
        )

    stand_in = types.SimpleNamespace(render_scene=render_scene)
    monkeypatch.setitem(sys.modules, "xmodal_lite.scenes", stand_in)
    monkeypatch.delenv("XMODAL_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("XMODAL_DATA", value)
    parts = {split: open_pairs(split=split) for split in ("train", "valid", "test", "all")}
    assert parts["test"].kind == "scenes" and len(parts["test"]) == 20
    assert len(set(parts["all"].names)) == sum(len(parts[p]) for p in ("train", "valid", "test"))
    assert not drawn  # opening draws nothing
    assert parts["test"][3].infrared.shape == (4, 4) and drawn == [parts["test"].entries[3].seed]


def test_scenes_are_asked_for_by_name_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XMODAL_DATA", str(plain(tmp_path, "abcd")))
    assert open_pairs(None, "all").kind == "plain"
    assert open_pairs("scenes", "all").kind == "scenes"


def test_source_is_a_sequence(tmp_path):
    source = open_pairs(plain(tmp_path, "abcd"), "all")
    assert source[-1].name == "d" and source[1:3].names == ["b", "c"]
    assert [pair.name for pair in source[:2]] == ["a", "b"]
    with pytest.raises(IndexError):
        source[4]


# --- crops ---------------------------------------------------------------------------------------


def smooth_folder(folder, sizes=((150, 180), (140, 160), (200, 150))):
    """Pairs whose visible frame is the infrared one, enlarged: crops must show the same place."""
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(sizes):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 6, width // 6), dtype=np.uint8))
        scene = coarse.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        for part, image in (
            ("visible", scene.convert("RGB")),
            ("infrared", scene.resize((width, height), Image.Resampling.BOX)),
        ):
            (folder / part).mkdir(exist_ok=True)
            image.save(folder / part / f"{index}.png")
    return open_pairs(folder, "all")


def test_crop_depends_on_seed_and_index_alone(tmp_path):
    source = smooth_folder(tmp_path)
    one, two = CropDataset(source, length=12), CropDataset(source, length=1000)
    expected = [one[i] for i in range(12)]
    for i in (11, 0, 7, 7, 3):  # another order, as after a resume
        assert all(torch.equal(a, b) for a, b in zip(two[i], expected[i], strict=True))
    other = CropDataset(source, length=12, seed=1)
    assert not any(torch.equal(other[i][1], expected[i][1]) for i in range(12))


def test_crop_survives_a_trip_to_a_worker_process(tmp_path):
    dataset = CropDataset(smooth_folder(tmp_path), length=4)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[2][0], dataset[2][0])


@pytest.mark.parametrize("augment", [False, True])
def test_crops_of_both_frames_show_the_same_place(tmp_path, augment):
    dataset = CropDataset(smooth_folder(tmp_path), length=24, augment=augment)
    for i in range(24):
        visible, infrared = dataset[i]
        assert visible.shape == (3, 256, 256) and infrared.shape == (1, 128, 128)
        assert visible.dtype == infrared.dtype == torch.float32
        halved = torch.nn.functional.avg_pool2d(visible[:1], 2)
        error = (halved - infrared).abs()[:, 4:-4, 4:-4].mean()
        shifted = (halved - infrared.roll(1, 2)).abs()[:, 4:-4, 4:-4].mean()
        assert error < 0.006 and shifted > 3 * error


def test_crops_are_mirrored_and_rescaled_only_when_asked(tmp_path):
    """On a ramp from left to right the slope shows both."""
    (tmp_path / "visible").mkdir()
    (tmp_path / "infrared").mkdir()
    ramp = np.tile(np.arange(240, dtype=np.uint8), (240, 1))
    Image.fromarray(ramp).save(tmp_path / "infrared/a.png")
    Image.fromarray(ramp.repeat(2, 0).repeat(2, 1)).save(tmp_path / "visible/a.png")
    source = open_pairs(tmp_path, "all")

    def slopes(augment):
        crops = (infrared for _, infrared in CropDataset(source, length=60, augment=augment))
        return [float(c[0, 64, 100] - c[0, 64, 20]) * 255 / 80 for c in crops]

    assert all(abs(slope - 1) < 1e-4 for slope in slopes(False))
    augmented = slopes(True)
    assert 15 < sum(slope < 0 for slope in augmented) < 45
    sizes = np.abs(augmented)
    assert sizes.min() > 0.95 and 1.4 < sizes.max() < 1 / 0.6 + 0.05
    assert 15 < (sizes < 1.01).sum() < 45


@pytest.mark.parametrize("size", [(1, 1), (40, 300), (128, 128), (127, 129)])
def test_small_frames_are_padded_with_their_edge(tmp_path, size):
    source = smooth_folder(tmp_path, [(6, 6)])
    height, width = size
    write_pair(tmp_path / "visible/0.png", tmp_path / "infrared/0.png", height, width)
    for i in range(4):
        visible, infrared = CropDataset(source, length=4)[i]
        assert visible.shape == (3, 256, 256) and infrared.shape == (1, 128, 128)
        if height < 128:
            assert (infrared[:, height:] == infrared[:, height - 1 : height]).all()
            assert (visible[:, 2 * height :] == visible[:, 2 * height - 1 : 2 * height]).all()


def test_every_pair_comes_once_an_epoch_in_a_new_order(tmp_path, monkeypatch):
    source = open_pairs(plain(tmp_path, "abcdefgh"), "all")
    dataset = CropDataset(source, length=24)
    seen = [dataset._pair_index(i) for i in range(24)]
    assert all(sorted(seen[k : k + 8]) == list(range(8)) for k in (0, 8, 16))
    assert seen[:8] != seen[8:16]


def test_frames_are_read_once_while_the_cache_holds_them(tmp_path, monkeypatch):
    source = open_pairs(plain(tmp_path, "abc"), "all")
    reads = Counter()
    load = data.Entry.load
    monkeypatch.setattr(
        data.Entry, "load", lambda self: (reads.update([self.name]), load(self))[1]
    )
    dataset = CropDataset(source, length=9)
    assert not reads
    _ = [dataset[i] for i in range(9)]
    assert reads == {"a": 1, "b": 1, "c": 1}
    small = CropDataset(source, length=9, cache_bytes=16 * 20 * 3 + 8 * 10)  # one pair
    _ = [small[i] for i in range(9)]
    assert sorted(reads.values()) == [2, 4, 4]


def test_crops_end_with_their_length(tmp_path):
    dataset = CropDataset(open_pairs(plain(tmp_path, "abc"), "all"))
    assert len(dataset) == len(list(dataset)) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            dataset[index]


def test_bad_frame_in_training_is_named(tmp_path):
    source = open_pairs(plain(tmp_path, "a"), "all")
    (tmp_path / "visible/a.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        CropDataset(source)[0]
    assert_one_line(error, tmp_path / "visible/a.png", "0 bytes")


# --- download ------------------------------------------------------------------------------------


class Server:
    """A web server of `files`, whose manners for each path are set by `manners`.

    A manner is a list, taken one a request: "cut" (half of what was asked for, then the line
    drops), "wrong" (other bytes), "deaf" (ignores Range), "deaf cut", or a status code; once the
    list is used up the server behaves.
    """

    def __init__(self):
        self.files, self.manners, self.asked = {}, {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, request):
        span = request.headers.get("Range")
        self.asked.append((request.path, span))
        manners = self.manners.get(request.path, [])
        manner = manners.pop(0) if manners else ""
        if isinstance(manner, int) or request.path not in self.files:
            request.send_error(manner or 404)
            return
        content = self.files[request.path]
        if "wrong" in manner:
            content = bytes(byte ^ 1 for byte in content)
        if "short" in manner:
            content = content[:10]
        start = int(span[6:-1]) if span and "deaf" not in manner else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header(
                "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
            )
        body = content[start:]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if "cut" in manner else body)
        request.close_connection = True

    def requests_of(self, path):
        return [span for asked, span in self.asked if asked == path]


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


FIRST = "/crop_HR_visible/a.jpg"


@pytest.fixture
def offered(server, tmp_path, monkeypatch):
    """The files of two pairs on the server, and a manifest of them; returns them by target."""
    files, listed = {}, {}
    for name in ("a.jpg", "b.jpg"):
        listed[name] = {}
        for part, folder, shape in (
            ("visible", "crop_HR_visible", (64, 80, 3)),
            ("infrared", "cropinfrared", (32, 40)),
        ):
            rng = np.random.default_rng(len(files))
            image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
            content = _saved(image, "JPEG")
            server.files[f"/{folder}/{name}"] = files[f"{part}/{name}"] = content
            listed[name][part] = [len(content), hashlib.sha256(content).hexdigest()]
    manifest = {
        "base_url": server.url,
        "folders": {"visible": "crop_HR_visible", "infrared": "cropinfrared"},
        "splits": {"train": ["a"], "valid": [], "test": ["b"]},
        "files": listed,
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    monkeypatch.setattr(data, "MANIFEST", path)
    return files


def fetch(folder, server, **options):
    return fetch_roadscene(folder, server.url, progress=False, pause=0, **options)


def assert_fetched(folder, offered):
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {*offered, "splits.json"}
    assert all((folder / name).read_bytes() == content for name, content in offered.items())


def assert_no_half_files(folder, offered):
    for name, content in offered.items():
        assert not (folder / name).exists() or (folder / name).read_bytes() == content


def test_fetch_writes_a_plain_folder_with_splits(tmp_path, server, offered):
    folder = tmp_path / "deep" / "roadscene"
    assert fetch(folder, server) == folder
    assert_fetched(folder, offered)
    source = open_pairs(folder, "test")
    assert (source.kind, source.names) == ("plain", ["b"])
    assert source[0].infrared.shape == (32, 40)


def test_fetch_takes_the_address_of_the_manifest_by_default(tmp_path, server, offered, capfd):
    fetch_roadscene(tmp_path / "r")
    assert_fetched(tmp_path / "r", offered)
    assert "RoadScene: 100%" in capfd.readouterr().err


def test_fetch_again_asks_for_nothing(tmp_path, server, offered):
    fetch(tmp_path / "r", server)
    before = len(server.asked)
    fetch(tmp_path / "r", server)
    assert len(server.asked) == before == 4


def test_fetch_mends_a_file_that_was_damaged_later(tmp_path, server, offered):
    fetch(tmp_path / "r", server)
    damaged = tmp_path / "r/visible/a.jpg"
    damaged.write_bytes(bytes(len(offered["visible/a.jpg"])))
    (tmp_path / "r/infrared/b.jpg").unlink()
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)
    assert len(server.asked) == 6


def test_fetch_goes_on_where_the_line_dropped(tmp_path, server, offered):
    server.manners[FIRST] = ["cut", "cut"]
    fetch(tmp_path / "r", server, tries=1)  # what gets on is no failure
    assert_fetched(tmp_path / "r", offered)
    size = len(offered["visible/a.jpg"])
    half = size // 2
    expected = [None, f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]
    assert server.requests_of(FIRST) == expected


def test_fetch_goes_on_in_the_next_run(tmp_path, server, offered):
    server.manners[FIRST] = ["cut", 503]
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=1)
    assert_one_line(error, FIRST, "HTTP 503", "fetch again")
    assert_no_half_files(tmp_path / "r", offered)
    half = len(offered["visible/a.jpg"]) // 2
    assert (tmp_path / "r/visible/a.jpg.part").stat().st_size == half
    fetch(tmp_path / "r", server)
    assert server.requests_of(FIRST)[-1] == f"bytes={half}-"
    assert_fetched(tmp_path / "r", offered)


def test_fetch_starts_over_where_the_server_ignores_ranges(tmp_path, server, offered):
    server.manners[FIRST] = ["cut", "deaf"]
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)


def test_fetch_gives_up_on_a_line_that_never_gets_on(tmp_path, server, offered):
    server.manners[FIRST] = ["deaf cut"] * 50
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=3)
    assert_one_line(error, FIRST, "ended after", "3 tries")
    assert len(server.requests_of(FIRST)) == 4
    assert_no_half_files(tmp_path / "r", offered)


def test_fetch_takes_a_second_look_at_wrong_bytes(tmp_path, server, offered):
    server.manners[FIRST] = ["wrong"]
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)


def test_fetch_refuses_wrong_bytes(tmp_path, server, offered):
    server.manners[FIRST] = ["cut wrong", "wrong"] * 50
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=3)
    digest = hashlib.sha256(offered["visible/a.jpg"]).hexdigest()
    assert_one_line(error, FIRST, "other content", digest[:16])
    assert not list((tmp_path / "r/visible").iterdir())


def test_fetch_refuses_a_page_of_another_size(tmp_path, server, offered):
    server.manners[FIRST] = ["short"]
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server)
    assert_one_line(error, FIRST, "holds 10 bytes", len(offered["visible/a.jpg"]))


def test_fetch_names_a_file_that_is_not_there_at_once(tmp_path, server, offered):
    del server.files[FIRST]
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server)
    assert_one_line(error, server.url + FIRST, "not found (HTTP 404)")
    assert str(error.value).count(FIRST) == 1
    assert len(server.asked) == 1


@pytest.mark.parametrize("manner", [503, 429, 416])
def test_fetch_bears_a_server_that_recovers(tmp_path, server, offered, manner):
    server.manners[FIRST] = ["cut", manner, manner]
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)


def test_fetch_waits_longer_after_each_failure(tmp_path, server, offered, monkeypatch):
    waits = []
    monkeypatch.setattr(data.time, "sleep", waits.append)
    server.manners[FIRST] = [503] * 9
    with pytest.raises(DataError):
        fetch_roadscene(tmp_path / "r", server.url, progress=False, tries=4, pause=0.5)
    assert waits[:3] == [0.5, 1, 2]


def test_fetch_without_network_is_one_line(tmp_path, server, offered):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server, tries=2)
    assert_one_line(error, server.url + FIRST, "connection failed (ConnectionError)")


def test_fetch_refuses_an_address_that_is_none(tmp_path, offered):
    with pytest.raises(DataError) as error:
        fetch_roadscene(tmp_path / "r", "somewhere", progress=False)
    assert_one_line(error, "somewhere/crop_HR_visible/a.jpg")


def test_interrupted_fetch_leaves_no_half_file(tmp_path, server, offered, monkeypatch):
    def interrupted(self, size):
        yield next(whole(self, 100))
        raise KeyboardInterrupt

    whole = requests.Response.iter_content
    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "r", server)
    assert_no_half_files(tmp_path / "r", offered)
    assert not (tmp_path / "r/visible/a.jpg").exists()
    with pytest.raises(DataError) as error:  # what is there must not pass for a data set
        open_pairs(tmp_path / "r")
    assert_one_line(error, tmp_path / "r")
    monkeypatch.setattr(requests.Response, "iter_content", whole)
    fetch(tmp_path / "r", server)
    assert_fetched(tmp_path / "r", offered)
    assert server.requests_of(FIRST) == [None, "bytes=100-"]


def test_half_fetched_folder_cannot_pass_for_another_data_set(tmp_path, server, offered):
    server.manners["/crop_HR_visible/b.jpg"] = [404]
    with pytest.raises(DataError):
        fetch(tmp_path / "r", server)
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path / "r", "train")
    assert_one_line(error, tmp_path / "r/splits.json", "'b'", "no such pair")


def test_fetch_that_cannot_write_names_the_place(tmp_path, server, offered):
    (tmp_path / "r").write_text("a file")
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "r", server)
    assert_one_line(error, tmp_path / "r", "cannot write")


def test_fetch_leaves_another_data_set_alone(tmp_path, server, offered):
    plain(tmp_path / "mine", "xy", {"train": ["x"], "test": ["y"]})
    before = (tmp_path / "mine/splits.json").read_text()
    with pytest.raises(DataError) as error:
        fetch(tmp_path / "mine", server)
    assert_one_line(error, tmp_path / "mine/splits.json", "another data set")
    assert (tmp_path / "mine/splits.json").read_text() == before and not server.asked
