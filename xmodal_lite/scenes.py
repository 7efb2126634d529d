"""Procedural street scenes, seen twice: by a visible and by a thermal camera (chapter 1).

A small 3-D world (road, houses, plants, cars, people, posts) is painted far to near through one
pinhole camera into planes that both cameras share: albedo, sunlight, skylight, own light, apparent
temperature, depth. The visible frame is albedo × light; the thermal frame is the temperature
through an automatic gain. Edges coincide, polarity and level do not, as in real pairs.
The planes are in `scene_canvas`, the painters in `scene_street` and `scene_objects`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from .scene_canvas import (
    CONDITIONS,
    DEPTH,
    FAR,
    GLOW,
    HEAT,
    LABELS,
    MARGIN,
    SKY,
    SUN,
    Array,
    Canvas,
    World,
    as_rgb,
    resize,
)
from .scene_objects import (
    SIGNS,
    paint_bush,
    paint_car,
    paint_fence,
    paint_lamp,
    paint_palm,
    paint_person,
    paint_pole,
    paint_sign,
    paint_tree,
)
from .scene_street import paint_backdrop, paint_ground, paint_house

__all__ = ["CONDITIONS", "LABELS", "Scene", "render_scene"]
SMALLEST, LARGEST = 64, 4096
STYLES = ("town", "suburb", "avenue", "open")


@dataclass(frozen=True)
class Scene:
    """One rendered pair and the truth behind it, in infrared geometry (H, W).

    Attributes:
        visible: (2H, 2W, 3) uint8.
        infrared: (H, W) uint8.
        shift: (dy, dx), infrared pixels, multiples of 0.5 within ±2: what stands at (y, x) in the
            infrared frame stands at 2·(y + dy, x + dx) in the visible one.
        condition: "day", "dusk" or "night".
        seed: what made the scene.
        depth: (H, W) float32, m along the optical axis, infinite in the sky.
        labels: (H, W) uint8, indices into LABELS.
        temperature: (H, W) float32, apparent °C before the thermal camera's noise and gain.
    """

    visible: Array
    infrared: Array
    shift: tuple[float, float]
    condition: str
    seed: int
    depth: Array
    labels: Array
    temperature: Array


def render_scene(seed: int, height: int = 512, width: int = 640) -> Scene:
    """Draw the scene of a seed; the same bytes for the same arguments, in every process.

    Args:
        seed: any integer ≥ 0.
        height, width: infrared size, 64 to 4096 pixels each; the visible frame has twice that.

    Raises:
        ValueError: a seed or size that is no integer or out of range; names the value.
    """
    _check_integer("seed", seed, 0, None)
    _check_integer("height", height, SMALLEST, LARGEST)
    _check_integer("width", width, SMALLEST, LARGEST)
    rng = np.random.default_rng([int(seed), 0x5CE2E5])
    world = _draw_world(rng)
    canvas = Canvas(rng, int(height), int(width))
    _furnish(world)
    paint_backdrop(canvas, world)
    paint_ground(canvas, world)
    for _, painter, details in sorted(world.things, key=lambda thing: -thing[0]):
        painter(canvas, world, *details)
    dy, dx = (float(d) for d in np.clip(np.round(rng.normal(0, 0.8, 2) * 2) / 2, -2, 2))
    inner = (slice(MARGIN // 2, -(MARGIN // 2)),) * 2
    heat = canvas.planes[HEAT].reshape(canvas.h // 2, 2, canvas.w // 2, 2).mean((1, 3))
    depth = canvas.planes[DEPTH, ::2, ::2][inner]
    return Scene(
        visible=_visible_camera(canvas, world, int(2 * dy), int(2 * dx)),
        infrared=np.ascontiguousarray(_thermal_camera(heat, rng)[inner]),
        shift=(dy + 0.0, dx + 0.0),
        condition=world.condition,
        seed=int(seed),
        depth=np.where(depth < FAR, depth, np.inf).astype(np.float32),
        labels=np.ascontiguousarray(canvas.labels[::2, ::2][inner]),
        temperature=np.ascontiguousarray(heat[inner]),
    )


def _check_integer(name: str, value: Any, low: int, high: int | None) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        wanted = f"≥ {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}, expected an integer {wanted}")


# --- light and warmth ----------------------------------------------------------------------------


def _draw_world(rng: np.random.Generator) -> World:
    """Weather and street; linear light in which a white wall in full sun is near 1.5."""
    condition = str(rng.choice(CONDITIONS, p=(0.5, 0.2, 0.3)))
    day, k = condition == "day", CONDITIONS.index(condition)
    up = np.radians(rng.uniform(20, 60) if day else rng.uniform(4, 14))
    turn = rng.random()
    cloud = float(rng.beta(0.8, 1.0))
    strength = (1 - 0.8 * cloud**2) * (1.0, 0.35, 0.0)[k]
    sun = (as_rgb(1.5, 1.43, 1.3), as_rgb(1.2, 0.85, 0.5), as_rgb(1.2, 0.85, 0.5))[k]
    sky = (as_rgb(0.4, 0.42, 0.45), as_rgb(0.37, 0.35, 0.37), as_rgb(0.022, 0.023, 0.03))[k]
    haze = (as_rgb(0.8, 0.85, 0.91), as_rgb(0.78, 0.67, 0.6), as_rgb(0.035, 0.035, 0.045))[k]
    return World(  # the draws below happen in this order
        rng=rng,
        condition=condition,
        sun=np.array([np.sin(6.3 * turn), np.tan(up), np.cos(6.3 * turn)]) * np.cos(up),
        cloud=cloud,
        sun_colour=sun * strength,
        sky_colour=sky * rng.uniform(0.9, 1.15),
        haze=haze,
        haze_length=rng.uniform(180, 800),
        air=(air := rng.uniform(12, 20) if day else rng.uniform(6, 15)),
        solar=rng.uniform(4, 9) * strength,
        stored=rng.uniform(0, 3.5),
        ground=air + rng.uniform(-5, 2),
        zenith=-26 + 18 * cloud + rng.uniform(-6, 6),
        style=str(rng.choice(STYLES, p=(0.38, 0.3, 0.2, 0.12))),
        road=rng.uniform(3.6, 6.5),
        walk=rng.uniform(1.6, 3.6),
        bend=rng.normal(0, 6e-4),
        offset=rng.uniform(-3, 0.5),
    )


# --- the two cameras -----------------------------------------------------------------------------


def _blur(a: Array, radius: float) -> Array:
    """Gaussian blur of a non-negative plane, done on a smaller copy."""
    h, w = a.shape
    k = max(1, min(int(radius / 2), h // 8, w // 8))
    small = resize(a, h // k, w // k, Image.Resampling.BOX)
    top = max(float(small.max()), 1e-6)
    soft = Image.fromarray((small * (255 / top)).astype(np.uint8))
    soft = soft.filter(ImageFilter.GaussianBlur(radius / k))
    return resize(np.asarray(soft, np.float32) * (top / 255), h, w)


def _coarse_noise(rng: np.random.Generator, h: int, w: int) -> Array:
    """A sensor's noise, drawn at half the size, for neighbouring pixels share some of it."""
    return resize(rng.standard_normal((h // 2, w // 2), np.float32), h, w)


def _lamplight(canvas: Canvas, world: World) -> Array:
    """Light of the street lamps and our own headlights: (3, h, w), computed at half the size."""
    depth, a, b = canvas.planes[DEPTH, ::2, ::2], canvas.ax[:, ::2], canvas.ay[::2]
    (x, z), y = canvas.unproject(depth, a), depth * b + np.float32(canvas.eye)
    light = np.zeros((3, *depth.shape), np.float32)
    for lx, ly, lz, colour in world.lamps[:5]:
        gap = np.square(x - np.float32(lx)) + np.square(z - np.float32(lz))
        gap += np.square(y - np.float32(ly))
        down = np.clip((np.float32(ly + 0.4) - y) / np.sqrt(gap + 1), 0.05, 1)
        light += colour[:, None, None] * (
            down * np.float32(12 if world.night else 0.8) / (gap + 4)
        )
    if world.night:
        beam = np.exp(-np.square(a / 0.3)) * np.clip(0.12 - b * 9, 0.03, 1)
        beam = beam / (np.square(depth) + 60)
        light += as_rgb(42, 40, 36)[:, None, None] * beam
    return np.stack([resize(c, canvas.h, canvas.w) for c in light])


def _visible_camera(canvas: Canvas, world: World, dy: int, dx: int) -> Array:
    """Light × albedo through haze, halos, a film-like curve, noise and a slight blur."""
    p, rng = canvas.planes, world.rng
    lamps = np.zeros(3, np.float32) if world.day else _lamplight(canvas, world)
    far = np.exp(np.minimum(p[DEPTH], FAR) * np.float32(-1 / world.haze_length))
    far[p[DEPTH] > FAR] = 1
    k = CONDITIONS.index(world.condition)
    exposure = (0.95, 1.0, 1.5)[k] * rng.uniform(0.85, 1.2)
    tint = 1 + rng.normal(0, 0.015, 3)
    if world.night:
        tint = np.array([1, rng.uniform(0.88, 1), rng.uniform(0.45, 1.0)])
    crop = (slice(MARGIN - dy, canvas.h - MARGIN - dy), slice(MARGIN - dx, canvas.w - MARGIN - dx))
    h, w = canvas.h - 2 * MARGIN, canvas.w - 2 * MARGIN
    grain = _coarse_noise(rng, h, w) * np.float32((1.5, 2.5, 4.0)[k])
    floor = (0.06, 0.045, 0.045)[k]
    curve = (1 - np.exp(-1.55 * np.linspace(0, 4, 4096))) / 0.86 * (1 - floor) + floor
    curve = (255 * np.clip(curve, 0, 1) ** (1 / 1.9)).astype(np.float32)
    bands = []
    for k in range(3):
        light = p[SUN] * np.float32(world.sun_colour[k]) + p[SKY] * np.float32(world.sky_colour[k])
        light += lamps[k] + p[GLOW]
        light = (p[k] * light - world.haze[k]) * far + world.haze[k]
        light = light[crop] * np.float32(exposure * tint[k])
        if not world.day:
            halo = np.clip(light - 0.9, 0, 4)
            light = light + 0.9 * _blur(halo, 0.012 * w) + 0.5 * _blur(halo, 0.05 * w)
        level = curve[(np.clip(light, 0, 3.99) * 1024).astype(np.int16)] + grain
        bands.append(Image.fromarray(np.clip(level, 0, 255).astype(np.uint8)))
    return np.array(Image.merge("RGB", bands).filter(ImageFilter.BoxBlur(0.5)))


def _thermal_camera(heat: Array, rng: np.random.Generator) -> Array:
    """Noise, then a gain between linear and histogram equalisation, as thermal cores have it."""
    h, w = heat.shape
    noise = 0.7 * _coarse_noise(rng, h, w)
    noise += 0.5 * rng.standard_normal((h, w), np.float32)
    noise += 0.35 * rng.standard_normal((1, w), np.float32)  # columns differ a little
    level = heat + np.float32(rng.uniform(0.04, 0.12)) * noise
    low, high = (float(q) for q in np.percentile(level[::2, ::2], (rng.uniform(1, 9), 99.8)))
    high = max(high, low + 11)
    counts, edges = np.histogram(level[::2, ::2], bins=512, range=(low, high))
    plateau = np.minimum(counts, level.size / 4 * rng.uniform(0.004, 0.009)) + 1e-3
    equal = np.cumsum(plateau) / plateau.sum()
    mix = rng.uniform(0.3, 0.85)
    curve = 255 * (mix * equal + (1 - mix) * np.linspace(0, 1, 512))
    tone = np.interp(level, edges[1:], curve).astype(np.float32)
    base = _blur(tone, 0.015 * w)
    tone = 8 + 0.92 * base + (tone - base) * np.float32(rng.uniform(1.0, 1.4))
    return np.clip(tone + 0.5, 0, 255).astype(np.uint8)


# --- what stands in the street -------------------------------------------------------------------


def _furnish(world: World) -> None:
    """Put houses, plants, posts, cars and people into the street."""
    rng, edge, uniform = world.rng, world.road + world.walk, world.rng.uniform
    town, chance = world.style == "town", world.rng.random
    k = STYLES.index(world.style)
    density, setback, plants = (0.95, 0.7, 0.6, 0.15)[k], (0.3, 6, 4, 12)[k], (22, 11, 9, 8)[k]
    end = uniform(45, 100) if chance() < 0.3 else 150.0
    if end < 150:  # the road ends at a crossing: a house closes the view
        world.put(end + 1, paint_house, 1, uniform(-24, -12), end, 40.0, uniform(5, 14))
    for side in (-1, 1):
        back, z = setback * uniform(0.8, 1.6), uniform(-4, 8)
        while z < end - 12:
            long = uniform(8, 22)
            tall = uniform(7, 17) if town and chance() < 0.7 else uniform(3.2, 6.5)
            if chance() < density:
                x = world.road_x(z) + side * (edge + back + uniform(0, 1.5))
                world.put(z + long, paint_house, side, x, z, long, tall)
                world.cast(x, z, side * 10, long, tall)
            z += long + rng.exponential(0.5 if town else 6.0)
        palms, z = chance() < (0.6 if world.style == "avenue" else 0.2), uniform(7, 15)
        while z < end - 5:
            out = edge - 0.9 if chance() < 0.6 or back < 2 else edge + uniform(0.8, max(back, 1.6))
            painter = paint_palm if palms and chance() < 0.8 else paint_tree
            _plant(world, painter, side * out, z, uniform(0.6, 1.25))
            z += uniform(0.5, 1.6) * plants
        for z in (np.cumsum(uniform(2, 9, 14)) + 6) if not town else ():
            out = edge + uniform(0.6, back)
            _plant(world, paint_bush, side * out, z, uniform(0.4, 1.1))
        if not town and chance() < 0.55:
            draw, hedge, start = rng.random(3), chance() < 0.4, uniform(4, 15)
            for z in np.arange(start, min(60, end - 10), 1.6 if hedge else 7.2):
                if hedge:
                    _plant(world, paint_bush, side * (edge + 0.8), z, 0.8 + 0.3 * draw[0])
                else:
                    world.put(z + 7.2, paint_fence, side, edge + 0.3, z, draw)
    _furnish_kerb(world, end)
    for side in (-1, 1):
        z, parked = uniform(7, 16), chance() < 0.65 and world.road > 4.6
        while parked and z < min(end - 5, 90):
            if chance() < 0.65:
                _park(world, world.road - 1.1, z, side, chance() ** 4, False)
            z += uniform(5.4, 7.5)
        z = uniform(9, 30)
        while z < end - 5:
            lane = world.road * (0.45 if world.road < 4.6 else 0.33)
            _park(world, lane, z, side, uniform(0.6, 1), True)
            z += uniform(12, 50)
    sides, road = rng.choice((-1, 1), rng.poisson(4 if town else 2.5)), world.road
    groups = [(uniform(8, 45), side * (road + uniform(0.4, world.walk))) for side in sides]
    if chance() < 0.4:  # crossing the road
        groups += [(uniform(9, 22), uniform(-1, 1) * road) for _ in range(rng.integers(1, 5))]
    for z, x in groups:
        for _ in range(rng.choice((1, 1, 2, 3))):
            world.put(z, paint_person, world.road_x(z) + x, z, False)
            world.cast(world.road_x(z) + x - 0.2, z, 0.4, 0.2, 1.7)
            x, z = x + uniform(0.5, 0.8), z + uniform(-0.4, 0.4)
    if chance() < 0.35:
        x, z = rng.choice((-1, 1)) * (world.road - 2.6), uniform(8, 26)
        world.put(z, paint_person, world.road_x(z) + x, z, True)


def _plant(world: World, painter: Callable[..., None], out: float, z: float, size: float) -> None:
    """A plant at `out` metres from the road's middle, right of it if positive."""
    x = world.road_x(z) + out
    world.put(z, painter, x, z, size)
    tall, wide = {paint_tree: (5, 2.4), paint_palm: (9, 1.3), paint_bush: (0.5, 0.7)}[painter]
    spread = world.rng.normal(0, 0.5, (12, 3)) * wide * size
    world.puffs += [(x + a, tall * size + b, z + c, wide * size * 0.45) for a, b, c in spread]
    if painter is not paint_bush:
        world.cast(x - 0.15, z, 0.3, 0.3, tall * size)


def _park(world: World, out: float, z: float, side: int, warm: float, moving: bool) -> None:
    """A car on the right (side 1, seen from behind) or on the left (-1, coming towards us)."""
    x = world.road_x(z) + side * out
    world.put(z, paint_car, x, z, side > 0, warm, moving)
    world.cast(x - 0.9, z, 1.8, 4.4, 1.2)


def _furnish_kerb(world: World, end: float) -> None:
    """Street lamps, wires, signs and traffic lights."""
    rng, uniform = world.rng, world.rng.uniform
    flip, reach = rng.choice((-1, 1)), rng.choice((0.0, 1.8))
    colour = as_rgb(1.0, 0.74, 0.38) if rng.random() < 0.6 else as_rgb(0.85, 0.95, 1.0)
    for k, z in enumerate(np.arange(uniform(8, 24), end, uniform(18, 32))):
        side = flip * (-1) ** k if world.style == "avenue" else flip
        x, y = world.road_x(z) + side * (world.road + 0.5), 7.0 if reach else 4.4
        world.put(z, paint_lamp, x, y, z, -side * reach, colour)
        world.lamps.append((x - side * reach, y, z, colour))
        world.cast(x - 0.08, z, 0.16, 0.1, y)
    if rng.random() < 0.5:
        out, start = -flip * (world.road + 0.8), uniform(9, 20)
        for z in start + 30.0 * np.arange(-1, 4):
            world.put(z, paint_pole, world.road_x(z) + out, z, world.road_x(z + 30) + out)
    for z, side in zip(uniform(9, 45, 4), rng.choice((-1, 0, 1), 4), strict=True):
        if side:
            shape = rng.choice(list(SIGNS))
            world.put(z, paint_sign, world.road_x(z) + side * (world.road + 0.4), z, shape)
