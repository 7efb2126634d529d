"""Attention looks where it should, inside its window, and nowhere across the wrap."""

import pytest
import torch
from torch.nn import functional as F

from xmodal_lite.spatial_alignment import (
    CrossAttentionBlock,
    SpatialAlignment,
    WindowCrossAttention,
)


def attention(embedding=6, heads=3, window=4, shift=0, seed=0):
    torch.manual_seed(seed)
    return WindowCrossAttention(embedding, heads, window, shift).eval()


def inputs(height, width, embedding=6, batch=2):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, height, width, embedding, generator=generator) for _ in "ab")


def pass_through(layer):
    """A linear layer that returns its input."""
    with torch.no_grad():
        layer.weight.copy_(torch.eye(len(layer.weight)))
        layer.bias.zero_()


# --- windows ---


@pytest.mark.parametrize("size", [(4, 4), (8, 4), (4, 12), (16, 8)])
def test_windows_come_apart_and_together_again(size):
    x = inputs(*size)[0]
    part = attention()
    windows = part._windows(x)
    assert windows.shape == (2, size[0] // 4, size[1] // 4, 3, 16, 2)
    assert torch.equal(part._unwindow(windows), x)


def test_a_window_holds_neighbours_row_by_row():
    x = torch.arange(64.0).view(1, 8, 8, 1)
    window = attention(embedding=1, heads=1)._windows(x)[0, 1, 0, 0, :, 0]
    expected = x[0, 4:8, 0:4, 0].reshape(-1)  # second row of windows, first column
    assert torch.equal(window, expected)


# --- what it computes ---


def test_one_window_is_scaled_dot_product_attention():
    part = attention()
    infrared, visible = inputs(4, 4)
    tokens = [
        layer(x).view(2, 16, 3, 2).transpose(1, 2)  # (B, heads, tokens, d)
        for layer, x in ((part.query, infrared), (part.key, visible), (part.value, visible))
    ]
    bias = part.position_bias[:, part.relative]
    expected = F.scaled_dot_product_attention(*tokens, attn_mask=bias)
    expected = part.project(expected.transpose(1, 2).reshape(2, 4, 4, 6))
    torch.testing.assert_close(part(infrared, visible)[0], expected)


def test_windows_do_not_see_each_other():
    part = attention()
    infrared, visible = inputs(8, 8)
    before = part(infrared, visible)[0]
    changed = visible.clone()
    changed[:, :4, :4] += 1
    difference = (part(infrared, changed)[0] - before).abs().sum((0, 3))
    assert difference[:4, :4].min() > 0
    assert difference[4:].max() == 0 and difference[:, 4:].max() == 0


def test_shifted_windows_carry_what_lies_across_a_border():
    infrared, visible = inputs(8, 8)
    changed = visible.clone()
    changed[:, 3, 3] += 1  # beside the border between the plain windows
    part = attention(shift=2)
    difference = (part(infrared, changed)[0] - part(infrared, visible)[0]).abs().sum((0, 3))
    assert difference[2:6, 2:6].min() > 0
    difference[2:6, 2:6] = 0
    assert difference.max() == 0


@pytest.mark.parametrize("shift", [0, 2])
def test_weights_of_every_query_sum_to_one(shift):
    infrared, visible = inputs(8, 12)
    weights = attention(shift=shift)(infrared, visible)[1]
    assert weights.shape == (2, 2, 3, 3, 16, 16)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3, 3, 16))


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (8, 12)])
def test_no_weight_crosses_the_wrap(size):
    """After the roll the last windows hold both ends of the frame: they must stay strangers."""
    height, width = size
    infrared, visible = inputs(*size)
    weights = attention(shift=2)(infrared, visible)[1]  # (B, rows, columns, heads, M², M²)
    frame = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    rolled = torch.stack([frame.roll((-2, -2), (1, 2)), frame])  # token's place before, after
    tokens = rolled.view(2, 2, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
    tokens = tokens.reshape(2, height // 4, width // 4, 16, 2)
    offsets = tokens[..., :, None, :] - tokens[..., None, :, :]
    apart = (offsets[0] != offsets[1]).any(-1)  # neighbours in the window only
    apart = apart[None, :, :, None].expand_as(weights)
    assert apart.any()
    assert weights[apart].max() == 0
    assert weights[~apart].min() > 0


def test_position_bias_is_one_number_a_head_and_offset():
    part = attention()
    assert part.position_bias.shape == (3, 49)
    assert part.relative.unique().numel() == 49
    first, last = part.relative[0, 0], part.relative[15, 15]
    assert first == last == 24  # the middle: no offset
    assert part.relative[0, 1] == part.relative[10, 11]  # one to the left, anywhere
    assert part.relative[0, 1] != part.relative[1, 0]


def test_attention_finds_a_known_shift():
    """Queries and keys that carry their content find where it went inside the window."""
    torch.manual_seed(0)
    content = F.normalize(torch.randn(1, 4, 4, 12), dim=-1)
    shifted = content.roll((1, 2), (1, 2))  # all inside one window
    part = attention(embedding=12, heads=1)
    for layer in (part.query, part.key, part.value, part.project):
        pass_through(layer)
    with torch.no_grad():
        part.query.weight.mul_(200)
        part.position_bias.zero_()
    attended, weights = part(content, shifted)
    found = weights[0, 0, 0, 0].argmax(-1)  # (16,)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    expected = (rows + 1) % 4 * 4 + (columns + 2) % 4
    assert torch.equal(found, expected.reshape(-1))
    torch.testing.assert_close(attended, content, atol=1e-3, rtol=0)  # the shift is undone


# --- the block and the stage ---


@pytest.mark.parametrize("shortcut", ["infrared", "visible"])
def test_the_shortcut_adds_the_embedding_that_was_chosen(shortcut):
    torch.manual_seed(0)
    block = CrossAttentionBlock(6, 3, 4, 0, shortcut)
    for layer in (block.attention.project, block.mlp[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    infrared, visible = inputs(4, 4)
    assert torch.equal(
        block(infrared, visible)[0], {"infrared": infrared, "visible": visible}[shortcut]
    )


def test_keys_and_values_come_from_visible_and_queries_from_infrared():
    torch.manual_seed(0)
    block = CrossAttentionBlock(6, 3, 4, 0, "infrared")
    infrared, visible = inputs(4, 4)
    attended, weights = block.attention(block.norm_infrared(infrared), block.norm_visible(visible))
    constant = torch.ones_like(visible)  # no visible content: every key is the same
    _, flat = block(infrared, constant)
    torch.testing.assert_close(
        flat,
        block.attention.position_bias[:, block.attention.relative].softmax(-1).expand_as(flat),
    )
    assert not torch.equal(block(infrared, visible)[1], block(infrared.flip(1), visible)[1])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (16, 24), (32, 8)])  # the three stages and beyond
@pytest.mark.parametrize("shortcut", ["infrared", "visible"])
def test_aligned_features_have_the_shape_of_their_stage(stride, size, shortcut):
    part = SpatialAlignment(5, 6, stride=stride, shortcut=shortcut)
    infrared = torch.randn(2, 5, *size)
    hidden = torch.randn(2, 5, stride * size[0], stride * size[1])
    assert part(infrared, hidden).shape == infrared.shape


def test_attention_weights_of_each_block_come_along():
    part = SpatialAlignment(5, 6, blocks=3)
    aligned, weights = part.align(torch.randn(2, 5, 16, 8), torch.randn(2, 5, 16, 8))
    assert [tuple(w.shape) for w in weights] == [(2, 2, 1, 3, 16, 16)] * 3
    assert aligned.shape == (2, 5, 16, 8)


def test_every_second_block_works_on_shifted_windows():
    shifts = [block.attention.shift for block in SpatialAlignment(5, 6, blocks=4).blocks]
    assert shifts == [0, 2, 0, 2]


def test_a_window_of_one_token_works():
    part = SpatialAlignment(5, 6, window=1)
    assert part(torch.randn(1, 5, 8, 8), torch.randn(1, 5, 8, 8)).isfinite().all()


@pytest.mark.parametrize("shortcut", ["infrared", "visible"])
def test_every_weight_takes_part(shortcut):
    part = SpatialAlignment(5, 6, stride=2, shortcut=shortcut)
    part(torch.randn(2, 5, 16, 16), torch.randn(2, 5, 32, 32)).square().sum().backward()
    for name, parameter in part.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("key.bias"):  # adds the same to every logit of a query
            assert parameter.grad.abs().sum() > 0, name
