"""Both sides hold the same affine coefficients, at the precision of the wire."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import REFERENCES, TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_lite.bitstream import BitstreamError
from xmodal_lite.channel_alignment import (
    INT8_STEP,
    ChannelAlignment,
    coefficient_bits,
    pack_coefficients,
    round_coefficients,
    unpack_coefficients,
)
from xmodal_lite.pair_codec import PairCodec

FORMATS = {"float32": 4, "float16": 2, "int8": 1}

floats = st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=20)


def halves(values):
    """γ and β from a list of numbers."""
    values = torch.tensor(values[: len(values) // 2 * 2], dtype=torch.float32)
    gamma, beta = values.view(2, 1, -1, 1, 1)
    return gamma, beta


# --- rounding ---


def test_float32_changes_nothing():
    values = torch.randn(100) * 1e6
    assert torch.equal(round_coefficients(values, "float32"), values)


@given(floats)
@settings(max_examples=50, deadline=None)
def test_float16_rounds_to_what_half_precision_holds(values):
    rounded = round_coefficients(torch.tensor(values), "float16")
    expected = np.clip(np.float32(values), -65504, 65504).astype(np.float16)
    assert (rounded.numpy() == expected.astype(np.float32)).all()


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_int8_rounds_to_the_nearest_of_256_steps(values):
    rounded = round_coefficients(torch.tensor(values), "int8").numpy()
    steps = np.arange(-128, 128) * INT8_STEP
    assert np.isin(rounded, steps).all()
    nearest = np.abs(np.float64(values)[:, None] - steps).min(1)
    assert (np.abs(rounded - np.float64(values)) == nearest).all()


@pytest.mark.parametrize(
    ("coefficient_format", "low", "high"),
    [("int8", -4.0, 127 / 32), ("float16", -65504.0, 65504.0)],
)
def test_values_beyond_the_format_are_clamped_to_its_ends(coefficient_format, low, high):
    values = round_coefficients(torch.tensor([-1e9, 1e9]), coefficient_format)
    assert values.tolist() == [low, high]


@pytest.mark.parametrize("coefficient_format", FORMATS)
def test_rounded_values_stay_where_they_are(coefficient_format):
    once = round_coefficients(torch.randn(1000) * 3, coefficient_format)
    assert torch.equal(round_coefficients(once, coefficient_format), once)


@pytest.mark.parametrize("coefficient_format", FORMATS)
def test_gradients_pass_straight_through_the_rounding(coefficient_format):
    values = torch.linspace(-3.9, 3.9, 50, requires_grad=True)
    weights = torch.randn(50)
    (round_coefficients(values, coefficient_format) * weights).sum().backward()
    assert torch.equal(values.grad, weights)


def test_gradients_stop_where_the_clamp_holds():
    values = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    round_coefficients(values, "int8").sum().backward()
    assert values.grad.tolist() == [0, 1, 0]


# --- the wire ---


@pytest.mark.parametrize("coefficient_format", FORMATS)
@given(values=floats)
@settings(max_examples=50, deadline=None)
def test_what_is_sent_is_what_the_encoder_used(coefficient_format, values):
    gamma, beta = (round_coefficients(c, coefficient_format) for c in halves(values))
    data = pack_coefficients(gamma, beta, coefficient_format)
    channels = gamma.shape[1]
    assert len(data) == 2 * channels * FORMATS[coefficient_format]
    received = unpack_coefficients(data, channels, coefficient_format)
    assert torch.equal(received[0], gamma) and torch.equal(received[1], beta)
    assert received[0].dtype == torch.float32


def test_numbers_on_the_wire_are_little_endian_gamma_first():
    gamma, beta = (
        torch.tensor([1.0, 2.0]).view(1, 2, 1, 1),
        torch.tensor([-1.0, 0.5]).view(1, 2, 1, 1),
    )
    assert pack_coefficients(gamma, beta, "float32") == struct.pack("<4f", 1, 2, -1, 0.5)
    assert pack_coefficients(gamma, beta, "float16") == struct.pack("<4e", 1, 2, -1, 0.5)
    assert pack_coefficients(gamma, beta, "int8") == struct.pack("<4b", 32, 64, -32, 16)


@pytest.mark.parametrize("coefficient_format", FORMATS)
@pytest.mark.parametrize("change", [-1, 1, -8])
def test_another_number_of_bytes_names_both_numbers(coefficient_format, change):
    expected = 2 * 4 * FORMATS[coefficient_format]
    with pytest.raises(BitstreamError, match=f"{expected + change} bytes.*expected {expected} "):
        unpack_coefficients(bytes(expected + change), 4, coefficient_format)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("coefficient_format", "dtype"), [("float32", "<f4"), ("float16", "<f2")])
def test_a_received_coefficient_that_is_not_finite_is_an_error(coefficient_format, dtype, value):
    data = np.array([1, value], dtype).tobytes()
    with pytest.raises(BitstreamError, match="not finite"):
        unpack_coefficients(data, 1, coefficient_format)


@pytest.mark.parametrize("coefficient_format", FORMATS)
def test_a_coefficient_that_is_not_finite_is_never_sent(coefficient_format):
    gamma, beta = torch.ones(1, 4, 1, 1), torch.full((1, 4, 1, 1), torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        pack_coefficients(gamma, round_coefficients(beta, coefficient_format), coefficient_format)


@pytest.mark.parametrize("target", ["infrared", "visible"])
@pytest.mark.parametrize("name", REFERENCES)
def test_coefficient_bits_are_those_on_the_wire(name, target):
    for coefficient_format in ("float32", "float16", "int8"):
        codec = PairCodec(
            replace(TINY, target=target, coefficient_format=coefficient_format, **REFERENCES[name])
        )
        bits = coefficient_bits(codec.config)
        if codec.channel_alignment is None:
            assert bits == 0
        else:
            ones = torch.ones(1, TINY.feature_channels, 1, 1)
            assert bits == 8 * len(pack_coefficients(ones, ones, coefficient_format))


# --- the network ---


@pytest.fixture
def features():
    torch.manual_seed(0)
    return torch.randn(2, 4, 6, 10), torch.randn(2, 4, 6, 10)


def test_an_untrained_alignment_is_close_to_the_identity(features):
    torch.manual_seed(0)
    gamma, beta = ChannelAlignment(4, "float32")(*features)
    assert (gamma - 1).abs().max() < 0.3 and beta.abs().max() < 0.3
    alignment = ChannelAlignment(4, "int8")
    for head in (alignment.gamma_head, alignment.beta_head):
        torch.nn.init.zeros_(head.weight)
    aligned = alignment.align(features[0], *alignment(*features))
    assert torch.equal(aligned, features[0])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 16)])
def test_there_are_as_many_coefficients_whatever_the_image_size(size):
    images = torch.randn(3, 4, *size), torch.randn(3, 4, *size)
    gamma, beta = ChannelAlignment(4)(*images)
    assert gamma.shape == beta.shape == (3, 4, 1, 1)


@pytest.mark.parametrize("coefficient_format", FORMATS)
def test_the_network_gives_coefficients_that_the_wire_holds(features, coefficient_format):
    with torch.no_grad():
        gamma, beta = ChannelAlignment(4, coefficient_format)(*features)
    for sample in range(2):
        data = pack_coefficients(gamma[sample], beta[sample], coefficient_format)
        received = unpack_coefficients(data, 4, coefficient_format)
        assert torch.equal(received[0][0], gamma[sample])
        assert torch.equal(received[1][0], beta[sample])


def test_coefficients_are_float32_and_on_the_grid_under_bfloat16(features):
    with torch.autocast("cpu", torch.bfloat16):
        gamma, beta = ChannelAlignment(4)(*features)
    assert gamma.dtype == beta.dtype == torch.float32
    assert torch.equal(gamma, round_coefficients(gamma, "int8"))


def test_alignment_is_affine_per_channel(features):
    gamma = torch.tensor([2.0, 0.0, -1.0, 1.0]).view(1, 4, 1, 1)
    beta = torch.tensor([0.0, 3.0, 0.0, 1.0]).view(1, 4, 1, 1)
    aligned = ChannelAlignment.align(features[0], gamma, beta)
    for channel, (scale, offset) in enumerate([(2, 0), (0, 3), (-1, 0), (1, 1)]):
        torch.testing.assert_close(aligned[:, channel], scale * features[0][:, channel] + offset)


def test_coefficients_depend_on_both_modalities(features):
    torch.manual_seed(0)
    alignment = ChannelAlignment(4, "float32")
    visible, infrared = features
    gamma, _ = alignment(visible, infrared)
    assert not torch.equal(alignment(visible.flip(1), infrared)[0], gamma)
    assert not torch.equal(alignment(visible, infrared.flip(1))[0], gamma)


def test_a_lossy_format_still_trains_every_weight(features):
    alignment = ChannelAlignment(4, "int8")
    gamma, beta = alignment(*features)
    alignment.align(features[0], gamma, beta).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in alignment.parameters())
