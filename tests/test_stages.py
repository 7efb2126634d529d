"""A stage starts from the right weights, and refuses what does not belong."""

import shutil
from dataclasses import replace

import pytest
import torch
from helpers import ALONE, TINY, tiny_pair_codec

from xmodal_lite.image_codec import ImageCodec, fingerprint
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.pretrained import load_weights, save_weights
from xmodal_lite.stages import build_codec


def test_alone_is_the_same_network_without_its_reference():
    codec = build_codec(replace(TINY, entropy_reference=True), "alone")
    assert codec.reference_codec is None and not codec.config.uses_reference
    assert codec.config == replace(TINY, **ALONE)


def test_pair_takes_the_trained_reference_with_its_tables(visible_weights):
    codec = build_codec(TINY, "pair", visible_weights)
    assert fingerprint(codec.reference_codec) == fingerprint(load_weights(visible_weights))
    assert not any(p.requires_grad for p in codec.reference_codec.parameters())


def test_pair_starts_from_its_baseline(visible_weights, tmp_path):
    baseline = tiny_pair_codec(seed=3, **ALONE)
    save_weights(baseline, tmp_path / "alone.safetensors")
    codec = build_codec(TINY, "pair", visible_weights, tmp_path / "alone.safetensors").eval()
    images = torch.rand(1, 3, 128, 128), torch.rand(1, 1, 64, 64), torch.tensor([700.0])
    with torch.no_grad():
        torch.testing.assert_close(codec(*images)["x_hat"], baseline(*images)["x_hat"])


def test_a_later_run_starts_from_an_earlier_ones_weights(visible_weights):
    codec = build_codec(TINY, "visible", start=visible_weights)
    assert fingerprint(codec) == fingerprint(load_weights(visible_weights))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, visible_weights):
    """Weights of several kinds."""
    folder = tmp_path_factory.mktemp("shelf")
    for name, codec in {
        "infrared": ImageCodec(TINY, "infrared"),
        "wide": ImageCodec(replace(TINY, transform_channels=12), "visible"),
        "serial": ImageCodec(replace(TINY, context="autoregressive"), "visible"),
        "single": ImageCodec(replace(TINY, lambdas=(1024.0,)), "visible"),
        "alone": PairCodec(replace(TINY, **ALONE)),
        "alone_wide": PairCodec(replace(TINY, **ALONE, transform_channels=12)),
    }.items():
        save_weights(codec, folder / f"{name}.safetensors")
    shutil.copy(visible_weights, folder / "visible.safetensors")
    return folder


@pytest.mark.parametrize(
    ("stage", "visible", "start", "said"),
    [
        ("pair", None, None, "stage 'pair' needs the weights of a trained reference codec"),
        ("pair", "infrared", None, "expected weights of a visible codec"),
        ("pair", "alone", None, "expected weights of a visible codec"),
        ("pair", "wide", None, "transform_channels is 12; expected 8"),
        ("pair", "serial", None, "context is autoregressive; expected checkerboard"),
        ("pair", "single", None, "lambdas is"),
        ("pair", "nothing", None, "no such weights file"),
        ("pair", "visible", "infrared", "weights of another kind of codec"),
        ("pair", "visible", "alone_wide", "in the baseline"),
        ("alone", None, "visible", "weights of another kind of codec"),
        ("visible", None, "alone", "weights of another kind of codec"),
        ("visible", None, "infrared", "do not fit"),
        ("visible", None, "wide", "do not fit"),
        ("visible", None, "nothing", "no such weights file"),
        ("stage", None, None, "unknown stage 'stage'"),
    ],
)
def test_weights_that_do_not_belong_to_a_stage_are_named(shelf, stage, visible, start, said):
    paths = [name and shelf / f"{name}.safetensors" for name in (visible, start)]
    with pytest.raises(ValueError) as error:
        build_codec(TINY, stage, *paths)
    assert said in str(error.value) and "\n" not in str(error.value)
    for path in paths[::-1]:  # the file at fault
        if path is not None:
            assert str(path) in str(error.value)
            break


def test_a_reverse_codec_needs_an_infrared_reference(shelf):
    reverse = replace(TINY, target="visible")
    build_codec(reverse, "pair", shelf / "infrared.safetensors")
    with pytest.raises(ValueError, match="expected weights of an? infrared codec"):
        build_codec(reverse, "pair", shelf / "visible.safetensors")


def test_stage_pair_of_a_codec_without_reference_is_refused(shelf):
    with pytest.raises(ValueError, match="no reference branch"):
        build_codec(replace(TINY, **ALONE), "pair", shelf / "visible.safetensors")


def test_branches_are_taken_over_and_change_nothing_at_first(visible_weights, tmp_path):
    baseline, other = tmp_path / "alone.safetensors", tmp_path / "other.safetensors"
    save_weights(tiny_pair_codec(**ALONE), baseline)
    save_weights(tiny_pair_codec(seed=3), other)
    config = replace(TINY, entropy_reference=True)  # one branch more than the other has
    codec = build_codec(config, "pair", visible_weights, baseline, other)
    theirs = dict(load_weights(other).named_parameters())
    taken = [
        name for name, p in codec.named_parameters()
        if name.startswith(("reference_features.", "channel_alignment.", "spatial_alignment."))
        and torch.equal(p, theirs[name])
    ]  # fmt: skip
    assert len(taken) == sum(
        name.startswith(("reference_features.", "channel_alignment.", "spatial_alignment."))
        for name in theirs
    )
    visible, infrared = torch.rand(1, 3, 128, 128), torch.rand(1, 1, 64, 64)
    lmbda = torch.tensor([700.0])
    with torch.no_grad():
        ours = codec.eval()(visible, infrared, lmbda)["x_hat"]
        alone = load_weights(baseline)(None, infrared, lmbda)["x_hat"]
    assert torch.allclose(ours, alone, atol=1e-5)


def test_branches_that_do_not_fit_are_named(visible_weights, tmp_path):
    wide, alone = tmp_path / "wide.safetensors", tmp_path / "alone.safetensors"
    save_weights(tiny_pair_codec(embedding=24), wide)
    save_weights(tiny_pair_codec(**ALONE), alone)
    for branches, stage, said in (
        (wide, "pair", "wide.*spatial_alignment.0.embed_infrared.weight is .*24.* there"),
        (alone, "pair", "alone.*none of this codec's reference branches is there"),
        (visible_weights, "pair", "branches are for stage 'pair', from a pair codec"),
        (wide, "alone", "branches are for stage 'pair', from a pair codec"),
    ):
        with pytest.raises(ValueError, match=said):
            build_codec(TINY, stage, visible_weights, None, branches)
