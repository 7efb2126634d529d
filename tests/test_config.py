"""Every choice of the codec is checked when it is made, and survives a file."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest
from helpers import ALONE, TINY

from xmodal_lite.config import LAMBDAS, LITE, PAPER, PRESETS, CodecConfig, check_lambda, preset
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pair_codec import PairCodec

# --- presets ---


def test_lite_stays_under_four_million_parameters_a_codec():
    pair = PairCodec(LITE)
    reference = sum(p.numel() for p in pair.reference_codec.parameters())
    target = sum(p.numel() for p in pair.parameters()) - reference
    assert reference < 4e6 and target < 4e6
    assert sum(p.numel() for p in ImageCodec(LITE, "infrared").parameters()) < 4e6


def test_paper_has_the_numbers_of_the_paper():
    assert (PAPER.transform_channels, PAPER.latent_channels) == (192, 192)
    assert PAPER.feature_channels == 64
    assert (PAPER.embedding, PAPER.heads, PAPER.window) == (96, 3, 4)
    assert (PAPER.patch, PAPER.blocks) == (2, 2)
    assert PAPER.context == "autoregressive" and PAPER.coefficient_format == "float32"
    assert len(PAPER.lambdas) == 1  # one model a λ
    assert LAMBDAS == (256, 512, 1024, 2048, 4096)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_preset_is_found_by_its_name(name):
    assert preset(name).name == name


def test_unknown_preset_error_lists_those_that_are():
    with pytest.raises(ValueError, match=r"'tiny'.*'lite', 'paper'"):
        preset("tiny")


# --- fields ---


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "thermal"),
        ("context", "serial"),
        ("coefficient_format", "float64"),
        ("attention_shortcut", "none"),
        ("feature_channels", 0),
        ("transform_channels", -1),
        ("latent_channels", 1.5),
        ("heads", True),
        ("scale", "2"),
        ("lambdas", ()),
        ("lambdas", (0.0, 1.0)),
        ("lambdas", (512.0, 256.0)),
        ("lambdas", (256.0, 256.0)),
        ("lambdas", (math.nan,)),
        ("lambdas", (256.0, math.inf)),
        ("lambdas", (256.0, math.nan)),
        ("lambdas", ("many",)),
        ("lambdas", 1024),
        ("lambdas", None),
        ("channel_alignment", "no"),
        ("entropy_reference", 1),
    ],
)
def test_field_out_of_range_is_named_with_its_value(field, value):
    with pytest.raises(ValueError) as error:
        replace(TINY, **{field: value})
    assert field in str(error.value) and "\n" not in str(error.value)
    assert str(value[0] if isinstance(value, tuple) and value else value) in str(error.value)


def test_heads_must_divide_the_embedding():
    with pytest.raises(ValueError, match="embedding is 16; not divisible by 3 heads"):
        replace(TINY, embedding=16)


@pytest.mark.parametrize("sizes", [{"patch": 3}, {"window": 3}, {"patch": 4}, {"window": 8}])
def test_windows_must_tile_the_coarsest_stage(sizes):
    with pytest.raises(ValueError, match="do not tile the coarsest stage"):
        replace(TINY, **sizes)


def test_configuration_cannot_be_changed_behind_a_codec():
    with pytest.raises(FrozenInstanceError):
        TINY.scale = 3


# --- what follows from the fields ---


def test_the_reference_is_always_the_other_modality():
    assert replace(TINY, target="infrared").reference == "visible"
    assert replace(TINY, target="visible").reference == "infrared"


def test_only_the_visible_frame_is_strided_whatever_the_direction():
    for target in ("infrared", "visible"):
        config = replace(TINY, target=target, scale=3)
        assert (config.stride_of("visible"), config.stride_of("infrared")) == (3, 1)


def test_a_codec_uses_its_reference_as_soon_as_one_branch_is_on():
    assert not replace(TINY, **ALONE).uses_reference
    for branch in ALONE:
        assert replace(TINY, **{**ALONE, branch: True}).uses_reference


# --- to a file and back ---


@pytest.mark.parametrize("config", [TINY, LITE, PAPER, replace(TINY, target="visible")])
def test_configuration_survives_json(config):
    assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_fields_are_an_error_that_names_them():
    with pytest.raises(ValueError, match="colour"):
        CodecConfig.from_dict({**TINY.to_dict(), "colour": "red"})


# --- λ ---


def test_lambda_is_taken_from_end_to_end_and_as_text():
    assert check_lambda(256, LAMBDAS) == 256 and check_lambda(4096, LAMBDAS) == 4096
    assert check_lambda("1000.5", LAMBDAS) == 1000.5


@pytest.mark.parametrize("lmbda", [255.9, 4097, 0, -1024, math.inf, math.nan, "nan"])
def test_lambda_outside_the_trained_range_names_the_range(lmbda):
    with pytest.raises(ValueError, match="between 256 and 4096"):
        check_lambda(lmbda, LAMBDAS)


@pytest.mark.parametrize("lmbda", ["much", None, [1024], ""])
def test_lambda_that_is_no_number_is_named(lmbda):
    with pytest.raises(ValueError, match="expected a number"):
        check_lambda(lmbda, LAMBDAS)


def test_codec_of_one_rate_takes_its_lambda_and_no_other():
    assert check_lambda(1024, (1024.0,)) == 1024
    with pytest.raises(ValueError, match="1024, the one λ trained"):
        check_lambda(1025, (1024.0,))


@pytest.mark.parametrize("lmbda", [0.1, 0.3, 1000.1])
def test_lambda_that_float32_cannot_hold_is_still_its_codecs_own(lmbda):
    """A file holds λ in float32, a hair above or below what was trained."""
    import numpy as np

    assert check_lambda(float(np.float32(lmbda)), (lmbda,))
