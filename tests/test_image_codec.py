"""One modality alone: any size goes in, and comes back as the encoder saw it."""

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TINY, frames, tiny_image_codec

from xmodal_lite.bitstream import BitstreamError, Section, pack, unpack
from xmodal_lite.image_codec import (
    MID_GREY,
    ImageCodec,
    as_batch,
    as_image,
    crop,
    fingerprint,
    pad,
    padded_size,
)

SIZES = [(1, 1), (1, 7), (63, 65), (64, 64), (100, 130)]


@functools.cache
def codec_of(modality="visible", context="checkerboard") -> ImageCodec:
    """Shared between tests: not to be changed."""
    return tiny_image_codec(modality, context=context)


def image_of(modality, height=40, width=70, seed=0):
    visible, infrared = frames(height, width, seed)
    return visible[:height, :width] if modality == "visible" else infrared


# --- bits ---


@pytest.mark.parametrize("context", ["checkerboard", "autoregressive"])
@pytest.mark.parametrize("modality", ["visible", "infrared"])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back_as_the_encoder_saw_it(modality, size, context):
    codec, image = codec_of(modality, context), image_of(modality, *size)
    data = codec.compress(image, 800)
    decoded = codec.decompress(data)
    assert decoded.shape == image.shape and decoded.dtype == np.uint8
    batch = pad(as_batch(image, modality), *padded_size(size))
    coded = codec.encode_latent(batch, 800)
    seen = as_image(crop(codec.decode_latent(coded.y_coded, 800)[0], size))
    assert (decoded == seen).all()


def test_decoded_image_depends_on_the_image():
    codec = codec_of()
    one, other = (codec.decompress(codec.compress(image_of("visible", seed=s))) for s in (0, 1))
    assert (one != other).any() and one.std() > 0


def test_floats_and_bytes_of_the_same_image_give_the_same_stream():
    codec, image = codec_of(), image_of("visible")
    tensor = torch.from_numpy(image).permute(2, 0, 1) / 255
    assert codec.compress(tensor) == codec.compress(image)
    assert codec.compress(tensor[None].double()) == codec.compress(image)


def test_coding_does_not_change_the_codec():
    codec = codec_of("infrared")
    before = copy.deepcopy(codec.state_dict())
    image = image_of("infrared")
    assert codec.compress(image) == codec.compress(image)
    assert all(torch.equal(before[name], tensor) for name, tensor in codec.state_dict().items())


@pytest.mark.parametrize("context", ["checkerboard", "autoregressive"])
def test_estimating_does_not_change_the_fingerprint(context):
    """CompressAI's masked convolutions clear their masked weights in the forward pass."""
    codec, image = tiny_image_codec("infrared", context=context), image_of("infrared")
    data = codec.compress(image)
    with torch.no_grad():
        codec(torch.rand(1, 1, 64, 64), torch.tensor([1024.0]))
    codec.decompress(data)


def test_a_codec_left_in_training_mode_writes_the_same_stream():
    codec, image = tiny_image_codec("infrared"), image_of("infrared")
    data = codec.compress(image)
    assert codec.train().compress(image) == data
    assert (codec.decompress(data) == codec.eval().decompress(data)).all()


def test_file_holds_lambda_in_float32_and_the_encoder_works_with_that():
    codec, image = codec_of("infrared"), image_of("infrared")
    data = codec.compress(image, 1000.1)
    lmbda = unpack(data)[0].infrared_lmbda
    assert lmbda == float(np.float32(1000.1)) != 1000.1
    assert codec.compress(image, lmbda) == data


@pytest.mark.parametrize("lmbda", [0.3, 1000.1])
def test_a_codec_of_one_odd_lambda_codes_at_it(lmbda):
    codec = tiny_image_codec("infrared", lambdas=(lmbda,))
    codec.decompress(codec.compress(image_of("infrared"), lmbda))


# --- without bytes ---


def test_forward_gives_image_hidden_features_and_likelihoods():
    codec = codec_of()
    with torch.no_grad():
        out = codec(torch.rand(2, 3, 64, 128), torch.tensor([300.0, 4000.0]))
    assert out["x_hat"].shape == (2, 3, 64, 128)
    assert [tuple(h.shape) for h in out["hidden"]] == [
        (2, 8, 8, 16),
        (2, 8, 16, 32),
        (2, 8, 32, 64),
    ]
    assert out["likelihoods"]["y"].shape == (2, 12, 4, 8)
    assert out["likelihoods"]["z"].shape == (2, 8, 1, 2)


