"""Entropy model: hyperprior, context, gains; from densities to real bytes (chapter 4)."""

from __future__ import annotations

import copy
import math
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.latent_codecs import (
    CheckerboardLatentCodec,
    GaussianConditionalLatentCodec,
    HyperLatentCodec,
    RasterScanLatentCodec,
)
from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d
from torch import Tensor, nn

from .bitstream import BitstreamError
from .config import CodecConfig, check_lambda

SCALE_LEVELS = [0.11 * (256 / 0.11) ** (k / 63) for k in range(64)]
"""σ of the 64 Gaussians that have a table, from 0.11 to 256 evenly in the logarithm.

:meta hide-value:
"""

MEAN_GRID = 64
"""Means are rounded to 1/64 when coding, so that another machine's last bits cannot matter."""


class CodedLatent(NamedTuple):
    """What the encoder sends of one latent, and what the decoder will hold.

    ``z``, ``y`` are range-coded bytes; ``checksum`` is the CRC-32 of all symbols; ``y_coded``
    (1, M, h, w) float64 is the dequantised latent before the inverse gain.
    """

    z: bytes
    y: bytes
    checksum: int
    y_coded: Tensor


class EntropyTables(NamedTuple):
    """CDF rows without their zero tails: ragged rows are what makes the coder fast."""

    rows: list[list[int]]
    lengths: list[int]
    offsets: list[int]

    @classmethod
    def of(cls, model: EntropyBottleneck | GaussianConditional) -> EntropyTables:
        """Tables of a CompressAI entropy model.

        Raises:
            RuntimeError: the model has none yet.
        """
        if model.quantized_cdf.numel() == 0:
            raise RuntimeError(
                "no probability tables: call update_tables() after training, or load weights"
            )
        lengths = model.cdf_length.tolist()
        pairs = zip(model.quantized_cdf.tolist(), lengths, strict=True)
        return cls([row[:n] for row, n in pairs], lengths, model.offset.tolist())


class SymbolWriter:
    """Collects symbols from several passes into one rANS string.

    Symbols beyond ±2²⁴ are clamped, which both sides then see: the coder never ends on symbols of
    2³⁰ and more.
    """

    def __init__(self) -> None:
        self._encoder = BufferedRansEncoder()
        self._count = 0
        self.checksum = 0

    def __call__(
        self, indexes: np.ndarray, tables: EntropyTables, values: np.ndarray
    ) -> np.ndarray:
        """Write ``values`` rounded to symbols; returns the symbols (int32).

        Raises:
            ValueError: a value that is not finite.
        """
        if not np.isfinite(values).all():
            raise ValueError("a latent has values that are not finite; are the weights sound?")
        symbols = np.rint(values).clip(-(2**24), 2**24).astype(np.int32)
        self._count += symbols.size
        self._encoder.encode_with_indexes(
            symbols.ravel().tolist(), indexes.ravel().tolist(), *tables
        )
        self.checksum = zlib.crc32(symbols.astype("<i4").tobytes(), self.checksum)
        return symbols

    def finish(self) -> bytes:
        # the coder makes room for a word a symbol; one symbol takes two words, two rare ones three
        if self._count < 3:
            self._encoder.encode_with_indexes([0], [0], [[0, 2**16 - 1, 2**16]], [3], [0])
        return self._encoder.flush()


class SymbolReader:
    """Reads the passes back. Hostile bytes give wrong symbols, never a read out of bounds.

    rANS takes at most 16 bits a symbol plus escape nibbles; an escape's length is paid for by
    set bits of the string itself. Zeros behind the string cover both for ``count`` symbols.

    Raises:
        BitstreamError: a string too short to hold the coder's state.
    """

    def __init__(self, data: bytes, count: int, checksum: int = 0):
        if len(data) < 8 or len(data) % 4:
            raise BitstreamError(
                f"range-coded section of {len(data)} bytes; expected 8, 12, 16, …"
            )
        self._decoder = RansDecoder()
        self._decoder.set_stream(data + bytes(4 * count + 16 * len(data) + 64))
        self.checksum = checksum

    def __call__(self, indexes: np.ndarray, tables: EntropyTables, values: object) -> np.ndarray:
        symbols = np.asarray(
            self._decoder.decode_stream(indexes.ravel().tolist(), *tables), dtype=np.int32
        ).reshape(indexes.shape)
        self.checksum = zlib.crc32(symbols.astype("<i4").tobytes(), self.checksum)
        return symbols


