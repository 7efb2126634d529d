"""A pair goes in, bytes come out, and the decoder sees what the encoder said it would."""

import functools
import itertools
import os
import resource
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import mutate_streams
import numpy as np
import pytest
import torch
from helpers import (
    ALONE,
    REFERENCES,
    TINY,
    frames,
    given,
    isolated,
    run_python,
    tiny_pair_codec,
)
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from xmodal_lite.bitstream import MAX_PIXELS, BitstreamError, Section, pack, unpack
from xmodal_lite.image_codec import as_batch, fingerprint
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.pretrained import save_weights

SIZES = [(1, 1), (1, 7), (63, 65), (64, 64), (100, 130)]
CONTEXTS = ["checkerboard", "autoregressive"]
FORMATS = {"float32": 4, "float16": 2, "int8": 1}


@functools.cache
def _codec(reference, options):
    return tiny_pair_codec(**{**REFERENCES[reference], **dict(options)})


def codec_of(reference="both", **options) -> PairCodec:
    """Shared between tests: not to be changed."""
    return _codec(reference, tuple(sorted(options.items())))


def assert_same(decoded, encoded, only=None):
    for name in ("visible", "infrared"):
        ours, theirs = getattr(decoded, name), getattr(encoded, name)
        if only not in (None, name) or theirs is None:
            assert ours is None
        else:
            assert ours.dtype == np.uint8 and ours.shape == theirs.shape and (ours == theirs).all()


# --- what comes back equals what the encoder says ---

CASES = [
    (context, reference, target, list(FORMATS)[k % 3], SIZES[k % 5], k)
    for k, (context, reference, target) in enumerate(
        itertools.product(CONTEXTS, REFERENCES, ["infrared", "visible"])
    )
]


@pytest.mark.parametrize(
    ("context", "reference", "target", "coefficient_format", "size", "k"),
    CASES,
    ids=["-".join(map(str, case[:4])) + "-{}x{}".format(*case[4]) for case in CASES],
)
def test_decoder_sees_what_the_encoder_said(
    context, reference, target, coefficient_format, size, k
):
    single = k % 4 == 3
    codec = codec_of(
        reference,
        context=context,
        target=target,
        coefficient_format=coefficient_format,
        lambdas=(1000.1,) if single else TINY.lambdas,
    )
    lmbda = 1000.1 if single else [256, 777.7, 4096][k % 3]
    reference_lmbda = None if single else [None, 4096, 300.0][k % 3]
    visible, infrared = frames(*size, seed=k)
    encoded = codec.encode(**given(codec, visible, infrared), lmbda=lmbda,
                           reference_lmbda=reference_lmbda, mode=codec.modes[-1])  # fmt: skip
    assert_same(codec.decompress(encoded.data), encoded.reconstruction)
    shapes = {"visible": visible.shape, "infrared": infrared.shape}
    for name, image in encoded.reconstruction._asdict().items():
        if name == target or codec.config.uses_reference:
            assert image.shape == shapes[name]
    header, sections = unpack(encoded.data)
    if reference in ("channel", "both", "both+entropy"):
        assert len(sections[Section.COEFFICIENTS]) == 2 * 4 * FORMATS[coefficient_format]
    else:
        assert Section.COEFFICIENTS not in sections
    if codec.config.uses_reference:
        other = getattr(header, f"{codec.config.reference}_lmbda")
        assert other == float(np.float32(reference_lmbda or lmbda))


@given_any(st.tuples(st.integers(1, 140), st.integers(1, 140)), st.sampled_from(CONTEXTS))
@settings(max_examples=8, deadline=None)
def test_any_size_comes_back(size, context):
    codec = codec_of("both+entropy", context=context)
    encoded = codec.encode(*frames(*size))
    assert_same(codec.decompress(encoded.data), encoded.reconstruction)
    assert encoded.reconstruction.infrared.shape == size


def test_compress_writes_the_bytes_that_encode_reports():
    codec, pair = codec_of(), frames(40, 50)
    assert codec.compress(*pair, lmbda=600) == codec.encode(*pair, lmbda=600).data


def test_floats_and_bytes_of_the_same_pair_give_the_same_stream():
    codec, (visible, infrared) = codec_of(), frames(40, 50)
    tensors = as_batch(visible, "visible")[0], as_batch(infrared, "infrared")[0]
    assert codec.compress(*tensors) == codec.compress(visible, infrared)


