"""Folders of pairs are recognised and split as the data module promises."""

import json
import sys
import types

import numpy as np
import pytest
from helpers import assert_one_line, plain, write, write_pair

from xmodal_lite import data
from xmodal_lite.data import open_pairs
from xmodal_lite.frames import DataError


def names_of(folder):
    return {part: open_pairs(folder, part).names for part in ("train", "valid", "test", "all")}


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