def test_estimate_and_file_agree_on_the_image():
    """But for the grid of the means: the reconstruction is that of the estimate."""
    codec = codec_of("infrared")
    image = image_of("infrared", 64, 64)
    with torch.no_grad():
        estimated = as_image(codec(as_batch(image, "infrared"), torch.tensor([4096.0]))["x_hat"])
    decoded = codec.decompress(codec.compress(image, 4096))
    assert np.abs(estimated.astype(int) - decoded).mean() < 2


def test_an_untrained_codec_starts_at_mid_grey():
    torch.manual_seed(0)
    codec = ImageCodec(TINY, "infrared")
    x_hat = codec(torch.rand(1, 1, 64, 64), torch.tensor([1024.0]))["x_hat"]
    assert x_hat.mean().item() == pytest.approx(MID_GREY, abs=0.05)


def test_every_weight_is_trained():
    codec = tiny_image_codec().train()
    out = codec(torch.rand(1, 3, 64, 64), torch.tensor([700.0]))
    bits = -sum(p.log2().sum() for p in out["likelihoods"].values())
    (bits + out["x_hat"].square().sum()).backward()
    for name, parameter in codec.named_parameters():
        if not name.endswith("quantiles"):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


# --- other people's streams ---


def test_stream_of_other_weights_is_refused_with_both_fingerprints():
    codec, other = codec_of("infrared"), tiny_image_codec("infrared", seed=1)
    data = codec.compress(image_of("infrared"))
    with pytest.raises(BitstreamError) as error:
        other.decompress(data)
    assert fingerprint(codec).hex() in str(error.value)
    assert fingerprint(other).hex() in str(error.value)


def test_stream_of_the_other_modality_is_refused():
    data = codec_of("infrared").compress(image_of("infrared"))
    with pytest.raises(BitstreamError, match="holds infrared; this codec reads visible"):
        codec_of("visible").decompress(data)


@pytest.mark.parametrize("lmbda", [255.0, 4097.0, 1e30])
def test_lambda_outside_the_codecs_range_is_refused(lmbda):
    codec = codec_of("infrared")
    header, sections = unpack(codec.compress(image_of("infrared")))
    lie = pack(replace(header, infrared_lmbda=lmbda), sections)
    with pytest.raises(BitstreamError, match="between 256 and 4096"):
        codec.decompress(lie)


def test_another_context_is_refused():
    codec = codec_of("infrared")
    header, sections = unpack(codec.compress(image_of("infrared")))
    with pytest.raises(BitstreamError, match="context autoregressive; this codec's is checkerb"):
        codec.decompress(pack(replace(header, context="autoregressive"), sections))


def test_symbols_that_differ_from_the_encoders_are_an_error_and_not_noise():
    codec = codec_of("infrared")
    header, sections = unpack(codec.compress(image_of("infrared")))
    checksum = int.from_bytes(sections[Section.SYMBOLS], "little") ^ 1
    sections[Section.SYMBOLS] = checksum.to_bytes(4, "little")
    with pytest.raises(BitstreamError, match="decoded symbols have CRC"):
        codec.decompress(pack(header, sections))


def test_fingerprint_sees_every_weight_and_table():
    codec = tiny_image_codec("infrared")
    seen = {fingerprint(codec)}
    state = codec.state_dict()
    for tensor in state.values():
        if tensor.numel():
            before = tensor.clone()
            tensor.view(-1)[0] += 1
            seen.add(fingerprint(codec))
            tensor.copy_(before)
    assert len(seen) == 1 + sum(bool(tensor.numel()) for tensor in state.values())
    assert len(fingerprint(codec)) == 8


# --- images ---


def test_bytes_survive_the_way_to_a_batch_and_back():
    for modality in ("visible", "infrared"):
        image = image_of(modality)
        assert (as_image(as_batch(image, modality)) == image).all()


def test_images_may_be_views_in_any_memory_order():
    image = image_of("visible")
    view = np.asfortranarray(image)[::-1, ::2]
    assert (as_image(as_batch(view, "visible")) == view).all()


