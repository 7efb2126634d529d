"""What is measured is what lies on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import TINY, frames, scene, tiny_image_codec

from xmodal_lite import baselines, evaluation
from xmodal_lite.coding import padded_batches, psnr_image, target_bytes
from xmodal_lite.config import LITE
from xmodal_lite.curves import mean_curves
from xmodal_lite.evaluation import (
    Contender,
    EvaluationError,
    contenders,
    evaluate,
    measure_classical,
    measure_learned,
    reference_image,
    shared_detail,
)
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pair_codec import PairCodec, Reconstruction
from xmodal_lite.pretrained import WeightsError, load_codec, load_weights, save_weights

# --- one measurement -----------------------------------------------------------------------------


def test_learned_rate_is_the_size_of_a_file_and_the_decoder_reads_nothing_else(
    pair_codec, monkeypatch
):
    pair, sizes, read = scene(), [], []
    through_file = evaluation.through_file
    decompress = PairCodec.decompress

    def spy(data, decode):
        size, decoded = through_file(data, decode)
        sizes.append(size)
        return size, decoded

    def reading(codec, data, only=None):
        read.append(len(data))
        return decompress(codec, data, only)

    monkeypatch.setattr(evaluation, "through_file", spy)
    monkeypatch.setattr(PairCodec, "decompress", reading)
    got = measure_learned("pair", pair_codec, pair, 512, mode="all")
    encoded = pair_codec.encode(pair.visible, pair.infrared, 512, mode="all")
    assert sizes == read == [len(encoded.data)] == [got.total_bytes]
    assert got.bytes == target_bytes(encoded.data)
    assert got.bpp == 8 * got.bytes / pair.infrared.size
    assert got.total_bpp == 8 * got.total_bytes / pair.infrared.size
    assert got.psnr == psnr_image(pair.infrared, encoded.reconstruction.infrared)
    assert got.reference_psnr == psnr_image(pair.visible, encoded.reconstruction.visible)
    assert (got.codec, got.pair, got.lmbda, got.reference) == ("pair", "scene_0", 512, "true")
    assert got.mode == "all"


def test_a_file_that_decodes_to_something_else_is_no_measurement(pair_codec, monkeypatch):
    def decode(codec, data, only=None):
        visible, infrared = codec.decompress(data, only)
        infrared[3, 4] ^= 1
        return Reconstruction(visible, infrared)

    monkeypatch.setattr(evaluation, "decode", decode)
    with pytest.raises(EvaluationError, match="scene_0: pair at λ 1024 .* infrared"):
        measure_learned("pair", pair_codec, scene(), 1024)


@pytest.mark.parametrize("modality", ["infrared", "visible"])
def test_an_image_codec_is_measured_on_its_own_modality(modality):
    codec, pair = tiny_image_codec(modality), scene()
    got = measure_learned("minnen", codec, pair, 1024)
    image = getattr(pair, modality)
    data = codec.compress(image, 1024)
    assert got.bytes == got.total_bytes == len(data)
    assert got.bpp == 8 * len(data) / (image.shape[0] * image.shape[1])
    assert got.psnr == psnr_image(image, codec.decompress(data))
    assert got.reference is None and got.reference_psnr is None


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", [PairCodec, ImageCodec])
def test_the_estimate_is_near_the_file(kind, half, tmp_path):
    torch.manual_seed(0)
    codec = kind(TINY) if kind is PairCodec else kind(TINY, "infrared")
    with torch.no_grad():
        codec.entropy.log_gain.add_(2.0)
        codec.entropy.latent.entropy_parameters[-1].bias[:12] = 2.0  # σ: no symbol far out
    if kind is PairCodec:
        codec.reference_codec.update_tables()
    save_weights(codec, tmp_path / "calm.safetensors", half=half)
    codec, pair = load_weights(tmp_path / "calm.safetensors"), scene(height=100, width=150)
    got = measure_learned("codec", codec, pair, 1024, estimate=True)
    overhead = 8 * 80 / pair.infrared.size  # container and two rANS states
    assert 0.97 * (got.bpp - overhead) < got.estimate_bpp < got.bpp
    assert measure_learned("codec", codec, pair, 1024).estimate_bpp is None


def test_the_estimate_counts_the_padding_and_the_coefficients(pair_codec):
    pair = scene(height=64, width=65)  # padded to 64×128
    images = {"visible": pair.visible, "infrared": pair.infrared}
    got = evaluation.estimate_bpp(pair_codec, images, 1024)
    batches = padded_batches(pair_codec, images)
    assert batches["visible"].shape == (1, 3, 128, 256)
    with torch.no_grad():
        out = pair_codec(batches["visible"], batches["infrared"], torch.tensor([1024.0]))
    bits = sum(-values.log2().sum().item() for values in out["likelihoods"].values())
    coefficients = 8 * 2 * TINY.feature_channels
    assert got * 64 * 65 == pytest.approx(bits + coefficients, rel=1e-5)
    less = evaluation.estimate_bpp(pair_codec, images, 1024, "space")
    # space is aligned in the decoder: it moves no bit
    assert less == evaluation.estimate_bpp(pair_codec, images, 1024, "none") != got


@pytest.mark.parametrize("name, setting", [("jpeg", 40), ("jpeg2000", 0.5)])
def test_classical_rate_is_the_size_of_a_file(name, setting):
    pair = scene()
    got = measure_classical(name, pair, setting)
    data = baselines.encode(name, pair.infrared, setting)
    assert got.bytes == len(data) and got.bpp == 8 * len(data) / pair.infrared.size
    decoded = baselines.decode(name, data, pair.infrared.shape)
    assert got.psnr == psnr_image(pair.infrared, decoded)
    assert got.setting == setting and got.lmbda is None


# --- controls ------------------------------------------------------------------------------------


def test_controls_put_another_reference_into_the_file(pair_codec, monkeypatch):
    pair, other = scene(0), scene(1, 40, 90)
    files = {}
    through_file = evaluation.through_file
    for kind in ("true", "other", "blank", "mirrored"):

        def keep(data, decode, kind=kind):
            files[kind] = data
            return through_file(data, decode)

        monkeypatch.setattr(evaluation, "through_file", keep)
        got = measure_learned("pair", pair_codec, pair, 1024, kind, other, mode="all")
        assert got.reference == kind
    for kind, data in files.items():
        image = reference_image(pair.visible, kind, other.visible)
        assert image.shape == pair.visible.shape
        assert data == pair_codec.compress(image, pair.infrared, 1024, mode="all")
    assert len(set(files.values())) == 4


def test_reference_images_are_what_their_names_say():
    image, other = frames(20, 30, 0)[0], frames(50, 40, 1)[0]
    assert reference_image(image, "true") is image
    assert np.array_equal(reference_image(image, "mirrored")[:, ::-1], image)
    assert np.unique(reference_image(image, "blank")).tolist() == [128]
    assert reference_image(image, "other", other).shape == image.shape
    grey = reference_image(image[..., 0], "other", other[..., 0])
    assert grey.shape == image.shape[:2]
    with pytest.raises(ValueError, match="two pairs"):
        reference_image(image, "other")
    with pytest.raises(ValueError, match="'upside down'; expected one of true, other"):
        reference_image(image, "upside down")


def test_shared_detail_knows_neither_sign_nor_level():
    visible = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    grey = torch.nn.functional.avg_pool2d(visible.mean(1, keepdim=True), 2)
    assert shared_detail(visible, 0.8 - grey / 2) == pytest.approx(1, abs=1e-4)
    assert shared_detail(visible.roll((32, 64), (2, 3)), grey) < 0.2


def test_a_codec_without_reference_takes_no_control(baseline):
    with pytest.raises(ValueError, match="'alone' has no reference"):
        measure_learned("alone", baseline, scene(), 1024, "blank")


# --- many measurements ---------------------------------------------------------------------------


def test_evaluate_measures_everything_once(pair_codec, baseline):
    pairs = [scene(0), scene(1), scene(2)]
    codecs = [
        Contender("pair", (256, 4096), pair_codec, ("true", "other")),
        Contender("alone", (1024,), baseline),
        Contender("jpeg", (10, 50)),
    ]
    records = evaluate(codecs, pairs)
    assert len(records) == 3 * (2 * 2 + 1 + 2)
    keys = {(r.label, r.point, r.pair) for r in records}
    assert len(keys) == len(records)
    assert {r.label for r in records} == {"pair", "pair (other)", "alone", "jpeg"}
    other = next(r for r in records if (r.label, r.pair) == ("pair (other)", "scene_2"))
    neighbour = measure_learned("pair", pair_codec, pairs[2], 256, "other", pairs[0])
    assert other == neighbour


def test_evaluate_refuses_what_makes_no_sense(pair_codec):
    with pytest.raises(ValueError, match="'pair' codes infrared; expected visible"):
        evaluate([Contender("pair", (256,), pair_codec)], [scene()], target="visible")
    with pytest.raises(ValueError, match="two pairs"):
        evaluate([Contender("pair", (256,), pair_codec, ("other",))], [scene()])
    with pytest.raises(ValueError, match="no pairs"):
        evaluate([Contender("jpeg", (10,))], [])


def test_contenders_are_checked_before_anything_is_measured(tmp_path, baseline):
    path = str(tmp_path / "a.safetensors")
    save_weights(baseline, path)
    found = contenders(["mine", "jpeg"], {"mine": [path]})
    assert [(c.name, c.points) for c in found][0] == ("mine", LITE.lambdas)
    assert found[0].references == ("true",) and found[1].codec is None
    with pytest.raises(ValueError, match="unknown codec 'png'; expected some of hevc"):
        contenders(["png"])
    with pytest.raises(ValueError, match="'jpeg' is named twice"):
        contenders(["jpeg", "jpeg"])
    with pytest.raises(ValueError, match="λ is 9000; expected between 256 and 4096"):
        contenders(["mine"], {"mine": [path]}, [9000])
    with pytest.raises(ValueError, match="weights are given for mine"):
        contenders(["jpeg"], {"mine": [path]})
    with pytest.raises(WeightsError, match="nowhere.safetensors: no such"):
        contenders(["mine"], {"mine": [str(tmp_path / "nowhere.safetensors")]})
    with pytest.raises(WeightsError, match="no weights 'nothing'"):
        load_codec("nothing")


def test_one_model_a_lambda_makes_one_curve(tmp_path):
    paths = []
    for lmbda in (256.0, 1024.0):
        paths.append(str(tmp_path / f"{lmbda:g}.safetensors"))
        save_weights(tiny_image_codec("infrared", lambdas=(lmbda,)), paths[-1])
    records = evaluate(contenders(["minnen"], {"minnen": paths}), [scene()])
    assert [row["point"] for row in mean_curves(records)["minnen"]] == [256, 1024]
