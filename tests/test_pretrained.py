"""Weights, tables and configuration travel in one file that is whole or not there at all."""

import builtins
import errno
import hashlib
import json
import os

import numpy as np
import pytest
import torch
from helpers import TINY, frames, given, tiny_image_codec, tiny_pair_codec
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from xmodal_lite import pretrained
from xmodal_lite.image_codec import ImageCodec, fingerprint
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.pretrained import (
    WeightsError,
    available,
    load_pretrained,
    load_weights,
    notes_of,
    save_weights,
    write_whole,
)


@pytest.fixture(scope="module")
def codec():
    return tiny_pair_codec(entropy_reference=True)


@pytest.fixture(scope="module")
def weights(codec, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(codec, path, {"steps": 7, "data": ["scenes"]})
    return path


def rewrite(source, target, tensors=None, **metadata):
    """The file again with other tensors or metadata."""
    with safe_open(source, framework="pt") as file:
        old = file.metadata()
    new = {**old, **metadata}
    save_file(
        load_file(source) if tensors is None else tensors,
        target,
        {key: value for key, value in new.items() if value is not None},
    )
    return target


# --- round trip ---


@pytest.mark.parametrize("make", [tiny_image_codec, tiny_pair_codec])
def test_a_saved_codec_writes_and_reads_the_same_streams(tmp_path, make):
    codec = make()
    save_weights(codec, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert type(loaded) is type(codec) and loaded.config == codec.config
    assert not loaded.training and fingerprint(loaded) == fingerprint(codec)
    visible, infrared = frames(20, 30)
    images = (
        {"image": visible} if isinstance(codec, ImageCodec) else given(codec, visible, infrared)
    )
    data = codec.compress(**images)
    assert loaded.compress(**images) == data
    ours, theirs = loaded.decompress(data), codec.decompress(data)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_an_image_codec_remembers_its_modality(tmp_path, modality):
    save_weights(tiny_image_codec(modality), tmp_path / "a.safetensors")
    assert load_weights(tmp_path / "a.safetensors").modality == modality


def test_tables_are_made_on_saving(tmp_path):
    codec = ImageCodec(TINY, "infrared")
    save_weights(codec, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    loaded.decompress(loaded.compress(frames(8, 8)[1]))


def test_half_precision_is_half_the_size_and_keeps_tables_exact(tmp_path, codec, weights):
    path = tmp_path / "half.safetensors"
    save_weights(codec, path, half=True)
    loaded = load_weights(path)
    assert all(t.dtype != torch.float16 for t in loaded.state_dict().values())
    parameters, ours = dict(codec.named_parameters()), loaded.state_dict()
    rounded = load_weights(path)
    rounded.update_tables()
    for name, tensor in codec.state_dict().items():
        if name in parameters:
            torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4)
        else:
            assert torch.equal(ours[name], rounded.state_dict()[name]), name
    saved = sum(p.numel() for p in parameters.values()) * 2
    assert weights.stat().st_size - path.stat().st_size == pytest.approx(saved, rel=0.05)
    visible, infrared = frames(20, 30)
    encoded = loaded.encode(visible, infrared)
    assert (loaded.decompress(encoded.data).infrared == encoded.reconstruction.infrared).all()


def test_weights_saved_again_keep_their_fingerprint(tmp_path, codec):
    before = fingerprint(codec)
    save_weights(codec, tmp_path / "a.safetensors", half=True)
    first = load_weights(tmp_path / "a.safetensors")
    save_weights(first, tmp_path / "b.safetensors", half=True)
    assert fingerprint(load_weights(tmp_path / "b.safetensors")) == fingerprint(first)
    assert fingerprint(codec) == before  # rounding is the file's, not the codec's


@pytest.mark.parametrize(("value", "half"), [(1e6, True), (torch.nan, True), (torch.inf, False)])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, value, half):
    codec = tiny_image_codec("infrared")
    with torch.no_grad():
        codec.g_a[0].weight[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="g_a.0.weight is not finite"):
        save_weights(codec, tmp_path / "a.safetensors", half=half)
    assert not list(tmp_path.iterdir())


def test_notes_come_back(weights):
    assert notes_of(weights) == {"steps": 7, "data": ["scenes"]}


def test_a_codec_saves_from_channels_last_memory(tmp_path):
    codec = tiny_image_codec("infrared")
    expected = fingerprint(codec)
    save_weights(codec.to(memory_format=torch.channels_last), tmp_path / "a.safetensors")
    assert fingerprint(load_weights(tmp_path / "a.safetensors")) == expected


# --- a reference codec in a file of its own ---


@pytest.fixture
def two_files(tmp_path):
    """`pair.safetensors`, which names `visible.safetensors` beside it."""
    codec = tiny_pair_codec(entropy_reference=True)
    visible = tmp_path / "visible.safetensors"
    save_weights(codec.reference_codec, visible, half=True)
    codec.reference_codec.load_state_dict(load_weights(visible).state_dict())
    save_weights(codec, tmp_path / "whole.safetensors", half=True)
    save_weights(codec, tmp_path / "pair.safetensors", half=True, reference="visible")
    return tmp_path / "pair.safetensors"


def test_a_reference_codec_need_not_be_stored_twice(tmp_path, two_files):
    whole, visible = (tmp_path / f"{n}.safetensors" for n in ("whole", "visible"))
    assert fingerprint(load_weights(two_files)) == fingerprint(load_weights(whole))
    saved = whole.stat().st_size - two_files.stat().st_size
    assert saved == pytest.approx(visible.stat().st_size, rel=0.1)


def test_a_reference_codec_that_is_gone_or_another_is_named(two_files):
    beside = two_files.with_name("visible.safetensors")
    save_weights(tiny_image_codec("visible"), beside)
    assert_weights_error(two_files, "visible.safetensors beside it is not its reference codec")
    beside.unlink()
    with pytest.raises(WeightsError, match="visible.safetensors: no such weights file"):
        load_weights(two_files)


def test_a_reference_codec_is_beside_its_pair_codec_and_nowhere_else(tmp_path, codec, two_files):
    with safe_open(two_files, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    away = rewrite(two_files, tmp_path / "away.safetensors", tensors, reference="../visible")
    assert_weights_error(away, "'../visible'; expected the stem of a file beside it")
    with pytest.raises(WeightsError, match="expected the stem"):
        save_weights(codec, tmp_path / "b.safetensors", reference="../visible")


def test_a_pair_codec_is_not_saved_beside_another_reference_codec(tmp_path, codec):
    save_weights(tiny_image_codec("visible"), tmp_path / "visible.safetensors")
    with pytest.raises(ValueError, match="not the weights of this codec's reference codec"):
        save_weights(codec, tmp_path / "b.safetensors", reference="visible")
    assert not (tmp_path / "b.safetensors").exists()


def test_masks_take_a_byte_a_value_and_come_back_as_they_were(codec, weights):
    with safe_open(weights, framework="pt") as file:
        masks = [name for name in file.keys() if name.endswith(".mask")]  # noqa: SIM118
        assert masks and all(file.get_tensor(name).dtype == torch.uint8 for name in masks)
    ours = load_weights(weights).state_dict()
    assert all(torch.equal(ours[name], codec.state_dict()[name]) for name in masks)
    assert all(ours[name].dtype == torch.float32 for name in masks)


# --- files that are no weights ---


def assert_weights_error(path, *said):
    with pytest.raises(WeightsError) as error:
        load_weights(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    for part in said:
        assert part in message
    return message


def test_a_missing_file_is_named(tmp_path):
    assert_weights_error(tmp_path / "none.safetensors", "no such weights file")
    assert_weights_error(tmp_path, "no such weights file")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_no_weights_file(tmp_path, weights, share):
    data = weights.read_bytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(data[: int(share * len(data))])
    assert_weights_error(path, "not a readable weights file")


def test_a_file_of_another_kind_is_no_weights_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x89PNG" + bytes(10_000))
    assert_weights_error(path, "not a readable weights file")


def test_tensors_without_a_configuration_are_not_weights_of_a_codec(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert_weights_error(tmp_path / "a.safetensors", "'config'", "not weights of a codec")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"config": "{}{"}, "not a readable weights file"),
        ({"config": "[1]"}, "not a readable weights file"),
        ({"config": '"lite"'}, "not a readable weights file"),
        ({"config": '{"colour": 1}'}, "colour"),
        ({"config": '{"heads": 5}'}, "heads"),
        ({"kind": "thermal"}, "thermal"),
        ({"kind": None}, "'kind'"),
        ({"kind": "visible"}, "do not fit"),
    ],
)
def test_metadata_that_makes_no_codec_is_named(tmp_path, weights, metadata, said):
    path = rewrite(weights, tmp_path / "a.safetensors", **metadata)
    assert_weights_error(path, said)