def test_a_codec_in_training_mode_writes_the_same_stream():
    codec, pair = tiny_pair_codec(), frames(40, 50)
    data = codec.compress(*pair)
    codec.train()
    assert codec.compress(*pair) == data
    assert_same(codec.decompress(data), codec.eval().decompress(data))


@pytest.mark.parametrize("scale", [1, 3])
def test_scale_is_a_configuration(scale):
    codec = tiny_pair_codec(scale=scale)
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 256, (20 * scale, 70 * scale, 3), dtype=np.uint8)
    encoded = codec.encode(visible, frames(20, 70)[1])
    assert_same(codec.decompress(encoded.data), encoded.reconstruction)


def test_decoder_needs_only_the_bitstream(tmp_path):
    """Another process, with the weights and the streams and nothing else."""
    encoded = {}
    for k, options in enumerate(
        (
            {"context": "checkerboard", "entropy_reference": True},
            {"context": "autoregressive", "coefficient_format": "float16"},
            {"target": "visible"},
            ALONE,
        )
    ):
        codec = tiny_pair_codec(**options)
        save_weights(codec, tmp_path / f"{k}.safetensors")
        mode = ("all", "space", "none", "auto")[k]
        encoded[k] = codec.encode(**given(codec, *frames(70, 50, seed=k)), lmbda=900, mode=mode)
        (tmp_path / f"{k}.xmc").write_bytes(encoded[k].data)
    code = """
import sys, pathlib, numpy as np
from xmodal_lite.pretrained import load_weights
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.xmc")):
    images = load_weights(path.with_suffix(".safetensors")).decompress(path.read_bytes())
    known = {name: image for name, image in images._asdict().items() if image is not None}
    np.savez(path.with_suffix(".npz"), **known)
"""
    run_python(code, tmp_path)
    for k, (_, reconstruction) in encoded.items():
        decoded = np.load(tmp_path / f"{k}.npz")
        for name, image in reconstruction._asdict().items():
            assert (name in decoded) == (image is not None)
            assert image is None or (decoded[name] == image).all()


# --- the reference ---


def test_encoder_reads_of_the_reference_only_what_is_decoded(monkeypatch):
    codec = codec_of("both+entropy")
    visible, infrared = frames(64, 64)
    data = codec.compress(visible, infrared, mode="all")
    batch = as_batch(visible, "visible")
    coded = codec.reference_codec.encode_latent(batch, 1024.0)
    monkeypatch.setattr(codec.reference_codec, "encode_latent", lambda *_: coded)
    assert codec.compress(255 - visible, infrared, mode="all") == data


@pytest.mark.parametrize("reference", ["channel", "spatial", "both", "both+entropy"])
def test_another_reference_gives_another_reconstruction(reference):
    codec = codec_of(reference)
    visible, infrared = frames(64, 64)
    one, other = (
        codec.encode(image, infrared, mode="all").reconstruction.infrared
        for image in (visible, visible[::-1, ::-1])
    )
    assert (one != other).any()


@pytest.mark.parametrize(("target", "only"), [("infrared", "visible"), ("visible", "infrared")])
def test_reference_alone_decodes_from_a_stream_whose_target_is_damaged(target, only):
    codec = codec_of(target=target)
    encoded = codec.encode(*frames(63, 65), mode="all")
    damaged = bytearray(encoded.data)
    sections = unpack(encoded.data)[1]
    names = [f"{target.upper()}_Z", f"{target.upper()}_Y", "COEFFICIENTS"]
    for name in names:
        payload = sections[Section[name]]
        start = encoded.data.index(payload)
        damaged[start : start + len(payload)] = bytes(255 - byte for byte in payload)
    decoded = codec.decompress(bytes(damaged), only=only)
    assert_same(decoded, encoded.reconstruction, only=only)
    with pytest.raises(BitstreamError):
        codec.decompress(bytes(damaged))


def test_target_alone_is_decoded_with_its_reference_but_without_showing_it():
    codec = codec_of()
    encoded = codec.encode(*frames(63, 65), mode="all")
    decoded = codec.decompress(encoded.data, only="infrared")
    assert_same(decoded, encoded.reconstruction, only="infrared")


