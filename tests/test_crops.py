"""Crops show the same place in both frames, and are the same whenever they are asked for."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from helpers import assert_one_line, plain, write_pair
from PIL import Image

from xmodal_lite import data
from xmodal_lite.crops import CropDataset
from xmodal_lite.data import open_pairs
from xmodal_lite.frames import DataError


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
