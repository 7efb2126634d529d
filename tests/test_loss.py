"""The Lagrangian counts everything that is sent, per sample, in bits per pixel."""

import math

import pytest
import torch
from helpers import tiny_pair_codec

from xmodal_lite.channel_alignment import coefficient_bits
from xmodal_lite.loss import psnr, rate_distortion, run_codec


def batch():
    """Two samples of 8×4 pixels with 10 and 20 bits of y, 3 and 6 of z."""
    target = torch.zeros(2, 1, 8, 4)
    x_hat = torch.stack([torch.full((1, 8, 4), 0.5), torch.full((1, 8, 4), 0.1)])
    y = torch.full((2, 5, 1, 2), 0.5)
    y[1] = 0.25
    z = torch.full((2, 3, 1, 1), 0.5)
    z[1] = 0.25
    return x_hat, target, {"y": y, "z": z}, torch.tensor([256.0, 1024.0])


def test_loss_is_lambda_times_distortion_plus_rate():
    out = rate_distortion(*batch())
    torch.testing.assert_close(out.mse, torch.tensor([0.25, 0.01]))
    torch.testing.assert_close(out.bpp, torch.tensor([13 / 32, 26 / 32]))
    torch.testing.assert_close(out.loss, torch.tensor([64 + 13 / 32, 10.24 + 26 / 32]))


def test_rates_of_y_and_z_are_counted_apart_and_together():
    out = rate_distortion(*batch(), coefficient_bits=64)
    torch.testing.assert_close(out.bpp_y, torch.tensor([10 / 32, 20 / 32]))
    torch.testing.assert_close(out.bpp_z, torch.tensor([3 / 32, 6 / 32]))
    torch.testing.assert_close(out.bpp, out.bpp_y + out.bpp_z + 64 / 32)


def test_pixels_are_those_of_the_coded_image_not_its_channels():
    x_hat, _, likelihoods, lmbda = batch()
    grey = rate_distortion(x_hat, torch.zeros(2, 1, 8, 4), likelihoods, lmbda)
    colour = rate_distortion(
        x_hat.expand(-1, 3, -1, -1), torch.zeros(2, 3, 8, 4), likelihoods, lmbda
    )
    assert torch.equal(grey.bpp, colour.bpp) and torch.allclose(grey.mse, colour.mse)


def test_the_papers_coefficients_are_an_eightieth_of_a_bit_per_pixel():
    """128 float32 at 640×512: what the paper calls negligible is 11 % of its lowest rate."""
    image = torch.zeros(1, 1, 512, 640)
    nothing = {"y": torch.ones(1, 1, 1, 1), "z": torch.ones(1, 1, 1, 1)}
    out = rate_distortion(image, image, nothing, torch.tensor([256.0]), 128 * 32)
    assert out.bpp.item() == pytest.approx(0.0125)


def test_distortion_is_measured_in_float32_whatever_the_network_ran_in():
    x_hat, target, likelihoods, lmbda = batch()
    out = rate_distortion(x_hat.bfloat16(), target, likelihoods, lmbda)
    assert out.mse.dtype == torch.float32
    torch.testing.assert_close(out.mse[0], torch.tensor(0.25))


def test_gradient_pulls_towards_the_target_and_towards_likely_symbols():
    x_hat, target, likelihoods, lmbda = batch()
    x_hat.requires_grad_()
    likelihoods["y"].requires_grad_()
    rate_distortion(x_hat, target, likelihoods, lmbda).loss.sum().backward()
    assert (x_hat.grad > 0).all()  # x̂ is above the target
    assert (likelihoods["y"].grad < 0).all()


def test_psnr_of_images_on_zero_to_one():
    assert psnr(1.0) == 0
    assert psnr(0.001) == pytest.approx(30)
    assert psnr(0.0) == math.inf


def test_the_rate_counts_coefficients_where_they_are_sent():
    codec = tiny_pair_codec().eval()
    images = (
        torch.rand(1, 3, 128, 128).repeat(2, 1, 1, 1),
        torch.rand(1, 1, 64, 64).repeat(2, 1, 1, 1),
    )
    lmbda = torch.tensor([500.0, 500.0])
    with torch.no_grad():
        counted = run_codec(codec, *images, lmbda, torch.tensor([1.0, 0.0]))
    rates = counted.bpp - counted.bpp_y - counted.bpp_z
    bits = coefficient_bits(codec.config) / 64**2
    assert rates.tolist() == pytest.approx([bits, 0], abs=1e-5)


def test_bfloat16_trains_too():
    codec = tiny_pair_codec().train()
    visible, infrared = torch.rand(2, 3, 128, 128), torch.rand(2, 1, 64, 64)
    lmbda = torch.tensor([300.0, 3000.0])
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(run_codec(codec, visible, infrared, lmbda).loss)
    losses[1].mean().backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=0.1, atol=0)
    assert all(p.grad.isfinite().all() for p in codec.parameters() if p.grad is not None)