def test_only_names_an_image_of_the_stream():
    codec = codec_of("off")
    data = codec.compress(None, frames(8, 8)[1])
    assert_same(codec.decompress(data, only="infrared"), codec.decompress(data))
    for only in ("visible", "thermal", ""):
        with pytest.raises(BitstreamError, match="only infrared"):
            codec.decompress(data, only=only)


def test_baseline_ignores_a_reference_that_it_is_given():
    codec, (visible, infrared) = codec_of("off"), frames(40, 50)
    assert codec.compress(visible, infrared) == codec.compress(None, infrared)
    assert codec.reference_codec is None
    assert codec.decompress(codec.compress(None, infrared)).visible is None


# --- modes ---

MODES = [
    pytest.param(reference, mode, context, target, id=f"{reference}-{mode}-{context}-{target}")
    for reference in list(REFERENCES)[1:]
    for mode in codec_of(reference).modes
    for context, target in (("checkerboard", "infrared"), ("autoregressive", "visible"))
]


@pytest.mark.parametrize(("reference", "mode", "context", "target"), MODES)
def test_every_mode_comes_back_and_says_what_it_is(reference, mode, context, target):
    codec = codec_of(reference, context=context, target=target)
    encoded = codec.encode(*frames(40, 50), mode=mode)
    assert_same(codec.decompress(encoded.data), encoded.reconstruction)
    for only in ("visible", "infrared"):
        decoded = codec.decompress(encoded.data, only=only)
        assert_same(decoded, encoded.reconstruction, only=only)
    header, sections = unpack(encoded.data)
    assert codec.mode_of(header) == mode
    assert header.target == (None if mode == "none" else target)
    sends = mode == "all" and codec.config.channel_alignment
    assert (Section.COEFFICIENTS in sections) == sends


def test_without_its_reference_the_target_is_coded_and_decoded_by_itself(monkeypatch):
    codec, (visible, infrared) = codec_of("both+entropy"), frames(40, 50)
    encoded = codec.encode(visible, infrared, mode="none")
    other = codec.encode(255 - visible, infrared, mode="none")
    assert (encoded.reconstruction.infrared == other.reconstruction.infrared).all()
    assert unpack(encoded.data, only="infrared")[1].keys() == {
        Section.INFRARED_Z, Section.INFRARED_Y, Section.SYMBOLS,
    }  # fmt: skip
    monkeypatch.setattr(codec.reference_codec.entropy, "decompress", None)  # not even looked at
    decoded = codec.decompress(encoded.data, only="infrared")
    assert_same(decoded, encoded.reconstruction, only="infrared")


def test_without_its_reference_a_codec_that_held_its_baseline_is_its_baseline():
    baseline = tiny_pair_codec(**ALONE)
    codec = PairCodec(codec_of().config).eval()
    codec.start_from(baseline)
    visible, infrared = frames(64, 64)
    lmbda = torch.tensor([700.0])
    with torch.no_grad():
        ours = codec(*(as_batch(i, n) for i, n in ((visible, "visible"), (infrared, "infrared"))),
                     lmbda, mode="none")  # fmt: skip
        theirs = baseline(None, as_batch(infrared, "infrared"), lmbda)
    assert torch.allclose(ours["x_hat"], theirs["x_hat"], atol=1e-5)
    assert ours["gamma"] is None


@pytest.mark.parametrize("target", ["infrared", "visible"])
@pytest.mark.parametrize("lmbda", [256, 4096])
def test_the_encoder_decides_for_the_mode_that_costs_least(target, lmbda):
    codec, pair = codec_of("both+entropy", target=target), frames(64, 128, seed=3)
    original = as_batch(pair[target == "infrared"], target)

    def cost(encoded):
        decoded = as_batch(getattr(encoded.reconstruction, target), target)
        mse = (decoded - original).square().mean().item()
        return lmbda * mse + 8 * len(encoded.data) / original[0, 0].numel()

    encoded = {mode: codec.encode(*pair, lmbda, mode=mode) for mode in codec.modes}
    best = min(encoded, key=lambda mode: cost(encoded[mode]))
    assert codec.encode(*pair, lmbda).data == encoded[best].data
    assert codec.compress(*pair, lmbda) == encoded[best].data
    assert len({round(cost(e), 6) for e in encoded.values()}) == 3


