"""What the entropy model codes comes back, costs what was estimated, and cannot be attacked."""

import copy
import functools
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TINY, isolated, liven
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xmodal_lite import entropy
from xmodal_lite.bitstream import BitstreamError
from xmodal_lite.config import LAMBDAS
from xmodal_lite.entropy import (
    SCALE_LEVELS,
    EntropyModel,
    EntropyTables,
    SymbolReader,
    SymbolWriter,
)

CONTEXTS = ["checkerboard", "autoregressive"]
SIDE = 5


def make(context="checkerboard", side=0, lively=True, **changes) -> EntropyModel:
    torch.manual_seed(0)
    model = EntropyModel(replace(TINY, context=context, **changes), side, side_stride=2)
    if lively:
        liven(model)
        model.update_tables()
    return model.eval()


@functools.cache
def lively(context="checkerboard", side=0) -> EntropyModel:
    """Shared between tests: not to be changed."""
    return make(context, side)


def latent(h=8, w=8, seed=0, M=12):
    return torch.randn(1, M, h, w, generator=torch.Generator().manual_seed(seed))


def side_of(y):
    return torch.randn(
        1, SIDE, 2 * y.shape[2], 2 * y.shape[3], generator=torch.Generator().manual_seed(9)
    )


def round_trip(model, y, lmbda=1024.0, side=None):
    coded = model.compress(y, lmbda, side)
    decoded = model.decompress(coded.z, coded.y, coded.checksum, tuple(y.shape[2:]), side)
    assert torch.equal(decoded, coded.y_coded)
    return coded


# --- both sides hold the same ---


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("shape", [(4, 4), (4, 12), (16, 8)])
@pytest.mark.parametrize("lmbda", [256.0, 700.0, 4096.0])
def test_decoder_gets_the_latent_that_the_encoder_holds(context, shape, lmbda):
    coded = round_trip(lively(context), latent(*shape), lmbda)
    assert coded.y_coded.dtype == torch.float64 and coded.y_coded.shape == (1, 12, *shape)


@pytest.mark.parametrize("context", CONTEXTS)
def test_coded_latent_is_within_half_a_step(context):
    y = latent()
    coded = round_trip(lively(context), y)
    gain = lively(context).gains(torch.tensor([1024.0]))[0]
    assert (coded.y_coded - (y * gain).double()).abs().max() <= 0.5
    assert coded.y_coded.unique().numel() > 100  # not all the mean


@pytest.mark.parametrize("context", CONTEXTS)
def test_symbols_of_these_tests_are_not_trivial(context, monkeypatch):
    """A round trip of zeros under one table would prove nothing."""
    tables, symbols = [], []

    class Watched(SymbolWriter):
        def __call__(self, indexes, *rest):
            out = super().__call__(indexes, *rest)
            tables.append(indexes.ravel())
            symbols.append(out.ravel())
            return out

    monkeypatch.setattr(entropy, "SymbolWriter", Watched)
    lively(context).compress(latent(), 1024.0)
    assert np.unique(np.concatenate(tables[1:])).size > 10
    assert np.unique(np.concatenate(symbols[1:])).size > 20


@pytest.mark.parametrize("context", CONTEXTS)
def test_both_directions_feed_the_coder_the_same_tables(context, monkeypatch):
    """Each number the range coder is given is the same when writing and when reading."""
    seen = {"write": [], "read": []}

    def watch(cls, key):
        class Watched(cls):
            def __call__(self, indexes, tables, values):
                symbols = super().__call__(indexes, tables, values)
                seen[key].append((np.array(indexes), [list(t) for t in tables], symbols))
                return symbols

        return Watched

    monkeypatch.setattr(entropy, "SymbolWriter", watch(SymbolWriter, "write"))
    monkeypatch.setattr(entropy, "SymbolReader", watch(SymbolReader, "read"))
    round_trip(lively(context), latent(4, 8))
    assert len(seen["write"]) == len(seen["read"]) > 1
    for (indexes, tables, symbols), (indexes_, tables_, symbols_) in zip(
        seen["write"], seen["read"], strict=True
    ):
        assert (indexes == indexes_).all() and (symbols == symbols_).all() and tables == tables_


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_reference_latent_changes_the_bits_and_is_needed_to_decode(context):
    model, y = lively(context, SIDE), latent()
    side = side_of(y)
    coded = round_trip(model, y, side=side)
    assert coded.y != model.compress(y, 1024.0, side.flip(-1)).y
    with pytest.raises(BitstreamError, match="decoded symbols"):
        model.decompress(coded.z, coded.y, coded.checksum, (8, 8), side.flip(-1))