@pytest.mark.parametrize(
    "change",
    [
        {"latent_channels": 16},
        {"channel_alignment": False},
        {"context": "autoregressive"},
        {"lambdas": [1024.0]},
        {"target": "visible"},
    ],
)
def test_weights_of_another_configuration_do_not_fit(tmp_path, weights, change):
    values = {**TINY.to_dict(), "entropy_reference": True, **change}
    path = rewrite(weights, tmp_path / "a.safetensors", config=json.dumps(values))
    assert_weights_error(path, "do not fit configuration 'tiny'")


def test_a_weight_that_is_missing_or_too_many_is_named(tmp_path, weights):
    tensors = load_file(weights)
    del tensors["g_a.0.weight"]
    path = rewrite(weights, tmp_path / "a.safetensors", tensors)
    assert_weights_error(path, "g_a.0.weight")
    path = rewrite(
        weights, tmp_path / "b.safetensors", {**load_file(weights), "extra": torch.ones(1)}
    )
    assert_weights_error(path, "extra")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite_is_an_error(tmp_path, weights, value):
    tensors = load_file(weights)
    tensors["g_a.2.bias"][3] = value
    path = rewrite(weights, tmp_path / "a.safetensors", tensors)
    assert_weights_error(path, "not finite")


@pytest.mark.parametrize("content", [b"", b"text", bytes(100)])
def test_notes_of_no_weights_file_are_an_error(tmp_path, content):
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="a.safetensors"):
        notes_of(path)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable weights file"):
        notes_of(path)