def test_between_equals_the_mode_that_uses_least():
    """Branches at zero, no coefficients: the modes differ in two bits of the header only."""
    codec = PairCodec(codec_of("spatial").config).eval()
    codec.start_from(tiny_pair_codec(**ALONE))
    codec.reference_codec.update_tables()
    codec.update_tables()
    data = codec.compress(*frames(40, 50))
    assert codec.mode_of(unpack(data)[0]) == "none"


@pytest.mark.parametrize(("reference", "mode"), [
    ("both", "channel"), ("both", None), ("off", "all"), ("channel", "space"),
])  # fmt: skip
def test_a_mode_that_the_codec_has_not_is_refused(reference, mode):
    codec = codec_of(reference)
    with pytest.raises(ValueError, match=f"mode {mode!r}; expected auto or one of none"):
        codec.compress(*frames(8, 8), mode=mode)


def test_a_stream_in_a_mode_that_the_codec_has_not_is_refused():
    codec = codec_of("channel")  # without γ and β nothing of its reference is left
    header, sections = unpack(codec.compress(*frames(8, 8), mode="all"))
    del sections[Section.COEFFICIENTS]
    data = pack(replace(header, coefficient_format="none"), sections)
    with pytest.raises(BitstreamError, match="target infrared and coefficient_format none; this"):
        codec.decompress(data)


@pytest.mark.parametrize("reference", ["both", "both+entropy"])
def test_samples_without_coefficients_are_those_of_the_mode_without(reference):
    codec, lmbda = codec_of(reference), torch.tensor([700.0, 700.0])
    images = [
        torch.cat([as_batch(frame, name)] * 2)
        for frame, name in zip(frames(64, 64), ("visible", "infrared"), strict=True)
    ]
    with torch.no_grad():
        mixed = codec(*images, lmbda, sent=torch.tensor([1.0, 0.0]))["x_hat"]
        each = [codec(*images, lmbda, mode)["x_hat"] for mode in ("all", "space")]
    assert torch.allclose(mixed[0], each[0][0]) and torch.allclose(mixed[1], each[1][1])
    assert not torch.allclose(each[0], each[1])


# --- starting from the baseline ---


def variants():
    for reference, target in itertools.product(list(REFERENCES)[1:], ["infrared", "visible"]):
        yield pytest.param(REFERENCES[reference], target, id=f"{reference}-{target}")


@pytest.mark.parametrize(("branches", "target"), variants())
def test_a_codec_that_starts_from_its_baseline_computes_what_the_baseline_computes(
    branches, target
):
    baseline = tiny_pair_codec(seed=1, target=target, **ALONE)
    torch.manual_seed(2)
    codec = PairCodec(replace(TINY, target=target, **branches))
    before = fingerprint(codec.reference_codec)
    codec.start_from(baseline)
    assert fingerprint(codec.reference_codec) == before  # the reference codec is left alone
    codec.eval()
    visible, infrared = torch.rand(2, 3, 128, 256), torch.rand(2, 1, 64, 128)
    lmbda = torch.tensor([300.0, 2000.0])
    with torch.no_grad():
        expected = baseline(visible, infrared, lmbda)
        out = codec(visible, infrared, lmbda)
    torch.testing.assert_close(out["x_hat"], expected["x_hat"], atol=1e-5, rtol=1e-5)
    for name, likelihoods in expected["likelihoods"].items():
        torch.testing.assert_close(
            out["likelihoods"][name], likelihoods, atol=1e-5, rtol=1e-3, msg=name
        )


@pytest.mark.parametrize(("branches", "target"), variants())
def test_what_reads_the_reference_learns_from_the_first_step_on(branches, target):
    codec = PairCodec(replace(TINY, target=target, **branches))
    codec.start_from(tiny_pair_codec(seed=1, target=target, **ALONE))
    codec.train()
    out = codec(torch.rand(1, 3, 128, 128), torch.rand(1, 1, 64, 64), torch.tensor([1024.0]))
    bits = -sum(p.log2().sum() for p in out["likelihoods"].values())
    (bits + 1e4 * out["x_hat"].square().mean()).backward()
    F, N = TINY.feature_channels, TINY.transform_channels
    readers = []
    if codec.config.channel_alignment:
        readers += [codec.g_a[0].weight[:, F:], codec.g_a[0].weight.grad[:, F:]]
        block = codec.feature_decoder.blocks[0]
        readers += [block.conv1.weight[:, F:], block.conv1.weight.grad[:, F:]]
        readers += [block.skip.weight[:, F:], block.skip.weight.grad[:, F:]]
    if codec.config.spatial_alignment:
        for stage in codec.g_s[1:]:
            readers += [stage[0].weight[N:], stage[0].weight.grad[N:]]
    if codec.config.entropy_reference:
        readers += [codec.entropy.side[-1].weight, codec.entropy.side[-1].weight.grad]
    for weight, gradient in zip(readers[::2], readers[1::2], strict=True):
        assert weight.abs().max() == 0 and gradient.abs().max() > 0


