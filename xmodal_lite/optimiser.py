"""Optimiser: Muon on weight matrices and Adam on the rest, as one (chapter 9)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .stages import reference_weights


class TwoOptimisers:
    """Muon on the weight matrices, Adam on the rest, stepped and saved as one.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix. A convolution weight is one:
    output channels by everything else, as a view on the same memory.

    Args:
        adam_rate, muon_rate, reference_rate: see :class:`.TrainingConfig`.
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
        touched = set() if reference_rate is None else reference_weights(codec)
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


def _as_matrix(weight: Tensor) -> Tensor:
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)
