"""The one-line comparison of a reader's result with the package's."""

import numpy as np
import pytest
import torch

from xmodal_lite.teaching import check, complaint, quote, table


def test_equal_results_say_so_in_one_line():
    line = repr(check("features", torch.ones(2, 3, requires_grad=True), np.ones((2, 3))))
    assert line == "✓ features: yours and ours agree (2×3 values, equal)"
    assert "one value" in repr(check("rate", 0.5, 0.5))


def test_a_small_difference_is_reported_and_a_large_one_is_an_error_that_says_where():
    assert "1e-07 apart" in repr(check("γ", [1.0, 2.0 + 1e-7], [1.0, 2.0]))
    with pytest.raises(AssertionError, match=r"γ: yours is 2.1 at \(1,\); expected 2 "):
        check("γ", [1.0, 2.1], [1.0, 2.0])


def test_another_shape_is_an_error_even_where_it_would_broadcast():
    with pytest.raises(AssertionError, match=r"shape \(3, 1\); expected \(3,\)"):
        check("β", np.ones((3, 1)), np.ones(3))


@pytest.mark.parametrize("yours", [np.nan, np.inf])
def test_not_a_number_and_infinity_never_agree_with_a_number(yours):
    with pytest.raises(AssertionError):
        check("psnr", yours, 30.0, tolerance=1e9)


def test_infinite_psnr_agrees_with_itself():
    assert check("psnr", np.inf, np.inf)


def test_bytes_do_not_wrap_around():
    with pytest.raises(AssertionError):
        check("frame", np.uint8([0]), np.uint8([255]), tolerance=1)


def test_nothing_compared_is_not_agreement():
    with pytest.raises(AssertionError, match="empty"):
        check("frame", [], [])


def test_a_number_that_is_not_finite_is_never_lent_to_the_text():
    with pytest.raises(ValueError, match="gain is nan"):
        quote(gain=np.float32("nan"))


def test_numbers_reach_the_page_as_plain_ones(monkeypatch):
    lent = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: lent.update({name: value}))
    quote(gain=np.float64(0.25), data="scenes", pairs=8)
    assert lent == {"gain": 0.25, "data": "scenes", "pairs": 8}
    assert type(lent["gain"]) is float


def test_a_table_sets_numbers_to_the_right_with_their_signs_and_thousands():
    shown = table(["λ", "bytes", "dB"], [("256", 12345, -0.5), ("512", 7, np.nan)], digits=2).data
    assert shown.splitlines() == [
        "| λ | bytes | dB |",
        "| --- | ---: | ---: |",
        "| 256 | 12,345 | −0.50 |",
        "| 512 | 7 | – |",
    ]
    assert "| --- | ---: |" in table(["codec", "change"], [("pair", "−9.4 %")]).data


def test_a_column_goes_to_the_right_if_every_cell_that_is_full_begins_with_a_figure():
    rows = [("visible", "1.32 s", "", "of 12"), ("entropy", "0.19 s", "8 of 12", "12")]
    assert "| --- | ---: | ---: | --- |" in table(["stage", "pair", "gain", "which"], rows).data


@pytest.mark.parametrize("rows", [[], [(1, 2), (1,)]])
def test_a_table_with_a_ragged_row_or_none_is_an_error(rows):
    with pytest.raises(ValueError, match="expected 2"):
        table(["a", "b"], rows)


def test_a_complaint_is_what_an_error_says_and_silence_is_a_failure():
    assert "invalid literal" in complaint(int, "seven")
    with pytest.raises(AssertionError, match="int found nothing to complain about"):
        complaint(int, "7", base=8)
