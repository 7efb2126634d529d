"""Configuration: every choice of the codec in one frozen dataclass, and two presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Context = Literal["checkerboard", "autoregressive"]
CoefficientFormat = Literal["float32", "float16", "int8"]
Modality = Literal["visible", "infrared"]

LAMBDAS = (256.0, 512.0, 1024.0, 2048.0, 4096.0)
"""The paper's five weights of the MSE (on [0, 1]) against bits per pixel."""

LATENT_STRIDE = 16
PAD_MULTIPLE = 64
"""Frames are padded to this on the feature grid, 16 for g_a times 4 for h_a."""

CHANNELS = {"visible": 3, "infrared": 1}
_CHOICES: dict[str, tuple[str, ...]] = {
    "target": ("infrared", "visible"),
    "context": ("checkerboard", "autoregressive"),
    "coefficient_format": ("float32", "float16", "int8"),
    "attention_shortcut": ("infrared", "visible"),
}


@dataclass(frozen=True)
class CodecConfig:
    """Sizes and switches of a pair codec; its visible codec shares N, M, the context and λ.

    Symbols are those of the notation page: F ``feature_channels``, N ``transform_channels``, M
    ``latent_channels``, s ``scale``.

    Args:
        name: shown in tables, and the stem of the weight files.
        target: the modality that is coded given the other one.
        channel_alignment: send γ and β, use f̄ in encoder and decoder (chapter 6).
        spatial_alignment: cross-attention to the decoder's hidden features (chapter 7).
        entropy_reference: let the entropy parameters see the decoded reference latent.
        context: ``"autoregressive"`` (Minnen 2018) or ``"checkerboard"`` (He 2021).
        lambdas: one value for a codec of one rate; several for gain vectors (Cui 2021).
        coefficient_format: wire format of γ and β.
        embedding, heads, window, patch, blocks: cross-attention sizes (96, 3, 4, 2, 2 in the
            paper).
        attention_shortcut: which embedding the attention's residual adds; Eq. 2 prints the
            visible one, the unofficial code adds the infrared one.

    Raises:
        ValueError: a field outside its range; the message names field and value.
    """

    name: str = "lite"
    target: Modality = "infrared"
    channel_alignment: bool = True
    spatial_alignment: bool = True
    entropy_reference: bool = False
    feature_channels: int = 16
    transform_channels: int = 64
    latent_channels: int = 96
    embedding: int = 48
    heads: int = 3
    window: int = 4
    patch: int = 2
    blocks: int = 2
    attention_shortcut: Modality = "infrared"
    scale: int = 2
    context: Context = "checkerboard"
    lambdas: tuple[float, ...] = LAMBDAS
    coefficient_format: CoefficientFormat = "int8"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "lambdas", tuple(float(value) for value in self.lambdas))
        except (TypeError, ValueError):
            raise ValueError(f"lambdas are {self.lambdas!r}; expected numbers") from None
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {choices}")
        for name in ("channel_alignment", "spatial_alignment", "entropy_reference"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected True or False")
        for name in ("feature_channels", "transform_channels", "latent_channels", "embedding",
                     "heads", "window", "patch", "blocks", "scale"):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        if self.embedding % self.heads:
            raise ValueError(f"embedding is {self.embedding}; not divisible by {self.heads} heads")
        if PAD_MULTIPLE // 8 % self.patch or PAD_MULTIPLE // (8 * self.patch) % self.window:
            raise ValueError(
                f"patch {self.patch} and window {self.window} do not tile the coarsest stage "
                f"({PAD_MULTIPLE // 8} samples)"
            )
        rising = all(low < high for low, high in zip(self.lambdas, self.lambdas[1:], strict=False))
        sound = rising and all(0 < value < math.inf for value in self.lambdas)  # no NaN either
        if not self.lambdas or not sound:
            raise ValueError(f"lambdas are {self.lambdas}; expected positive, rising values")

    @property
    def reference(self) -> Modality:
        """The modality that the target is coded against."""
        return "visible" if self.target == "infrared" else "infrared"

    @property
    def uses_reference(self) -> bool:
        """False for the single-modality baseline, the same network without reference branches."""
        return self.channel_alignment or self.spatial_alignment or self.entropy_reference

    def stride_of(self, modality: Modality) -> int:
        """Pixels of that modality per sample of the feature grid, on each side."""
        return self.scale if modality == "visible" else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CodecConfig:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: a key that is no field, or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown configuration fields {unknown}")
        return cls(**values)


LITE = CodecConfig()
"""For a laptop, with one model for every λ, two-pass context and 8-bit coefficients."""

PAPER = CodecConfig(
    name="paper",
    feature_channels=64,
    transform_channels=192,
    latent_channels=192,
    embedding=96,
    context="autoregressive",
    attention_shortcut="visible",
    lambdas=(1024.0,),
    coefficient_format="float32",
)
"""The paper to the letter; one model per λ (replace ``lambdas`` to train another)."""

PRESETS = {"lite": LITE, "paper": PAPER}


def preset(name: str) -> CodecConfig:
    """The preset of that name.

    Raises:
        ValueError: no such preset; the message lists those that are.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of {sorted(PRESETS)}")
    return PRESETS[name]


_FLOAT32_STEP = 2.0**-23


def check_lambda(lmbda: float, lambdas: tuple[float, ...]) -> float:
    """λ as a float, if a model trained for ``lambdas`` can code at it.

    Raises:
        ValueError: not a number, or outside the trained range.
    """
    try:
        value = float(lmbda)
    except (TypeError, ValueError):
        raise ValueError(f"λ is {lmbda!r}; expected a number") from None
    low, high = lambdas[0], lambdas[-1]
    # a file holds λ in float32, which may round it just past an end; NaN is never inside
    if not low * (1 - _FLOAT32_STEP) <= value <= high * (1 + _FLOAT32_STEP):
        expected = f"between {low:g} and {high:g}" if low < high else f"{low:g}, the one λ trained"
        raise ValueError(f"λ is {value:g}; expected {expected}")
    return value
