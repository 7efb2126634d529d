"""Figures: one look for each codec, grey levels that can be compared, axes with units."""

import importlib
from itertools import combinations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from xmodal_lite import plots
from xmodal_lite.baselines import CODECS
from xmodal_lite.frames import Pair

# Colour vision: normal, and without the second, first or third kind of cone (Machado 2009).
VISION = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def lab(colour: str, vision: str) -> np.ndarray:
    """CIE L*a*b* of a colour as it is seen."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("line", ["-", "--"])
def test_codecs_of_one_line_style_differ_in_colour_for_every_reader(vision, line):
    styles = {name: s for name, s in plots.CODEC_STYLES.items() if s.line == line}
    for a, b in combinations(styles, 2):
        apart = np.linalg.norm(lab(styles[a].colour, vision) - lab(styles[b].colour, vision))
        assert apart > 15, f"{a} and {b} look alike ({apart:.1f})"
        assert styles[a].marker != styles[b].marker


def test_every_classical_codec_has_a_style_and_the_same_label():
    for name, codec in CODECS.items():
        assert plots.codec_style(name).line == "--"
        assert plots.codec_style(name).label == codec.label


def test_a_control_looks_like_its_codec_but_dotted():
    style, control = plots.codec_style("pair"), plots.codec_style("pair (mirrored)")
    assert (control.colour, control.line) == (style.colour, ":")
    assert control.label == f"{style.label} (mirrored)"


def test_an_unknown_codec_is_named_in_the_error():
    with pytest.raises(ValueError, match="'h264'.*hevc"):
        plots.codec_colour("h264")


def test_importing_changes_no_setting():
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        importlib.reload(plots)
        assert dict(matplotlib.rcParams) == before


def test_figures_have_an_opaque_white_face():
    with matplotlib.rc_context():
        plots.use_style()
        assert plt.figure().get_facecolor() == (1, 1, 1, 1)
        assert not matplotlib.rcParams["savefig.transparent"]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (1, 4, 6), (1, 1, 4, 6)])
def test_a_grey_image_of_any_layout_becomes_height_by_width(shape):
    assert plots.as_picture(np.zeros(shape, np.uint8)).shape == (4, 6)
    assert plots.as_picture(torch.zeros(shape)).shape == (4, 6)


@pytest.mark.parametrize("shape", [(4, 6, 3), (3, 4, 6), (1, 3, 4, 6)])
def test_a_colour_image_of_any_layout_becomes_channels_last(shape):
    assert plots.as_picture(torch.zeros(shape)).shape == (4, 6, 3)


def test_float_images_are_clipped_and_bytes_are_not_touched():
    assert plots.as_picture(np.array([[-1.0, 2.0]])).tolist() == [[0.0, 1.0]]
    assert plots.as_picture(np.array([[7, 255]], np.uint8)).tolist() == [[7, 255]]


@pytest.mark.parametrize("shape", [(6,), (2, 4, 6), (2, 1, 4, 6), (1, 2, 4, 6)])
def test_what_is_no_image_is_an_error_that_names_its_shape(shape):
    with pytest.raises(ValueError, match=r"shape \(" + str(shape[0])):
        plots.as_picture(np.zeros(shape))


def test_a_stretched_map_runs_from_black_to_white_on_its_own_scale_or_on_another():
    ramp = torch.linspace(-3, 5, 101).view(1, 101).requires_grad_()
    own = plots.stretched(ramp)
    assert (own[0, 1], own[0, 99]) == pytest.approx((0, 1)) and own[0, 50] == pytest.approx(0.5)
    assert own.min() == 0 and own.max() == 1  # outliers are clipped
    half = plots.stretched(ramp / 2, scale=ramp)
    assert half.max() - half.min() == pytest.approx(100 / 98 / 2)
    flat = np.zeros((2, 2))
    assert (plots.stretched(flat) == 0.5).all()
    assert plots.stretched(np.array([-1, 0, 1]), scale=flat).tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match="not finite"):
        plots.stretched(np.array([0, np.nan]))


def test_grey_levels_have_the_same_tone_in_every_image_of_a_figure():
    dark, light = np.full((4, 6), 10, np.uint8), np.full((4, 6), 0.9)
    figure = plots.show_images([dark, light, dark], ["a", "b", "c"], columns=2)
    drawn = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.get_clim() for image in drawn] == [(0, 255), (0, 1), (0, 255)]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes][:3] == [
        "a",
        "b",
        "c",
    ]


def test_images_without_their_captions_are_an_error():
    with pytest.raises(ValueError, match="2 images, 1 captions"):
        plots.show_images([np.zeros((2, 2))] * 2, ["one"])
    with pytest.raises(ValueError, match="0 images"):
        plots.show_images([], [])


def test_signed_numbers_carry_a_real_minus():
    assert [plots.signed(-0.5), plots.signed(2, "+,")] == ["−0.50", "+2"]
    assert plots.signed(float("nan")) == "–"
    assert [plots.signed(-0.004), plots.signed(0.04, "+.1f")] == ["0.00", "0.0"]


def test_maps_share_one_colour_scale_and_marks_count_from_the_middle():
    maps = [torch.eye(7), np.full((7, 7), 0.25)]
    figure = plots.show_maps(maps, ["a", "b"], ("x", "y", "weight"), marks=[(0, 0), (-1, 3)])
    first, second, bar = figure.axes
    assert [axes.images[0].get_clim() for axes in (first, second)] == [(0, 1), (0, 1)]
    assert (first.get_xlabel(), first.get_ylabel(), bar.get_ylabel()) == ("x", "y", "weight")
    assert second.lines[0].get_xydata().tolist() == [[3, -1]]
    assert second.get_xlim() == (-3.5, 3.5) and second.get_ylim() == (3.5, -3.5)


def test_maps_without_marks_count_from_the_corner_up_to_the_top_that_is_asked():
    figure = plots.show_maps([np.ones((4, 6))], ["a"], ("x", "y", "w"), top=3)
    image = figure.axes[0].images[0]
    assert image.get_clim() == (0, 3)
    assert list(image.get_extent()) == [-0.5, 5.5, 3.5, -0.5]


def test_maps_without_their_captions_or_marks_are_an_error():
    with pytest.raises(ValueError, match="2 maps, 1 captions"):
        plots.show_maps([np.zeros((2, 2))] * 2, ["one"], ("x", "y", "w"))
    with pytest.raises(ValueError, match="1 maps, 1 captions, 2 marks"):
        plots.show_maps([np.zeros((2, 2))], ["one"], ("x", "y", "w"), marks=[(0, 0)] * 2)


def test_dots_stand_in_the_row_of_their_name_with_their_mean():
    axes = plt.subplots()[1]
    plots.plot_dots(axes, {"own": [1.0, 3.0], "other": [0.5]})
    dots, mean, *_ = axes.lines
    assert dots.get_xydata().tolist() == [[1, 0], [3, 0]]
    assert list(mean.get_xdata()) == [2, 2]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["own", "other"]
    assert axes.get_ylim() == (1.5, -0.5)  # the first on top
    with pytest.raises(ValueError, match="no value for other"):
        plots.plot_dots(axes, {"own": [1.0], "other": []})
    with pytest.raises(ValueError, match="no value for any row"):
        plots.plot_dots(axes, {})


def test_a_pair_is_drawn_with_both_sizes_in_words():
    pair = Pair("p", np.zeros((8, 12, 3), np.uint8), np.zeros((4, 6), np.uint8))
    with matplotlib.rc_context(plots.STYLE):
        figure = plots.show_pair(pair)
        titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["visible, 12×8", "infrared, 6×4"]


def test_rate_distortion_axes_carry_their_units_and_curves_their_style():
    axes = plots.rate_distortion_axes()
    plots.plot_rate_distortion(axes, "jpeg", [0.1, 0.2], [28, 31])
    plots.plot_rate_distortion(axes, "pair", [0.1, 0.2], [30, 33], label="λ from 256 to 512")
    assert axes.get_xlabel() == "rate (bits per infrared pixel)"
    assert axes.get_ylabel() == "PSNR (dB)"
    jpeg, pair = axes.lines
    assert (jpeg.get_color(), jpeg.get_linestyle()) == (plots.codec_colour("jpeg"), "--")
    assert pair.get_label() == "λ from 256 to 512"


def test_curves_have_the_style_of_their_codec_and_those_of_no_codec_are_the_readers_own():
    curve = [(0.1, 28), (0.2, 31)]
    axes = plots.plot_curves({"jpeg": curve, "by hand": curve}, loc="lower right")
    jpeg, own = axes.lines
    assert jpeg.get_color() == plots.codec_colour("jpeg")
    assert (own.get_label(), own.get_marker()) == ("by hand", "*")
    assert axes.get_legend() and axes.get_xlabel() and axes.get_ylabel()
    assert plots.plot_curves({"hevc": curve}, axes) is axes
    with pytest.raises(ValueError, match=r"jpeg: a curve of shape \(3,\)"):
        plots.plot_curves({"jpeg": [1, 2, 3]})


def test_lines_differ_in_dashes_and_only_several_need_a_legend():
    one = plots.plot_lines([0, 1], {"error": [2, 1]}, "step", "bits per pixel", yscale="log")
    assert (one.get_xlabel(), one.get_ylabel()) == ("step", "bits per pixel")
    assert one.get_yscale() == "log" and one.get_legend() is None
    two = plots.plot_lines([0, 1], {"error": [2, 1], "rate": [1, 1]}, "step", "bits per pixel")
    assert two.get_legend() and len({line.get_linestyle() for line in two.lines}) == 2
    with pytest.raises(ValueError, match="0 lines; expected 1 to 4"):
        plots.plot_lines([0, 1], {}, "step", "bits per pixel")


def test_changes_stand_side_by_side_around_a_line_at_zero():
    axes = plt.subplots()[1]
    plots.plot_changes(axes, ["true", "blank"], {"256": [-2, 1], "1024": [-3, 0.5]}, written=True)
    low, high = axes.containers[:2]
    assert [bar.get_height() for bar in high] == [-3, 0.5]
    assert low[0].get_x() + low[0].get_width() < high[0].get_x()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["true", "blank"]
    assert [text.get_text() for text in axes.texts] == ["−2.0", "+1.0", "−3.0", "+0.5"]
    assert axes.lines[0].get_ydata() == [0, 0]
    with pytest.raises(ValueError, match="groups of 1 values; expected up to 3 groups of 2"):
        plots.plot_changes(axes, "ab", {"256": [1]})
