"""Training: the two stages in one loop, for a laptop, one GPU and many (chapter 9).

Stage 1 trains the visible codec. Stage 2 trains the infrared side with it frozen: first without
reference, which is also the baseline, then with it, from the baseline's weights.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from tqdm.auto import tqdm

from .config import CodecConfig, check_lambda
from .crops import CropDataset
from .data import PairSource, open_pairs
from .frames import Pair, match_sizes, to_tensor
from .image_codec import ImageCodec, padded_size
from .loss import RateDistortion, psnr, rate_distortion
from .pair_codec import PairCodec
from .pretrained import Codec, load_weights, save_weights, write_whole

Stage = Literal["visible", "infrared", "alone", "pair"]


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


def build_codec(
    config: CodecConfig,
    stage: Stage,
    visible: str | Path | None = None,
    start: str | Path | None = None,
    branches: str | Path | None = None,
) -> Codec:
    """The codec that a stage trains.

    Args:
        config: for ``"alone"`` its reference branches are switched off.
        visible: weights of the trained reference codec; stage ``"pair"`` needs them.
        start: weights to start from: the baseline's for ``"pair"``, any earlier run's otherwise.
        branches: weights of a pair codec whose reference branches to take over; see
            :meth:`PairCodec.take_branches`.

    Raises:
        ValueError: stage ``"pair"`` without the reference codec, or weights of another kind.
    """
    if stage not in get_args(Stage):
        raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(get_args(Stage))}")
    codec: Codec
    if stage in ("visible", "infrared"):
        codec = ImageCodec(config, stage)
    elif stage == "alone":
        codec = PairCodec(_alone(config))
    else:
        if not config.uses_reference:
            raise ValueError(
                "stage 'pair' needs a codec with a reference; no reference branch is on"
            )
        codec = PairCodec(config)
        if visible is None:
            raise ValueError("stage 'pair' needs the weights of a trained reference codec")
        reference = load_weights(visible)
        if not isinstance(reference, ImageCodec) or reference.modality != config.reference:
            raise ValueError(f"{visible}: expected weights of a {config.reference} codec")
        theirs, ours = reference.config.to_dict(), config.to_dict()
        for key in ("transform_channels", "latent_channels", "context", "lambdas"):
            if theirs[key] != ours[key]:
                raise ValueError(f"{visible}: {key} is {theirs[key]}; expected {ours[key]}")
        codec.reference_codec.load_state_dict(reference.state_dict())
    if start is not None:
        source = load_weights(start)
        if isinstance(codec, PairCodec) and isinstance(source, PairCodec):
            try:
                codec.start_from(source)
            except ValueError as error:
                raise ValueError(f"{start}: {error}") from None
        elif type(codec) is type(source):
            try:
                codec.load_state_dict(source.state_dict())
            except RuntimeError as error:
                first = str(error).splitlines()[1].strip()
                raise ValueError(
                    f"{start}: weights do not fit this {stage} codec: {first}"
                ) from None
        else:
            raise ValueError(f"{start}: weights of another kind of codec than stage {stage!r}")
    if branches is not None:
        source = load_weights(branches)
        if (
            stage != "pair"
            or not isinstance(source, PairCodec)
            or not isinstance(codec, PairCodec)
        ):
            raise ValueError(f"{branches}: branches are for stage 'pair', from a pair codec")
        try:
            codec.take_branches(source)
        except ValueError as error:
            raise ValueError(f"{branches}: {error}") from None
    return codec


class TwoOptimisers:
    """Muon on the weight matrices, Adam on the rest, stepped and saved as one.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix. A convolution weight is one:
    output channels by everything else, as a view on the same memory.

    Args:
        adam_rate, muon_rate, reference_rate: see :class:`TrainingConfig`.
    """

    def __init__(
        self,
        codec: nn.Module,
        adam_rate: float,
        muon_rate: float,
        reference_rate: float | None = None,
    ):
        self._pairs: list[tuple[Tensor, nn.Parameter]] = []
        rest, referred = [], []
        touched = set() if reference_rate is None else _reference_weights(codec)
        for name, parameter in codec.named_parameters():
            if not parameter.requires_grad:
                continue
            if name in touched:
                referred.append(parameter)
                continue
            # a masked convolution's gradient is not zero where its weight is: Adam does not mind
            matrix_like = name.endswith(".weight") and parameter.ndim in (2, 4)
            if muon_rate > 0 and matrix_like and "context_prediction" not in name:
                matrix = nn.Parameter(_as_matrix(parameter.data))
                if matrix.data_ptr() != parameter.data_ptr():
                    raise RuntimeError(f"{name} is not laid out as a matrix; this is a bug")
                self._pairs.append((parameter, matrix))
            else:
                rest.append(parameter)
        self.optimisers: list[torch.optim.Optimizer] = []
        self._peaks = []
        for weights, rate in ((rest, adam_rate), (referred, reference_rate or adam_rate)):
            if weights:
                self.optimisers += [torch.optim.Adam(weights, lr=rate, betas=(0.9, 0.999))]
                self._peaks += [rate]
        if self._pairs:
            matrices = [matrix for _, matrix in self._pairs]
            self.optimisers += [torch.optim.Muon(matrices, lr=muon_rate, weight_decay=0.0)]
            self._peaks += [muon_rate]

    def step(self, share: float) -> None:
        """One step at that share of the peak rates; gradients are cleared."""
        for parameter, matrix in self._pairs:
            if (
                parameter.grad is not None
            ):  # in the weight's own memory layout, whatever its own is
                matrix.grad = _as_matrix(torch.empty_like(parameter).copy_(parameter.grad))
            else:
                matrix.grad = None
        for optimiser, peak in zip(self.optimisers, self._peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for parameter, _ in self._pairs:
            parameter.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimiser.state_dict() for optimiser in self.optimisers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimiser, state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict(state)


def _reference_weights(codec: nn.Module) -> set[str]:
    """Names of the weights that the reference runs through: what its baseline has not, or has
    with fewer input channels."""
    if not isinstance(codec, PairCodec) or not codec.config.uses_reference:
        return set()
    shapes = _baseline_shapes(codec)
    return {name for name, p in codec.named_parameters() if shapes.get(name) != p.shape}


def _baseline_shapes(codec: PairCodec) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in PairCodec(_alone(codec.config)).named_parameters()}


def hold_baseline(codec: nn.Module) -> None:
    """No gradient for what the baseline has; of weights with more input channels, the new ones.

    The skip around the feature decoder's first block is new too, but the baseline's own features
    run through it: what it does to them is set to nothing, and held. So mode ``"none"`` stays the
    baseline, and no other mode can gain by it.

    Raises:
        ValueError: a codec without a reference.
    """
    touched = _reference_weights(codec)
    if not isinstance(codec, PairCodec) or not touched:
        raise ValueError("only_reference is True; expected a codec with a reference")
    held: dict[str, torch.Size] = _baseline_shapes(codec)
    skip: Any = codec.feature_decoder.blocks[0].skip
    if skip is not None:
        F = codec.config.feature_channels
        with torch.no_grad():
            skip.weight[:, :F] = nn.init.dirac_(torch.empty_like(skip.weight[:, :F]))
            skip.bias.zero_()
        held["feature_decoder.blocks.0.skip.weight"] = skip.weight[:, :F].shape
        held["feature_decoder.blocks.0.skip.bias"] = skip.bias.shape
    for name, parameter in codec.named_parameters():
        if name not in touched:
            parameter.requires_grad_(False)
        elif name in held and parameter.requires_grad:
            new = torch.ones_like(parameter)
            new[tuple(slice(side) for side in held[name])] = 0
            parameter.register_hook(lambda gradient, new=new: gradient * new.to(gradient.device))


def _alone(config: CodecConfig) -> CodecConfig:
    """The baseline of a pair codec: every reference branch off."""
    return replace(
        config, channel_alignment=False, spatial_alignment=False, entropy_reference=False
    )


def _as_matrix(weight: Tensor) -> Tensor:
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)


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


def run_codec(
    codec: nn.Module,
    visible: Tensor,
    infrared: Tensor,
    lmbda: Tensor,
    sent: Tensor | None = None,
) -> RateDistortion:
    """Forward pass and loss of one batch, whatever the kind of codec.

    Args:
        sent: (B,), of a pair codec: see :meth:`PairCodec.forward`.

    Shapes:
        visible: (B, 3, s·H, s·W), infrared: (B, 1, H, W), lmbda: (B,)
    """
    plain: Any = getattr(codec, "module", codec)  # inside DistributedDataParallel
    if isinstance(plain, ImageCodec):
        target = visible if plain.modality == "visible" else infrared
        out = codec(target, lmbda)
        bits: Any = 0
    else:
        target = infrared if plain.config.target == "infrared" else visible
        out = codec(visible, infrared, lmbda, sent=sent)
        bits = coefficient_bits(plain.config) * (1 if sent is None else sent)
    return rate_distortion(out["x_hat"], target, out["likelihoods"], lmbda, bits)


def coefficient_bits(config: CodecConfig) -> int:
    """Bits of γ and β per image."""
    if not config.channel_alignment:
        return 0
    width = {"float32": 32, "float16": 16, "int8": 8}[config.coefficient_format]
    return 2 * config.feature_channels * width


@torch.no_grad()
def validate(
    codec: Codec, source: PairSource, lambdas: tuple[float, ...], limit: int = 256
) -> list[dict[str, float]]:
    """Estimated cost on centre crops, and the control: the same with the reference mirrored.

    A codec that uses its reference pays for a wrong one; ``control`` is how much, in units of the
    loss. Near zero means that the reference is ignored.

    Returns:
        One record a λ: ``lmbda, cost, bpp, psnr, control`` (means over the source).
    """
    codec.eval()
    device = next(codec.parameters()).device
    records = []
    for lmbda in lambdas:
        costs, rates, quality, controls = [], [], [], []
        weight = torch.tensor([lmbda], device=device)
        for pair in source:
            frame = match_sizes(pair.visible, pair.infrared, codec.config.scale)
            pair = Pair(pair.name, frame, pair.infrared)
            visible, infrared = _centre(*to_tensor(pair), limit)
            visible, infrared = visible.to(device), infrared.to(device)
            out = run_codec(codec, visible, infrared, weight)
            costs.append(out.loss.item())
            rates.append(out.bpp.item())
            quality.append(psnr(out.mse.item()))
            if isinstance(codec, PairCodec) and codec.config.uses_reference:
                if codec.config.reference == "visible":
                    visible = visible.flip(-1)
                else:
                    infrared = infrared.flip(-1)
                wrong = run_codec(codec, visible, infrared, weight)
                controls.append(wrong.loss.item() - costs[-1])
        mean = lambda values: sum(values) / len(values) if values else math.nan  # noqa: E731
        records.append(
            {
                "lmbda": lmbda,
                "cost": mean(costs),
                "bpp": mean(rates),
                "psnr": mean(quality),
                "control": mean(controls),
            }
        )
    codec.train()
    return records


def _centre(visible: Tensor, infrared: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    scale = visible.shape[-1] // infrared.shape[-1]
    size = [min(limit, side // 64 * 64 or 64) for side in infrared.shape[-2:]]
    height, width = padded_size((size[0], size[1]))
    crops = []
    for image, s in ((visible, scale), (infrared, 1)):
        if min(infrared.shape[-2:]) < 64:
            image = nn.functional.interpolate(image, (height * s, width * s))
        top, left = (
            (full // s - part) // 2 * s
            for full, part in zip(image.shape[-2:], (height, width), strict=True)
        )
        crops.append(image[..., top : top + height * s, left : left + width * s])
    return crops[0], crops[1]


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
