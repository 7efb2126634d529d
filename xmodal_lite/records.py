"""Records: one line a measurement, and the JSON files that hold them (chapter 10)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from .pair_codec import Mode
from .pretrained import write_whole

ReferenceKind = Literal["true", "other", "blank", "mirrored"]
REFERENCES: tuple[ReferenceKind, ...] = ("true", "other", "blank", "mirrored")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One image coded once.

    Args:
        codec: its name; ``pair``: the scene's name.
        lmbda, setting: the point on the rate axis: λ of a learned codec, else the classical
            codec's own setting (QP, quality, …).
        bytes: what the image costs in the file, see :func:`.target_bytes`; the whole file of a
            codec that codes one image.
        bpp: 8 · bytes per pixel of the coded image.
        psnr: dB, infinite for a perfect copy.
        reference: which reference encoder and decoder had; None for a codec without.
        mode: what the file uses of it, as its encoder decided.
        total_bytes, total_bpp: the whole file; bits per pixel of the coded image here too, so
            that the reference's share is the difference.
        reference_psnr: dB, of the reference frame as decoded.
        estimate_bpp: what the likelihoods promised, coefficients included, container excluded.
    """

    codec: str
    lmbda: float | None = None
    setting: float | None = None
    pair: str
    bytes: int
    bpp: float
    psnr: float
    reference: ReferenceKind | None = None
    mode: Mode | None = None
    total_bytes: int | None = None
    total_bpp: float | None = None
    reference_psnr: float | None = None
    estimate_bpp: float | None = None

    @property
    def label(self) -> str:
        """The curve it belongs to; see :func:`label_of`."""
        return label_of(self.codec, self.reference)

    @property
    def point(self) -> float:
        """λ or setting, whichever it has."""
        value = self.setting if self.lmbda is None else self.lmbda
        if value is None:
            raise ValueError(f"a measurement of {self.codec} has neither λ nor setting")
        return value

    def to_dict(self) -> dict[str, Any]:
        """For JSON: fields without a value left out, an infinite PSNR as null."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        for name, value in values.items():
            if name.endswith("psnr") and math.isinf(value):
                values[name] = None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measurement:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: fields are missing or unknown.
        """
        infinite = {k: math.inf for k, v in values.items() if k.endswith("psnr") and v is None}
        try:
            return cls(**values | infinite)
        except TypeError as error:
            raise ValueError(f"not a measurement: {error}") from None


def label_of(name: str, reference: ReferenceKind | None) -> str:
    """A curve's name: the codec's, and the reference where it is a wrong one."""
    return name if reference in (None, "true") else f"{name} ({reference})"


def load_measurements(path: str | Path) -> list[Measurement]:
    """The records of a file that ``evaluate`` wrote.

    Raises:
        ValueError: not such a file.
        OSError: it cannot be read.
    """
    try:
        return [Measurement.from_dict(r) for r in json.loads(Path(path).read_text())["records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no measurements ({error})") from None


def save_results(
    path: str | Path,
    records: Sequence[dict[str, Any]],
    command: str,
    device: str = "cpu",
    **about: Any,
) -> None:
    """Write ``{"command", "commit", "machine", …, "records"}`` as JSON, whole or not at all.

    Args:
        command: what makes the numbers again.
        about: further entries.

    Raises:
        OSError: the file cannot be written.
    """
    head: dict[str, Any] = {"command": command}
    if (known := commit()) is not None:
        head["commit"] = known
    head |= {"machine": machine(device), **about}
    lines = ",\n".join("  " + json.dumps(record, allow_nan=False) for record in records)
    text = (
        json.dumps(head, indent=1, ensure_ascii=False)[:-2]
        + f',\n "records": [\n{lines}\n ]\n}}\n'
    )
    write_whole(path, text.encode())


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where a measurement was made: what its seconds and its last bits depend on."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    found = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    if device != "cpu":
        found["device"] = torch.cuda.get_device_name(device)
    return found


def commit() -> str | None:
    """The git commit of this code, ``-dirty`` if changed since; None outside a checkout."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], ["describe", "--always",
                        "--abbrev=12", "--dirty", "--exclude=*"]):  # fmt: skip
            done = subprocess.run(
                ["git", "-C", str(here.parent), *command],
                capture_output=True, text=True, timeout=10, check=True,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