def test_starting_from_itself_changes_nothing():
    codec, other = tiny_pair_codec(seed=1), tiny_pair_codec(seed=2)
    other.start_from(codec)
    theirs = dict(codec.named_parameters())
    for name, parameter in other.named_parameters():
        if not name.startswith("reference_codec."):
            assert torch.equal(parameter, theirs[name]), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"latent_channels": 16}, r"\(16,.* is \(12,"),
        ({"target": "visible"}, r"\(.*, and is \(|no place here"),
        ({"transform_channels": 12}, "in the baseline, and is"),
    ],
)
def test_a_baseline_that_does_not_fit_is_named_by_its_first_weight(change, said):
    baseline = PairCodec(replace(TINY, **{**ALONE, **change}))
    with pytest.raises(ValueError, match="in the baseline") as error:
        PairCodec(TINY).start_from(baseline)
    assert "\n" not in str(error.value)


def test_a_reference_codec_is_no_baseline_of_a_codec_without_one():
    with pytest.raises(ValueError, match="no place here"):
        PairCodec(replace(TINY, **ALONE)).start_from(PairCodec(TINY))


# --- training ---


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("reference", REFERENCES)
def test_every_weight_is_trained_but_the_reference_codecs(reference, context):
    codec = tiny_pair_codec(context=context, **REFERENCES[reference]).train()
    visible, infrared = (
        as_batch(i, n) for i, n in zip(frames(64, 64), ("visible", "infrared"), strict=True)
    )
    out = codec(visible, infrared, torch.tensor([700.0]))
    bits = -sum(p.log2().sum() for p in out["likelihoods"].values())
    (bits + 1e4 * (out["x_hat"] - infrared).square().mean()).backward()
    for name, parameter in codec.named_parameters():
        if name.startswith("reference_codec."):
            assert parameter.grad is None and not parameter.requires_grad, name
        elif name.endswith("quantiles"):
            pass  # found by bisection when tables are made
        else:
            assert parameter.grad is not None, name
            if not name.endswith("key.bias"):  # adds the same to every logit of a query
                assert parameter.grad.abs().sum() > 0, name


def test_the_reference_codec_keeps_rounding_while_the_rest_trains():
    codec = tiny_pair_codec().train()
    assert codec.training and codec.g_a.training
    assert not any(module.training for module in codec.reference_codec.modules())
    visible = torch.rand(1, 3, 128, 128)
    one, other = (codec.estimate_reference(visible, torch.tensor([700.0])) for _ in range(2))
    assert torch.equal(one.x_hat, other.x_hat)  # no noise
    assert one.x_hat.min() >= 0 and one.x_hat.max() <= 1
    codec.eval()
    assert not codec.training
    assert codec.train() is codec


def test_training_sees_the_reference_that_coding_will_see():
    """But for the grid of the means."""
    codec = codec_of()
    visible = as_batch(frames(64, 64)[0], "visible")
    coded = codec.reference_codec.encode_latent(visible, 700.0)
    real = codec.decode_reference(coded.y_coded, 700.0)
    estimate = codec.estimate_reference(visible, torch.tensor([700.0]))
    assert (real.y_coded - estimate.y_coded).abs().median() < 1 / 64
    assert (real.x_hat - estimate.x_hat).abs().mean() < 0.02
    assert [h.shape for h in real.hidden] == [h.shape for h in estimate.hidden]


