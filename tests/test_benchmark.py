"""Every stage is timed, and work is counted as the layers do it."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import TINY, frames, tiny_image_codec, tiny_pair_codec

from xmodal_lite.benchmark import (
    Stopwatch,
    _bench_codec,
    _send,
    _stages,
    bench,
    check_name,
    in_own_process,
    multiply_adds,
    speed_table,
)
from xmodal_lite.evaluation import EvaluationError
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pretrained import save_weights
from xmodal_lite.records import save_results

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
