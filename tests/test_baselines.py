"""Classical codecs: what goes in comes back, at the rate that the bytes say."""

import importlib
import re
import sys

import numpy as np
import pytest
from PIL import features

from xmodal_lite.baselines import CODECS, MissingCodecError, decode, encode
from xmodal_lite.scenes import render_scene

NAMES = sorted(CODECS)


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """A soft pattern that every codec can follow."""
    where = np.indices(shape)
    return (128 + 60 * np.sin(where[0] / 9) * np.cos(where[1] / 7)).round().astype(np.uint8)


def psnr(image: np.ndarray, decoded: np.ndarray) -> float:
    error = np.mean((image.astype(np.float64) - decoded) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return render_scene(3, 256, 320).infrared


@pytest.fixture(scope="module")
def thermal(frame) -> np.ndarray:
    """Part of an embedded thermal scene, 104×151: odd, and no multiple of any block."""
    return frame[100:204, 80:231]


@pytest.fixture(scope="module")
def sweeps(thermal) -> dict[str, list[tuple[int, float]]]:
    """(bytes, PSNR) of every codec over its default settings."""
    found = {}
    for name, codec in CODECS.items():
        coded = [codec.encode(thermal, setting) for setting in codec.settings]
        found[name] = [(len(c), psnr(thermal, codec.decode(c, thermal.shape))) for c in coded]
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 7), (5, 1), (15, 17), (33, 65), (1, 1, 3), (3, 5, 3), (31, 40, 3)]
)
def test_any_size_comes_back(name, shape):
    image = smooth(shape)
    decoded = decode(name, encode(name, image, CODECS[name].settings[-1]), shape)
    assert decoded.shape == shape and decoded.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(61, 83), (61, 83, 3)])
def test_the_finest_default_setting_is_close_to_the_original(name, shape):
    image = smooth(shape)
    if len(shape) == 3:  # colours that are not grey
        image[..., 2] = 255 - image[..., 2]
    codec = CODECS[name]
    assert psnr(image, codec.decode(codec.encode(image, codec.settings[-1]), shape)) > 33


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_ordered_by_rate_and_more_bytes_buy_more_quality(name, sweeps):
    sizes, qualities = zip(*sweeps[name], strict=True)
    assert list(sizes) == sorted(set(sizes))
    assert list(qualities) == sorted(set(qualities))


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_of_the_range_are_valid_and_what_lies_beyond_is_not(name, thermal):
    codec, crop = CODECS[name], thermal[:32, :48]
    low, high = codec.bounds
    sizes = sorted(len(codec.encode(crop, setting)) for setting in (low, high))
    assert sizes[1] > sizes[0]
    assert all(low <= setting <= high for setting in codec.settings)
    wrong = [low - 1, high + 1, float("nan"), float("inf"), "10", None]
    for setting in wrong if codec.unit == "bpp" else [*wrong, 10.5]:
        with pytest.raises(ValueError, match=f"{name}: {codec.unit} .*; expected a .*number from"):
            codec.encode(crop, setting)


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_is_deterministic_and_leaves_its_input_alone(name, thermal):
    codec, before = CODECS[name], thermal.copy()
    setting = np.float64(codec.settings[0]) if codec.unit == "bpp" else np.int64(codec.settings[0])
    assert codec.encode(thermal, setting) == codec.encode(thermal, codec.settings[0])
    assert np.array_equal(thermal, before)


@pytest.mark.parametrize("name", NAMES)
def test_views_with_strides_are_coded_as_what_they_show(name, thermal):
    codec, view = CODECS[name], thermal[::2, ::-1]
    setting = codec.settings[1]
    assert codec.encode(view, setting) == codec.encode(np.ascontiguousarray(view), setting)


def test_hevc_spends_no_byte_on_anything_but_parameter_sets_and_one_picture(thermal):
    data = encode("hevc", thermal, 32)
    kinds = [data[m.end()] >> 1 & 63 for m in re.finditer(b"\0\0\1", data)]
    assert kinds == [32, 33, 34, 20]  # VPS, SPS, PPS, an IDR picture; no SEI (39)