def test_attention_weights_come_along_when_asked_for():
    codec = codec_of()
    visible, infrared = (torch.rand(1, 3, 128, 256), torch.rand(1, 1, 64, 128))
    with torch.no_grad():
        reference = codec.estimate_reference(visible, torch.tensor([700.0]))
        y, f_aligned, _, _ = codec.analyse(infrared, reference)
        weights = []
        x_hat = codec.synthesise(y, reference, f_aligned, weights)
        assert torch.equal(x_hat, codec.synthesise(y, reference, f_aligned))
    sizes = [[tuple(w.shape[1:3]) for w in stage] for stage in weights]  # windows of each block
    assert sizes == [[(1, 2)] * 2, [(2, 4)] * 2, [(4, 8)] * 2]


# --- bad input ---


@pytest.mark.parametrize("size", [(126, 128, 3), (128, 64, 3), (64, 64, 3), (129, 129, 3)])
def test_sizes_that_do_not_belong_together_are_named(size):
    visible, infrared = np.zeros(size, np.uint8), np.zeros((64, 64), np.uint8)
    with pytest.raises(ValueError) as error:
        codec_of().compress(visible, infrared)
    message = str(error.value)
    assert f"visible is {size[0]}×{size[1]}, infrared 64×64; expected visible 128×128" in message


@pytest.mark.parametrize("missing", ["visible", "infrared"])
def test_a_missing_image_is_named(missing):
    images = dict(zip(("visible", "infrared"), frames(8, 8), strict=True))
    images[missing] = None
    with pytest.raises(ValueError, match=f"no {missing} image"):
        codec_of().compress(**images)


BAD = {
    "16 bits": (np.zeros((8, 8), np.uint16), "uint16"),
    "no pixels": (np.zeros((0, 8), np.uint8), "at least one pixel"),
    "alpha": (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
    "0 to 255": (torch.full((1, 8, 8), 255.0), r"expected \[0, 1\]"),
    "NaN": (torch.full((1, 8, 8), torch.nan), "nan"),
    "text": ("infrared.png", "str"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_a_value_error_of_one_line(name):
    image, said = BAD[name]
    with pytest.raises(ValueError, match=said) as error:
        codec_of().compress(frames(8, 8)[0], image)
    assert str(error.value).startswith("infrared image") and "\n" not in str(error.value)


@pytest.mark.parametrize("argument", ["lmbda", "reference_lmbda"])
@pytest.mark.parametrize("value", [255, 4097, float("nan"), "much"])
def test_either_lambda_out_of_range_is_a_value_error(argument, value):
    with pytest.raises(ValueError, match="λ is"):
        codec_of().compress(*frames(8, 8), **{argument: value})


def test_a_pair_too_large_for_the_file_is_refused_before_it_is_coded(monkeypatch):
    codec = tiny_pair_codec()
    monkeypatch.setattr(type(codec.reference_codec), "encode_latent", None)
    visible = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2, 80_000, 3))
    with pytest.raises(BitstreamError, match="2×80000; expected sides of 1 to 65535"):
        codec.compress(visible, visible[::2, ::2, 0])


# --- hostile streams ---


@functools.cache
def stream():
    return codec_of().compress(*frames(40, 50), mode="all")


def test_every_truncation_is_an_error():
    codec, data = codec_of(), stream()
    for end in range(len(data)):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:end])
    with pytest.raises(BitstreamError):
        codec.decompress(data + b"\0")


def test_every_single_bit_flip_is_an_error():
    codec, data = codec_of(), bytearray(stream())
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError) as error:
            codec.decompress(bytes(data))
        assert "\n" not in str(error.value)
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("data", [b"", b"XMC", b"\x89PNG\r\n", bytes(1000), "text", None, 3])
def test_what_is_no_stream_is_an_error(data):
    with pytest.raises(BitstreamError):
        codec_of().decompress(data)


def test_another_models_weights_are_refused():
    other = tiny_pair_codec(seed=5)
    with pytest.raises(BitstreamError, match=fingerprint(other).hex()):
        other.decompress(stream())
    with pytest.raises(BitstreamError, match="this codec reads infrared"):
        codec_of("off").decompress(stream())
    with pytest.raises(BitstreamError):
        codec_of().decompress(codec_of("off").compress(None, frames(8, 8)[1]))


def test_another_version_is_refused_whatever_follows():
    data = bytearray(stream())
    data[4] += 1
    with pytest.raises(BitstreamError, match="version 2"):
        codec_of().decompress(bytes(data))


