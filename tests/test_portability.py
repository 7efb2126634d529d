"""A stream written on one machine decodes on another: threads, oneDNN, vector instructions."""

import platform
from dataclasses import replace
from pathlib import Path
from unittest import mock

import compressai.entropy_models as models
import numpy as np
import pytest
import torch
from helpers import frames, liven, run_python

from xmodal_lite.config import LITE
from xmodal_lite.entropy import EntropyModel
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.pretrained import load_weights, save_weights

OTHER_MACHINES = {
    "old": {  # what a processor without AVX does
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "common": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}
SETTINGS = [(threads, onednn) for threads in (1, 2) for onednn in (True, False)]


def decode(codec, data):
    """The images and every dequantised latent of a stream, by name."""
    latents = []
    plain = EntropyModel.dequantise

    def watched(model, y_coded, lmbda):
        latents.append(y_coded.numpy())
        return plain(model, y_coded, lmbda)

    with mock.patch.object(EntropyModel, "dequantise", watched):
        images = codec.decompress(data)
    images = {"image": images} if isinstance(images, np.ndarray) else images._asdict()
    return images | {f"y_coded_{k}": y for k, y in enumerate(latents)}


def decode_here(folder: str, machine: str) -> None:
    """Run in a process of its own: decode all streams under all settings, and write one."""
    folder = Path(folder)
    codecs = {name: load_weights(folder / f"{name}.safetensors") for name in ("pair", "serial")}
    for name, codec in codecs.items():
        data = (folder / f"{name}.xmc").read_bytes()
        for threads, onednn in SETTINGS:
            torch.set_num_threads(threads)
            with torch.backends.mkldnn.flags(enabled=onednn):
                decoded = decode(codec, data)
            np.savez(folder / f"{name}-{machine}-{threads}-{onednn}.npz", **decoded)
    torch.set_num_threads(1)
    (folder / f"from-{machine}.bin").write_bytes(codecs["pair"].compress(*frames(40, 50, seed=2)))
    print(torch.backends.cpu.get_cpu_capability())


@pytest.fixture(scope="module")
def codecs():
    torch.manual_seed(0)
    serial = replace(LITE, context="autoregressive")
    codecs = {
        "pair": PairCodec(replace(LITE, entropy_reference=True)),
        "serial": ImageCodec(serial, "infrared"),
    }
    for codec in codecs.values():
        liven(codec)
        for part in codec.modules():
            if isinstance(part, EntropyModel):
                part.update_tables()
    return codecs


@pytest.fixture(scope="module")
def written(codecs, tmp_path_factory):
    """A folder of weights, streams of this process, and what other machines made of them."""
    folder = tmp_path_factory.mktemp("machines")
    for name, codec in codecs.items():
        save_weights(codec, folder / f"{name}.safetensors")
    visible, infrared = frames(40, 50, seed=1)
    streams = {
        "pair": codecs["pair"].compress(visible, infrared),
        "serial": codecs["serial"].compress(visible[:, :, 0]),
    }
    for name, data in streams.items():
        (folder / f"{name}.xmc").write_bytes(data)
        np.savez(folder / f"{name}.npz", **decode(codecs[name], data))
    code = "import sys, test_portability; test_portability.decode_here(*sys.argv[1:])"
    for machine, environment in OTHER_MACHINES.items():
        said = run_python(code, folder, machine, **environment)
        if platform.machine() in ("x86_64", "AMD64"):  # the setting was understood
            wanted = environment["ATEN_CPU_CAPABILITY"].upper()
            assert said.strip().endswith(wanted), said
    return folder


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("machine", OTHER_MACHINES)
@pytest.mark.parametrize("name", ["pair", "serial"])
def test_another_machine_decodes_the_same_symbols(written, name, machine, threads, onednn):
    ours = np.load(written / f"{name}.npz")
    theirs = np.load(written / f"{name}-{machine}-{threads}-{onednn}.npz")
    assert set(theirs.files) == set(ours.files)
    for key, value in ours.items():
        if key.startswith("y_coded"):
            assert (theirs[key] == value).all(), key
            assert np.unique(value).size > 500  # not a latent of zeros
        else:  # float32 transforms: the last bit of a pixel may differ
            difference = np.abs(theirs[key].astype(int) - value)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01, key


@pytest.mark.parametrize("machine", OTHER_MACHINES)
def test_this_machine_decodes_what_another_wrote(written, codecs, machine):
    decoded = codecs["pair"].decompress((written / f"from-{machine}.bin").read_bytes())
    assert decoded.visible.shape == (80, 100, 3) and decoded.infrared.shape == (40, 50)


@pytest.mark.parametrize("context", ["checkerboard", "autoregressive"])
def test_thread_count_and_onednn_do_not_change_the_bytes(context):
    """The probability networks alone: the same latent gives the same stream."""
    torch.manual_seed(0)
    model = liven(EntropyModel(replace(LITE, context=context), 96, 2))
    model.update_tables()
    y = torch.randn(1, 96, 8, 12) * 2
    # the float32 part of the encoder is fixed, as it is for one that has written its stream
    with torch.no_grad():
        z = model.hyper.h_a(y * model.gains(torch.tensor([1024.0]))[0])
    model.hyper.h_a = torch.nn.Module()
    model.hyper.h_a.forward = lambda _: z
    side = torch.randn(1, 96, 16, 24, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        streams = []
        for threads, onednn in SETTINGS:
            torch.set_num_threads(threads)
            with torch.backends.mkldnn.flags(enabled=onednn):
                streams.append(model.compress(y, 1024.0, side)[:3])
    finally:
        torch.set_num_threads(before)
    assert all(stream == streams[0] for stream in streams)


def test_no_reader_ever_makes_tables(monkeypatch, written):
    """Tables come with the weights: another machine's float32 would round some of them away."""

    def forbidden(*_, **__):
        raise AssertionError("tables made while reading")

    monkeypatch.setattr(models.EntropyBottleneck, "update", forbidden)
    monkeypatch.setattr(models.GaussianConditional, "update", forbidden)
    monkeypatch.setattr(models.GaussianConditional, "update_scale_table", forbidden)
    codec = load_weights(written / "pair.safetensors")
    codec.decompress((written / "pair.xmc").read_bytes())
