"""The embedded street scenes: deterministic, well formed, and warm where heat is."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFilter

from xmodal_lite.scenes import LABELS, Scene, render_scene

SIZE = (96, 120)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed, *SIZE) for seed in range(20)]


def digest(scene: Scene) -> str:
    return hashlib.sha256(scene.visible.tobytes() + scene.infrared.tobytes()).hexdigest()


def mean_temperature(scene: Scene, *labels: str) -> float:
    """Mean over the pixels with one of these labels; NaN where there are fewer than 20."""
    there = np.isin(scene.labels, [LABELS.index(label) for label in labels])
    return float(scene.temperature[there].mean()) if there.sum() >= 20 else float("nan")


def edges(image: np.ndarray) -> np.ndarray:
    """Size of the gradient, smoothed: where edges are, whatever their sign."""
    dy, dx = np.gradient(image.astype(np.float32))
    strong = np.minimum(np.hypot(dy, dx), 40) * 6
    soft = Image.fromarray(strong.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(soft, np.float32)


def test_a_seed_gives_the_same_bytes_in_another_process(scenes):
    code = (
        "import hashlib; from xmodal_lite.scenes import render_scene; "
        f"s = render_scene(3, {SIZE[0]}, {SIZE[1]}); "
        "print(hashlib.sha256(s.visible.tobytes() + s.infrared.tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(scenes[3])


def test_a_scene_does_not_depend_on_those_drawn_before_it(scenes):
    np.random.seed(0)
    assert digest(render_scene(5, *SIZE)) == digest(scenes[5])


def test_every_seed_draws_another_scene(scenes):
    assert len({digest(scene) for scene in scenes}) == len(scenes)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 191), (160, 96), (64, 400)])
def test_any_size_from_64_pixels_works(height, width):
    scene = render_scene(np.int64(4), height, width)
    assert (scene.visible.shape, scene.visible.dtype) == ((2 * height, 2 * width, 3), np.uint8)
    for plane, kind in (
        (scene.infrared, np.uint8),
        (scene.labels, np.uint8),
        (scene.depth, np.float32),
        (scene.temperature, np.float32),
    ):
        assert plane.shape == (height, width) and plane.dtype == kind
        assert plane.flags["C_CONTIGUOUS"]
    assert np.isfinite(scene.temperature).all()
    assert scene.infrared.std() > 10 and scene.visible.std() > 10


def test_the_default_is_640_by_512_with_a_visible_frame_of_twice_that():
    scene = render_scene(0)
    assert scene.infrared.shape == (512, 640) and scene.visible.shape == (1024, 1280, 3)


def test_day_dusk_and_night_all_occur_among_the_first_twenty(scenes):
    assert {scene.condition for scene in scenes} == {"day", "dusk", "night"}
    light = {
        kind: np.mean([scene.visible.mean() for scene in scenes if scene.condition == kind])
        for kind in ("day", "night")
    }
    assert light["day"] > light["night"] + 30


def test_sky_is_infinitely_far_and_the_road_comes_towards_the_camera(scenes):
    for scene in scenes:
        sky = scene.labels == LABELS.index("sky")
        assert sky.any() and np.isinf(scene.depth[sky]).all()
        assert np.isfinite(scene.depth[~sky]).all() and (scene.depth[~sky] > 0).all()
        assert scene.depth[-1].min() < 12


@pytest.mark.parametrize("condition", ["day", "dusk", "night"])
def test_sky_is_colder_than_the_street(scenes, condition):
    for scene in (scene for scene in scenes if scene.condition == condition):
        sky, road = mean_temperature(scene, "sky"), mean_temperature(scene, "road", "walk")
        assert sky < road - 5
        dark = scene.infrared[scene.labels == LABELS.index("sky")].mean()
        assert dark < scene.infrared[scene.labels == LABELS.index("road")].mean()


@pytest.mark.parametrize("label", ["person", "engine"])
def test_people_and_running_engines_are_hotter_than_the_road(scenes, label):
    pairs = [(mean_temperature(s, label), mean_temperature(s, "road")) for s in scenes]
    known = [(hot, road) for hot, road in pairs if not np.isnan(hot)]
    assert len(known) >= 5
    assert np.mean([hot > road for hot, road in known]) > 0.85
    assert np.mean([hot - road for hot, road in known]) > 3


def test_the_stated_shift_aligns_the_frames_better_than_none():
    """Undoing the shift brings edges of the two frames together; going the other way does not."""
    gains = []
    for seed in range(8):
        scene = render_scene(seed, 192, 240)
        dy, dx = (int(2 * step) for step in scene.shift)
        assert max(abs(dy), abs(dx)) <= 4
        if abs(dy) + abs(dx) < 2:
            continue
        grey = Image.fromarray(scene.visible).convert("L")
        ours = edges(scene.infrared)[8:-8, 8:-8].ravel()

        def match(y: int, x: int, grey: Image.Image = grey, ours: np.ndarray = ours) -> float:
            moved = np.asarray(
                grey.transform(grey.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y))
            )
            half = moved.reshape(192, 2, 240, 2).mean((1, 3))
            return float(np.corrcoef(ours, edges(half)[8:-8, 8:-8].ravel())[0, 1])

        gains.append(match(dy, dx) - max(match(0, 0), match(-dy, -dx)))
    assert len(gains) >= 4
    assert np.mean([gain > 0 for gain in gains]) > 0.9


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1,), "seed is -1"),
        ((1.5,), "seed is 1.5"),
        (("7",), "seed is '7'"),
        ((True,), "seed is True"),
        ((0, 63, 64), "height is 63"),
        ((0, 64, 0), "width is 0"),
        ((0, 64, 4097), "width is 4097"),
        ((0, 64.0, 64), "height is 64.0"),
    ],
)
def test_a_bad_argument_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        render_scene(*arguments)
