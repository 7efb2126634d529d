"""Throw mutated .xmc streams at a real decoder, and count what happens.

    python tests/mutate_streams.py 2000
    python tests/mutate_streams.py 100000 --seed 7 --weights runs/pair/weights.safetensors

Streams are flipped, cut, stretched, and lied in. Half of them get all their checksums made right
again, so that hostile payloads reach the range coder; some of those even get the checksum of the
symbols right, so that hostile latents reach the networks. Every mutant is decoded in a worker
process with a limit on its memory and time: a crash costs the worker, and its input is kept.

Good outcomes are a BitstreamError of one line, or images of the size that the header says; the
exit status is 1 if there was any other.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import re
import resource
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import REFERENCES, frames, given, tiny_pair_codec
from tqdm.auto import tqdm

from xmodal_lite.bitstream import BitstreamError, Section, unpack
from xmodal_lite.image_codec import ImageCodec
from xmodal_lite.pretrained import Codec, load_weights

SIZES = [(1, 1), (20, 30), (64, 64), (65, 130)]
GOOD = ("BitstreamError", "unchanged", "decoded")
TINY_CODECS: dict[str, dict[str, Any]] = {
    "two passes, all of the reference": REFERENCES["both+entropy"],
    "serial, float32 coefficients": {
        "context": "autoregressive",
        "coefficient_format": "float32",
    },
    "visible given infrared, float16": {"target": "visible", "coefficient_format": "float16"},
    "no reference": REFERENCES["off"],
}
"""Every way through the decoder, small: options of `tiny_pair_codec`."""

FIXED = 15  # bytes of a header before its images: magic, version, flags, modes, fingerprint


# --- mutants -------------------------------------------------------------------------------------


class Parts:
    """A stream taken apart without judging it: everything can be lied about."""

    def __init__(self, data: bytes):
        header, sections = unpack(data)
        self.header = bytearray(data[: FIXED + 8 * len(header.images)])
        self.sections = [[int(kind), payload, None] for kind, payload in sections.items()]

    def write(self, rng: np.random.Generator, honest: bool) -> bytes:
        """All bytes; without ``honest``, checksums are wrong where something was changed."""
        out = bytes(self.header) + _crc(self.header, honest, rng)
        for kind, payload, length in self.sections:
            head = bytes([kind]) + (_leb128(len(payload)) if length is None else length)
            out += head + _crc(head + payload, honest, rng) + payload
        return out


def _crc(data: bytes | bytearray, honest: bool, rng: np.random.Generator) -> bytes:
    return (zlib.crc32(data) if honest else int(rng.integers(2**32))).to_bytes(4, "little")


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def _noise(rng: np.random.Generator, data: bytes) -> bytes:
    """A hostile payload: flipped, cut, stretched, or made up."""
    out = bytearray(data)
    kind = rng.integers(9)
    if kind == 0 and out:
        for _ in range(int(rng.integers(1, 9))):
            out[rng.integers(len(out))] ^= 1 << rng.integers(8)
    elif kind == 1:
        del out[int(rng.integers(len(out) + 1)) :]
    elif kind == 2:
        at = int(rng.integers(len(out) + 1))
        out[at:at] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 3:
        out = bytearray(rng.bytes(len(out)))
    elif kind == 4:
        out = bytearray(b"\xff" * 4 * int(2 ** rng.uniform(0, 12)))
    elif kind == 5:
        out = bytearray(4 * int(2 ** rng.uniform(0, 12)))
    elif kind == 6:
        out = bytearray(rng.bytes(4 * int(rng.integers(0, 6))))
    elif kind == 7 and len(out) >= 8:  # whole words move: lengths stay what a coder expects
        words = np.frombuffer(bytes(out[: len(out) // 4 * 4]), "<u4")
        out = bytearray(rng.permutation(words).tobytes())
    else:
        out += b"\xff" * 4 * int(rng.integers(1, 20))
    return bytes(out)


def _lie(rng: np.random.Generator, parts: Parts) -> None:
    """Change what the header says: sizes, λ, flags, modes, version, fingerprint."""
    images = (len(parts.header) - FIXED) // 8
    kind = rng.integers(6)
    at = FIXED + 8 * int(rng.integers(images))
    if kind == 0:  # sizes that belong together
        height, width = (int(2 ** rng.uniform(0, 11)) for _ in "hw")
        for k in range(images):
            scale = 2 if images == 2 and k == 0 else 1
            place = FIXED + 8 * k
            parts.header[place : place + 4] = _u16(scale * height) + _u16(scale * width)
    elif kind == 1:  # one size that does not
        parts.header[at : at + 4] = rng.bytes(4)
    elif kind == 2:  # any four bytes are a λ
        parts.header[at + 4 : at + 8] = rng.bytes(4)
    elif kind == 3:
        parts.header[at + 4 : at + 8] = np.float32(2 ** rng.uniform(7, 13)).tobytes()
    elif kind == 4:
        parts.header[5 + rng.integers(2)] = rng.integers(256)
    else:
        parts.header[rng.integers(FIXED)] ^= 1 << rng.integers(8)


def _u16(value: int) -> bytes:
    return min(value, 65535).to_bytes(2, "little")


def _plain(rng: np.random.Generator, data: bytes, others: list[bytes]) -> tuple[str, bytes]:
    """A mutant of bytes, with no thought for checksums."""
    out = bytearray(data)
    kind = str(
        rng.choice(["flip", "flips", "cut", "insert", "delete", "repeat", "splice", "noise"])
    )
    at, length = int(rng.integers(len(out))), int(rng.integers(1, 64))
    if kind == "flip":
        out[at] ^= 1 << rng.integers(8)
    elif kind == "flips":
        for _ in range(length):
            out[rng.integers(len(out))] ^= 1 << rng.integers(8)
    elif kind == "cut":
        del out[at:]
    elif kind == "insert":
        out[at:at] = rng.bytes(length)
    elif kind == "delete":
        del out[at : at + length]
    elif kind == "repeat":
        out[at:at] = out[at : at + length]
    elif kind == "splice":
        other = others[rng.integers(len(others))]
        out[at:] = other[int(rng.integers(len(other))) :]
    else:
        out = bytearray(rng.bytes(length) if rng.integers(2) else data[:4] + rng.bytes(8 * length))
    return kind, bytes(out)


def _structured(rng: np.random.Generator, data: bytes, others: list[bytes]) -> tuple[str, bytes]:
    """A mutant of the parts of a stream; most get right checksums."""
    parts = Parts(data)
    sections = parts.sections
    kinds = ["swap", "drop", "twice", "foreign", "length", "kind"]
    kind = str(rng.choice(["payload"] * 5 + ["header"] * 3 + kinds))
    k = int(rng.integers(len(sections)))
    if kind == "payload":
        for k in rng.choice(len(sections), int(rng.integers(1, 3)), replace=False):
            sections[k][1] = _noise(rng, sections[k][1])
    elif kind == "header":
        _lie(rng, parts)
    elif kind == "swap":
        j = int(rng.integers(len(sections)))
        i = 0 if rng.integers(2) else 1  # whole sections change places, or just their payloads
        sections[k][i:], sections[j][i:] = sections[j][i:], sections[k][i:]
    elif kind == "drop":
        del sections[k]
    elif kind == "twice":
        sections.insert(int(rng.integers(len(sections) + 1)), list(sections[k]))
    elif kind == "foreign":  # a payload of the same kind from another stream of this codec
        theirs = {part[0]: part for part in Parts(others[rng.integers(len(others))]).sections}
        sections[k] = theirs.get(sections[k][0], sections[k])
    elif kind == "length":
        right = len(sections[k][1])
        wrong = [0, right + 1, max(0, right - 1), 2**28 - 1, 2**28, int(rng.integers(2**28))]
        sections[k][2] = _leb128(int(rng.choice(wrong)))
        if rng.integers(4) == 0:
            sections[k][2] = rng.bytes(int(rng.integers(1, 6)))
    else:
        sections[k][0] = int(rng.integers(256))
    honest = bool(rng.integers(8))
    return kind + ("" if honest else ", wrong checksums"), parts.write(rng, honest)


def mutant(seed: int, number: int, streams: list[bytes]) -> tuple[str, int, bytes]:
    """Mutant of that number: its kind, which of the streams it was, and its bytes."""
    rng = np.random.default_rng((seed, number))
    which = int(rng.integers(len(streams)))
    mutate = _structured if rng.random() < 0.6 else _plain
    kind, data = mutate(rng, streams[which], streams)
    return kind, which, data


# --- decoding ------------------------------------------------------------------------------------


def decode(codec: Codec, data: bytes, original: list[Any]) -> str:
    """What the decoder makes of it, as an outcome to count."""
    try:
        result = codec.decompress(data)
    except BitstreamError as error:
        if not str(error) or "\n" in str(error):
            return "BitstreamError of another form than one line"
        return "BitstreamError"
    except MemoryError:
        return "memory"
    except Exception as error:  # whatever it is, it is a finding
        out_of_memory = "allocate" in str(error)
        return "memory" if out_of_memory else f"{type(error).__name__}: {error}"[:200]
    images = _images(result)
    header = unpack(data)[0]
    sizes = [getattr(header, f"{name}_size") for name in header.images]
    if [image.shape[:2] for image in images] != sizes:
        return "images of another size than the header says"
    same = all(np.array_equal(a, b) for a, b in zip(images, original, strict=True))
    return "unchanged" if same else "decoded"


def _images(result: Any) -> list[np.ndarray]:
    images = [result] if isinstance(result, np.ndarray) else list(result)
    return [image for image in images if image is not None]


def with_right_symbols(codec: Codec, data: bytes) -> bytes:
    """The stream with the checksums of its symbols made right, as far as it decodes."""
    for _ in range(2):  # an image each
        try:
            codec.decompress(data)
        except BitstreamError as error:
            said = re.search(
                r"symbols have CRC ([0-9a-f]{8}), the file says ([0-9a-f]{8})", str(error)
            )
            if said is None:
                break
            decoded, stored = (int(crc, 16).to_bytes(4, "little") for crc in said.groups())
            parts = Parts(data)
            symbols = parts.sections[-1]
            if symbols[0] != Section.SYMBOLS or stored not in symbols[1]:
                break
            symbols[1] = symbols[1].replace(stored, decoded, 1)
            data = parts.write(np.random.default_rng(0), honest=True)
        except Exception:  # found and counted when the result is decoded
            break
    return data


def _work(inbox: Connection, codec: Codec, originals: list[list[Any]], megabytes: int) -> None:
    torch.set_num_threads(1)
    faulthandler.disable()  # the parent tells of crashes
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        limit = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        which, data, symbols = inbox.recv()
        if symbols:
            data = with_right_symbols(codec, data)
        inbox.send((decode(codec, data, originals[which]), data))


class Worker:
    """A process that decodes, started again whenever a stream has brought it down."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("fork")  # the codec need not be pickled
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *self.arguments), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> int | None:
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def decode(self, which: int, data: bytes, symbols: bool, timeout: float) -> tuple[str, bytes]:
        self.pipe.send((which, data, symbols))
        try:
            if self.pipe.poll(timeout):
                return self.pipe.recv()
            outcome = "hang"
            self.stop()
        except (EOFError, ConnectionError):
            self.process.join()
            outcome = f"crash (exit {self.process.exitcode})"
        self.start()
        return outcome, data