# --- what the package ships ---


@pytest.fixture
def shelf(tmp_path, monkeypatch, weights):
    """A weights folder with one codec and its hash."""
    (tmp_path / "pair.safetensors").write_bytes(weights.read_bytes())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(
        f"{'0' * 64}  other.safetensors\n{digest}  pair.safetensors\n"
    )
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    return tmp_path


def test_a_shipped_codec_is_one_call_away(shelf, codec):
    assert available() == ["pair"]
    loaded = load_pretrained()
    assert isinstance(loaded, PairCodec) and fingerprint(loaded) == fingerprint(codec)


def test_an_unknown_name_lists_the_known_ones(shelf):
    (shelf / "alone.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="'thermal'; there are alone, pair"):
        load_pretrained("thermal")


def test_a_name_is_no_way_out_of_the_folder(shelf):
    for name in ("../pair", "/etc/passwd", ""):
        with pytest.raises(WeightsError, match="no pretrained codec"):
            load_pretrained(name)


@pytest.mark.parametrize("change", ["flip", "cut", "unlisted", "no list"])
def test_a_file_that_is_not_the_shipped_one_is_refused(shelf, change):
    path = shelf / "pair.safetensors"
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[-1] ^= 1
    elif change == "cut":
        del data[-1]
    elif change == "unlisted":
        (shelf / "SHA256SUMS").write_text("")
    else:
        (shelf / "SHA256SUMS").unlink()
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="SHA256SUMS") as error:
        load_pretrained()
    assert str(path) in str(error.value)


def test_every_shipped_file_is_listed_and_loads():
    """What lies in the package's own folder is sound, whatever there is."""
    for name in available():
        assert load_pretrained(name).config.name


# --- whole or not at all ---


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_write(monkeypatch):
    """A disk that is full in the middle of a file."""
    real = builtins.open

    def opened(path, mode="r", *rest, **options):
        file = real(path, mode, *rest, **options)
        if "w" in mode and "b" in mode:
            write = file.write

            class Full:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, data):
                    write(data[: len(data) // 2])
                    full_disk()

            return Full()
        return file

    monkeypatch.setattr(builtins, "open", opened)


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole_and_nothing_behind(
    tmp_path, monkeypatch, codec, weights, where
):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(weights.read_bytes())
    if where == "write":
        half_write(monkeypatch)
    else:
        monkeypatch.setattr(os, where, full_disk)
    with pytest.raises(OSError) as error:
        save_weights(codec, path, {"steps": 8})
    monkeypatch.undo()
    assert str(path) in str(error.value) and "No space left on device" in str(error.value)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]
    assert notes_of(path) == {"steps": 7, "data": ["scenes"]}
    load_weights(path)


def test_an_interrupt_leaves_the_old_file_whole_and_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("path", ["nowhere/a", "file/a", "folder"])
def test_an_output_that_cannot_be_written_is_named(tmp_path, path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="cannot be written") as error:
        write_whole(tmp_path / path, b"new")
    assert str(tmp_path / path) in str(error.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_written_file_is_the_new_one(tmp_path):
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1