LIES = {
    "no coefficients": {"coefficient_format": "none"},
    "other coefficients": {"coefficient_format": "float16"},
    "other target": {"target": "visible"},
    "no target": {"target": None, "coefficient_format": "none"},
    "other context": {"context": "autoregressive"},
    "λ too low": {"infrared_lmbda": 1.0},
    "reference λ too high": {"visible_lmbda": 1e6},
    "visible size": {"visible_size": (100, 100)},
    "infrared size": {"infrared_size": (40, 51)},
    "larger": {"visible_size": (160, 200), "infrared_size": (80, 100)},
    "smaller": {"visible_size": (2, 2), "infrared_size": (1, 1)},
    "wide": {"visible_size": (2, 65534), "infrared_size": (1, 32767)},
}


MEANT = ("smaller", "no coefficients", "no target")


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("only", [None, "visible", "infrared"])
def test_a_header_that_lies_under_a_right_checksum_is_found_out(name, only):
    """Either an error or, where the same latents could be meant, an image of the size it says.

    They could be meant in another crop of the same padded frame, and in another mode.
    """
    header, sections = unpack(stream())
    lie = replace(header, **LIES[name])
    if lie.coefficient_format == "none":
        del sections[Section.COEFFICIENTS]

    def work():
        try:
            decoded = codec_of().decompress(pack(lie, sections), only)
        except BitstreamError as error:
            assert "\n" not in str(error)
            assert name not in MEANT
        else:
            assert name in MEANT or only == "visible"
            crop = ((2, 2), (1, 1)) if name == "smaller" else ((80, 100), (40, 50))
            for image, size in zip(("visible", "infrared"), crop, strict=True):
                if only in (None, image):
                    assert getattr(decoded, image).shape[:2] == size

    isolated(work)


def test_the_largest_size_that_a_header_may_claim_ends_in_an_error():
    """2²⁴ pixels of visible frame out of a few hundred bytes: bounded time and memory."""
    header, sections = unpack(stream())
    lie = replace(header, visible_size=(4096, 4096), infrared_size=(2048, 2048))
    assert MAX_PIXELS == 4096 * 4096

    def work():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(BitstreamError, match="decoded symbols"):
            codec_of().decompress(pack(lie, sections))
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert used < 2**20, f"{used} KiB"

    isolated(work)


def test_hostile_payloads_under_right_checksums_are_errors():
    """CRCs only find accidents: what an attacker writes reaches the range coder."""
    header, whole = unpack(stream())

    @given_any(st.dictionaries(st.sampled_from(sorted(whole)), st.binary(min_size=1, max_size=64)))
    @settings(max_examples=200, deadline=None, database=None)
    def work(payloads):
        sections = whole | payloads
        sections[Section.SYMBOLS] = (sections[Section.SYMBOLS] + bytes(8))[:8]
        try:
            codec_of().decompress(pack(header, sections))
        except BitstreamError as error:
            assert "\n" not in str(error)
        else:  # only the coefficients have no checksum of their own meaning
            assert set(payloads) <= {Section.COEFFICIENTS}

    isolated(work)


@pytest.mark.parametrize("name", mutate_streams.TINY_CODECS)
def test_mutants_of_all_kinds_are_errors_or_images(name):
    """Sixty each; `mutate_streams.py` makes as many as wanted."""
    codec = tiny_pair_codec(**mutate_streams.TINY_CODECS[name])
    bad = [
        (outcome, kind, number)
        for outcome, kind, number, _ in mutate_streams.outcomes(codec, range(60), seed=1)
        if outcome not in mutate_streams.GOOD
    ]
    assert not bad


MISHAPS = {
    "crash": (lambda data: os.kill(os.getpid(), signal.SIGSEGV), "crash (exit -11)"),
    "hang": (lambda data: time.sleep(60), "hang"),
    "memory": (lambda data: bytearray(8 * 2**30), "memory"),
    "exception": (lambda data: {}["z"], "KeyError: 'z'"),
}


@pytest.mark.parametrize("name", MISHAPS)
def test_mutation_script_notices_a_decoder_that_fails(name):
    mishap, expected = MISHAPS[name]
    worker = mutate_streams.Worker(SimpleNamespace(decompress=mishap), [[]], 1024)
    try:
        for _ in range(2):  # the next stream finds a new worker
            assert worker.decode(0, b"stream", False, 0.5 if name == "hang" else 30)[0] == expected
    finally:
        worker.stop()