def test_an_untrained_reference_branch_changes_nothing():
    torch.manual_seed(0)
    model = EntropyModel(TINY, SIDE, 2)
    model.update_tables()
    y = latent()
    with_side, without = model.compress(y, 1024.0, side_of(y)), model.compress(y, 1024.0)
    assert with_side[:3] == without[:3]


def test_z_is_rounded_to_whole_numbers_in_training_and_when_coding():
    model = make()
    seen = []
    model.hyper.h_s.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    y = latent()
    with torch.no_grad():
        model(y, torch.tensor([1024.0]))
        model.train()(y, torch.tensor([1024.0]))
    round_trip(model.eval(), y)
    estimated, trained, coded, decoded = seen
    assert torch.equal(estimated, estimated.round()) and estimated.abs().max() > 0
    for other in (trained, coded, decoded):
        assert torch.equal(estimated.double(), other.double())
    assert (model.hyper.entropy_bottleneck.quantiles[:, :, 1] == 0).all()


# --- the same as CompressAI's ---


@pytest.fixture
def no_grid(monkeypatch):
    monkeypatch.setattr(entropy, "MEAN_GRID", 2.0**40)


def double_inputs(model, y, lmbda=1024.0):
    """The gained latent and the hyperprior's parameters, float64, as the coder sees them."""
    gained = y * model.gains(torch.tensor([lmbda]))[0]
    z = model.hyper.h_a(gained).round().double()
    return gained.double(), copy.deepcopy(model.hyper.h_s).double()(z)


@torch.no_grad()
def test_serial_loop_equals_compressais(no_grid):
    model, y = lively("autoregressive"), latent(8, 12)
    theirs = copy.deepcopy(model.latent).double().compress(*double_inputs(model, y))
    ours = model.compress(y, 1024.0)
    torch.testing.assert_close(ours.y_coded, theirs["y_hat"], atol=1e-9, rtol=0)
    assert ours.y == theirs["strings"][0][0]  # the same symbols under the same tables


@torch.no_grad()
def test_checkerboard_equals_compressais_two_passes(no_grid):
    model, y = lively("checkerboard"), latent(8, 12)
    theirs = copy.deepcopy(model.latent).double()(*double_inputs(model, y))
    ours = model.compress(y, 1024.0)
    torch.testing.assert_close(ours.y_coded, theirs["y_hat"], atol=1e-9, rtol=0)


def test_grid_moves_the_latent_by_half_a_step_at_most():
    """In anchors, where no neighbour's rounding joins in."""
    model, y = lively("checkerboard"), latent(4, 4)
    with torch.no_grad():
        theirs = copy.deepcopy(model.latent).double()(*double_inputs(model, y))["y_hat"]
    difference = (theirs - model.compress(y, 1024.0).y_coded)[..., ::2, ::2].abs()
    assert 0 < difference.max() <= 1 / 128


def test_means_lie_on_the_grid_and_tables_are_compressais():
    rng = np.random.default_rng(0)
    scales = np.concatenate([SCALE_LEVELS, rng.lognormal(0, 3, 500), [-1, 0, 0.11, 256, 1e9]])
    means = rng.normal(0, 10, scales.shape)
    indexes, on_grid = entropy._grid(np.concatenate([scales, means]))
    assert (on_grid * 64 == np.rint(on_grid * 64)).all()
    assert np.abs(on_grid - means).max() <= 1 / 128
    gaussian = lively().gaussian
    expected = gaussian.build_indexes(torch.from_numpy(scales).float())
    levels = np.float32(gaussian.scale_table)
    tie = np.isin(np.float32(scales), levels)  # where float32 and float64 may part
    assert (indexes == expected.numpy())[~tie].all()
    assert (indexes[:64] == np.arange(64)).all()  # a level itself has its own table


