"""Means are over the same images, and the deltas mean what they say."""

from __future__ import annotations

import math

import pytest
from helpers import record

from xmodal_lite.curves import PUBLISHED, bd_by_image, bd_delta, bd_table, mean_cost, mean_curves
from xmodal_lite.records import Measurement


def test_mean_curves_average_over_images_and_rise():
    records = [
        record("a", "x", 0.4, 40, 2),
        record("a", "y", 0.2, 30, 2),
        record("a", "x", 0.1, 20, 1),
        record("a", "y", 0.3, 24, 1),
    ]
    (first, second) = mean_curves(records)["a"]
    assert (first["point"], first["bpp"], first["psnr"], first["images"]) == (1, 0.2, 22, 2)
    assert (second["bpp"], second["psnr"]) == (pytest.approx(0.3), 35)
    assert second["bytes"] == 3000


def test_mean_curves_want_the_same_images_at_every_point():
    records = [record("a", "x", 0.4, 40, 2), record("a", "y", 0.2, 30, 1)]
    with pytest.raises(ValueError, match="a: not every point"):
        mean_curves(records)
    with pytest.raises(ValueError, match="a: not every point"):
        mean_curves([record("a", "x", 0.4, 40, 2)] * 2)


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_deltas_of_published_curves_are_those_known(method):
    lu, minnen, bpg = (PUBLISHED[name] for name in ("pair", "minnen", "hevc"))
    against_minnen = bd_delta(minnen, lu, method=method)
    assert against_minnen.rate == pytest.approx(-7.5, abs=0.15)
    assert against_minnen.psnr == pytest.approx(0.21, abs=0.01)
    assert bd_delta(bpg, lu, method=method).rate == pytest.approx(-21.6, abs=0.2)


def test_half_the_bits_are_minus_fifty_percent_and_a_decibel_is_a_decibel():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
    half = bd_delta(curve, [(bpp / 2, psnr) for bpp, psnr in curve])
    assert half.rate == pytest.approx(-50) and half.psnr == pytest.approx(3)
    assert half.overlap == pytest.approx(1)
    better = bd_delta(curve, [(bpp, psnr + 1) for bpp, psnr in curve])
    assert better.psnr == pytest.approx(1) and better.overlap == pytest.approx(8 / 10)
    assert bd_delta(curve, curve[::-1]) == (0, 0, 1)


def test_curves_that_do_not_overlap_have_no_delta():
    low, high = [(0.1, 30.0), (0.2, 33.0)], [(0.4, 36.0), (0.8, 39.0)]
    delta = bd_delta(low, high)
    assert math.isnan(delta.rate) and math.isnan(delta.psnr) and delta.overlap == 0
    assert math.isnan(bd_delta(low, low[:1]).rate)
    # psnr may be compared where rate cannot: same rates, far apart in quality
    apart = bd_delta(low, [(0.1, 40.0), (0.2, 43.0)])
    assert math.isnan(apart.rate) and apart.psnr == pytest.approx(10)


def test_a_range_leaves_out_what_happens_beyond_it():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
    test = [(0.1, 31.0), (0.2, 34.0), (0.4, 37.0), (0.8, 50.0)]
    assert bd_delta(curve, test).psnr > 2
    inside = bd_delta(curve, test, (0.1, 0.4))
    assert inside.psnr == pytest.approx(1, abs=0.05)
    cut = bd_delta(curve, curve, (0.15, 0.3))
    assert cut == (0, 0, 1)
    assert math.isnan(bd_delta(curve, curve, (2.0, 3.0)).rate)
    with pytest.raises(ValueError, match="0.3 to 0.1 bpp"):
        bd_delta(curve, curve, (0.3, 0.1))


def test_points_that_cost_more_and_are_no_better_do_not_count():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0)]
    assert bd_delta(curve, [*curve, (0.3, 31.0), (0.5, math.inf)]) == (0, 0, 1)
    with pytest.raises(ValueError, match="'cubic'"):
        bd_delta(curve, curve, method="cubic")


def test_the_table_has_the_spread_and_names_what_cannot_be_compared():
    points = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0)]
    factors = {"a": 0.5, "b": 0.8, "c": 0.9, "d": 1.0}
    records = []
    for pair, factor in factors.items():
        for k, (bpp, psnr) in enumerate(points):
            records.append(record("anchor", pair, bpp, psnr, k))
            records.append(record("test", pair, factor * bpp, psnr, k))
    for k, (bpp, psnr) in enumerate(points):
        records.append(record("anchor", "far", bpp, psnr, k))
        records.append(record("test", "far", bpp, psnr + 20, k))
    (row,) = bd_table(records)
    assert (row.codec, row.anchor) == ("test", "anchor")
    assert row.images == 4 and row.apart == ("far",)
    assert row.rate_quartiles == pytest.approx((-27.5, -15, -7.5))
    assert row.psnr_quartiles[0] >= 0
    single = bd_by_image(records, "test", "anchor")
    assert single["b"].rate == pytest.approx(-20) and math.isnan(single["far"].rate)
    (swapped,) = bd_table(records, "test")
    assert swapped.anchor == "test" and swapped.rate_quartiles[1] > 0
    with pytest.raises(ValueError, match="anchor 'hevc' was not measured; there are anchor, test"):
        bd_table(records, "hevc")


def test_the_table_wants_the_same_images_of_everybody():
    records = [record("a", "x", 0.4, 40, 1), record("b", "y", 0.2, 30, 1)]
    with pytest.raises(ValueError, match="b and a were measured on different images"):
        bd_table(records)


def test_the_mean_cost_is_lambda_times_error_plus_rate_over_images():
    def at(pair: str, bpp: float, psnr: float, lmbda: float) -> Measurement:
        return Measurement(codec="pair", pair=pair, bytes=1, bpp=bpp, psnr=psnr, lmbda=lmbda)

    records = [at("a", 0.2, 30.0, 1000.0), at("b", 0.4, 20.0, 1000.0), at("a", 9.0, 9.0, 50.0)]
    # 30 dB is an error of 1/1000, 20 dB one of 1/100
    assert mean_cost(records, "pair", 1000.0) == pytest.approx((1 + 0.2 + 10 + 0.4) / 2)
    with pytest.raises(ValueError, match="no record of 'alone' at λ = 1000"):
        mean_cost(records, "alone", 1000.0)