def test_av1_is_the_avif_file_without_its_boxes(thermal):
    av1, avif = encode("av1", thermal, 30), encode("avif", thermal, 30)
    assert 200 < len(avif) - len(av1) < 350 and avif.endswith(av1)
    decoded = decode("av1", av1, thermal.shape)
    assert np.array_equal(decoded, decode("avif", avif, thermal.shape))


def test_jpeg2000_meets_its_target_rate(frame):
    for bpp in CODECS["jpeg2000"].settings:
        rate = 8 * len(encode("jpeg2000", frame, bpp)) / frame.size
        assert 0.93 * bpp < rate <= 1.01 * bpp


def test_modern_codecs_beat_jpeg(sweeps):
    """At no lower PSNR than JPEG's coarsest default setting, HEVC and AV1 take fewer bytes."""
    jpeg_bytes, jpeg_psnr = sweeps["jpeg"][0]
    for name in ("hevc", "av1"):
        assert min(size for size, quality in sweeps[name] if quality >= jpeg_psnr) < jpeg_bytes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((8, 8), np.float32), "image of float32; expected a uint8 array"),
        (np.zeros((8, 8), np.uint16), "image of uint16"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\); expected \(H, W\) or \(H, W, 3\)"),
        (np.zeros((8, 8, 1), np.uint8), r"shape \(8, 8, 1\)"),
        (np.zeros(8, np.uint8), r"shape \(8,\)"),
        (np.zeros((0, 8), np.uint8), r"shape \(0, 8\); .* not empty"),
        ([[1, 2], [3, 4]], "image of list"),
    ],
)
def test_an_image_of_another_kind_is_refused(name, image, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        encode(name, image, CODECS[name].settings[0])


@pytest.mark.parametrize("name", NAMES)
def test_damaged_data_are_a_value_error(name, thermal):
    data = encode(name, thermal, CODECS[name].settings[1])
    for damaged in (b"", b"x", bytes(100), data[:10]):
        with pytest.raises(ValueError, match=f"^{name}") as caught:
            decode(name, damaged, thermal.shape)
        assert "0x" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"^{name}: a int; expected the bytes"):
        decode(name, 10**12, thermal.shape)


@pytest.mark.parametrize("name", NAMES)
def test_data_of_another_size_are_a_value_error(name):
    data = encode(name, smooth((40, 50)), CODECS[name].settings[0])
    for shape in ((41, 50), (40, 49), (1, 1), (50, 40), (80, 100)):
        with pytest.raises(ValueError, match=f"^{name} cannot decode .* the data hold"):
            decode(name, data, shape)
    with pytest.raises(ValueError, match=r"shape \(40,\)"):
        decode(name, data, (40,))


def test_a_size_beyond_the_format_is_a_value_error():
    with pytest.raises(ValueError, match=r"^webp cannot code \(1, 16384\)"):
        encode("webp", np.zeros((1, 16384), np.uint8), 10)


def test_an_unknown_codec_is_named_with_those_that_exist():
    for call in (lambda: encode("bpg", smooth((8, 8)), 30), lambda: decode("bpg", b"x", (8, 8))):
        with pytest.raises(ValueError, match="codec 'bpg'; expected one of hevc, av1, avif"):
            call()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hevc"])
def test_a_pillow_without_the_format_is_named(name, monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: False)
    with pytest.raises(MissingCodecError, match="is missing: install the package pillow"):
        encode(name, smooth((8, 8)), CODECS[name].settings[0])


def test_a_pyav_without_libx265_is_named(monkeypatch):
    av = importlib.import_module("av")

    def no_codec(name, mode):
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av.codec, "Codec", no_codec)
    with pytest.raises(RuntimeError, match="libx265 is missing: install the package av"):
        encode("hevc", smooth((8, 8)), 30)


def test_no_pyav_at_all_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RuntimeError, match="hevc is missing: install the package av"):
        decode("hevc", b"x", (8, 8))