def test_padding_repeats_the_last_row_and_column():
    batch = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad(batch, 4, 5)
    assert padded.shape == (1, 1, 4, 5)
    assert torch.equal(crop(padded, (2, 3)), batch)
    assert (padded[0, 0, 2:, :3] == batch[0, 0, 1]).all()
    assert (padded[0, 0, :2, 3:] == batch[0, 0, :, 2:]).all()


@pytest.mark.parametrize(
    ("size", "padded"),
    [((1, 1), (64, 64)), ((64, 64), (64, 64)), ((65, 128), (128, 128)), ((512, 640), (512, 640))],
)
def test_sizes_are_padded_to_the_next_multiple_of_64(size, padded):
    assert padded_size(size) == padded


BAD = {
    "grey for visible": (np.zeros((8, 8), np.uint8), "visible", r"\(8, 8\)"),
    "colour for infrared": (np.zeros((8, 8, 3), np.uint8), "infrared", r"\(8, 8, 3\)"),
    "alpha": (np.zeros((8, 8, 4), np.uint8), "visible", r"\(8, 8, 4\)"),
    "one dimension": (np.zeros(8, np.uint8), "infrared", r"\(8,\)"),
    "no dimension": (np.zeros((), np.uint8), "infrared", r"\(\)"),
    "four dimensions": (np.zeros((1, 8, 8, 3), np.uint8), "visible", r"\(1, 8, 8, 3\)"),
    "no rows": (np.zeros((0, 8), np.uint8), "infrared", r"\(0, 8\).*at least one pixel"),
    "no columns": (np.zeros((8, 0, 3), np.uint8), "visible", r"\(8, 0, 3\).*at least one pixel"),
    "16 bits": (np.zeros((8, 8), np.uint16), "infrared", "uint16"),
    "float array": (np.zeros((8, 8), np.float32), "infrared", "float32"),
    "bool": (np.zeros((8, 8), bool), "infrared", "bool"),
    "list": ([[1, 2]], "infrared", "list"),
    "None": (None, "infrared", "NoneType"),
    "integer tensor": (torch.zeros(1, 8, 8, dtype=torch.uint8), "infrared", "uint8"),
    "two images": (torch.zeros(2, 1, 8, 8), "infrared", r"\(2, 1, 8, 8\)"),
    "tensor without channels": (torch.zeros(8, 8), "infrared", r"\(8, 8\)"),
    "channels last": (torch.zeros(8, 8, 3), "visible", r"\(8, 8, 3\)"),
    "empty tensor": (torch.zeros(1, 0, 8), "infrared", r"\(1, 0, 8\).*at least one pixel"),
    "0 to 255": (torch.full((1, 8, 8), 255.0), "infrared", r"\[255, 255\]; expected \[0, 1\]"),
    "negative": (torch.full((1, 8, 8), -0.1), "infrared", r"\[-0.1, -0.1\]"),
    "NaN": (torch.full((1, 8, 8), torch.nan), "infrared", "nan"),
    "one NaN": (torch.where(torch.eye(8) > 0, torch.nan, 0.5)[None], "infrared", "nan"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_a_value_error_of_one_line(name):
    image, modality, said = BAD[name]
    with pytest.raises(ValueError, match=said) as error:
        codec_of(modality).compress(image)
    assert modality in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("lmbda", [255, 4097, float("nan"), "much", None])
def test_lambda_out_of_range_is_a_value_error(lmbda):
    with pytest.raises(ValueError, match="λ is"):
        codec_of("infrared").compress(image_of("infrared"), lmbda)


def test_an_image_too_large_for_the_file_is_refused_before_it_is_coded(monkeypatch):
    row = np.broadcast_to(np.zeros((1, 1), np.uint8), (1, 70_000))
    monkeypatch.setattr(ImageCodec, "encode_latent", None)
    with pytest.raises(BitstreamError, match="1×70000; expected sides of 1 to 65535"):
        codec_of("infrared").compress(row)


def test_weights_that_are_not_finite_are_an_error_and_not_a_stream():
    codec = tiny_image_codec("infrared")
    with torch.no_grad():
        codec.g_a[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        codec.compress(image_of("infrared"))
