"""Curves: means over images, and Bjøntegaard's distances between two (chapters 2 and 10)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .records import Measurement

Curve = Sequence[tuple[float, float]]
"""(bpp, PSNR in dB) of one codec, in any order."""

PUBLISHED: dict[str, Curve] = {
    "pair": ((0.0923, 32.283), (0.1384, 33.382), (0.2013, 34.378), (0.3097, 35.390)),
    "minnen": ((0.0986, 32.148), (0.1436, 33.262), (0.2117, 34.323), (0.3180, 35.323)),
    "hevc": ((0.1188, 32.272), (0.1550, 33.034), (0.2048, 33.799), (0.3010, 34.740)),
}
"""Released points of Lu et al. 2022 on FLIR infrared frames, of their own codec with reference,
Minnen et al. 2018, and BPG. Other frames than ours, so only distances compare."""


def mean_curves(records: Iterable[Measurement]) -> dict[str, list[dict[str, float]]]:
    """Each codec's mean over images at each of its points, lowest rate first.

    Returns:
        For each label ``point`` (λ or setting), ``bytes``, ``bpp``, ``psnr`` (dB), ``images``, and
        the mean ``total_bpp`` and ``estimate_bpp`` where there are any.

    Raises:
        ValueError: the points of one codec were measured on different images.
    """
    groups: dict[str, dict[float, list[Measurement]]] = {}
    for record in records:
        groups.setdefault(record.label, {}).setdefault(record.point, []).append(record)
    curves = {}
    for label, points in groups.items():
        names = [sorted(record.pair for record in group) for group in points.values()]
        if any(other != names[0] for other in names) or len(set(names[0])) < len(names[0]):
            raise ValueError(f"{label}: not every point was measured once on the same images")
        rows = []
        for point, group in points.items():
            row: dict[str, float] = {"point": point, "images": len(group)}
            for name in ("bytes", "bpp", "psnr", "total_bpp", "estimate_bpp"):
                values = [getattr(record, name) for record in group]
                if None not in values:
                    row[name] = statistics.fmean(values)
            rows.append(row)
        curves[label] = sorted(rows, key=lambda row: row["bpp"])
    return curves


def mean_cost(records: Iterable[Measurement], label: str, lmbda: float) -> float:
    """λ·D + R of a codec at one λ, mean over images; D is the MSE on [0, 1], R in bpp.

    Raises:
        ValueError: no record of that label and λ.
    """
    chosen = [r for r in records if (r.label, r.lmbda) == (label, lmbda)]
    if not chosen:
        raise ValueError(f"no record of {label!r} at λ = {lmbda:g}")
    return statistics.fmean(lmbda * 10 ** (-r.psnr / 10) + r.bpp for r in chosen)


class Delta(NamedTuple):
    """One curve against an anchor: Bjøntegaard's average differences.

    ``rate`` in % of bits at equal PSNR (negative: cheaper), ``psnr`` in dB at equal bits, and
    ``overlap``, the share of the PSNR span of both curves that both cover. NaN where none is.
    """

    rate: float
    psnr: float
    overlap: float


@dataclass(frozen=True)
class BDRow:
    """A line of the BD table: the delta of the mean curves, and its spread over images.

    ``rate_quartiles`` (%) and ``psnr_quartiles`` (dB) are lower quartile, median and upper
    quartile of the deltas of single images; ``apart`` names the images whose two curves do not
    overlap and so are in neither.
    """

    codec: str
    anchor: str
    mean: Delta
    rate_quartiles: tuple[float, float, float]
    psnr_quartiles: tuple[float, float, float]
    images: int
    apart: tuple[str, ...]


def bd_delta(
    anchor: Curve,
    test: Curve,
    bpp_range: tuple[float, float] | None = None,
    method: str = "pchip",
) -> Delta:
    """BD-rate and BD-PSNR between two curves, over log rate, with the `bjontegaard` package.

    Points that cost more than another and are no better are left out: the integral needs curves
    that rise. With ``bpp_range`` both curves are first cut to it, at interpolated ends.

    Args:
        method: ``"pchip"`` or ``"akima"``.

    Raises:
        ValueError: another method, or an empty range.
    """
    from bjontegaard import bd_psnr, bd_rate  # imports matplotlib

    if method not in ("pchip", "akima"):
        raise ValueError(f"unknown interpolation {method!r}; expected pchip or akima")
    curves = [_rising(curve, bpp_range, method) for curve in (anchor, test)]
    if any(len(curve) < 2 for curve in curves):
        return Delta(math.nan, math.nan, 0.0)
    (anchor_bpp, anchor_psnr), (test_bpp, test_psnr) = (curve.T for curve in curves)
    both = min(anchor_psnr[-1], test_psnr[-1]) - max(anchor_psnr[0], test_psnr[0])
    either = max(anchor_psnr[-1], test_psnr[-1]) - min(anchor_psnr[0], test_psnr[0])
    shared_bpp = min(anchor_bpp[-1], test_bpp[-1]) - max(anchor_bpp[0], test_bpp[0])
    values = (anchor_bpp, anchor_psnr, test_bpp, test_psnr)
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    return Delta(
        float(bd_rate(*values, **options)) if both > 0 else math.nan,
        float(bd_psnr(*values, **options)) if shared_bpp > 0 else math.nan,
        max(0.0, float(both / either)),
    )


def _rising(curve: Curve, bpp_range: tuple[float, float] | None, method: str) -> np.ndarray:
    """(points, 2), strictly rising in both columns, cut to the range."""
    from bjontegaard.interpolation import interpolate

    def front(points: Iterable[tuple[float, float]]) -> np.ndarray:
        kept: list[tuple[float, float]] = []
        for bpp, quality in sorted(points, key=lambda point: (point[0], -point[1])):
            if math.isfinite(quality) and (not kept or quality > kept[-1][1]):
                kept.append((bpp, quality))
        return np.array(kept).reshape(-1, 2)

    points = front(curve)
    if bpp_range is None:
        return points
    low, high = bpp_range
    if not 0 < low < high:
        raise ValueError(f"range {low:g} to {high:g} bpp; expected 0 < low < high")
    if len(points) < 2:
        return points
    at = interpolate(np.log10(points[:, 0]), points[:, 1], method)
    ends = [(b, float(at(math.log10(b)))) for b in bpp_range if points[0, 0] < b < points[-1, 0]]
    inside = [(b, q) for b, q in points.tolist() if low <= b <= high]
    return front([*inside, *ends])


def bd_by_image(
    records: Iterable[Measurement],
    test: str,
    anchor: str,
    bpp_range: tuple[float, float] | None = None,
    method: str = "pchip",
) -> dict[str, Delta]:
    """:func:`bd_delta` of one label against another on each image by itself, by image name.

    Raises:
        ValueError: the two were measured on different images.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {test: {}, anchor: {}}
    for record in records:
        if record.label in curves:
            points = curves[record.label].setdefault(record.pair, [])
            points.append((record.bpp, record.psnr))
    if curves[test].keys() != curves[anchor].keys():
        raise ValueError(f"{test} and {anchor} were measured on different images")
    return {
        pair: bd_delta(curves[anchor][pair], points, bpp_range, method)
        for pair, points in curves[test].items()
    }


