"""Training: one loop for every stage, on a laptop, one GPU and many (chapter 9)."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from tqdm.auto import tqdm

from .config import check_lambda
from .crops import CropDataset
from .data import open_pairs
from .loss import psnr, run_codec
from .optimiser import TwoOptimisers
from .pretrained import Codec, save_weights, write_whole
from .stages import Stage, hold_baseline
from .validation import validate


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and the last checkpoint is whole."""


@dataclass(frozen=True)
class TrainingConfig:
    """One run of one stage.

    Args:
        stage: ``"visible"`` (stage 1), ``"alone"`` and ``"pair"`` (stage 2), ``"infrared"`` (the
            plain Minnen codec on infrared).
        steps: optimiser steps of the whole run.
        batch: crops a step, over all processes.
        crop: infrared pixels on a crop's side; visible crops are s times that. The visible stage
            trains on s·crop as well.
        learning_rate, muon_rate: peak rates of Adam and of Muon (0: Adam for all weights).
        reference_rate: peak rate of Adam on every weight that the reference runs through; they
            are then no longer Muon's, which would turn the noise that a branch at zero sees into
            full-size steps. None treats them like all others.
        without_coefficients: share of crops that are coded in mode ``"space"``, without γ and β,
            so that the other branches learn to do without them.
        only_reference: leave every weight that the baseline has as it is. Whatever the codec then
            gains over the baseline it started from, it gains through its reference branches.
        warmup: steps from zero to the peak.
        decay_from: share of the run after which the rates fall linearly to zero.
        clip: largest gradient norm.
        data: folders to draw pairs from, ``"scenes"`` for the embedded ones, evenly mixed.
        lmbda_range: where λ is drawn, log-uniformly; the whole trained range where None.
        seed: of crops, λ and noise; with the step it determines everything that is random.

    Raises:
        ValueError: a field outside its range; the message names field and value.
    """

    stage: Stage = "pair"
    steps: int = 2000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    muon_rate: float = 0.02
    reference_rate: float | None = None
    only_reference: bool = False
    without_coefficients: float = 0.0
    warmup: int = 200
    decay_from: float = 0.5
    clip: float = 1.0
    data: tuple[str, ...] = ("scenes",)
    lmbda_range: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.lmbda_range or (1.0, 1.0)
        for name, sound, expected in (
            ("stage", self.stage in get_args(Stage), f"one of {', '.join(get_args(Stage))}"),
            ("steps", _whole(self.steps, 1), "a whole number of at least 1"),
            ("batch", _whole(self.batch, 1), "a whole number of at least 1"),
            ("crop", _whole(self.crop, 1) and self.crop % 64 == 0, "a multiple of 64"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a number above 0"),
            ("muon_rate", 0 <= self.muon_rate < math.inf, "0 or more"),
            ("reference_rate", 0 < (self.reference_rate or 1.0) < math.inf, "a number above 0"),
            ("without_coefficients", 0 <= self.without_coefficients <= 1, "a share from 0 to 1"),
            ("warmup", _whole(self.warmup, 0), "a whole number of steps"),
            ("decay_from", 0 <= self.decay_from <= 1, "a share from 0 to 1"),
            ("clip", self.clip > 0, "a number above 0"),
            ("data", len(self.data) > 0, "at least one folder"),
            ("lmbda_range", 0 < low <= high < math.inf, "two rising numbers above 0"),
        ):
            if not sound:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def rate_at(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        start = self.decay_from * self.steps
        falling = (self.steps - step) / max(1.0, self.steps - start)
        return min(rising, 1.0, falling)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def draw_lambdas(config: TrainingConfig, lambdas: tuple[float, ...], step: int) -> Tensor:
    """λ of each crop of a step (batch,): log-uniform, one from each of ``batch`` equal strata."""
    low, high = config.lmbda_range or (lambdas[0], lambdas[-1])
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    strata = torch.randperm(config.batch, generator=generator)
    share = (strata + torch.rand(config.batch, generator=generator)) / config.batch
    drawn = low * (high / low) ** share
    return drawn.clamp(low, high)


def draw_sent(config: TrainingConfig, step: int) -> Tensor:
    """Whether each crop of a step sends coefficients (batch,): 1 or 0."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_033 + step)
    return (torch.rand(config.batch, generator=generator) >= config.without_coefficients).float()


class Trainer:
    """One run in one folder: ``checkpoint.pt``, ``train.csv``, ``valid.csv``, ``run.json``.

    A run that was stopped, even killed, continues from its last checkpoint bit for bit on the same
    device: everything random is a function of the seed and the step.

    Args:
        codec: what to train; frozen parts stay frozen.
        config: the schedule.
        folder: where the run lives; created.
        every: steps between checkpoints and validations.
        accelerator: made here where not given: bfloat16 where the device has it.

    Raises:
        ValueError: λ is drawn from beyond the codec's range, or coefficients are to be left out
            of a codec that has no mode without them.
        TrainingError: the folder holds a run of another configuration or other data, or a
            checkpoint that is not whole.
        DataError: no usable pairs.
    """

    def __init__(
        self,
        codec: Codec,
        config: TrainingConfig,
        folder: str | Path,
        every: int = 500,
        accelerator: Accelerator | None = None,
    ):
        self.config, self.folder, self.every = config, Path(folder), every
        self.accelerator = accelerator or Accelerator(mixed_precision=_precision())
        self.step = 0
        for lmbda in config.lmbda_range or ():
            check_lambda(lmbda, codec.config.lambdas)
        if config.without_coefficients > 0 and "space" not in getattr(codec, "modes", ()):
            raise ValueError(
                f"without_coefficients is {config.without_coefficients}; expected 0 for a codec "
                "that has no other reference branch than γ and β, or none"
            )
        scale = codec.config.scale
        sources = [open_pairs(name, "train") for name in config.data]
        self.valid = [open_pairs(name, "valid") for name in config.data][0]
        length = -(-config.steps * config.batch // len(sources)) + config.batch
        self.crops: Dataset[tuple[Tensor, Tensor]] = _Interleaved(
            [
                CropDataset(source, config.crop, scale, seed=config.seed + k, length=length)
                for k, source in enumerate(sources)
            ]
        )
        for name, parameter in codec.named_parameters():
            if name.endswith("quantiles"):  # found by bisection when the tables are made
                parameter.requires_grad_(False)
        if config.only_reference:
            hold_baseline(codec)
        module: Any = codec
        self.codec = module.to(self.accelerator.device, memory_format=torch.channels_last)
        self.optimiser = TwoOptimisers(
            self.codec, config.learning_rate, config.muon_rate, config.reference_rate
        )
        self.model = self.accelerator.prepare_model(self.codec)
        self.identity = json.loads(
            json.dumps(
                {
                    "codec": codec.config.to_dict(),
                    "training": asdict(config) | {"data": None},
                    "pairs": [[source.kind, *source.names] for source in sources],
                }
            )
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "checkpoint.pt").exists():
            self._resume()

    def run(self, stop_at: int | None = None) -> Codec:
        """Train to the end (or to ``stop_at``), leave ``weights.safetensors``, return the codec.

        Raises:
            TrainingError: the loss stopped being finite.
        """
        last = self.config.steps if stop_at is None else min(self.config.steps, stop_at)
        started, first = time.monotonic(), self.step
        bar = tqdm(
            initial=self.step,
            total=last,
            desc=f"{self.config.stage} codec",
            unit="step",
            disable=not self.accelerator.is_main_process,
        )
        rows: list[dict[str, Any]] = []
        with bar:
            for visible, infrared in self._batches(last):
                row = self._train_step(visible, infrared)
                row["seconds"] = (time.monotonic() - started) / (self.step - first)
                rows.append(row)
                bar.update()
                bar.set_postfix(loss=f"{row['loss']:.3f}", bpp=f"{row['bpp']:.3f}")
                if self.step % self.every == 0 or self.step == last:
                    self._checkpoint(rows)
                    rows = []
        if self.accelerator.is_main_process and self.step == self.config.steps:
            notes = {"training": asdict(self.config), "steps": self.step}
            save_weights(self.codec, self.folder / "weights.safetensors", notes)
        return self.codec

    def _batches(self, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each step's crops; crop number = step · batch + position."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if self.config.batch % world:
            raise TrainingError(f"a batch of {self.config.batch} does not divide by {world}")
        local = self.config.batch // world
        indexes = [
            [step * self.config.batch + rank * local + k for k in range(local)]
            for step in range(self.step, last)
        ]
        workers = 8 if self.accelerator.device.type == "cuda" else 0
        yield from DataLoader(
            self.crops, batch_sampler=indexes, num_workers=min(workers, os.cpu_count() or 1)
        )

    def _train_step(self, visible: Tensor, infrared: Tensor) -> dict[str, Any]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        torch.manual_seed((self.config.seed * 7_919 + self.step) * world + rank)
        device = self.accelerator.device
        local = len(infrared)
        lmbda = draw_lambdas(self.config, self.codec.config.lambdas, self.step)
        lmbda = lmbda[rank * local : (rank + 1) * local].to(device)
        self.codec.train()
        sent = None
        if self.config.without_coefficients > 0:
            sent = draw_sent(self.config, self.step)[rank * local : (rank + 1) * local].to(device)
        out = run_codec(self.model, visible.to(device), infrared.to(device), lmbda, sent)
        loss = out.loss.mean()
        if not torch.isfinite(self.accelerator.reduce(loss.detach(), "sum")):
            raise self._diverged("loss", loss)
        self.accelerator.backward(loss)
        parameters = [p for p in self.codec.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip)
        if not torch.isfinite(norm):
            raise self._diverged("gradient", norm)
        share = self.config.rate_at(self.step)
        self.optimiser.step(share)
        self.step += 1
        means = torch.stack([out.loss.mean(), out.mse.mean(), out.bpp.mean()]).detach()
        total, mse, bpp = self.accelerator.reduce(means, "mean").tolist()
        return {
            "step": self.step,
            "loss": total,
            "bpp": bpp,
            "psnr": psnr(mse),
            "gradient": float(norm),
            "rate": share,
        }

    def _diverged(self, what: str, value: Tensor) -> TrainingError:
        return TrainingError(
            f"step {self.step}: the {what} is {value.item()}; the last checkpoint in "
            f"{self.folder} is whole, try a lower learning rate from there"
        )

    def _checkpoint(self, rows: list[dict[str, Any]]) -> None:
        if not self.accelerator.is_main_process:
            return
        valid = [{"step": self.step} | r for r in self._validate()]
        _append_csv(self.folder / "train.csv", rows)
        _append_csv(self.folder / "valid.csv", valid)
        write_whole(self.folder / "run.json", json.dumps(self.identity, indent=1).encode())
        buffer = io.BytesIO()
        state = {
            "identity": self.identity,
            "step": self.step,
            "codec": self.codec.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, buffer)
        write_whole(self.folder / "checkpoint.pt", buffer.getvalue())

    def _validate(self) -> list[dict[str, float]]:
        lambdas = self.codec.config.lambdas
        return validate(self.codec, self.valid, tuple(sorted({*lambdas[::2], lambdas[-1]})))

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        try:
            state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
            identity = state["identity"]
        except Exception as error:  # whatever a cut file makes torch.load raise
            raise TrainingError(
                f"{path}: not a whole checkpoint ({type(error).__name__})"
            ) from None
        for part, ours in self.identity.items():
            theirs = identity.get(part)
            if theirs != ours:
                raise TrainingError(f"{path}: another run's {part}: {_difference(theirs, ours)}")
        self.codec.load_state_dict(state["codec"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        if self.accelerator.is_main_process:
            for name in ("train.csv", "valid.csv"):
                _cut_csv(self.folder / name, self.step)


class _Interleaved(ConcatDataset[tuple[Tensor, Tensor]]):
    """Item i comes from source i mod k: an even mixture, the same whatever the process count."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        count = len(self.datasets)
        return self.datasets[index % count][index // count]


def _precision() -> str:
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    # without native instructions bfloat16 on a CPU is emulated, and slower than float32
    capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if capability.get("avx512_bf16") or capability.get("amx_bf16") else "no"


def _difference(theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [key for key in ours if theirs.get(key) != ours[key]]
        return ", ".join(f"{key} was {theirs.get(key)}, is {ours[key]}" for key in keys)
    return "the training pairs are not the same files"


def _append_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    old = path.read_text() if path.exists() else ""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0])
        if not old:
            writer.writeheader()
        writer.writerows(rows)
    write_whole(path, (old + text.getvalue()).encode())


def _cut_csv(path: Path, step: int) -> None:
    """Drop the rows after a step: they will be written again."""
    if path.exists():
        head, *rows = path.read_text().splitlines(keepends=True)
        kept = [row for row in rows if int(row.split(",")[0]) <= step]
        write_whole(path, (head + "".join(kept)).encode())
