"""Small codecs and frames that the tests of the core share; pairs of a data set: `conftest.py`."""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xmodal_lite.config import CodecConfig
from xmodal_lite.entropy import EntropyModel
from xmodal_lite.frames import Pair
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pair_codec import PairCodec
from xmodal_lite.records import Measurement
from xmodal_lite.stages import build_codec

ROOT = Path(__file__).parents[1]
TINY = CodecConfig(
    name="tiny", feature_channels=4, transform_channels=8, latent_channels=12, embedding=12
)
ALONE = {"channel_alignment": False, "spatial_alignment": False, "entropy_reference": False}

REFERENCES = {
    "off": ALONE,
    "channel": {**ALONE, "channel_alignment": True},
    "spatial": {**ALONE, "spatial_alignment": True},
    "both": {},
    "both+entropy": {"entropy_reference": True},
}
"""What of the reference a codec uses, as fields of its configuration."""


def liven(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights under which every symbol matters, without training.

    Layers that start at zero get values, gains are raised so that latents and hyper-latents are
    several steps wide, and the entropy parameters spread over many tables.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.abs().sum():
                parameter.normal_(0, 0.05, generator=generator)
        for part in module.modules():
            if isinstance(part, ImageCodec | PairCodec):
                part.g_a[-1].weight.mul_(20)
            if isinstance(part, ImageCodec):
                part.g_s[-1][0].weight.mul_(8)
            if isinstance(part, EntropyModel):
                part.log_gain.add_(2.0)
                part.log_inverse_gain.sub_(2.0)
                latent_channels = part.log_gain.shape[1]
                part.hyper.h_a[-1].weight.mul_(5)
                last = part.latent.entropy_parameters[-1]
                last.weight.mul_(4)
                last.bias[:latent_channels].uniform_(0.2, 6, generator=generator)  # scales
    return module


def tiny_image_codec(modality: str = "visible", seed: int = 0, **changes: object) -> ImageCodec:
    """A lively tiny image codec with tables."""
    return copy.deepcopy(_tiny(ImageCodec, replace(TINY, **changes), seed, modality))


def tiny_pair_codec(seed: int = 0, **changes: object) -> PairCodec:
    """A lively tiny pair codec, tables of the reference codec included."""
    return copy.deepcopy(_tiny(PairCodec, replace(TINY, **changes), seed))


@functools.cache
def _tiny(kind: type, config: CodecConfig, seed: int, *arguments: str) -> torch.nn.Module:
    torch.manual_seed(seed)
    codec = liven(kind(config, *arguments), seed)
    for part in codec.modules():
        if isinstance(part, EntropyModel):
            part.update_tables()
    return codec.eval()


def fresh(stage="alone", seed=0, **changes):
    """The codec of a stage, untrained."""
    torch.manual_seed(seed)
    return build_codec(replace(TINY, **changes), stage)


def frames(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A visible (2H, 2W, 3) and an infrared (H, W) frame with edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: 2 * height, : 2 * width]
    blocks = rng.integers(0, 120, (2 * height // 16 + 1, 2 * width // 16 + 1))
    scene = blocks[rows // 16, columns // 16] + rows * 60 // (2 * height)
    noise = rng.integers(0, 30, (2 * height, 2 * width, 3))
    visible = (scene[..., None] * [0.9, 1.0, 0.8] + noise).clip(0, 255).astype(np.uint8)
    infrared = (255 - 0.9 * scene[::2, ::2] + rng.integers(0, 10, (height, width))).clip(0, 255)
    return visible, infrared.astype(np.uint8)


def scene(seed: int = 0, height: int = 66, width: int = 70) -> Pair:
    """A pair of `frames`."""
    return Pair(f"scene_{seed}", *frames(height, width, seed))


def record(codec: str, pair: str, bpp: float, psnr: float, point: float) -> Measurement:
    """A measurement as of a classical codec."""
    return Measurement(
        codec=codec, pair=pair, bytes=round(1e4 * bpp), bpp=bpp, psnr=psnr, setting=point
    )


def given(codec: PairCodec, visible: np.ndarray, infrared: np.ndarray) -> dict[str, np.ndarray]:
    """The frames that a codec codes, by argument name; None for one that it does not."""
    images = {"visible": visible, "infrared": infrared}
    if not codec.config.uses_reference:
        images[codec.config.reference] = None
    return images


def write_pairs(folder: Path, count: int = 4, height: int = 72, width: int = 80) -> Path:
    """A plain folder of PNG pairs; the last one is ``valid``, the one before it ``test``."""
    names = [f"pair_{k}" for k in range(count)]
    for part in ("visible", "infrared"):
        (folder / part).mkdir(parents=True)
    for k, name in enumerate(names):
        visible, infrared = frames(height, width, seed=k)
        Image.fromarray(visible).save(folder / "visible" / f"{name}.png")
        Image.fromarray(infrared).save(folder / "infrared" / f"{name}.png")
    splits = f'{{"train": {names[:-2]}, "valid": {names[-1:]}, "test": {names[-2:-1]}}}'
    (folder / "splits.json").write_text(splits.replace("'", '"'))
    return folder


def write(path, height=8, width=10, mode="RGB", value=None, **options):
    """A small image of one value (random without), in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(path.name.encode()))
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = rng.integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8), mode).save(path, **options)
    return path


def write_pair(visible, infrared, height=8, width=10):
    """Two small images of random values, the visible one at twice the size."""
    write(visible, 2 * height, 2 * width)
    write(infrared, height, width, "L")


def plain(folder, names, splits=None):
    """A plain folder of small pairs with these names."""
    for name in names:
        write_pair(folder / "visible" / f"{name}.png", folder / "infrared" / f"{name}.png")
    if splits is not None:
        (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def saved(image, kind="PNG", **options):
    """An image's bytes in a file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def assert_one_line(error, *parts):
    """A caught error's message is one line, and holds these parts."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def with_header_crc(data: bytes | bytearray, header_bytes: int) -> bytes:
    """The stream with the CRC of its changed header made right again."""
    head = bytes(data[:header_bytes])
    return head + zlib.crc32(head).to_bytes(4, "little") + bytes(data[header_bytes + 4 :])


def run_python(code: str, *arguments: object, timeout: float = 120, **environment: str) -> str:
    """What a fresh interpreter prints; one thread unless the environment says otherwise.

    Raises:
        AssertionError: it ended with an error or by a signal; the message has its stderr.
    """
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def isolated(function: Callable[[], object], timeout: float = 60) -> None:
    """Run in a fork, so that a crash or a hang fails one test and not the session.

    The fork is of one thread and must not train. Printing the reason is the fork's own business.

    Raises:
        AssertionError: it raised, was ended by a signal, or took longer than ``timeout`` seconds.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            function()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            assert code == 0, f"signal {-code}" if code < 0 else "raised, see stderr"
            return
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"no end within {timeout} s")
