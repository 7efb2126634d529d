"""Pretrained codecs: weights, probability tables and configuration in one safetensors file."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .config import CHANNELS, CodecConfig
from .image_codec import ImageCodec, fingerprint_of
from .pair_codec import PairCodec

WEIGHTS = Path(__file__).parent / "weights"
"""Where the package keeps its own; ``SHA256SUMS`` beside them is checked on loading.

:meta hide-value:
"""

Codec: TypeAlias = ImageCodec | PairCodec


class WeightsError(ValueError):
    """A weights file that is missing, damaged or made for another codec."""


def save_weights(
    codec: Codec,
    path: str | Path,
    notes: dict[str, Any] | None = None,
    half: bool = False,
    reference: str | None = None,
) -> None:
    """Write a codec: tables are brought up to date, the file appears whole or not at all.

    Args:
        codec: trained; of a pair codec the reference codec travels along.
        path: ``*.safetensors``.
        notes: what the model card needs (steps, data, …), kept as JSON in the file.
        half: store weights as float16; tables and constants stay exact.
        reference: the stem of a weights file in the same folder, of this pair codec's reference
            codec. The new file then names it instead of repeating what it holds.

    Raises:
        ValueError: a weight is not finite, or not in half precision, or the file of the reference
            codec holds other weights.
        WeightsError: that file is missing or damaged.
        OSError: the file cannot be written; the old one, if any, is untouched.
    """
    for name, parameter in codec.named_parameters():
        if not torch.isfinite(parameter.half() if half else parameter).all():
            raise ValueError(f"{name} is not finite{' in half precision' if half else ''}")
    if half:
        codec = copy.deepcopy(codec)  # its tables are those of the rounded weights
        with torch.no_grad():
            for parameter in codec.parameters():
                parameter.copy_(parameter.half())
    codec.update_tables()
    tensors = {}
    # not buffers: a bound of 1e-9 on likelihoods would become 0, and a rate infinite
    weights = {name for name, _ in codec.named_parameters()}
    for name, tensor in codec.state_dict().items():
        if name in weights:
            stored = tensor.half() if half else tensor
        else:
            stored = tensor.byte() if _is_mask(tensor) else tensor
        tensors[name] = stored.detach().cpu().contiguous()
    state = {name: _restored(stored) for name, stored in tensors.items()}
    kind = codec.modality if isinstance(codec, ImageCodec) else "pair"
    metadata = {
        "kind": kind,
        "config": json.dumps(codec.config.to_dict()),
        "notes": json.dumps(notes or {}),
        "fingerprint": fingerprint_of(state).hex(),
    }
    if reference is not None:
        beside = _beside(Path(path), reference)
        theirs = fingerprint_of(_read(beside)[1])
        own = {name.removeprefix(_REFERENCE): t for name, t in state.items() if _referred(name)}
        if fingerprint_of(own) != theirs:
            raise ValueError(f"{beside}: not the weights of this codec's reference codec")
        tensors = {name: stored for name, stored in tensors.items() if not _referred(name)}
        metadata |= {"reference": reference, "reference_fingerprint": theirs.hex()}
    write_whole(path, save(tensors, metadata))


_REFERENCE = "reference_codec."


def _referred(name: str) -> bool:
    return name.startswith(_REFERENCE)


def _is_mask(tensor: Tensor) -> bool:
    """Nothing but zeros and ones, in floats; a byte each will do."""
    return tensor.is_floating_point() and bool(((tensor == 0) | (tensor == 1)).all())


def _restored(stored: Tensor) -> Tensor:
    """As the codec holds it: halves and masks are float32 there."""
    return stored.float() if stored.dtype in (torch.float16, torch.uint8) else stored


def load_weights(path: str | Path, device: str | torch.device = "cpu") -> Codec:
    """The codec of a weights file, in eval mode, ready to code.

    Raises:
        WeightsError: no such file, no weights, or weights that do not fit their configuration;
            a reference codec that the file names and that is not beside it.
    """
    path = Path(path)
    metadata, state = _read(path)
    try:
        config = CodecConfig.from_dict(json.loads(metadata["config"]))
        kind: Any = metadata["kind"]
        if kind not in ("pair", *CHANNELS):
            raise ValueError(f"codec of kind {kind!r}; expected pair, visible or infrared")
    except KeyError as error:
        raise WeightsError(f"{path}: no {error} in its metadata; not weights of a codec") from None
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({error})") from None
    if "reference" in metadata:
        beside = _beside(path, metadata["reference"])
        reference = _read(beside)[1]
        if fingerprint_of(reference).hex() != metadata.get("reference_fingerprint"):
            raise WeightsError(f"{path}: {beside.name} beside it is not its reference codec")
        state |= {_REFERENCE + name: tensor for name, tensor in reference.items()}
    codec: Codec = PairCodec(config) if kind == "pair" else ImageCodec(config, kind)
    try:
        codec.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise WeightsError(
            f"{path}: weights do not fit configuration {config.name!r}: {first}"
        ) from None
    if not all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point()):
        raise WeightsError(f"{path}: a weight is not finite")
    return codec.to(device).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and state of a weights file."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return file.metadata() or {}, {n: _restored(file.get_tensor(n)) for n in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({error})") from None


def _beside(path: Path, stem: str) -> Path:
    """The file that a weights file names as its reference codec's."""
    if Path(stem).name != stem:
        raise WeightsError(f"{path}: reference {stem!r}; expected the stem of a file beside it")
    return path.with_name(f"{stem}.safetensors")


def notes_of(path: str | Path) -> dict[str, Any]:
    """The notes that :meth:`save_weights` was given.

    Raises:
        WeightsError: no readable weights file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads((file.metadata() or {}).get("notes", "{}")))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({error})") from None


def available() -> list[str]:
    """Names that :func:`load_pretrained` takes."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load_pretrained(name: str = "pair", device: str | torch.device = "cpu") -> Codec:
    """A codec that the package ships, its hash checked; offline.

    Args:
        name: ``"pair"``, ``"alone"`` (the same network without reference), ``"visible"``,
            ``"minnen"`` (the plain codec of an infrared frame) or ``"reverse"`` (visible given
            infrared); see :func:`available`.

    Raises:
        WeightsError: unknown name, or a file that is not the one that was shipped.
    """
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(f"no pretrained codec {name!r}; there are {', '.join(available())}")
    shipped = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
    sums = WEIGHTS / "SHA256SUMS"
    if not sums.is_file() or shipped not in sums.read_text().splitlines():
        raise WeightsError(f"{path}: its SHA-256 is not the one in SHA256SUMS; fetch it again")
    return load_weights(path, device)


def load_codec(name: str, device: str | torch.device = "cpu") -> Codec:
    """A codec by the name of shipped weights, or by the path of a weights file.

    Raises:
        WeightsError: neither; or a file that is not sound.
    """
    if name in available():
        return load_pretrained(name, device)
    if Path(name).suffix == ".safetensors" or Path(name).exists():
        return load_weights(name, device)
    shipped = ", ".join(available()) or "none"
    raise WeightsError(
        f"no weights {name!r}; shipped are {shipped}, else name a .safetensors file"
    )


def write_whole(path: str | Path, data: bytes) -> None:
    """Write, flush to disk, rename: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: naming the path; nothing is left behind.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise OSError(f"{path}: cannot be written ({error.strerror or error})") from None
        raise