def seed_streams(codec: Codec) -> tuple[list[bytes], list[list[Any]]]:
    """Streams of a few sizes and λ to start from, and the images that they decode to."""
    streams = []
    for k, size in enumerate(SIZES):
        visible, infrared = frames(*size, seed=k)
        lmbda = codec.config.lambdas[k % len(codec.config.lambdas)]
        if isinstance(codec, ImageCodec):
            image = visible if codec.modality == "visible" else infrared
            streams.append(codec.compress(image, lmbda))
        else:
            mode = codec.modes[-1 - k % len(codec.modes)]
            images = given(codec, visible, infrared)
            streams.append(codec.compress(**images, lmbda=lmbda, mode=mode))
    return streams, [_images(codec.decompress(stream)) for stream in streams]


def outcomes(
    codec: Codec,
    numbers: Iterable[int],
    seed: int = 0,
    timeout: float = 60,
    megabytes: int = 3072,
) -> Iterator[tuple[str, str, int, bytes]]:
    """Decode the mutants of these numbers; yields outcome, mutation, number and bytes of each.

    Args:
        timeout: seconds a mutant may take; more is a hang.
        megabytes: memory a mutant may take beyond what the idle worker has.
    """
    streams, originals = seed_streams(codec)
    worker = Worker(codec, originals, megabytes)
    try:
        for number in numbers:
            kind, which, data = mutant(seed, int(number), streams)
            symbols = number % 2 == 0
            outcome, data = worker.decode(which, data, symbols, timeout)
            yield outcome, kind + (", right symbols" if symbols else ""), number, data
    finally:
        worker.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="mutants to decode, shared between the codecs")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other mutants")
    parser.add_argument("--weights", type=Path, help="a weights file; tiny codecs without")
    parser.add_argument("--timeout", type=float, default=60, help="seconds before it is a hang")
    parser.add_argument("--memory", type=int, default=3072, help="MiB that a mutant may take")
    parser.add_argument("--keep", type=Path, default=Path("mutants"), help="folder for findings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.weights:
        codecs = {str(options.weights): load_weights(options.weights)}
    else:
        codecs = {name: tiny_pair_codec(**changes) for name, changes in TINY_CODECS.items()}
    totals: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    shares = np.array_split(np.arange(options.count), len(codecs))
    with tqdm(total=options.count, unit="mutant", mininterval=1) as bar:
        for (name, codec), numbers in zip(codecs.items(), shares, strict=True):
            for outcome, kind, number, data in outcomes(
                codec, numbers, options.seed, options.timeout, options.memory
            ):
                totals[outcome] += 1
                kinds.setdefault(kind, Counter())[outcome if outcome in GOOD else "bad"] += 1
                bar.update()
                if outcome not in GOOD:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    path = options.keep / f"{options.seed}-{number}.xmc"
                    path.write_bytes(data)
                    tqdm.write(f"{outcome}: {kind}, kept as {path} ({name})")
    print(f"{'mutation':40}{'error':>8}{'same':>8}{'image':>8}{'bad':>8}")
    for kind, counts in sorted(kinds.items()):
        columns = [counts[o] for o in ("BitstreamError", "unchanged", "decoded", "bad")]
        print(f"{kind:40}" + "".join(f"{n:8}" for n in columns))
    print(f"\n{sum(totals.values())} mutants, seed {options.seed}")
    names = {"unchanged": "decoded to the same images", "decoded": "decoded, checksums consistent"}
    for outcome, count in totals.most_common():
        print(f"{count:8}  {names.get(outcome, outcome)}")
    bad = sum(n for outcome, n in totals.items() if outcome not in GOOD)
    print(f"{bad:8}  crashes, hangs, memory and other exceptions")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