def bd_table(
    records: Sequence[Measurement],
    anchor: str | None = None,
    bpp_range: tuple[float, float] | None = None,
    method: str = "pchip",
) -> list[BDRow]:
    """Every other codec against the anchor, from mean curves and image by image.

    Args:
        anchor: a label (:attr:`.Measurement.label`); the first in the records if None.

    Raises:
        ValueError: no such label, or codecs measured on different images.
    """
    means = mean_curves(records)
    anchor = next(iter(means), "") if anchor is None else anchor
    if anchor not in means:
        raise ValueError(f"anchor {anchor!r} was not measured; there are {', '.join(means)}")
    rows = []
    for label, curve in means.items():
        if label == anchor:
            continue
        deltas = bd_by_image(records, label, anchor, bpp_range, method)
        mean = bd_delta(
            [(row["bpp"], row["psnr"]) for row in means[anchor]],
            [(row["bpp"], row["psnr"]) for row in curve],
            bpp_range,
            method,
        )
        compared = [d for d in deltas.values() if not math.isnan(d.rate + d.psnr)]
        rows.append(
            BDRow(
                codec=label,
                anchor=anchor,
                mean=mean,
                rate_quartiles=_quartiles([d.rate for d in compared]),
                psnr_quartiles=_quartiles([d.psnr for d in compared]),
                images=len(compared),
                apart=tuple(p for p, d in deltas.items() if math.isnan(d.rate + d.psnr)),
            )
        )
    return rows


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if not values:
        return (math.nan, math.nan, math.nan)
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return low, median, high
