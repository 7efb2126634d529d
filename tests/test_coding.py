"""A file costs its own bytes, and its image is as near as PSNR says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import scene, tiny_image_codec, tiny_pair_codec

from xmodal_lite.bitstream import Header, Section, pack, section_sizes, unpack
from xmodal_lite.coding import psnr_image, target_bytes
from xmodal_lite.evaluation import measure_learned


def test_psnr_of_images_is_over_all_samples_of_eight_bits():
    a = np.zeros((4, 5, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 60  # mean squared error 3600 / 60 samples
    assert psnr_image(a, b) == pytest.approx(10 * math.log10(255**2 / 60))
    assert psnr_image(np.full_like(a, 255), a) == pytest.approx(0)
    assert psnr_image(a, a) == math.inf


def test_psnr_refuses_images_that_are_no_twins():
    image = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="twins"):
        psnr_image(image, image[:3])
    with pytest.raises(ValueError, match="twins"):
        psnr_image(image, image.astype(float))


def test_target_bytes_are_those_of_a_file_without_the_reference(pair_codec):
    pair = scene()
    data = pair_codec.compress(pair.visible, pair.infrared, 1024, mode="all")
    header, sections = unpack(data)
    without = Header(
        infrared_size=header.infrared_size,
        infrared_lmbda=header.infrared_lmbda,
        fingerprint=header.fingerprint,
    )
    kept = {k: sections[k] for k in (Section.INFRARED_Z, Section.INFRARED_Y)}
    kept[Section.SYMBOLS] = sections[Section.SYMBOLS][4:]
    coefficients = section_sizes(data)["coefficients"]
    assert target_bytes(data) == len(pack(without, kept)) + coefficients


def test_target_bytes_of_a_visible_target_leave_the_infrared_out():
    codec = tiny_pair_codec(target="visible")
    pair = scene()
    data = codec.compress(pair.visible, pair.infrared, 1024, mode="all")
    sizes = section_sizes(data)
    reference = sizes["infrared_z"] + sizes["infrared_y"] + 8 + 4
    assert target_bytes(data) == len(data) - reference


def test_target_bytes_of_a_file_that_does_not_use_its_reference(pair_codec):
    pair = scene()
    data = pair_codec.compress(pair.visible, pair.infrared, 1024, mode="none")
    sizes = section_sizes(data)
    assert target_bytes(data) == len(data)  # two images, neither more the target than the other
    for image, other in (("infrared", "visible"), ("visible", "infrared")):
        own = len(data) - sizes[f"{other}_z"] - sizes[f"{other}_y"] - 8 - 4
        assert target_bytes(data, image) == own
    got = measure_learned("pair", pair_codec, pair, 1024, mode="none")
    assert (got.bytes, got.mode) == (target_bytes(data, "infrared"), "none")


def test_every_byte_counts_where_one_image_is_coded(baseline):
    pair = scene()
    data = baseline.compress(None, pair.infrared, 1024)
    assert target_bytes(data) == len(data)
    data = tiny_image_codec("infrared").compress(pair.infrared, 1024)
    assert target_bytes(data) == len(data)