# --- what it costs ---


def correlated(count, h, w, seed):
    """Latents whose scale drifts over the frame and that resemble their neighbours."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 12, h + 2, w + 2, generator=generator)
    smooth = nn.functional.avg_pool2d(noise, 3, stride=1) * 3
    loud = nn.functional.interpolate(
        torch.rand(count, 1, 2, 2, generator=generator) * 2, (h, w), mode="bilinear"
    )
    return smooth * loud.exp()


@pytest.mark.parametrize("context", CONTEXTS)
def test_estimated_bits_are_the_bytes_of_the_file(context):
    model = make(context, lively=False)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    lmbda = torch.full((4,), 1024.0)
    model.train()
    for step in range(60):
        likelihoods = model(correlated(4, 16, 16, step), lmbda)["likelihoods"]
        bits = -sum(p.log2().sum() for p in likelihoods.values())
        optimiser.zero_grad()
        (bits / 4 / 12 / 256).backward()
        optimiser.step()
    model.eval().update_tables()
    y = correlated(1, 32, 32, 1000)
    with torch.no_grad():
        likelihoods = model(y, lmbda[:1])["likelihoods"]
    coded = round_trip(model, y)
    for name, data in (("z", coded.z), ("y", coded.y)):
        estimate = -likelihoods[name].log2().sum().item() / 8
        assert len(data) == pytest.approx(estimate, rel=0.03, abs=24), name
    assert len(coded.y) < 12 * 32 * 32 / 2  # it has learned something


# --- gains ---


def test_gains_hit_the_trained_ones_at_each_knot():
    model = make()
    with torch.no_grad():
        model.log_gain.normal_()
        model.log_inverse_gain.normal_()
    gain, inverse = model.gains(torch.tensor(LAMBDAS))
    torch.testing.assert_close(gain[:, :, 0, 0], model.log_gain.exp())
    torch.testing.assert_close(inverse[:, :, 0, 0], model.log_inverse_gain.exp())


def test_gains_are_continuous_and_stay_between_their_knots():
    model = make()
    with torch.no_grad():
        model.log_gain.normal_()
    lmbda = torch.logspace(8, 12, 2001, base=2).clamp(256, 4096)
    log_gain = model.gains(lmbda)[0][:, :, 0, 0].log()
    assert (log_gain[1:] - log_gain[:-1]).abs().max() < 0.02 * model.log_gain.diff(
        dim=0
    ).abs().max()
    inside = log_gain[500:1001]  # between 512 and 1024
    assert (inside <= model.log_gain[1:3].amax(0) + 1e-5).all()
    assert (inside >= model.log_gain[1:3].amin(0) - 1e-5).all()


def test_gains_start_as_the_step_that_each_lambda_wants():
    gain, inverse = EntropyModel(TINY).gains(torch.tensor([256.0, 1024.0, 2000.0]))
    expected = (torch.tensor([256.0, 1024.0, 2000.0]) / 1024).sqrt()
    torch.testing.assert_close(gain[:, 0, 0, 0], expected)
    torch.testing.assert_close(gain * inverse, torch.ones_like(gain))


def test_each_sample_of_a_batch_has_its_own_gain():
    model = make()
    y = latent(seed=1).expand(3, -1, -1, -1)
    lmbda = torch.tensor([300.0, 1024.0, 4000.0])
    with torch.no_grad():
        together = model(y, lmbda)["y_hat"]
        alone = torch.cat([model(y[:1], each[None])["y_hat"] for each in lmbda])
    torch.testing.assert_close(together, alone)


def test_codec_of_one_rate_has_one_gain():
    model = make(lambdas=(777.0,))
    assert model.log_gain.shape == (1, 12)
    gain, _ = model.gains(torch.tensor([777.0, 777.0]))
    assert gain.shape == (2, 12, 1, 1)
    round_trip(model, latent(), 777.0)


def test_a_finer_step_costs_more_bits():
    sizes = [len(lively().compress(latent(), lmbda).y) for lmbda in (256, 600, 1024, 4096)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_dequantising_undoes_the_gain():
    model, y = lively(), latent()
    coded = model.compress(y, 900.0)
    step = model.gains(torch.tensor([900.0]))[1]
    y_hat = model.dequantise(coded.y_coded, 900.0)
    assert y_hat.dtype == torch.float32
    assert ((y_hat - y).abs() <= 0.5 * step + 1e-5).all()


# --- training ---


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_weight_is_trained(context):
    model = make(context, SIDE).train()
    y = latent().requires_grad_()
    out = model(y, torch.tensor([700.0]), side_of(y))
    bits = -sum(p.log2().sum() for p in out["likelihoods"].values())
    (bits + (out["y_hat"] - 1).square().sum()).backward()
    for name, parameter in model.named_parameters():
        if not name.endswith("quantiles"):  # found by bisection
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert y.grad.abs().sum() > 0


def test_training_in_bfloat16_leaves_the_entropy_model_in_float32():
    model, y = lively(), latent()
    with torch.no_grad():
        plain = model(y, torch.tensor([1024.0]))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(y, torch.tensor([1024.0]))
    assert torch.equal(plain["y_hat"], mixed["y_hat"])
    assert torch.equal(plain["likelihoods"]["y"], mixed["likelihoods"]["y"])


# --- tables ---


def test_coding_without_tables_says_what_to_do():
    model = make(lively=False)
    with pytest.raises(RuntimeError, match=r"update_tables\(\)"):
        model.compress(latent(), 1024.0)
    with pytest.raises(RuntimeError, match=r"update_tables\(\)"):
        model.decompress(bytes(8), bytes(8), 0, (4, 4))


@pytest.mark.parametrize("context", CONTEXTS)
def test_tables_travel_with_the_weights(context):
    model, y = lively(context), latent()
    other = make(context, lively=False)
    other.load_state_dict(model.state_dict())
    assert EntropyTables.of(other.gaussian) == EntropyTables.of(model.gaussian)
    assert other.compress(y, 1024.0)[:3] == model.compress(y, 1024.0)[:3]


def test_weights_without_tables_load_too():
    trained, other = make(lively=False), make()
    other.load_state_dict(trained.state_dict())
    with pytest.raises(RuntimeError, match="no probability tables"):
        other.compress(latent(), 1024.0)


def test_making_tables_twice_gives_the_same_tables():
    model = make()
    before = copy.deepcopy(model.state_dict())
    model.update_tables()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tables_are_ragged_rows_that_end_at_two_to_the_sixteen():
    for part in (lively().gaussian, lively().hyper.entropy_bottleneck):
        rows, lengths, offsets = EntropyTables.of(part)
        assert [len(row) for row in rows] == lengths and len(rows) == len(offsets)
        assert all(row[0] == 0 and row[-1] == 2**16 for row in rows)
        assert all((np.diff(row) > 0).all() for row in rows)


# --- bad input ---


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_latent_that_is_not_finite_is_an_error(value):
    y = latent()
    y[0, 3, 1, 2] = value
    with pytest.raises(ValueError, match="not finite"):
        lively().compress(y, 1024.0)


@pytest.mark.parametrize("lmbda", [255, 5000, float("nan"), "much"])
def test_a_lambda_that_was_not_trained_is_an_error(lmbda):
    with pytest.raises(ValueError, match="λ is"):
        lively().compress(latent(), lmbda)


@pytest.mark.parametrize("context", CONTEXTS)
def test_latents_far_beyond_the_tables_come_back(context):
    y = latent(4, 4)
    y[0, :, 0, 0] = 1e30
    y[0, :, 1, 1] = -5e4

    def work():
        coded = round_trip(lively(context), y)
        assert coded.y_coded.max() == pytest.approx(2**20, rel=1e-3)

    isolated(work)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("part", ["h_a", "h_s"])
def test_weights_gone_wild_cannot_hang_the_coder(context, part):
    """Symbols of 2³⁰ and more send CompressAI's encoder into an endless loop."""
    model = make(context)
    with torch.no_grad():
        for parameter in getattr(model.hyper, part).parameters():
            parameter.mul_(1e5)
    isolated(lambda: round_trip(model, latent(4, 4)), timeout=30)


