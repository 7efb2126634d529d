"""Both modalities meet on one grid, and come back from it."""

import pytest
import torch

from xmodal_lite.features import FeatureDecoder, FeatureEncoder


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 7), (16, 8)])
def test_features_of_both_modalities_lie_on_the_infrared_grid(stride, size):
    height, width = size
    image = torch.rand(2, 3, stride * height, stride * width)
    assert FeatureEncoder(3, 5, stride)(image).shape == (2, 5, height, width)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("in_channels", [5, 10])
def test_decoder_returns_to_the_pixels_of_its_modality(stride, in_channels):
    features = torch.rand(2, in_channels, 4, 7)
    decoder = FeatureDecoder(in_channels, 5, 3, stride)
    assert decoder(features).shape == (2, 3, stride * 4, stride * 7)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_visible_shift_of_one_stride_is_a_shift_of_one_feature(stride):
    torch.manual_seed(0)
    encoder = FeatureEncoder(1, 4, stride)
    image = torch.rand(1, 1, 40 * stride, 40 * stride)
    with torch.no_grad():
        here, shifted = encoder(image), encoder(image.roll((stride, 2 * stride), (2, 3)))
    inner = slice(10, 30)  # beyond the reach of the borders
    moved = here.roll((1, 2), (2, 3))
    torch.testing.assert_close(shifted[..., inner, inner], moved[..., inner, inner])


def test_encoder_skip_carries_the_image_past_blocks_that_cancel_it():
    torch.manual_seed(0)
    encoder = FeatureEncoder(1, 4)
    image = torch.rand(1, 1, 8, 8)
    encoder.blocks = torch.nn.Conv2d(4, 4, 1)
    torch.nn.init.zeros_(encoder.blocks.weight)
    torch.nn.init.zeros_(encoder.blocks.bias)
    torch.testing.assert_close(encoder(image), encoder.first(image))


def test_decoder_of_two_inputs_passes_the_first_one_through_at_the_start():
    """What stands beside the codec's own features must not replace them before training."""
    torch.manual_seed(0)
    first, second = torch.rand(1, 5, 4, 7), torch.rand(1, 5, 4, 7)
    block = FeatureDecoder(10, 5, 1).blocks[0]
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    torch.testing.assert_close(block(torch.cat([first, second], 1)), first)


def test_every_weight_takes_part():
    for part, inputs in (
        (FeatureEncoder(3, 4, 2), torch.rand(1, 3, 16, 16)),
        (FeatureDecoder(8, 4, 3, 2), torch.rand(1, 8, 8, 8)),
    ):
        part(inputs).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