class EntropyModel(nn.Module):
    """Gains, hyperprior and context model of one latent.

    Training and estimates run CompressAI's latent codecs. Coding runs the same weights in float64
    on the CPU, with means on a grid of 1/64 and σ as one of 64 tables, so that a stream decodes on
    another machine.

    Per-channel gains multiply y before rounding and an inverse gain divides it out (Cui et al.,
    CVPR 2021); both are interpolated in log λ. They start at √λ, the step that a quantiser at
    slope λ wants.

    Args:
        config: N, M, context kind and λ.
        side_channels: channels of a decoded reference latent that the entropy parameters may
            see; 0 for none. Its branch is added to the hyperprior's output and starts at zero.
        side_stride: latent samples of the reference per sample of y, on each side.

    Shapes:
        y: (B, M, h, w), h and w multiples of 4; side: (B, side_channels, side_stride·h, …)
    """

    def __init__(self, config: CodecConfig, side_channels: int = 0, side_stride: int = 1):
        super().__init__()
        N, M = config.transform_channels, config.latent_channels
        self.lambdas = config.lambdas
        self.context = config.context
        start = torch.tensor([[0.5 * math.log(value / 1024)] * M for value in config.lambdas])
        self.log_gain = nn.Parameter(start.clone())  # (λ, M)
        self.log_inverse_gain = nn.Parameter(-start)
        self.hyper = HyperLatentCodec(
            EntropyBottleneck(N),
            h_a=nn.Sequential(
                nn.Conv2d(M, N, 3, padding=1),
                nn.LeakyReLU(),
                nn.Conv2d(N, N, 5, stride=2, padding=2),
                nn.LeakyReLU(),
                nn.Conv2d(N, N, 5, stride=2, padding=2),
            ),
            h_s=nn.Sequential(
                nn.ConvTranspose2d(N, M, 5, stride=2, padding=2, output_padding=1),
                nn.LeakyReLU(),
                nn.ConvTranspose2d(M, M * 3 // 2, 5, stride=2, padding=2, output_padding=1),
                nn.LeakyReLU(),
                nn.Conv2d(M * 3 // 2, M * 2, 3, padding=1),
            ),
            quantizer="ste",
        )
        parameters = nn.Sequential(
            nn.Conv2d(M * 4, M * 10 // 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(M * 10 // 3, M * 8 // 3, 1),
            nn.LeakyReLU(),
            nn.Conv2d(M * 8 // 3, M * 2, 1),
        )
        gaussian = GaussianConditional(SCALE_LEVELS)
        self.latent: CheckerboardLatentCodec | RasterScanLatentCodec
        if config.context == "checkerboard":
            self.latent = CheckerboardLatentCodec(
                {"y": GaussianConditionalLatentCodec(gaussian_conditional=gaussian)},
                parameters,
                CheckerboardMaskedConv2d(M, 2 * M, 5, padding=2),
            )
        else:
            self.latent = RasterScanLatentCodec(
                gaussian, parameters, MaskedConv2d(M, 2 * M, 5, padding=2)
            )
        self.side = None
        if side_channels:
            down = nn.Conv2d(side_channels, M, 5, stride=side_stride, padding=2)
            last = nn.Conv2d(M, 2 * M, 3, padding=1)
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
            self.side = nn.Sequential(down, nn.LeakyReLU(), last)

    @property
    def gaussian(self) -> GaussianConditional:
        """The Gaussian entropy model of y, wherever the latent codec keeps it."""
        if self.context == "checkerboard":
            return self.latent.y.gaussian_conditional
        return self.latent.gaussian_conditional

    def gains(self, lmbda: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and inverse gain at λ, each (B, M, 1, 1), for λ of shape (B,)."""
        if len(self.lambdas) == 1:
            log_gain, log_inverse = (
                p.expand(len(lmbda), -1) for p in (self.log_gain, self.log_inverse_gain)
            )
        else:
            knots = torch.tensor(self.lambdas, device=lmbda.device).log()
            at = lmbda.log()
            low = (torch.bucketize(at, knots) - 1).clamp(0, len(knots) - 2)
            share = ((at - knots[low]) / (knots[low + 1] - knots[low]))[:, None]
            log_gain, log_inverse = (
                (1 - share) * p[low] + share * p[low + 1]
                for p in (self.log_gain, self.log_inverse_gain)
            )
        return log_gain.exp()[:, :, None, None], log_inverse.exp()[:, :, None, None]

    def forward(self, y: Tensor, lmbda: Tensor, side: Tensor | None = None) -> dict[str, object]:
        """Quantise and estimate: noise and straight-through in training, rounding in eval.

        Returns:
            ``y_hat`` (B, M, h, w), ``y_coded`` the same before the inverse gain, and
            ``likelihoods`` with ``y`` and ``z``.
        """
        # bfloat16 has 8 bits of mantissa: too few for means next to integers.
        with torch.autocast(y.device.type, enabled=False):
            gain, inverse = self.gains(lmbda)
            y = y.float() * gain
            hyper = self.hyper(y)
            params = hyper["params"]  # (B, 2M, h, w)
            if self.side is not None and side is not None:
                params = params + self.side(side.float())
            out = self.latent(y, params)
        return {
            "y_hat": out["y_hat"] * inverse,
            "y_coded": out["y_hat"],
            "likelihoods": {"y": out["likelihoods"]["y"], "z": hyper["likelihoods"]["z"]},
        }

    @torch.no_grad()
    def update_tables(self) -> None:
        """Fill the probability tables from the trained densities; weights are saved with them."""
        bottleneck = self.hyper.entropy_bottleneck
        bottleneck.update(force=True, update_quantiles=True)  # finds the tails by bisection
        bottleneck.quantiles[:, :, 1] = 0  # z was rounded to whole numbers in training: keep that
        bottleneck.update(force=True)
        self.gaussian.update_scale_table(SCALE_LEVELS, force=True)
        # taps that no symbol may depend on: each forward pass clears them, each optimiser step
        # moves them again; cleared for good, the weights keep their fingerprint
        masked: Any = self.latent.context_prediction
        masked.weight.mul_(masked.mask)

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        # Tables are sized by training: make room for those that the weights bring along.
        for name, module in self.named_modules():
            if isinstance(module, EntropyBottleneck | GaussianConditional):
                for key in ("_quantized_cdf", "_cdf_length", "_offset", "scale_table"):
                    stored = state_dict.get(f"{prefix}{name}.{key}")
                    if stored is not None:
                        setattr(module, key, torch.empty_like(stored))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def compress(self, y: Tensor, lmbda: float, side: Tensor | None = None) -> CodedLatent:
        """Code one latent (1, M, h, w) into bytes.

        Raises:
            ValueError: λ out of range, or y not finite.
            RuntimeError: no probability tables.
        """
        lmbda = check_lambda(lmbda, self.lambdas)
        if not torch.isfinite(y).all():
            raise ValueError("the latent has values that are not finite; are the weights sound?")
        gain, _ = self.gains(torch.tensor([lmbda], device=y.device))
        y = (y.float() * gain).clamp(-(2**20), 2**20)
        writer = SymbolWriter()
        z = self.hyper.h_a(y)[0].cpu().double().numpy()  # (N, h/4, w/4)
        z_symbols = writer(_channel_indexes(z.shape), self._z_tables(), z)
        z_bytes = writer.finish()
        y_writer = SymbolWriter()
        y_writer.checksum = writer.checksum
        y_coded = self._code_y(y_writer, z_symbols, side, y[0].cpu().double().numpy())
        return CodedLatent(z_bytes, y_writer.finish(), y_writer.checksum, y_coded)

    @torch.no_grad()
    def decompress(
        self, z: bytes, y: bytes, checksum: int, shape: tuple[int, int], side: Tensor | None = None
    ) -> Tensor:
        """Inverse of :meth:`compress`: ``y_coded`` (1, M, h, w), float64, for (h, w) = ``shape``.

        Raises:
            BitstreamError: the decoded symbols are not those that were coded.
        """
        N, M = self.hyper.entropy_bottleneck.channels, self.log_gain.shape[1]
        z_shape = (N, shape[0] // 4, shape[1] // 4)
        reader = SymbolReader(z, math.prod(z_shape))
        z_symbols = reader(_channel_indexes(z_shape), self._z_tables(), None)
        y_reader = SymbolReader(y, M * shape[0] * shape[1], reader.checksum)
        y_coded = self._code_y(y_reader, z_symbols, side, np.zeros((M, *shape)))
        if y_reader.checksum != checksum:
            raise BitstreamError(
                f"decoded symbols have CRC {y_reader.checksum:08x}, the file says {checksum:08x}: "
                "damaged data, or another machine computed other probabilities"
            )
        return y_coded

    def dequantise(self, y_coded: Tensor, lmbda: float) -> Tensor:
        """ŷ for the synthesis transform: float32, inverse gain applied."""
        device = self.log_inverse_gain.device
        _, inverse = self.gains(torch.tensor([lmbda], device=device))
        return y_coded.float().to(device) * inverse

    def _z_tables(self) -> EntropyTables:
        return EntropyTables.of(self.hyper.entropy_bottleneck)

    def _code_y(self, coder, z_symbols: np.ndarray, side: Tensor | None, y: np.ndarray) -> Tensor:  # type: ignore[no-untyped-def]
        """Run the probability networks; ``coder`` writes or reads symbols as they become known."""
        side_params = _float64(self.hyper.h_s)(torch.from_numpy(z_symbols)[None].double())
        if self.side is not None and side is not None:
            side_params = side_params + _float64(self.side)(side.cpu().double())
        tables = EntropyTables.of(self.gaussian)
        code = _checkerboard if self.context == "checkerboard" else _raster_scan
        return torch.from_numpy(code(self.latent, coder, tables, side_params, y))[None]


def _float64(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).cpu().double().eval()


def _channel_indexes(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.arange(shape[0])[:, None, None], shape)


_BOUNDS = np.array(SCALE_LEVELS[:-1])


def _grid(params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Table index and mean on the grid, from (2M, …) entropy parameters [scales, means]."""
    scales, means = np.split(params, 2)
    # the table with the least σ not below the predicted one, as CompressAI's build_indexes; no
    # logarithm, whose last bit differs between machines
    indexes = np.searchsorted(_BOUNDS, scales)
    return indexes, np.rint(means * MEAN_GRID) / MEAN_GRID


def _checkerboard(latent, coder, tables, side_params, y):  # type: ignore[no-untyped-def]
    """Two passes: anchors from the hyperprior, then the rest from their anchor neighbours."""
    context_prediction = _float64(latent.context_prediction)
    entropy_parameters = _float64(latent.entropy_parameters)
    h, w = y.shape[1:]
    anchor = np.add.outer(np.arange(h), np.arange(w)) % 2 == 0
    y_coded = np.zeros_like(y)
    for cells in (anchor, ~anchor):
        context = context_prediction(torch.from_numpy(y_coded)[None])  # (1, 2M, h, w)
        if cells is anchor:
            context = torch.zeros_like(context)
        here = torch.cat([context, side_params], 1)[0][:, torch.from_numpy(cells)]
        params = entropy_parameters(here[None, :, :, None])[0, :, :, 0]  # (2M, cells)
        indexes, means = _grid(params.numpy())
        y_coded[:, cells] = coder(indexes, tables, y[:, cells] - means) + means
    return y_coded


def _raster_scan(latent, coder, tables, side_params, y):  # type: ignore[no-untyped-def]
    """Pixel after pixel. One float64 loop for both directions: what can be done once is done once.

    The hyperprior half of the first 1×1 layer is computed for all pixels beforehand, only the 12
    causal taps of the 5×5 context are multiplied, and the coder gets the few table rows it needs.
    """
    masked: Any = latent.context_prediction
    causal = masked.mask[0, 0].bool()  # (5, 5), 12 of them set
    taps = (masked.weight * masked.mask)[:, :, causal].double().cpu().numpy()  # (2M, M, 12)
    context_weight = taps.transpose(0, 2, 1).reshape(len(taps), -1)  # columns: tap, then channel
    context_bias = masked.bias.double().cpu().numpy()
    rows, columns = (index.numpy() for index in torch.nonzero(causal, as_tuple=True))
    convolutions: list[Any] = [m for m in latent.entropy_parameters if isinstance(m, nn.Conv2d)]
    layers = [
        (layer.weight[:, :, 0, 0].double().cpu().numpy(), layer.bias.double().cpu().numpy())
        for layer in convolutions
    ]
    slope = next(
        m.negative_slope for m in latent.entropy_parameters if isinstance(m, nn.LeakyReLU)
    )
    (first_weight, first_bias), *rest = layers
    side = side_params[0].numpy()  # (2M, h, w); merged before the context, as in CompressAI
    split = len(side)
    prepared = np.einsum("oc,chw->hwo", first_weight[:, :split], side) + first_bias
    context_half = np.ascontiguousarray(first_weight[:, split:])
    M, h, w = y.shape
    padded = np.zeros((h + 4, w + 4, M))  # channel last: one tap is one contiguous run
    for row in range(h):
        for column in range(w):
            neighbours = padded[row + rows, column + columns].ravel()  # (12·M,)
            hidden = prepared[row, column] + context_half @ (
                context_weight @ neighbours + context_bias
            )
            for weight, bias in rest:
                hidden = weight @ np.where(hidden > 0, hidden, slope * hidden) + bias
            indexes, means = _grid(hidden)
            used, local = np.unique(indexes, return_inverse=True)
            needed = EntropyTables(*([part[k] for k in used] for part in tables))
            symbols = coder(local, needed, y[:, row, column] - means)
            padded[row + 2, column + 2] = symbols + means
    return np.ascontiguousarray(padded[2:-2, 2:-2].transpose(2, 0, 1))