def test_hyper_latent_that_is_not_finite_is_an_error():
    model = make()
    with torch.no_grad():
        model.hyper.h_a[0].weight.fill_(1e38)
    with pytest.raises(ValueError, match="not finite"):
        model.compress(latent(), 1024.0)


def test_a_single_symbol_comes_back():
    """CompressAI's encoder corrupts the heap when it is given one symbol only."""

    def work():
        model = make(transform_channels=1, latent_channels=1)
        for _ in range(50):
            round_trip(model, latent(4, 4, M=1))

    isolated(work)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_few_rarest_symbols_come_back(count):
    """Of probability 2⁻¹⁶ each: two of them take a word more than the encoder makes room for."""

    def work():
        tables = EntropyTables([[0, 1, 2**16 - 1, 2**16]], [4], [0])
        for _ in range(200):
            writer = SymbolWriter()
            zeros = writer(np.zeros(count, int), tables, np.zeros(count))
            reader = SymbolReader(writer.finish(), count)
            assert (reader(np.zeros(count, int), tables, None) == zeros).all()

    isolated(work)


@given(values=st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_symbols_come_back_from_one_string(values):
    """Two passes, of the z and of the y tables, through one coder."""
    values = np.array(values)
    z_tables = EntropyTables.of(lively().hyper.entropy_bottleneck)
    y_tables = EntropyTables.of(lively().gaussian)
    writer = SymbolWriter()
    first = writer(values % 8, z_tables, values.astype(float))
    second = writer(values % 64, y_tables, values + 0.3)
    data = writer.finish()
    reader = SymbolReader(data, 2 * len(values))
    assert (reader(values % 8, z_tables, None) == first).all()
    assert (reader(values % 64, y_tables, None) == second).all()
    assert (
        reader.checksum
        == writer.checksum
        == zlib.crc32(np.concatenate([first, second]).astype("<i4").tobytes())
    )
    assert (first == values).all() and (second == values).all()


@pytest.mark.parametrize("length", [0, 1, 4, 7, 9, 10, 15])
def test_a_string_that_cannot_be_one_is_never_given_to_the_coder(length):
    with pytest.raises(BitstreamError, match=f"of {length} bytes"):
        SymbolReader(bytes(length), 10)


@pytest.mark.parametrize("context", CONTEXTS)
def test_flipped_bits_never_come_back_as_another_latent(context):
    model = lively(context)
    coded = model.compress(latent(4, 4), 1024.0)

    def work():
        rng = np.random.default_rng(0)
        errors = 0
        for part in ("z", "y"):
            data = getattr(coded, part)
            for bit in rng.choice(8 * len(data), 60, replace=False):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                z, y, checksum, _ = coded._replace(**{part: bytes(flipped)})
                try:
                    decoded = model.decompress(z, y, checksum, (4, 4))
                except BitstreamError:
                    errors += 1
                else:  # a bit of the coder's last state, which no symbol depends on
                    assert torch.equal(decoded, coded.y_coded)
        assert errors > 90

    isolated(work)


def hostile_strings():
    rng = np.random.default_rng(0)
    for length in (8, 12, 64, 4096):
        yield bytes(length)
        yield b"\xff" * length
        yield b"\xff" * (length - 4) + bytes(4)
        yield bytes(4) + b"\xff" * (length - 4)
        yield b"\xf0" * length
        for _ in range(10):
            yield rng.bytes(length)


@pytest.mark.parametrize("context", CONTEXTS)
def test_hostile_strings_end_in_an_error_and_nothing_else(context):
    """Range coders read what they are told: no string may crash, hang or come back as a latent."""
    model = lively(context)
    good = model.compress(latent(8, 8), 1024.0)

    def work():
        for data in hostile_strings():
            for z, y in ((data, good.y), (good.z, data), (data, data)):
                with pytest.raises(BitstreamError, match="decoded symbols"):
                    model.decompress(z, y, good.checksum, (8, 8))

    isolated(work)


@pytest.mark.parametrize("shape", [(4, 4), (8, 4), (4, 8), (16, 16)])
def test_another_shape_than_was_coded_is_an_error(shape):
    coded = lively().compress(latent(8, 8), 1024.0)
    with pytest.raises(BitstreamError, match="decoded symbols have CRC"):
        lively().decompress(coded.z, coded.y, coded.checksum, shape)
