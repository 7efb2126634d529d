"""What is measured is what lies on disk, and the deltas mean what they say."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import TINY, frames, tiny_image_codec, tiny_pair_codec

from xmodal_lite import evaluation
from xmodal_lite.benchmark import (
    Stopwatch,
    _bench_codec,
    _send,
    _stages,
    bench,
    check_name,
    in_own_process,
    multiply_adds,
)
from xmodal_lite.bitstream import Header, Section, pack, section_sizes, unpack
from xmodal_lite.config import LITE
from xmodal_lite.evaluation import (
    PUBLISHED,
    Contender,
    EvaluationError,
    Measurement,
    bd_by_image,
    bd_delta,
    bd_table,
    contenders,
    evaluate,
    load_measurements,
    mean_cost,
    mean_curves,
    measure_classical,
    measure_learned,
    psnr_image,
    reference_image,
    save_results,
    shared_detail,
    speed_table,
    target_bytes,
)
from xmodal_lite.frames import Pair
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pair_codec import PairCodec, Reconstruction
from xmodal_lite.pretrained import WeightsError, load_weights, save_weights


def scene(seed: int = 0, height: int = 66, width: int = 70) -> Pair:
    return Pair(f"scene_{seed}", *frames(height, width, seed))


def record(codec: str, pair: str, bpp: float, psnr: float, point: float) -> Measurement:
    return Measurement(
        codec=codec, pair=pair, bytes=round(1e4 * bpp), bpp=bpp, psnr=psnr, setting=point
    )


@pytest.fixture(scope="module")
def pair_codec() -> PairCodec:
    return tiny_pair_codec()


@pytest.fixture(scope="module")
def baseline() -> PairCodec:
    return tiny_pair_codec(channel_alignment=False, spatial_alignment=False)


# --- one measurement -----------------------------------------------------------------------------


def test_psnr_of_images_is_over_all_samples_of_eight_bits():
    a = np.zeros((4, 5, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 60  # mean squared error 3600 / 60 samples
    assert psnr_image(a, b) == pytest.approx(10 * math.log10(255**2 / 60))
    assert psnr_image(np.full_like(a, 255), a) == pytest.approx(0)
    assert psnr_image(a, a) == math.inf


def test_psnr_refuses_images_that_are_no_twins():
    image = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="twins"):
        psnr_image(image, image[:3])
    with pytest.raises(ValueError, match="twins"):
        psnr_image(image, image.astype(float))


def test_target_bytes_are_those_of_a_file_without_the_reference(pair_codec):
    pair = scene()
    data = pair_codec.compress(pair.visible, pair.infrared, 1024, mode="all")
    header, sections = unpack(data)
    without = Header(
        infrared_size=header.infrared_size,
        infrared_lmbda=header.infrared_lmbda,
        fingerprint=header.fingerprint,
    )
    kept = {k: sections[k] for k in (Section.INFRARED_Z, Section.INFRARED_Y)}
    kept[Section.SYMBOLS] = sections[Section.SYMBOLS][4:]
    coefficients = section_sizes(data)["coefficients"]
    assert target_bytes(data) == len(pack(without, kept)) + coefficients


def test_target_bytes_of_a_visible_target_leave_the_infrared_out():
    codec = tiny_pair_codec(target="visible")
    pair = scene()
    data = codec.compress(pair.visible, pair.infrared, 1024, mode="all")
    sizes = section_sizes(data)
    reference = sizes["infrared_z"] + sizes["infrared_y"] + 8 + 4
    assert target_bytes(data) == len(data) - reference


def test_target_bytes_of_a_file_that_does_not_use_its_reference(pair_codec):
    pair = scene()
    data = pair_codec.compress(pair.visible, pair.infrared, 1024, mode="none")
    sizes = section_sizes(data)
    assert target_bytes(data) == len(data)  # two images, neither more the target than the other
    for image, other in (("infrared", "visible"), ("visible", "infrared")):
        own = len(data) - sizes[f"{other}_z"] - sizes[f"{other}_y"] - 8 - 4
        assert target_bytes(data, image) == own
    got = measure_learned("pair", pair_codec, pair, 1024, mode="none")
    assert (got.bytes, got.mode) == (target_bytes(data, "infrared"), "none")


def test_every_byte_counts_where_one_image_is_coded(baseline):
    pair = scene()
    data = baseline.compress(None, pair.infrared, 1024)
    assert target_bytes(data) == len(data)
    data = tiny_image_codec("infrared").compress(pair.infrared, 1024)
    assert target_bytes(data) == len(data)


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
    batches = evaluation.padded_batches(pair_codec, images)
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
    data = evaluation.baselines.encode(name, pair.infrared, setting)
    assert got.bytes == len(data) and got.bpp == 8 * len(data) / pair.infrared.size
    decoded = evaluation.baselines.decode(name, data, pair.infrared.shape)
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


def test_the_mean_cost_is_lambda_times_error_plus_rate_over_images():
    def at(pair: str, bpp: float, psnr: float, lmbda: float) -> Measurement:
        return Measurement(codec="pair", pair=pair, bytes=1, bpp=bpp, psnr=psnr, lmbda=lmbda)

    records = [at("a", 0.2, 30.0, 1000.0), at("b", 0.4, 20.0, 1000.0), at("a", 9.0, 9.0, 50.0)]
    # 30 dB is an error of 1/1000, 20 dB one of 1/100
    assert mean_cost(records, "pair", 1000.0) == pytest.approx((1 + 0.2 + 10 + 0.4) / 2)
    with pytest.raises(ValueError, match="no record of 'alone' at λ = 1000"):
        mean_cost(records, "alone", 1000.0)


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
        evaluation.load_codec("nothing")


def test_one_model_a_lambda_makes_one_curve(tmp_path):
    paths = []
    for lmbda in (256.0, 1024.0):
        paths.append(str(tmp_path / f"{lmbda:g}.safetensors"))
        save_weights(tiny_image_codec("infrared", lambdas=(lmbda,)), paths[-1])
    records = evaluate(contenders(["minnen"], {"minnen": paths}), [scene()])
    assert [row["point"] for row in mean_curves(records)["minnen"]] == [256, 1024]


# --- curves and deltas ---------------------------------------------------------------------------


def test_mean_curves_average_over_images_and_rise():
    records = [
        record("a", "x", 0.4, 40, 2),
        record("a", "y", 0.2, 30, 2),
        record("a", "x", 0.1, 20, 1),
        record("a", "y", 0.3, 24, 1),
    ]
    (first, second) = mean_curves(records)["a"]
    assert (first["point"], first["bpp"], first["psnr"], first["images"]) == (1, 0.2, 22, 2)
    assert (second["bpp"], second["psnr"]) == (pytest.approx(0.3), 35)
    assert second["bytes"] == 3000


def test_mean_curves_want_the_same_images_at_every_point():
    records = [record("a", "x", 0.4, 40, 2), record("a", "y", 0.2, 30, 1)]
    with pytest.raises(ValueError, match="a: not every point"):
        mean_curves(records)
    with pytest.raises(ValueError, match="a: not every point"):
        mean_curves([record("a", "x", 0.4, 40, 2)] * 2)


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_deltas_of_published_curves_are_those_known(method):
    lu, minnen, bpg = (PUBLISHED[name] for name in ("pair", "minnen", "hevc"))
    against_minnen = bd_delta(minnen, lu, method=method)
    assert against_minnen.rate == pytest.approx(-7.5, abs=0.15)
    assert against_minnen.psnr == pytest.approx(0.21, abs=0.01)
    assert bd_delta(bpg, lu, method=method).rate == pytest.approx(-21.6, abs=0.2)


def test_half_the_bits_are_minus_fifty_percent_and_a_decibel_is_a_decibel():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
    half = bd_delta(curve, [(bpp / 2, psnr) for bpp, psnr in curve])
    assert half.rate == pytest.approx(-50) and half.psnr == pytest.approx(3)
    assert half.overlap == pytest.approx(1)
    better = bd_delta(curve, [(bpp, psnr + 1) for bpp, psnr in curve])
    assert better.psnr == pytest.approx(1) and better.overlap == pytest.approx(8 / 10)
    assert bd_delta(curve, curve[::-1]) == (0, 0, 1)


def test_curves_that_do_not_overlap_have_no_delta():
    low, high = [(0.1, 30.0), (0.2, 33.0)], [(0.4, 36.0), (0.8, 39.0)]
    delta = bd_delta(low, high)
    assert math.isnan(delta.rate) and math.isnan(delta.psnr) and delta.overlap == 0
    assert math.isnan(bd_delta(low, low[:1]).rate)
    # psnr may be compared where rate cannot: same rates, far apart in quality
    apart = bd_delta(low, [(0.1, 40.0), (0.2, 43.0)])
    assert math.isnan(apart.rate) and apart.psnr == pytest.approx(10)


def test_a_range_leaves_out_what_happens_beyond_it():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
    test = [(0.1, 31.0), (0.2, 34.0), (0.4, 37.0), (0.8, 50.0)]
    assert bd_delta(curve, test).psnr > 2
    inside = bd_delta(curve, test, (0.1, 0.4))
    assert inside.psnr == pytest.approx(1, abs=0.05)
    cut = bd_delta(curve, curve, (0.15, 0.3))
    assert cut == (0, 0, 1)
    assert math.isnan(bd_delta(curve, curve, (2.0, 3.0)).rate)
    with pytest.raises(ValueError, match="0.3 to 0.1 bpp"):
        bd_delta(curve, curve, (0.3, 0.1))


def test_points_that_cost_more_and_are_no_better_do_not_count():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0)]
    assert bd_delta(curve, [*curve, (0.3, 31.0), (0.5, math.inf)]) == (0, 0, 1)
    with pytest.raises(ValueError, match="'cubic'"):
        bd_delta(curve, curve, method="cubic")


def test_the_table_has_the_spread_and_names_what_cannot_be_compared():
    points = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0)]
    factors = {"a": 0.5, "b": 0.8, "c": 0.9, "d": 1.0}
    records = []
    for pair, factor in factors.items():
        for k, (bpp, psnr) in enumerate(points):
            records.append(record("anchor", pair, bpp, psnr, k))
            records.append(record("test", pair, factor * bpp, psnr, k))
    for k, (bpp, psnr) in enumerate(points):
        records.append(record("anchor", "far", bpp, psnr, k))
        records.append(record("test", "far", bpp, psnr + 20, k))
    (row,) = bd_table(records)
    assert (row.codec, row.anchor) == ("test", "anchor")
    assert row.images == 4 and row.apart == ("far",)
    assert row.rate_quartiles == pytest.approx((-27.5, -15, -7.5))
    assert row.psnr_quartiles[0] >= 0
    single = bd_by_image(records, "test", "anchor")
    assert single["b"].rate == pytest.approx(-20) and math.isnan(single["far"].rate)
    (swapped,) = bd_table(records, "test")
    assert swapped.anchor == "test" and swapped.rate_quartiles[1] > 0
    with pytest.raises(ValueError, match="anchor 'hevc' was not measured; there are anchor, test"):
        bd_table(records, "hevc")


def test_the_table_wants_the_same_images_of_everybody():
    records = [record("a", "x", 0.4, 40, 1), record("b", "y", 0.2, 30, 1)]
    with pytest.raises(ValueError, match="b and a were measured on different images"):
        bd_table(records)


# --- results as JSON -----------------------------------------------------------------------------


def test_results_come_back_as_they_were(tmp_path, baseline):
    records = [
        measure_learned("alone", baseline, scene(), 256),
        record("jpeg", "scene_0", 0.5, math.inf, 50),
    ]
    path = tmp_path / "out.json"
    dicts = [r.to_dict() for r in records]
    save_results(path, dicts, "python -m xmodal_lite evaluate", data={"split": "test"})
    assert load_measurements(path) == records
    written = json.loads(path.read_text())
    assert written["command"] == "python -m xmodal_lite evaluate"
    assert written["machine"]["threads"] == torch.get_num_threads()
    assert written["data"] == {"split": "test"}
    first, second = written["records"]
    assert list(first)[:6] == ["codec", "lmbda", "pair", "bytes", "bpp", "psnr"]
    assert list(second) == ["codec", "setting", "pair", "bytes", "bpp", "psnr"]
    assert second["psnr"] is None


def test_results_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("old")

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_results(path, [], "command")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{}", '{"records": [{"codec": "x"}]}', '{"records": 3}'])
def test_a_file_without_measurements_is_named(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="bad.json: no measurements"):
        load_measurements(path)


def test_a_speed_table_has_a_column_for_each_codec(tmp_path):
    record = {"codec": "pair", "height": 100, "width": 50, "multiply_adds": 1.2e10}
    record |= {"parameters": 5_700_000, "reference_parameters": 2_500_000}
    record["stages"] = [{"stage": "synthesis", "seconds": 1.234}]
    path = tmp_path / "speed.json"
    save_results(path, [record], "bench")
    head, rows = speed_table(path, ["entropy decode", "synthesis"])
    assert head == ["", "`pair`"]
    assert [row[1] for row in rows] == ["3.2 + 2.5", "2,400", "", "1.23 s"]
    save_results(path, [{"codec": "pair"}], "bench")
    with pytest.raises(ValueError, match="speed.json: no measurements of speed"):
        speed_table(path, ["synthesis"])


def test_the_commit_is_that_of_this_code_only(tmp_path, monkeypatch):
    assert (found := evaluation.commit()) is None or len(found) >= 7
    monkeypatch.setattr(evaluation, "__file__", str(tmp_path / "evaluation.py"))
    assert evaluation.commit() is None


# --- speed ---------------------------------------------------------------------------------------

STAGES = ["analysis", "entropy encode", "entropy decode", "synthesis"]
TOTALS = ["total encode", "total decode"]


def test_bench_times_every_stage_of_a_pair_codec_in_its_own_process(tmp_path, pair_codec):
    path = str(tmp_path / "tiny.safetensors")
    save_weights(pair_codec, path)
    visible, infrared = frames(70, 90)
    result = bench(path, visible, infrared, lmbda=1e9, repeat=1, threads=1)
    stages = {stage["stage"]: stage for stage in result["stages"]}
    assert list(stages) == ["visible encode", "visible decode", *STAGES, *TOTALS]
    for name, stage in stages.items():
        pixels = visible[..., 0].size if name.startswith("visible") else infrared.size
        assert stage["seconds"] > 0
        assert stage["pixels_per_second"] == pytest.approx(pixels / stage["seconds"])
        assert stage["peak_memory"] > 50e6  # PyTorch itself
    assert result["bytes"] == len(pair_codec.compress(visible, infrared, 4096))
    assert (result["height"], result["width"], result["threads"]) == (70, 90, 1)
    parameters = sum(p.numel() for p in pair_codec.parameters())
    reference = sum(p.numel() for p in pair_codec.reference_codec.parameters())
    assert (result["parameters"], result["reference_parameters"]) == (parameters, reference)


def test_bench_says_when_a_process_died_and_passes_errors_on():
    with pytest.raises(EvaluationError, match="died"):
        in_own_process(os._exit, 1)
    sent = []
    _send(SimpleNamespace(send=sent.append), int, "7")
    _send(SimpleNamespace(send=sent.append), int, "seven")
    assert sent[0] == 7 and isinstance(sent[1], ValueError)
    with pytest.raises(ValueError, match="unknown codec 'huge'; expected lite, paper, mbt2018"):
        check_name("huge")


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_stages_of_a_codec_without_reference(modality):
    visible, infrared = frames(64, 64)
    images = {"visible": visible, "infrared": infrared}
    watch = Stopwatch(1)
    codec = tiny_image_codec(modality)
    assert _stages(codec, images, 1024, watch) == len(codec.compress(images[modality], 1024))
    assert [stage["stage"] for stage in watch.stages] == [*STAGES, *TOTALS]
    alone = tiny_pair_codec(target=modality, channel_alignment=False, spatial_alignment=False)
    watch = Stopwatch(1)
    _stages(alone, images, 1024, watch)
    assert [stage["stage"] for stage in watch.stages] == [*STAGES, *TOTALS]


def test_compressai_runs_on_the_same_image():
    visible, infrared = frames(64, 64)
    watch = Stopwatch(1)
    model = _bench_codec("mbt2018", "cpu")
    with torch.no_grad():
        assert _stages(model, {"visible": visible, "infrared": infrared}, 1024, watch) > 16
    assert [stage["stage"] for stage in watch.stages] == [*STAGES, *TOTALS]
    assert sum(p.numel() for p in model.parameters()) > 14e6


def test_multiply_adds_are_those_of_the_layers_and_grow_with_the_padded_area():
    codec = ImageCodec(replace(TINY, transform_channels=8, latent_channels=12), "infrared").eval()
    visible, infrared = frames(128, 64)
    count = multiply_adds(codec, {"visible": visible, "infrared": infrared})
    counted = []

    def hook(layer, inputs, output):
        pixels = output if isinstance(layer, torch.nn.Conv2d) else inputs[0]
        counted.append(layer.weight.numel() * pixels[0, 0].numel())

    hooks = [
        m.register_forward_hook(hook)
        for m in codec.modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        codec(torch.zeros(1, 1, 128, 64), torch.tensor([1024.0]))
    for handle in hooks:
        handle.remove()
    gdn = sum(2 * 8 * 8 * (128 * 64) // 4**j for j in (1, 2, 3))  # a 1×1 convolution each
    density = 2 * 2 * 8 * (3 + 9 + 9 + 9 + 3)  # of ẑ: two sides of two samples of 8 channels
    assert count["multiply_adds"] == sum(counted) + gdn + density
    assert count["reference_multiply_adds"] == 0


def test_the_reference_is_part_of_a_pair_codecs_multiply_adds(pair_codec, baseline):
    visible, infrared = frames(60, 60)
    small = multiply_adds(pair_codec, {"visible": visible, "infrared": infrared})
    visible, infrared = frames(65, 60)
    large = multiply_adds(pair_codec, {"visible": visible, "infrared": infrared})
    assert large == {name: 2 * value for name, value in small.items()}
    assert 0 < small["reference_multiply_adds"] < small["multiply_adds"]
    alone = multiply_adds(baseline, {"visible": visible, "infrared": infrared})
    assert alone["reference_multiply_adds"] == 0
