"""Muon steps the matrices, Adam the rest, whatever the memory layout."""

import pytest
import torch
from helpers import TINY, fresh
from torch import nn

from xmodal_lite.optimiser import TwoOptimisers
from xmodal_lite.stages import build_codec


def small(layout=torch.contiguous_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, bias=False), nn.Conv2d(5, 6, 1))
    return net.to(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_works_on_the_weights_themselves(layout):
    """A matrix is a view of the convolution's memory, never a copy."""
    net = small(layout)
    optimiser = TwoOptimisers(net, 1e-3, 0.02)
    assert len(optimiser._pairs) == 3
    for parameter, matrix in optimiser._pairs:
        assert matrix.data_ptr() == parameter.data_ptr()
        assert matrix.shape == (len(parameter), parameter[0].numel())
        matrix.data[0, 0] = 123
        assert (parameter == 123).any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, torch.channels_last])
def test_a_step_is_muons_whatever_the_memory_layout(layout, gradient_layout):
    net = small(layout)
    start = [layer.weight.detach().flatten(1).clone() for layer in net]
    optimiser = TwoOptimisers(net, 1e-3, 0.02)
    expected = [nn.Parameter(matrix.clone()) for matrix in start]
    muon = torch.optim.Muon(expected, lr=0.01, weight_decay=0.0)
    for step in range(2):
        for layer, matrix in zip(net, expected, strict=True):
            generator = torch.Generator().manual_seed(step)
            gradient = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.grad = gradient.contiguous(memory_format=gradient_layout)
            matrix.grad = gradient.flatten(1)
        optimiser.step(0.5)
        muon.step()
    for layer, matrix, before in zip(net, expected, start, strict=True):
        # orthogonalised in bfloat16, with columns in another order
        torch.testing.assert_close(layer.weight.flatten(1), matrix, rtol=0, atol=1e-3)
        assert (matrix - before).abs().mean() > 2e-3
        assert layer.weight.grad is None


def test_biases_gains_and_masked_convolutions_go_to_adam():
    codec = fresh()
    muon = {id(parameter) for parameter, _ in TwoOptimisers(codec, 1e-3, 0.02)._pairs}
    for name, parameter in codec.named_parameters():
        if name.endswith(".bias") or "context_prediction" in name or "log_gain" in name:
            assert id(parameter) not in muon, name
    assert id(codec.g_a[0].weight) in muon
    assert len(TwoOptimisers(codec, 1e-3, 0).optimisers) == 1  # Adam for all


def test_what_the_reference_runs_through_can_have_an_adam_of_its_own(visible_weights):
    codec = build_codec(TINY, "pair", visible_weights)
    optimiser = TwoOptimisers(codec, 1e-3, 0.02, reference_rate=1e-4)
    own = {id(p) for p in optimiser.optimisers[1].param_groups[0]["params"]}
    inputs = {"g_a.0.weight", "g_s.1.0.weight", "g_s.2.0.weight", "g_s.3.0.weight"}
    inputs |= {f"feature_decoder.{n}.weight" for n in ("skip", "blocks.0.conv1", "blocks.0.skip")}
    inputs |= {"feature_decoder.blocks.0.skip.bias"}
    branches = ("reference_features.", "channel_alignment.", "spatial_alignment.")
    for name, parameter in codec.named_parameters():
        wanted = name in inputs or name.startswith(branches)
        assert (id(parameter) in own) == wanted, name
    before = codec.g_a[0].weight.clone()
    for parameter in codec.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimiser.step(0.5)  # Adam's first step is the rate itself, wherever the gradient is not zero
    assert torch.allclose(before - codec.g_a[0].weight, torch.tensor(0.5e-4), atol=1e-7)


def test_frozen_weights_are_not_optimised(visible_weights):
    codec = build_codec(TINY, "pair", visible_weights)
    optimiser = TwoOptimisers(codec, 1e-3, 0.02)
    held = {
        p.data_ptr() for o in optimiser.optimisers for g in o.param_groups for p in g["params"]
    }
    assert not held & {p.data_ptr() for p in codec.reference_codec.parameters()}
