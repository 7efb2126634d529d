"""Benchmark: seconds, peak memory and multiply-adds of a codec, stage by stage (chapter 10)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .coding import padded_batches
from .config import LATENT_STRIDE, PAD_MULTIPLE, PRESETS, preset
from .entropy import EntropyModel
from .evaluation import EvaluationError
from .image_codec import ImageCodec, as_batch, pad, padded_size, wire_lambda
from .pair_codec import PairCodec, Reference
from .pretrained import available, load_codec

Result = TypeVar("Result")

REFERENCE_SPEED = "mbt2018"
"""CompressAI's own codec of Minnen et al. 2018, N = M = 192, on the same image."""


def bench(
    name: str,
    visible: np.ndarray,
    infrared: np.ndarray,
    lmbda: float = 1024,
    repeat: int = 3,
    threads: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Seconds, peak memory and multiply-adds of one codec on one pair, in a process of its own.

    Args:
        name: a preset (untrained: speed hardly depends on weights), shipped weights, a weights
            file, or ``"mbt2018"`` (CompressAI's, untrained, on the infrared frame in grey RGB).
        visible, infrared: uint8 (s·H, s·W, 3) and (H, W).
        lmbda: brought into the codec's trained range.
        repeat: runs, of which the median time counts; one small run comes before.
        threads: of PyTorch; its default if None.

    Returns:
        ``codec, height, width`` (infrared pixels), ``threads, device, bytes`` (of the file),
        ``parameters`` and ``reference_parameters`` (the part that is the reference codec),
        ``multiply_adds`` and ``reference_multiply_adds`` (of one forward pass, encoder and
        decoder), ``memory_at_rest`` (bytes resident with weights loaded), and ``stages``: for
        each ``stage, seconds, cpu_seconds, pixels_per_second, peak_memory``. Seconds are the
        wall clock's; CPU seconds are the sum over threads, which other programs disturb less.
        Pixels are those of the frame that the stage works on, the target's for the totals. Peak
        memory is the process's highest resident size in bytes during the stage, PyTorch and
        weights included (where the system cannot reset that mark, since the start); on a GPU,
        ``peak_device_memory`` beside it.

    Raises:
        EvaluationError: the process died, as it does when memory runs out.
        ValueError: unknown name or bad images.
    """
    result = in_own_process(_bench, name, visible, infrared, lmbda, repeat, threads, device)
    return dict(result)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module-level function returns or raises in a fresh interpreter.

    Raises:
        EvaluationError: the process died, as it does when memory runs out.
    """
    spawn = get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_send, args=(sender, function, *arguments), daemon=True)
    with _quiet_start():
        process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise EvaluationError("the process that measured died; out of memory?") from None
    finally:
        process.terminate()
        process.join()
    if isinstance(result, Exception):
        raise result
    return result


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """What a process started here inherits: no warnings, and Ctrl-C left to this process."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where Ctrl-C does not arrive either
        before = None
    warned = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        yield
    finally:
        os.environ.pop("PYTHONWARNINGS")
        if warned is not None:
            os.environ["PYTHONWARNINGS"] = warned
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _send(sender: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    try:
        sender.send(function(*arguments))
    except Exception as error:
        sender.send(error)


def check_name(name: str) -> None:
    """That :func:`bench` knows a codec of this name.

    Raises:
        ValueError: it does not.
    """
    known = [*PRESETS, REFERENCE_SPEED, *available()]
    if name not in known and not Path(name).is_file():
        raise ValueError(f"unknown codec {name!r}; expected {', '.join(known)} or a weights file")


def _bench(
    name: str,
    visible: np.ndarray,
    infrared: np.ndarray,
    lmbda: float,
    repeat: int,
    threads: int | None,
    device: str,
) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    if threads is not None:
        torch.set_num_threads(threads)
    codec = _bench_codec(name, device)
    if isinstance(codec, PairCodec | ImageCodec):
        low, high = codec.config.lambdas[0], codec.config.lambdas[-1]
        lmbda = min(max(lmbda, low), high)
    images = {"visible": visible, "infrared": infrared}
    small = {"visible": visible[:128, :128], "infrared": infrared[:64, :64]}
    costs = multiply_adds(codec, images)
    watch = Stopwatch(repeat, device)
    with torch.no_grad():
        _stages(codec, small, lmbda, Stopwatch(1, device))  # first calls set things up
        peak_memory(reset=True)
        at_rest = peak_memory()
        size = _stages(codec, images, lmbda, watch)
    reference = getattr(codec, "reference_codec", None)
    return {
        "codec": name,
        "height": infrared.shape[0],
        "width": infrared.shape[1],
        "threads": torch.get_num_threads(),
        "device": device,
        "bytes": size,
        "parameters": _parameters(codec),
        "reference_parameters": 0 if reference is None else _parameters(reference),
        **costs,
        "memory_at_rest": at_rest,
        "stages": watch.stages,
    }


def _bench_codec(name: str, device: str) -> nn.Module:
    torch.manual_seed(0)
    if name == REFERENCE_SPEED:
        from compressai.models import JointAutoregressiveHierarchicalPriors

        model = JointAutoregressiveHierarchicalPriors(192, 192).eval().to(device)
        model.update(force=True)
        return model
    if name not in PRESETS:
        return load_codec(name, device)
    codec = PairCodec(preset(name)).eval()
    codec.update_tables()
    if codec.reference_codec is not None:
        codec.reference_codec.update_tables()
    return codec.to(device)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(codec: nn.Module, images: dict[str, np.ndarray]) -> dict[str, int]:
    """Multiply-adds of one forward pass (encoder and decoder) on images of this size.

    Counted by PyTorch on one tile of the padded grid and scaled by their number: every layer works
    on that grid, so this is exact. Convolutions, GDN, linear layers and attention count.

    Returns:
        ``multiply_adds`` and, of them, ``reference_multiply_adds``.
    """
    device = next(codec.parameters()).device
    visible = torch.zeros(1, 3, 2 * PAD_MULTIPLE, 2 * PAD_MULTIPLE, device=device)
    infrared = torch.zeros(1, 1, PAD_MULTIPLE, PAD_MULTIPLE, device=device)
    runs: list[Callable[[], object]] = []
    if isinstance(codec, PairCodec):
        lmbda = torch.tensor(codec.config.lambdas[:1], device=device)
        runs.append(lambda: codec(visible, infrared, lmbda))
        if codec.reference_codec is not None:
            side = visible if codec.config.reference == "visible" else infrared
            runs.append(lambda: codec.estimate_reference(side, lmbda))
        stride = codec.config.stride_of(codec.config.target)
        frame = images[codec.config.target]
    else:
        modality = codec.modality if isinstance(codec, ImageCodec) else "visible"
        tile = visible[..., ::2, ::2] if modality == "visible" else infrared
        if isinstance(codec, ImageCodec):
            lmbda = torch.tensor(codec.config.lambdas[:1], device=device)
            runs.append(lambda: codec(tile, lmbda))
            frame = images[modality]
        else:
            runs.append(lambda: codec(tile))
            frame = images["infrared"]
        stride = 1
    height, width = padded_size((-(-frame.shape[0] // stride), -(-frame.shape[1] // stride)))
    tiles = height * width // PAD_MULTIPLE**2
    counts = [0, 0]
    for k, run in enumerate(runs):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        counts[k] = counter.get_total_flops() // 2 * tiles  # a multiply-add is two operations
    return {"multiply_adds": counts[0], "reference_multiply_adds": counts[1]}


def peak_memory(reset: bool = False) -> int:
    """The process's highest resident size in bytes since the last reset; ``reset`` after reading.

    Linux can reset the mark; elsewhere it stands since the start of the process.
    """
    try:
        status = Path("/proc/self/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
    except (OSError, IndexError, ValueError):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if platform.system() == "Darwin" else 1024
    return peak


class Stopwatch:
    """Runs stages and keeps what they took; see :func:`bench` for the entries of ``stages``."""

    def __init__(self, repeat: int, device: str = "cpu"):
        self.repeat, self.device = repeat, device
        self.stages: list[dict[str, Any]] = []

    def __call__(self, stage: str, image: np.ndarray, run: Callable[[], Result]) -> Result:
        cuda = self.device != "cpu"
        seconds, cpu_seconds = [], []
        peak_memory(reset=True)
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(self.repeat):
            start, cpu_start = time.perf_counter(), time.process_time()
            result = run()
            if cuda:
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        median = statistics.median(seconds)
        entry = {
            "stage": stage,
            "seconds": median,
            "cpu_seconds": statistics.median(cpu_seconds),
            "pixels_per_second": image.shape[0] * image.shape[1] / median,
            "peak_memory": peak_memory(),
        }
        if cuda:
            entry["peak_device_memory"] = torch.cuda.max_memory_allocated(self.device)
        self.stages.append(entry)
        return result


def _stages(
    codec: nn.Module, images: dict[str, np.ndarray], lmbda: float, watch: Stopwatch
) -> int:
    """Every stage under the watch; bytes of the file."""
    if isinstance(codec, PairCodec):
        return _pair_stages(codec, images, wire_lambda(lmbda, codec.config), watch)
    if isinstance(codec, ImageCodec):
        return _image_stages(codec, images, wire_lambda(lmbda, codec.config), watch)
    return _compressai_stages(codec, images, watch)


def _pair_stages(
    codec: PairCodec, images: dict[str, np.ndarray], lmbda: float, watch: Stopwatch
) -> int:
    config = codec.config
    batches = padded_batches(codec, images)
    frame, reference = images[config.target], None
    if codec.reference_codec is not None:
        reference = _reference_stages(codec, batches, images, lmbda, watch)
    side = reference.y_coded if reference is not None and config.entropy_reference else None
    latent, _, gamma, beta = watch(
        "analysis", frame, lambda: codec.analyse(batches[config.target], reference)
    )
    y_coded = _entropy_stages(codec.entropy, latent, lmbda, side, frame, watch)

    def synthesise() -> Tensor:
        f_aligned = None
        if codec.channel_alignment is not None and reference is not None:
            f_reference = codec.reference_features(reference.x_hat)
            f_aligned = codec.channel_alignment.align(f_reference, gamma, beta)
        return codec.synthesise(codec.entropy.dequantise(y_coded, lmbda), reference, f_aligned)

    watch("synthesis", frame, synthesise)
    visible, infrared = images["visible"], images["infrared"]
    data = watch("total encode", frame, lambda: codec.compress(visible, infrared, lmbda))
    watch("total decode", frame, lambda: codec.decompress(data))
    return len(data)


def _entropy_stages(
    entropy: EntropyModel,
    latent: Tensor,
    lmbda: float,
    side: Tensor | None,
    frame: np.ndarray,
    watch: Stopwatch,
) -> Tensor:
    coded = watch("entropy encode", frame, lambda: entropy.compress(latent, lmbda, side))
    height, width = latent.shape[-2:]
    return watch(
        "entropy decode",
        frame,
        lambda: entropy.decompress(coded.z, coded.y, coded.checksum, (height, width), side),
    )


def _reference_stages(
    codec: PairCodec,
    batches: dict[str, Tensor],
    images: dict[str, np.ndarray],
    lmbda: float,
    watch: Stopwatch,
) -> Reference:
    side = codec.config.reference
    coder, batch = codec.reference_codec, batches[side]
    assert coder is not None
    size = (batch.shape[-2] // LATENT_STRIDE, batch.shape[-1] // LATENT_STRIDE)
    coded = watch(f"{side} encode", images[side], lambda: coder.encode_latent(batch, lmbda))

    def decode() -> Reference:
        y_coded = coder.entropy.decompress(coded.z, coded.y, coded.checksum, size)
        return codec.decode_reference(y_coded, lmbda)

    return watch(f"{side} decode", images[side], decode)


def _image_stages(
    codec: ImageCodec, images: dict[str, np.ndarray], lmbda: float, watch: Stopwatch
) -> int:
    frame = images[codec.modality]
    batch = as_batch(frame, codec.modality).to(next(codec.parameters()).device)
    batch = pad(batch, *padded_size(batch.shape[-2:]))
    latent = watch("analysis", frame, lambda: codec.g_a(batch))
    y_coded = _entropy_stages(codec.entropy, latent, lmbda, None, frame, watch)
    watch("synthesis", frame, lambda: codec.decode_latent(y_coded, lmbda))
    data = watch("total encode", frame, lambda: codec.compress(frame, lmbda))
    watch("total decode", frame, lambda: codec.decompress(data))
    return len(data)


def _compressai_stages(model: Any, images: dict[str, np.ndarray], watch: Stopwatch) -> int:
    """Of a CompressAI model; entropy coding alone is its own code with g_a or g_s taken out."""
    frame = images["infrared"]
    batch = as_batch(frame, "infrared").to(next(model.parameters()).device)
    batch = pad(batch, *padded_size(batch.shape[-2:])).expand(-1, 3, -1, -1)
    g_a, g_s = model.g_a, model.g_s
    latent = watch("analysis", frame, lambda: g_a(batch))
    model.g_a = model.g_s = nn.Identity()
    coded = watch("entropy encode", frame, lambda: model.compress(latent))
    watch("entropy decode", frame, lambda: model.decompress(**coded))
    model.g_a, model.g_s = g_a, g_s
    watch("synthesis", frame, lambda: g_s(latent))
    coded = watch("total encode", frame, lambda: model.compress(batch))
    watch("total decode", frame, lambda: model.decompress(**coded))
    return sum(len(part[0]) for part in coded["strings"])


def speed_table(
    path: str | Path, stages: Sequence[str]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Head and rows of a table, one column a codec, from a file of :func:`bench`'s records.

    Rows are parameters (of the target's codec + of the reference's, millions), multiply-adds per
    target pixel (thousands) and the seconds of each stage, empty where a codec has no such stage.

    Raises:
        ValueError: not such a file.
        OSError: it cannot be read.
    """
    try:
        records = json.loads(Path(path).read_text())["records"]
        columns = [("parameters, millions", "multiply-adds a pixel, thousands", *stages)]
        for record in records:
            seconds = {s["stage"]: f"{s['seconds']:.2f} s" for s in record["stages"]}
            reference = record["reference_parameters"]
            size = f"{(record['parameters'] - reference) / 1e6:.1f} + {reference / 1e6:.1f}"
            work = record["multiply_adds"] / (record["height"] * record["width"]) / 1e3
            timed = (seconds.get(stage, "") for stage in stages)
            columns.append((size, f"{work:,.0f}", *timed))
        head = ["", *(f"`{record['codec']}`" for record in records)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no measurements of speed ({error!r})") from None
    return head, list(zip(*columns, strict=True))
