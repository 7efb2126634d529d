"""A codec that uses its reference pays for a wrong one."""

import math

from helpers import ALONE, tiny_pair_codec

from xmodal_lite.data import open_pairs
from xmodal_lite.validation import validate


def test_validation_measures_the_control_of_a_codec_that_uses_its_reference(pairs):
    source = open_pairs(pairs, "all")
    (uses,) = validate(tiny_pair_codec(), source, (1024.0,), limit=64)
    (alone,) = validate(tiny_pair_codec(**ALONE), source, (1024.0,), limit=64)
    assert math.isfinite(uses["control"]) and uses["control"] != 0
    assert math.isnan(alone["control"])
    assert uses["lmbda"] == 1024 and uses["bpp"] > 0 and math.isfinite(uses["psnr"])
