"""Procedural street scenes, seen twice: by a visible and by a thermal camera (chapter 1).

A small 3-D world (road, houses, plants, cars, people, posts) is painted far to near through one
pinhole camera into planes that both cameras share: albedo, sunlight, skylight, own light, apparent
temperature, depth. The visible frame is albedo × light; the thermal frame is the temperature
through an automatic gain. Edges coincide, polarity and level do not, as in real pairs.
World coordinates in metres: x right, y up, z forward, the camera `eye` above the origin; °C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Array = np.ndarray
Window = tuple[slice, slice]
LABELS = ("sky", "road", "walk", "wall", "glass", "plant", "car", "engine", "person", "post")
RGB, SUN, SKY, GLOW, HEAT, DEPTH = slice(0, 3), 3, 4, 5, 6, 7  # the planes
MARGIN = 4  # canvas pixels around the frame: room for a shift of 2 infrared (4 visible) pixels
SMALLEST, LARGEST = 64, 4096
FAR = 4000.0  # depth of the sky, m
SHADOWS = (32.0, 128.0, 0.125)  # maps of the ground from above: half width, length, step, m
WEAR = (8.0, 48.0, 0.04)


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
    s = _Stage(int(seed), int(height), int(width))
    _furnish(s)
    _paint_backdrop(s)
    _paint_ground(s)
    for _, painter, details in sorted(s.things, key=lambda thing: -thing[0]):
        painter(s, *details)
    dy, dx = (float(d) for d in np.clip(np.round(s.rng.normal(0, 0.8, 2) * 2) / 2, -2, 2))
    inner = (slice(MARGIN // 2, -(MARGIN // 2)),) * 2
    heat = s.planes[HEAT].reshape(s.h // 2, 2, s.w // 2, 2).mean((1, 3))
    depth = s.planes[DEPTH, ::2, ::2][inner]
    return Scene(
        visible=_visible_camera(s, int(2 * dy), int(2 * dx)),
        infrared=np.ascontiguousarray(_thermal_camera(heat, s.rng)[inner]),
        shift=(dy + 0.0, dx + 0.0),
        condition=s.condition,
        seed=int(seed),
        depth=np.where(depth < FAR, depth, np.inf).astype(np.float32),
        labels=np.ascontiguousarray(s.labels[::2, ::2][inner]),
        temperature=np.ascontiguousarray(heat[inner]),
    )


def _check_integer(name: str, value: Any, low: int, high: int | None) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        wanted = f"≥ {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}, expected an integer {wanted}")


def _rgb(*tone: float) -> Array:
    return np.array(tone, np.float32)


def _resize(a: Array, h: int, w: int, how: Any = Image.Resampling.BILINEAR) -> Array:
    return np.asarray(Image.fromarray(np.ascontiguousarray(a, np.float32)).resize((w, h), how))


def _cover(inside: Array, foot: Array) -> Array:
    """How much of a pixel of size `foot` (m) lies inside an edge that is `inside` (m) away."""
    return np.clip(inside / foot + 0.5, 0, 1)


class _Stage:
    """Weather, street, camera and canvas of one scene, and the few ways of painting on it."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        self.rng = rng = np.random.default_rng([seed, 0x5CE2E5])
        self.condition = str(rng.choice(("day", "dusk", "night"), p=(0.5, 0.2, 0.3)))
        self.day, self.night = self.condition == "day", self.condition == "night"
        pick = ("day", "dusk", "night").index(self.condition)
        up, turn = (
            np.radians(rng.uniform(20, 60) if self.day else rng.uniform(4, 14)),
            rng.random(),
        )
        self.sun = np.array([np.sin(6.3 * turn), np.tan(up), np.cos(6.3 * turn)]) * np.cos(up)
        self.cloud = float(rng.beta(0.8, 1.0))
        strength = (1 - 0.8 * self.cloud**2) * (1.0, 0.35, 0.0)[pick]
        self.sun_colour = (_rgb(1.5, 1.43, 1.3), _rgb(1.2, 0.85, 0.5))[pick > 0] * strength
        ambient = (_rgb(0.4, 0.42, 0.45), _rgb(0.37, 0.35, 0.37), _rgb(0.022, 0.023, 0.03))
        self.sky_colour = ambient[pick] * rng.uniform(0.9, 1.15)
        self.haze = (_rgb(0.8, 0.85, 0.91), _rgb(0.78, 0.67, 0.6), _rgb(0.035, 0.035, 0.045))[pick]
        self.haze_length = rng.uniform(180, 800)
        self.air = rng.uniform(12, 20) if self.day else rng.uniform(6, 15)
        self.solar = rng.uniform(4, 9) * strength  # K that full sun adds to a dark surface
        self.stored = rng.uniform(0, 3.5)  # K that massive things have kept from earlier
        self.ground = self.air + rng.uniform(-5, 2)  # °C of asphalt in the shade
        self.zenith = -26 + 18 * self.cloud + rng.uniform(-6, 6)  # °C, apparent
        self.style = str(
            rng.choice(("town", "suburb", "avenue", "open"), p=(0.38, 0.3, 0.2, 0.12))
        )
        self.road, self.walk = rng.uniform(3.6, 6.5), rng.uniform(1.6, 3.6)  # half width; width
        self.bend, self.offset = rng.normal(0, 6e-4), rng.uniform(-3, 0.5)
        self.things: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []
        self.shadows: list[tuple[Array, float]] = []  # footprints (n, 2) and their heights, m
        self.puffs: list[tuple[float, float, float, float]] = []  # x, height, z, radius, m
        self.lamps: list[tuple[float, float, float, Array]] = []  # x, y, z, colour

        self.h, self.w = 2 * height + 2 * MARGIN, 2 * width + 2 * MARGIN
        self.f = 2.4 * max(width, 1.1 * height)  # focal length, canvas pixels
        self.cx, self.cy = self.w / 2, MARGIN + 2 * height * rng.uniform(0.42, 0.54)
        self.eye, yaw = rng.uniform(1.2, 1.7), np.radians(rng.normal(0, 5))
        self.cos, self.sin = float(np.cos(yaw)), float(np.sin(yaw))
        self.ax = ((np.arange(self.w) - self.cx) / self.f).astype(np.float32)[None, :]
        self.ay = ((self.cy - np.arange(self.h)) / self.f).astype(np.float32)[:, None]
        self.planes = np.zeros((8, self.h, self.w), np.float32)
        self.labels = np.zeros((self.h, self.w), np.uint8)
        # two smooth textures in one complex table: real for the visible side, imaginary for the
        # thermal one, partly the same; tileable, 16 samples a feature
        small = rng.standard_normal((2, 32, 32)).astype(np.float32)
        small[1] = 0.3 * small[0] + 0.95 * small[1]
        small = np.pad(small, ((0, 0), (2, 2), (2, 2)), mode="wrap")
        seen, felt = (
            _resize(x, 576, 576, Image.Resampling.BICUBIC)[32:-32, 32:-32] for x in small
        )
        self.table = ((seen + 1j * felt) / seen.std()).astype(np.complex64).ravel()
        self.cells = rng.random((4, 32, 32)).astype(np.float32)  # one draw a window, brick, …

    def road_x(self, z: Any) -> Any:
        """x of the road's middle."""
        return self.offset + self.bend * np.square(z)

    def lit(self, *normal: float) -> float:
        """How squarely the sun meets a surface."""
        x, y, z = normal
        across = x * self.sun[0] + y * self.sun[1] + z * self.sun[2]
        return max(0.0, float(across) / (x * x + y * y + z * z) ** 0.5)

    def turn(self, points: Any) -> Array:
        """World points (…, 3) → camera coordinates."""
        p = np.array(points, np.float64)
        x, z = p[..., 0].copy(), p[..., 2].copy()
        p[..., 0], p[..., 2] = x * self.cos - z * self.sin, x * self.sin + z * self.cos
        p[..., 1] -= self.eye
        return p

    def project(self, points: Any) -> Array:
        """World points (…, 3) in front of the camera → column, row, depth."""
        p = self.turn(points)
        k = self.f / np.maximum(p[..., 2], 0.05)
        p[..., 0], p[..., 1] = self.cx + k * p[..., 0], self.cy - k * p[..., 1]
        return p

    def clip(self, x: Array, y: Array) -> Window | None:
        """The part of the canvas between these columns and rows; None when there is none."""
        c0, c1 = int(max(x.min() - 1, 0)), int(min(x.max() + 2, self.w))
        r0, r1 = int(max(y.min() - 1, 0)), int(min(y.max() + 2, self.h))
        return (slice(r0, r1), slice(c0, c1)) if r1 - r0 > 1 and c1 - c0 > 1 else None

    def panel(
        self, p0: Any, eu: Any, ev: Any, lu: float, lv: float
    ) -> tuple[Window, Array, Array, Array, Array, Array] | None:
        """A rectangle p0 + u·eu + v·ev → window, u, v, depth, pixel size (m), coverage.

        On upright walls u, depth and pixel size are one row, for they depend on the column only.
        """
        origin = self.turn(p0)
        eu, ev = self.turn(np.add(p0, eu)) - origin, self.turn(np.add(p0, ev)) - origin
        p = np.array([origin, origin + lu * eu, origin + lu * eu + lv * ev, origin + lv * ev])
        near = 0.4
        cuts = [(a, b) for a in p for b in p if a[2] > near >= b[2]]
        cut = [a + (b - a) * (a[2] - near) / (a[2] - b[2]) for a, b in cuts]
        front = np.array([q for q in p if q[2] > near] + cut)
        if not len(front):
            return None
        k = self.f / front[:, 2]
        sl = self.clip(self.cx + k * front[:, 0], self.cy - k * front[:, 1])
        if sl is None:
            return None
        a, b = self.ax[:, sl[1]], self.ay[sl[0]]

        def along(e: Array) -> Array:  # ray · e; upright walls need it once a column only
            flat = np.float32(e[0]) * a + np.float32(e[2])
            return flat + np.float32(e[1]) * b if abs(e[1]) > 1e-9 else flat

        n = np.cross(eu, ev)
        across = along(n)
        t = np.float32(n @ origin) / np.where(np.abs(across) < 1e-6, np.float32(1e-6), across)
        t = np.clip(t, -FAR, FAR)
        u, v = t * along(eu) - np.float32(origin @ eu), t * along(ev) - np.float32(origin @ ev)
        foot = np.maximum(t, np.float32(0.1)) / np.float32(self.f)
        alpha = _cover(np.minimum(np.minimum(u, lu - u), np.minimum(v, lv - v)), foot) * (t > 0.3)
        return (sl, u, v, t, foot, alpha) if alpha.any() else None

    def noise(self, u: Array, v: Array, foot: Array, *scales: float) -> tuple[Array, Array]:
        """Texture of several scales (m), (visible, thermal); what a pixel cannot resolve fades."""
        shape = np.broadcast_shapes(u.shape, v.shape)
        parts: dict[int, Any] = {4: 0, 2: 0, 1: 0}
        middle, finest = float(np.median(foot)), float(foot.min())
        for k, scale in enumerate(scales):
            if scale < finest:
                continue
            q = 4 if scale > 24 * middle else 2 if scale > 12 * middle else 1  # coarse: in fewer
            q = q if min(shape) >= 16 else 1
            a, b, c = (x[:: q if x.shape[0] > 1 else 1, :: q if x.shape[1] > 1 else 1]
                       for x in (u, v, foot))  # fmt: skip
            step = np.float32(16 / scale)
            i, j = (a * step).astype(np.int32) + 97 * k, (b * step).astype(np.int32) + 61 * k
            weight = np.clip(scale / (2 * c) - 0.5, 0, 1).astype(np.float32)
            parts[q] = parts[q] + self.table.take((j & 511) * 512 + (i & 511)) * weight
        total = parts[1] + np.zeros(shape, np.complex64)
        for q in (2, 4):
            if np.ndim(parts[q]):
                total += _resize(parts[q].real, *shape) + 1j * _resize(parts[q].imag, *shape)
        return total.real, total.imag

    def paint(self, sl: Window, alpha: Any, look: Sequence[Any], label: str, depth: Any) -> None:
        """Blend (rgb, sun, sky, heat[, glow]) over a window, by coverage alpha."""
        rgb, sun, sky, heat, glow = (*look, 0.0)[:5]
        for k, value in enumerate((*rgb, sun, sky, glow, heat)):
            here = self.planes[k][sl]
            if np.ndim(alpha):
                here += alpha * (value - here)
            else:
                here[...] = value
        most = np.asarray(alpha) > 0.5
        np.copyto(self.planes[DEPTH][sl], depth, where=most)
        np.copyto(self.labels[sl], LABELS.index(label), where=most)

    def fill(
        self, points: Any, look: Sequence[Any], label: str, depth: float | None = None
    ) -> None:
        """Paint one flat polygon: world corners (n, 3), or columns and rows (n, 2) at a depth."""
        p = np.asarray(points) if depth is not None else self.project(points)
        depth = float(p[:, 2].mean()) if depth is None else depth
        sl = self.clip(p[:, 0], p[:, 1])
        if (
            sl is None
            or np.ptp(p[:, :2], axis=0).max() < 0.5
            or min(depth, p[:, -1].min() if p.shape[1] == 3 else depth) < 0.5
        ):
            return
        h, w = sl[0].stop - sl[0].start, sl[1].stop - sl[1].start
        k = 3 if h * w < 60000 else 1
        mask = Image.new("L", (w * k, h * k))
        corners = ((p[:, :2] - (sl[1].start, sl[0].start) + 0.5) * k - 0.5).ravel().tolist()
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        alpha = np.asarray(mask.reduce(k) if k > 1 else mask, np.float32) / 255
        rgb, sun, sky, heat, glow = (*look, 0.0)[:5]
        flat = np.array([*rgb, sun, sky, glow, heat], np.float32)[:, None, None]
        here = self.planes[(slice(DEPTH), *sl)]
        here += alpha * (flat - here)
        self.planes[DEPTH][sl][alpha > 0.5] = depth
        self.labels[sl][alpha > 0.5] = LABELS.index(label)

    def stick(self, a: Any, b: Any, wide_a: float, wide_b: float, look: Any, label: str) -> None:
        """A tapered round stick between two world points, widths in metres."""
        p = self.project([a, b])
        if p[:, 2].min() < 0.8:
            return
        d = p[1, :2] - p[0, :2]
        n = np.array([-d[1], d[0]]) / max(float(np.hypot(*d)), 1e-6) * self.f / 2
        ends, sides = p[:, :2], (n * wide_a / p[0, 2], n * wide_b / p[1, 2])
        rgb, sun, sky, heat = look
        thick = np.hypot(*sides[0]) > 1.5
        for start, dim in ((-1.0, 1.0), (0.1, 0.6))[: 1 + thick]:  # one side of it is darker
            ring = [ends[0] + sides[0], ends[1] + sides[1]]
            ring += [ends[1] + start * sides[1], ends[0] + start * sides[0]]
            shade = (rgb, sun * dim, sky * dim, heat - 0.7 * (1 - dim))
            self.fill(ring, shade, label, float(p[:, 2].mean()))

    def cast(self, x: float, z: float, wide: float, long: float, height: float) -> None:
        """A box that throws a shadow on the ground."""
        box = [(x, z), (x + wide, z), (x + wide, z + long), (x, z + long)]
        self.shadows.append((np.array(box), height))


# ------------------------------------------------------------------------- what is in the street


def _furnish(s: _Stage) -> None:
    """Put houses, plants, posts, cars and people into the street."""
    rng, edge, uniform = s.rng, s.road + s.walk, s.rng.uniform
    town, chance = s.style == "town", s.rng.random
    k = ("town", "suburb", "avenue", "open").index(s.style)
    density, setback, plants = (0.95, 0.7, 0.6, 0.15)[k], (0.3, 6, 4, 12)[k], (22, 11, 9, 8)[k]
    end = uniform(45, 100) if chance() < 0.3 else 150.0
    if end < 150:  # the road ends at a crossing: a house closes the view
        s.things.append((end + 1, _paint_house, (1, uniform(-24, -12), end, 40.0, uniform(5, 14))))
    for side in (-1, 1):
        back, z = setback * uniform(0.8, 1.6), uniform(-4, 8)
        while z < end - 12:
            long, tall = (
                uniform(8, 22),
                uniform(7, 17) if town and chance() < 0.7 else uniform(3.2, 6.5),
            )
            if chance() < density:
                x = s.road_x(z) + side * (edge + back + uniform(0, 1.5))
                s.things.append((z + long, _paint_house, (side, x, z, long, tall)))
                s.cast(x, z, side * 10, long, tall)
            z += long + rng.exponential(0.5 if town else 6.0)
        palms, z = chance() < (0.6 if s.style == "avenue" else 0.2), uniform(7, 15)
        while z < end - 5:
            out = edge - 0.9 if chance() < 0.6 or back < 2 else edge + uniform(0.8, max(back, 1.6))
            painter = _paint_palm if palms and chance() < 0.8 else _paint_tree
            _plant(s, painter, s.road_x(z) + side * out, z, uniform(0.6, 1.25))
            z += uniform(0.5, 1.6) * plants
        for z in (np.cumsum(uniform(2, 9, 14)) + 6) if not town else ():
            _plant(
                s,
                _paint_bush,
                s.road_x(z) + side * (edge + uniform(0.6, back)),
                z,
                uniform(0.4, 1.1),
            )
        if not town and chance() < 0.55:
            draw, hedge, start = rng.random(3), chance() < 0.4, uniform(4, 15)
            for z in np.arange(start, min(60, end - 10), 1.6 if hedge else 7.2):
                if hedge:
                    _plant(
                        s, _paint_bush, s.road_x(z) + side * (edge + 0.8), z, 0.8 + 0.3 * draw[0]
                    )
                else:
                    s.things.append((z + 7.2, _paint_fence, (side, edge + 0.3, z, draw)))
    _furnish_kerb(s, end)
    for side in (-1, 1):
        z, parked = uniform(7, 16), chance() < 0.65 and s.road > 4.6
        while parked and z < min(end - 5, 90):
            if chance() < 0.65:
                _park(s, side * (s.road - 1.1), z, side, chance() ** 4, False)
            z += uniform(5.4, 7.5)
        z = uniform(9, 30)
        while z < end - 5:
            _park(
                s, side * s.road * (0.45 if s.road < 4.6 else 0.33), z, side, uniform(0.6, 1), True
            )
            z += uniform(12, 50)
    groups = [(uniform(8, 45), side * (s.road + uniform(0.4, s.walk)))
              for side in rng.choice((-1, 1), rng.poisson(4 if town else 2.5))]  # fmt: skip
    if chance() < 0.4:  # crossing the road
        groups += [(uniform(9, 22), uniform(-1, 1) * s.road) for _ in range(rng.integers(1, 5))]
    for z, x in groups:
        for _ in range(rng.choice((1, 1, 2, 3))):
            s.things.append((z, _paint_person, (s.road_x(z) + x, z, False)))
            s.cast(s.road_x(z) + x - 0.2, z, 0.4, 0.2, 1.7)
            x, z = x + uniform(0.5, 0.8), z + uniform(-0.4, 0.4)
    if chance() < 0.35:
        x, z = rng.choice((-1, 1)) * (s.road - 2.6), uniform(8, 26)
        s.things.append((z, _paint_person, (s.road_x(z) + x, z, True)))


def _plant(s: _Stage, painter: Callable[..., None], x: float, z: float, size: float) -> None:
    s.things.append((z, painter, (x, z, size)))
    tall, wide = {_paint_tree: (5, 2.4), _paint_palm: (9, 1.3), _paint_bush: (0.5, 0.7)}[painter]
    s.puffs += [(x + a, tall * size + b, z + c, wide * size * 0.45)
                for a, b, c in s.rng.normal(0, 0.5, (12, 3)) * wide * size]  # fmt: skip
    if painter is not _paint_bush:
        s.cast(x - 0.15, z, 0.3, 0.3, tall * size)


def _park(s: _Stage, x: float, z: float, side: int, warm: float, moving: bool) -> None:
    s.things.append((z, _paint_car, (s.road_x(z) + x, z, side > 0, warm, moving)))
    s.cast(s.road_x(z) + x - 0.9, z, 1.8, 4.4, 1.2)


def _furnish_kerb(s: _Stage, end: float) -> None:
    """Street lamps, wires, signs and traffic lights."""
    rng, uniform = s.rng, s.rng.uniform
    flip, reach = rng.choice((-1, 1)), rng.choice((0.0, 1.8))
    colour = _rgb(1.0, 0.74, 0.38) if rng.random() < 0.6 else _rgb(0.85, 0.95, 1.0)
    for k, z in enumerate(np.arange(uniform(8, 24), end, uniform(18, 32))):
        side = flip * (-1) ** k if s.style == "avenue" else flip
        x, y = s.road_x(z) + side * (s.road + 0.5), 7.0 if reach else 4.4
        s.things.append((z, _paint_lamp, (x, y, z, -side * reach, colour)))
        s.lamps.append((x - side * reach, y, z, colour))
        s.cast(x - 0.08, z, 0.16, 0.1, y)
    if rng.random() < 0.5:
        out, start = -flip * (s.road + 0.8), uniform(9, 20)
        s.things += [(z, _paint_pole, (s.road_x(z) + out, z, s.road_x(z + 30) + out))
                     for z in start + 30.0 * np.arange(-1, 4)]  # fmt: skip
    for z, side in zip(uniform(9, 45, 4), rng.choice((-1, 0, 1), 4), strict=True):
        if side:
            shape = rng.choice(list(_SIGNS))
            s.things.append((z, _paint_sign, (s.road_x(z) + side * (s.road + 0.4), z, shape)))


# --------------------------------------------------------------------------- sky, hills, ground


def _paint_backdrop(s: _Stage) -> None:
    """Sky with clouds, then hills and distant trees that close the view."""
    pick = ("day", "dusk", "night").index(s.condition)
    sl = (slice(0, int(s.cy) + 2), slice(0, s.w))
    up = np.maximum(s.ay[sl[0]], 0)
    t = 1 / (up[::8] + np.float32(0.07))
    part = s.noise(s.ax[:, ::8] * t + 40, t + 40, t * t * np.float32(0.02), 12, 5, 2, 0.8, 0.3)
    box, cubic = Image.Resampling.BOX, Image.Resampling.BICUBIC
    small = (_resize(p, max(len(t) // 3, 2), s.w // 24, box) for p in part)
    seen, felt = (_resize(p, sl[0].stop, s.w, cubic) for p in small)
    amount = np.clip((seen + 2.6 * s.cloud - 1.5) * 0.6, 0, 1)
    blue = (_rgb(0.36, 0.54, 0.84), _rgb(0.42, 0.46, 0.62), _rgb(0.016, 0.017, 0.026))[pick]
    white = (_rgb(0.97, 0.97, 0.98), _rgb(0.72, 0.6, 0.58), _rgb(0.035, 0.035, 0.04))[pick]
    high = np.clip(up / 0.42, 0, 1) ** 0.7
    sky = [a + high * (b - a) for a, b in zip(s.haze, blue, strict=True)]
    rgb = [a + amount * (b * (0.93 + 0.05 * seen) - a) for a, b in zip(sky, white, strict=True)]
    heat = s.air - 5 + (s.zenith - s.air) * (1 - np.exp(-5.5 * up))
    heat = heat + amount * (s.air - 6 - heat) * 0.4 + (0.4 + s.cloud) * felt
    s.paint(sl, 1.0, (rgb, 0.0, 0.0, heat, 1.0), "sky", 2 * FAR)
    one = np.ones((1, 1), np.float32)
    for tall, depth in ((s.rng.uniform(0, 0.1), 900.0), (s.rng.uniform(0.015, 0.05), 220.0)):
        fine = (0.6, 0.2, 0.06) if depth > 500 else (0.6, 0.2, 0.06, 0.02, 0.012, 0.006)
        ridge = s.noise(s.ax + 9 + depth, 5 * one, one * 1e-4, *fine)[0]
        top = s.cy - s.f * np.maximum(tall * (0.75 + 0.22 * ridge), 0.002)
        sl = (slice(max(int(top.min()) - 2, 0), min(int(s.cy) + 3, s.h)), slice(0, s.w))
        rows = np.arange(sl[0].start, sl[0].stop, dtype=np.float32)[:, None]
        seen, felt = s.noise(s.ax + 9, s.ay[sl[0]] + 9, one * 5e-4, 0.03, 0.012, 0.005, 0.003)
        tone = 0.07 + 0.02 * seen
        heat = s.air - 1.5 + 0.5 * felt + 0.15 * s.solar * seen
        look = ((tone, tone * 1.2, tone * 0.7), 0.35 + 0.15 * seen, 0.75, heat)
        s.paint(sl, np.clip(rows - top, 0, 1), look, "plant", np.float32(depth))


def _shadow_map(s: _Stage) -> Image.Image:
    """The ground from above: shadow now, shadow earlier (warmth lags behind), contact shadow."""
    half, long, step = SHADOWS
    bands = [Image.new("L", (int(2 * half / step), int(long / step))) for _ in range(3)]
    slope = -s.sun[[0, 2]] / max(float(s.sun[1]), 0.12)
    c, d = np.cos(0.3), np.sin(0.3)
    earlier = 0.8 * np.array([c * slope[0] - d * slope[1], d * slope[0] + c * slope[1]])
    for band, lean in zip(bands, (slope, earlier, 0 * slope), strict=True):
        draw = ImageDraw.Draw(band)
        for foot, height in s.shadows:
            near = ((foot + (half, 0)) / step).tolist()
            far = ((foot + lean * height + (half, 0)) / step).tolist()
            rings = [near, far] + [[near[k - 1], near[k], far[k], far[k - 1]] for k in range(4)]
            for ring in rings if band is not bands[2] or 1 < height < 1.5 else ():
                draw.polygon([tuple(q) for q in ring], fill=245)
        for x, y, z, r in s.puffs if band is not bands[2] else ():
            x, z = (x + lean[0] * y + half) / step, (z + lean[1] * y) / step
            draw.ellipse([x - r / step, z - r / step, x + r / step, z + r / step], fill=225)
    blurs = zip(bands, (0.8, 5, 2), strict=True)
    return Image.merge("RGB", [band.filter(ImageFilter.GaussianBlur(r)) for band, r in blurs])


def _wear_map(s: _Stage) -> Image.Image:
    """The road nearby from above, around 128: darkness, warmth; and puddles."""
    (half, long, step), rng = WEAR, s.rng
    bands = [Image.new("L", (int(2 * half / step), int(long / step)), v) for v in (128, 128, 0)]
    dark, warm, wet = (ImageDraw.Draw(band) for band in bands)

    def spot(x: Any, z: Any) -> Array:
        return np.stack([x + s.road_x(z) + half, z], -1) / step

    for _ in range(rng.integers(0, 4)):  # patches of newer asphalt
        x, z = rng.uniform(-4, 3), rng.uniform(4, 40)
        w, d = rng.uniform(0.6, 2.4), rng.uniform(1, 8)
        ring = [
            tuple(q) for q in spot(np.array([x, x + w, x + w, x]), np.array([z, z, z + d, z + d]))
        ]
        dark.polygon(ring, fill=int(rng.integers(85, 160)))
        warm.polygon(ring, fill=int(rng.integers(105, 165)))
    for _ in range(rng.integers(3, 14)):  # cracks and the tar in them
        ahead = (0.0, 0.3) if rng.random() < 0.6 else (0.3, 0.0)
        walk = np.cumsum(rng.normal(0, 0.09, (rng.integers(10, 60), 2)) + ahead, axis=0)
        x, z, wide = rng.uniform(-s.road, s.road), rng.uniform(3, 40), int(rng.integers(1, 4))
        line = [tuple(q) for q in spot(x + walk[:, 0], z + walk[:, 1])]
        dark.line(line, fill=int(rng.integers(60, 110)), width=wide)
        warm.line(line, fill=int(rng.choice((90, 170, 190))), width=wide + 1)
    for k in range(rng.integers(0, 7)):  # manholes, puddles
        (x, z), r = spot(rng.uniform(-3, 3), rng.uniform(5, 30)), 0.33 / step
        if k < 2:
            dark.ellipse([x - r, z - r, x + r, z + r], fill=90, outline=60)
            warm.ellipse([x - r, z - r, x + r, z + r], fill=int(rng.choice((100, 185))))
        elif s.cloud > 0.6:
            for dx, dz in rng.normal(0, 6, (7, 2)):
                wet.ellipse([x + dx - 5, z + dz - 8, x + dx + 5, z + dz + 8], fill=160)
    return Image.merge("RGB", [band.filter(ImageFilter.GaussianBlur(0.7)) for band in bands])


def _from_above(s: _Stage, image: Image.Image, size: tuple[float, float, float], r0: int) -> Array:
    """A map of the ground as the camera sees it, from row r0 down: (3, rows, columns)."""
    half, _, step = size
    # depth = k / (row − cy), x = depth · (cos·a + sin), z = depth · (cos − sin·a)
    k, down, col = s.eye * s.f, r0 - s.cy, s.cx / s.f
    x = np.array([k * s.cos / s.f, half, k * (s.sin - s.cos * col) + half * down])
    z = np.array([-k * s.sin / s.f, 0, k * (s.cos + s.sin * col)])
    how = (Image.Transform.PERSPECTIVE, [*(x / step / down), *(z / step / down), 0, 1 / down])
    seen = image.transform((s.w, s.h - r0), *how, Image.Resampling.BILINEAR)
    return np.asarray(seen).transpose(2, 0, 1).astype(np.float32)


def _paint_ground(s: _Stage) -> None:
    r0, uniform = int(s.cy) + 2, s.rng.uniform
    sl = (slice(r0, s.h), slice(0, s.w))
    depth = np.float32(s.eye) / -s.ay[sl[0]]
    x = depth * (s.ax * np.float32(s.cos) + np.float32(s.sin))
    z = depth * (np.float32(s.cos) - s.ax * np.float32(s.sin))
    foot = depth / np.float32(s.f)
    deep = foot * np.maximum(depth / np.float32(s.eye), 1)  # a pixel reaches further in depth
    u = x - s.road_x(z).astype(np.float32)
    side = np.abs(u)
    seen, felt = s.noise(x, z, np.sqrt(foot * deep), 7, 2, 0.5, 0.15, 0.05, 0.02)
    now, before, contact = _from_above(s, _shadow_map(s), SHADOWS, r0) / 255
    dark, tar, wet = _from_above(s, _wear_map(s), WEAR, r0) / 128
    known = ((dark > 0) * np.clip(1.6 - z / 30, 0, 1)).astype(np.float32)
    dark, tar, wet = (dark - 1) * known, (tar - 1) * known, np.clip(wet, 0, 1) * known
    shade = 0.55 * now + 0.45 * before

    def lay(over: Array, tone: Sequence[Any], warmth: Any) -> Array:
        for k in range(3):
            rgb[k] = rgb[k] + over * (tone[k] - rgb[k])
        return heat + over * (warmth - heat)

    base = s.ground + 0.75 * s.solar - 0.7 * s.solar * shade
    track = np.exp(-np.square((np.abs(side - s.road * 0.5) - 0.8) / 0.35))  # where tyres run
    tone = uniform(0.17, 0.3) * (1 + uniform(0.015, 0.06) * seen + 0.5 * dark - 0.07 * track)
    rgb = [tone, tone * 0.98, tone * 0.96]
    rough = uniform(0.05, 0.16)
    heat = base + rough * felt + uniform(-0.5, 0.9) * track + 1.3 * tar
    mark, yellow = _markings(s, u, z, foot, deep)
    wear = mark * np.clip(0.85 + 0.22 * seen, 0, 1)
    heat = lay(
        wear, (0.75, 0.58, 0.2) if yellow else (0.72, 0.7, 0.67), heat - 0.5 - 0.18 * s.solar
    )
    walk = _cover(side - s.road, foot)
    joint = np.maximum(
        1 - np.abs((z + 40) % 1.5 - 0.75) / np.maximum(0.03, 2 * deep),
        1 - np.abs(side - s.road - s.walk / 2) / np.maximum(0.02, foot),
    )
    joint = np.clip(joint, 0, 1) * np.clip(0.05 / foot, 0, 1) ** 2
    stone = uniform(0.32, 0.46) * (1 + 0.06 * seen - 0.35 * joint)
    heat = lay(walk, (stone, 0.97 * stone, 0.92 * stone), base - 0.7 + rough * felt + 0.6 * joint)
    kerb = _cover(0.09 - np.abs(side - s.road - 0.09), foot)
    heat = lay(
        kerb, (0.5, 0.1, 0.09) if uniform() < 0.2 else (0.5, 0.5, 0.48), base + 0.8 + 0.2 * felt
    )
    gutter = _cover(0.14 - np.abs(side - s.road + 0.14), foot)
    heat = lay(0.35 * gutter, (0.08, 0.08, 0.08), base - 2)
    kind = s.rng.choice(3, p=(0.45, 0.35, 0.2))  # beyond the pavement: grass, paving, gravel
    lawn, bumpy, cool = kind == 0, (0.3, 0.08, 0.2)[kind], (2.8, 0.6, 1.0)[kind]
    soil = np.array([(0.13, 0.17, 0.07), (0.36, 0.33, 0.29), (0.36, 0.31, 0.25)])[kind]
    beyond = _cover(side - s.road - s.walk - 0.15 * seen * (kind != 1), foot)
    tones = [c * (1 + bumpy * seen) for c in soil]
    heat = lay(beyond, tones, base - cool - 0.06 * cool * s.solar + (0.15 + 1.6 * bumpy) * felt)
    pool = wet * (1 - beyond)
    if pool.any():
        heat = lay(0.5 * pool, (0.03, 0.03, 0.03), 0.5 * (s.zenith + heat))
    light = s.sun[1] * (1 - now) * (1 - contact)
    look = (rgb, light, 1 - 0.8 * contact, heat + 0.6 * contact, 0.05 * pool * (not s.night))
    s.paint(sl, 1.0, look, "road", depth)
    s.labels[sl][walk > 0.5] = LABELS.index("walk")
    s.labels[sl][beyond > 0.5] = LABELS.index("plant" if lawn else "walk")


def _markings(s: _Stage, u: Array, z: Array, foot: Array, deep: Array) -> tuple[Array, bool]:
    """Coverage of the road by paint, and whether it is yellow."""
    draw, yellow = s.rng.random(5), bool(s.rng.random() < 0.45)
    side = np.abs(u)
    if yellow:
        mark = _cover(0.06 - np.abs(side - 0.16), foot)
    else:
        mark = _cover(0.07 - side, foot) * _cover(1.5 - np.abs(z % 9 - 4.5), deep)
    if draw[0] < 0.5:
        mark = np.maximum(mark, _cover(0.06 - np.abs(side - s.road + 0.4), foot))
    if s.road > 4.6 and draw[1] < 0.6:
        mark = np.maximum(mark, _cover(0.05 - np.abs(side - s.road + 2.1), foot))
    if draw[2] < 0.35:  # a crossing, with its stop line
        start = 6 + 16 * draw[3]
        across = _cover(1.5 - np.abs(z - start), deep)
        bars = _cover(0.25 - np.abs(u % 1 - 0.5), foot) * across
        mark = np.maximum(mark * (1 - across), bars)
        mark = np.maximum(mark, _cover(0.2 - np.abs(z - start + 3.2), deep) * (u > 0))
    return mark * _cover(s.road - side, foot), yellow


# --------------------------------------------------------------------------------------- houses

_WALLS = ((0.62, 0.58, 0.5), (0.7, 0.68, 0.64), (0.45, 0.24, 0.17), (0.5, 0.42, 0.32),
          (0.38, 0.4, 0.42), (0.66, 0.55, 0.4))  # fmt: skip


def _paint_house(s: _Stage, side: int, x: float, z: float, long: float, tall: float) -> None:
    """The wall towards the camera, the wall along the street, the roof over it."""
    uniform, deep = s.rng.uniform, 40.0 if long == 40 else 10.0
    gable = tall < 7 and deep < 20 and uniform() < 0.75
    rise = uniform(1.7, 3.5) if gable else 0.0
    pick, brick, boards = s.rng.integers(len(_WALLS)), uniform() < 0.15, uniform() < 0.25
    style = {
        "tone": np.array(_WALLS[pick]) * uniform(0.75, 1.1),
        "course": 0.075 if brick or pick in (2, 3) else 0.17 if boards else 0.0,
        "pitch": uniform(1.9, 3.4),
        "floor": uniform(2.8, 3.4),
        "window": (uniform(0.2, 0.31), uniform(0.7, 1.1), uniform(2.0, 2.5)),
        "shop": uniform() < (0.5 if s.style == "town" else 0.12),
        "sign": uniform(0.05, 0.5, 3),
        "lit": uniform(0.1, 0.6),
        "cell": int(s.rng.integers(24)),
        "kept": s.rng.normal(0.5, 0.8) + 0.6 * s.stored,
        "frame": (0.74, 0.73, 0.7) if uniform() < 0.6 else (0.12, 0.12, 0.12),
        "arch": uniform() < 0.25,
        "plain": uniform() < 0.4,
    }
    left = min(x, x + side * deep)
    _paint_wall(s, (left, 0, z), (1, 0, 0), (0, 0, -1), deep, tall, rise, style, deep < 20)
    if x * side > 0.3 and deep < 20:
        _paint_wall(s, (x, 0, z), (0, 0, 1), (-side, 0, 0), long, tall, 0.0, style, False)
    if gable:
        lean = float(np.hypot(deep / 2, rise))
        slope = np.array([side * deep / 2, rise, 0]) / lean
        start = np.array([x, tall, z - 0.3]) - 0.5 * slope
        panel = s.panel(start, (0, 0, 1), slope, long + 0.6, lean + 0.5)
        if panel is None:
            return
        sl, u, v, t, foot, alpha = panel
        seen, felt = s.noise(u, v, foot, 3, 0.8, 0.25, 0.08)
        wave = np.cos(u * 28) * np.clip(0.22 / (3 * foot) - 0.3, 0, 1)
        tiles = (
            np.abs(v % 0.3 - 0.15) / 0.15 * np.clip(0.1 / foot - 0.3, 0, 1) * (0.6 + 0.4 * wave)
        )
        gutter, light = _cover(0.15 - v, foot), s.lit(-side * slope[1], abs(slope[0]), 0)
        roof = np.array((0.42, 0.22, 0.14) if uniform() < 0.5 else (0.2, 0.19, 0.19))
        tone = uniform(0.6, 1.2) * (1 + 0.08 * seen + 0.3 * (tiles - 0.4)) * (1 - 0.4 * gutter)
        warmth = 1.2 * s.solar * light - (4.5 if s.night else 2.5)
        heat = s.air + warmth + 0.35 * felt + 0.9 * tiles + 1.5 * gutter
        s.paint(sl, alpha, ([c * tone for c in roof], light, 0.9, heat), "wall", t)


def _paint_wall(
    s: _Stage,
    p0: Any,
    eu: Any,
    normal: Any,
    long: float,
    tall: float,
    rise: float,
    style: Any,
    end: bool,
) -> None:
    panel = s.panel(p0, eu, (0, 1, 0), long, tall + rise)
    if panel is None:
        return
    sl, u, v, t, foot, alpha = panel
    if rise:
        alpha = alpha * _cover(tall + rise * (1 - np.abs(u / long * 2 - 1)) - v, foot)
    seen, felt = s.noise(u, v, foot, 6, 1.6, 0.45, 0.12, 0.035)
    streak, damp = s.noise(u, v * np.float32(0.12), foot, 1.3, 0.4, 0.15)
    plaster, damp_heat = s.rng.uniform((0.01, -0.15), (0.07, 0.15))
    tone, light = 1 + plaster * (seen + streak), s.lit(*normal)
    absorb = 1.1 - float(style["tone"].mean())
    heat = s.air + style["kept"] + damp_heat * (felt + damp) + 0.06 * (tall - v)
    if course := style["course"]:  # bricks, or boards
        joint = np.clip(1 - np.abs(v % course - course / 2) / np.maximum(0.012, foot), 0, 1)
        joint = joint * np.clip(course / (3 * foot) - 0.4, 0, 1)
        row = (v / course).astype(np.int32)
        brick = s.cells[0, row & 31, (u / 0.23 + 0.5 * (row & 1)).astype(np.int32) & 31] - 0.5
        fine = np.clip(0.05 / foot - 0.3, 0, 1) * (course < 0.1)
        tone = tone + 0.3 * brick * fine + (0.2 if course < 0.1 else -0.3) * joint
        heat = heat - 0.4 * joint
    shade = np.float32(-1)  # the houses across the street keep the sun off below this height
    if light > 0 and s.style in ("town", "suburb") and abs(normal[0]) > 0.5:
        gap = 2 * (s.road + s.walk) + (1 if s.style == "town" else 12)
        across = s.cells[1, 7, (u / 14 + p0[2]).astype(np.int32) & 31]
        across = 6 + 8 * across if s.style == "town" else 3 + 3 * across
        shade = across - np.float32(gap / max(abs(float(s.sun[0])), 0.05) * float(s.sun[1]))
    sun = light * np.clip((v - shade) / np.maximum(2 * foot, 0.15), 0, 1)
    heat = heat + s.solar * absorb * (0.2 * light + 0.8 * sun)
    plinth = _cover(0.55 - v, foot) * (style["pitch"] > 2.4)
    band = _cover(v - tall + 0.4, foot) * (not rise)
    eave = np.clip(1 - (tall - v) / (0.5 + 0.6 * light), 0, 1) * (0.7 * (tall < 7 and not rise))
    rgb = [c * tone * (1 - 0.3 * plinth) * (1 + 0.2 * band) for c in style["tone"]]
    heat = heat + 0.7 * plinth - 0.6 * band
    sky = (0.55 + 0.3 * np.clip(v / 6, 0, 1) - 0.2 * np.clip(1 - v / 0.3, 0, 1)) * (1 - 0.4 * eave)
    look: Sequence[Any] = (rgb, sun * (1 - eave), sky, heat, 0.0)
    glass = None
    if not (end and style["plain"]):
        look, glass = _add_windows(s, look, u, v, foot, long, tall, style, end)
    s.paint(sl, alpha, look, "wall", t)
    if glass is not None:
        np.copyto(s.labels[sl], LABELS.index("glass"), where=(alpha > 0.5) & glass)


def _add_windows(
    s: _Stage,
    look: Sequence[Any],
    u: Array,
    v: Array,
    foot: Array,
    long: float,
    tall: float,
    style: Any,
    end: bool,
) -> tuple[Sequence[Any], Array]:
    """Windows, doors and shop fronts in a grid of cells, each cell with its own dice."""
    rgb, sun, sky, heat, _ = look
    pitch = long / max(round(long / style["pitch"]), 1)
    floors = max(int((tall - 0.3) / style["floor"]), 1)
    floor = min(tall / floors, 4.0)
    i, j = np.floor(u / pitch), np.floor(v / floor)
    across, up = np.abs(u - (i + 0.5) * pitch), v - j * floor
    cell = ((i + style["cell"]).astype(np.int32) & 31, (j + style["cell"]).astype(np.int32) & 31)
    a, b, c, d = (x[cell] for x in s.cells)
    shop = (j == 0) & bool(style["shop"] and not end)
    door = (j == 0) & ~shop & (a > 0.8) & (not end)
    part, sill, head = style["window"]
    half = np.where(shop, pitch * 0.44, np.where(door, 0.5, pitch * part))
    low = np.where(shop, 0.5, np.where(door, 0.0, sill))
    high = np.where(shop, 2.6, np.where(door, 2.15, min(head, floor - 0.25)))
    inside = np.minimum(half - across, np.minimum(up - low, high - up))
    if style["arch"]:
        inside = np.minimum(inside, half - np.hypot(across, np.maximum(up - high + half, 0)))
    half, low, high = (q.astype(np.float32) for q in (half, low, high))
    there = (j >= 0) & (j < floors) & ((b < (0.5 if end else 0.9)) | shop)
    hole = _cover(inside, foot) * there
    bars = _cover(0.03 - np.minimum(across, np.abs(up - (low + high) / 2) + 9 * door), foot)
    frame = np.clip(hole - _cover(inside - 0.07, foot) + bars * hole * (c < 0.7), 0, 1)
    ledge = _cover(0.08 - np.abs(up - low + 0.08), foot) * _cover(half + 0.1 - across, foot)
    ledge = ledge * (there & ~door & ~shop)
    reveal = np.clip(1 - (high - up) / 0.3, 0, 1) * hole
    bright = (0.3 + 0.7 * c) * (0.05 if s.day else 1.0) * np.where(shop, 1.6, 1.0)
    glow = hole * (1 - frame) * (d < style["lit"]) * bright * (~door)
    glow = glow * (0.75 + 0.25 * np.sin(u * 9 + 5 * a) * np.sin(v * 5 + 9 * b))
    blind = (up > high - (high - low) * np.clip(1.6 * b - 0.3, 0, 1)) & (c > 0.35) & ~shop & ~door
    mirror = 0.05 + 0.22 * a * np.clip(0.3 + up / 3, 0, 1)
    lit = np.clip(1.5 * glow, 0, 1)
    for k, (tint, lamp) in enumerate(((0.85, 1.0), (1.0, 0.78), (1.15, 0.45))):
        pane = np.where(door, 0.6 * style["frame"][k] + 0.05, np.where(blind, 0.42, mirror * tint))
        pane = pane + lit * (lamp - pane)
        pane = pane + frame * (style["frame"][k] - pane)
        rgb[k] = (rgb[k] + hole * (pane - rgb[k])) * (1 + 0.15 * ledge)
        if style["shop"] and not end:
            board = _cover(0.28 - np.abs(v - 3.05), foot) * (j <= 1)
            rgb[k] = rgb[k] + board * (style["sign"][k] * (0.8 + 0.4 * (a > 0.5)) - rgb[k])
    cold, indoors = s.air - 2.5 - 4.5 * a, s.air - 1 + (4.5 if s.night else 1.0) * c
    glass = np.where(c < 0.5, cold, indoors) + 1.2 * blind + 1.5 * (lit > 0.1) * (not s.day)
    glass = np.where(door, s.air + 1.5, glass)
    heat = heat + hole * (glass - heat) + 1.0 * frame - 0.7 * ledge + 0.5 * reveal
    sun = sun * (1 - 0.75 * reveal) * (1 - 0.3 * hole)
    return (rgb, sun, sky, heat, glow), (hole > 0.5) & ~door


# --------------------------------------------------------------------------------------- plants


def _paint_leaves(s: _Stage, foot: Any, blobs: Array, tone: Array, leaf: float = 1.0) -> None:
    """Leaves in clusters: blobs (n, 3) are x, y (m, from `foot`) and radius."""
    x, y, depth = s.project(foot)
    k = s.f / max(depth, 0.1)
    reach = blobs[:, 2] * 1.3
    left, right, low, high = (
        *(blobs[:, 0] - reach, blobs[:, 0] + reach),
        *(blobs[:, 1] - reach, blobs[:, 1] + reach),
    )
    sl = s.clip(x + k * np.append(left, right), y - k * np.append(low, high))
    if sl is None or depth < 2:
        return
    h, w = sl[0].stop - sl[0].start, sl[1].stop - sl[1].start
    q = 4 if min(h, w) > 40 else 1
    px = (np.linspace(sl[1].start, sl[1].stop, max(w // q, 2), dtype=np.float32)[None] - x) / k
    py = (y - np.linspace(sl[0].start, sl[0].stop, max(h // q, 2), dtype=np.float32)[:, None]) / k
    best, shade = (
        np.full((py.size, px.size), -9, np.float32),
        np.zeros((py.size, px.size), np.float32),
    )
    right_, up_, ahead = s.turn(s.sun + (0, s.eye, 0))
    for bx, by, br in blobs:
        ex, ey = (px - bx) / br, (py - by) / br
        d = 1 - np.square(ex) - np.square(ey)
        facing = (
            0.5 * (right_ * ex + up_ * ey) - 0.35 * ahead * np.sqrt(np.maximum(d, 0)) + 0.25 * ey
        )
        np.copyto(shade, facing, where=d > best)
        np.maximum(best, d, out=best)
    best, shade = _resize(best, h, w), _resize(shade, h, w)
    start = s.rng.uniform(40, 90)
    u = np.float32(start) + (np.arange(sl[1].start, sl[1].stop, dtype=np.float32)[None] - x) / k
    v = np.float32(start) + (y - np.arange(sl[0].start, sl[0].stop, dtype=np.float32)[:, None]) / k
    scales = (x * leaf for x in (0.8, 0.3, 0.12, 0.05, 0.03))
    seen, felt = s.noise(u, v, np.full((1, 1), 1 / k, np.float32), *scales)
    field, rough, patchy = best + 0.3 * seen, *s.rng.uniform((0.1, 0.12), (0.27, 0.6))
    alpha = np.clip(field * 0.17 * k * float(blobs[:, 2].mean()), 0, 1)
    deep = np.clip(0.85 + 0.5 * shade + rough * seen, 0.12, 1.6)
    lit = np.clip(0.3 + 0.7 * shade + rough * seen, 0, 1)
    tint = deep * (1 + 0.1 * felt)
    heat = s.air - (0.8 if s.night else 0.0) + 0.28 * s.solar * lit + patchy * felt + 0.5 * shade
    heat = heat - 2.5 * np.clip(0.35 - field, 0, 1)  # thin edges let the cold sky through
    look = ([c * tint for c in tone], lit, 0.4 + 0.5 * np.clip(deep, 0, 1), heat)
    s.paint(sl, alpha, look, "plant", np.float32(depth))


def _leaf_tone(s: _Stage) -> Array:
    return _rgb(0.09, 0.115, 0.05) * s.rng.uniform(0.55, 1.4) * (1 + s.rng.normal(0, 0.08, 3))


def _bark(s: _Stage, pale: float = 1.0) -> tuple[Any, ...]:
    tone = s.rng.uniform(0.12, 0.24) * pale * _rgb(1, 0.9, 0.78)
    return tone, 0.55, 0.7, s.air + 0.6 + 0.4 * s.stored + 0.25 * s.solar


def _paint_tree(s: _Stage, x: float, z: float, size: float) -> None:
    rng, foot, bark = s.rng, np.array([x, 0.0, z]), _bark(s)
    tall, wide, n = rng.uniform(4, 6.5) * size, rng.uniform(1.8, 3.2) * size, rng.integers(12, 26)
    thick = 0.28 * size + 0.08
    fork = foot + (rng.normal(0, 0.25), tall * rng.uniform(0.35, 0.5), 0)
    s.stick(foot, fork, thick, 0.7 * thick, bark, "plant")
    angle, radius = rng.uniform(0, 2 * np.pi, n), wide * np.sqrt(rng.random(n))
    at = np.stack([radius * np.cos(angle), tall + 0.75 * radius * np.sin(angle), 0 * angle], -1)
    for end in at[::2]:
        s.stick(fork, foot + end, 0.4 * thick, 0.1 * thick, bark, "plant")
    blobs = np.column_stack([at[:, :2], wide * rng.uniform(0.22, 0.46, n)])
    _paint_leaves(s, foot, blobs, _leaf_tone(s))


def _paint_bush(s: _Stage, x: float, z: float, size: float) -> None:
    n = s.rng.integers(4, 9)
    low, high = np.array([[-1.0, 0.1, 0.35], [1.0, 0.8, 0.6]]) * size
    _paint_leaves(s, (x, 0, z), s.rng.uniform(low, high, (n, 3)), _leaf_tone(s), 0.6)


def _paint_palm(s: _Stage, x: float, z: float, size: float) -> None:
    rng, tall = s.rng, s.rng.uniform(7, 12) * size
    rise = np.linspace(0, tall, 8)
    spine = np.stack([x + rng.normal(0, 0.006) * rise**2, rise, z + 0 * rise], -1)
    tone, sun, sky, heat = _bark(s, 1.3)
    for k in range(7):
        look = (tone, sun, sky, heat + rng.normal(0, 0.3))
        s.stick(spine[k], spine[k + 1], 0.42 - 0.02 * k, 0.4 - 0.02 * k, look, "plant")
    cx, cy, depth = s.project(spine[-1])
    k, tone, reach = s.f / max(depth, 0.1), _leaf_tone(s), rng.uniform(1.6, 2.4)
    q = np.linspace(0, 1, 15)
    for angle in rng.permutation(np.linspace(-0.9, np.pi + 0.9, 30)):
        long = k * reach * rng.uniform(0.75, 1.1) * (0.55 + 0.45 * abs(np.cos(angle)))
        px, py = (
            cx + long * np.cos(angle) * q,
            cy - long * np.sin(angle) * q + 0.55 * k * reach * q**2,
        )
        wide = k * 0.15 * np.sin(np.pi * (0.1 + 0.9 * q)) + 0.3
        lower = py + wide * (0.6 + 0.9 * (np.arange(15) % 2))
        ring = np.vstack(
            [np.column_stack([px, py - wide / 2]), np.column_stack([px, lower])[::-1]]
        )
        lit = float(np.clip(0.35 + 0.35 * np.sin(angle) + rng.normal(0, 0.2), 0, 1))
        warmth = s.air - 0.6 + 0.3 * s.solar * lit + rng.normal(0, 0.6)
        s.fill(ring, (tone * (0.6 + lit), lit, 0.4 + 0.4 * lit, warmth), "plant", max(depth, 0.1))


def _paint_fence(s: _Stage, side: int, out: float, z: float, draw: Array) -> None:
    """7.2 m of rails or pickets."""
    tall = 0.9 + 0.8 * draw[0]
    panel = s.panel((s.road_x(z) + side * out, 0, z), (0, 0, 1), (0, 1, 0), 7.2, tall)
    if panel is None:
        return
    sl, u, v, t, foot, alpha = panel
    along = foot * np.maximum(t / out, 1)
    solid = _cover(0.06 - np.abs(u % 2.4 - 1.2), along)
    if draw[1] < 0.5:
        solid = np.maximum(solid, _cover(0.05 - np.abs(v % (tall / 3) - tall / 6), foot))
    else:
        solid = np.maximum(solid, _cover(0.045 - np.abs(u % 0.16 - 0.08), along))
    tone = _rgb(0.75, 0.74, 0.72) if draw[2] < 0.6 else _rgb(0.28, 0.2, 0.13)
    light = s.lit(-side, 0, 0)
    heat = s.air + 0.3 + 0.6 * s.solar * light - 0.5 * v
    s.paint(sl, alpha * solid, (tone, light, 0.75, heat), "post", t)


# ------------------------------------------------------------------------- posts, wires, signs

_SIGNS = {  # corners, face, rim
    "disc": (20, (0.75, 0.72, 0.7), (0.65, 0.05, 0.06)),
    "stop": (8, (0.6, 0.04, 0.05), (0.75, 0.75, 0.75)),
    "warning": (4, (0.8, 0.6, 0.05), (0.05, 0.05, 0.05)),
    "board": (0, (0.05, 0.28, 0.15), (0.7, 0.7, 0.7)),
    "light": (0, (0.05, 0.05, 0.05), (0.08, 0.08, 0.08)),
}


def _metal(s: _Stage, tone: float) -> tuple[Any, ...]:
    return _rgb(tone, tone, tone), 0.5, 0.7, s.air - 0.5 + 0.35 * s.solar


def _ring(n: int, wide: float, tall: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False) + (np.pi / 8 if n == 8 else 0)
    return np.column_stack([wide * np.cos(angle), tall * np.sin(angle)])


def _paint_lamp(s: _Stage, x: float, y: float, z: float, reach: float, colour: Array) -> None:
    s.stick((x, 0, z), (x, y, z), 0.17, 0.1, _metal(s, 0.22), "post")
    if reach:
        s.stick((x, y, z), (x + reach, y + 0.1, z), 0.08, 0.06, _metal(s, 0.22), "post")
    cx, cy, depth = s.project((x + reach, y + 0.1, z))
    ring = _ring(14, 0.24, 0.08 if reach else 0.3) * s.f / max(depth, 0.5) + (cx, cy)
    off = ((0.6, 0.6, 0.58), 0.5, 0.8, s.air + 1)
    s.fill(ring, off if s.day else (colour, 0.5, 0.8, s.air + 7, 6.0), "post", max(depth, 0.1))


def _paint_pole(s: _Stage, x: float, z: float, next_x: float) -> None:
    """A wooden pole and the wires from it to the next one, 30 m on."""
    q = np.linspace(0, 1, 13)
    for high, dx in ((8.6, -0.8), (8.6, 0.8), (8.6, 0), (6.8, 0)):
        line = np.stack([x + dx + (next_x - x) * q, high - 3 * q * (1 - q), z + 30 * q], -1)
        for a, b in zip(line, line[1:], strict=False):
            s.stick(a, b, 0.035, 0.035, _metal(s, 0.06), "post")
    s.stick((x - 1.1, 8.4, z), (x + 1.1, 8.4, z), 0.12, 0.12, _bark(s), "post")
    s.stick((x, 0, z), (x, 9.2, z), 0.3, 0.2, _bark(s), "post")


def _paint_sign(s: _Stage, x: float, z: float, shape: str) -> None:
    high = 3.4 if shape == "light" else 2.6
    s.stick((x, 0, z), (x, high, z), 0.09, 0.08, _metal(s, 0.3), "post")
    (cx, cy, depth), light = s.project((x, high - 0.3, z)), s.lit(0, 0, -1)
    cold = s.air - 1.5 + 0.5 * s.solar * light

    def draw(form: Array, rgb: Any, heat: float, glow: float = 0.0) -> None:
        look = (rgb, light, 0.75, heat, glow)
        s.fill(form * s.f / max(depth, 0.5) + (cx, cy), look, "post", max(depth, 0.1))

    n, face, rim = _SIGNS[shape]
    wide, tall = (0.17, 0.5) if shape == "light" else (0.45, 0.28)
    box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    form = _ring(n, 0.36, 0.36) if n else box * (wide, tall)
    draw(form, rim, cold + 0.6)
    draw(form * (0.8 if shape == "disc" else 0.9), face, cold)
    if shape == "light":
        on = s.rng.integers(3)
        for k, rgb in enumerate((_rgb(1, 0.12, 0.06), _rgb(1, 0.6, 0.1), _rgb(0.1, 1, 0.5))):
            lamp = _ring(14, 0.11, 0.11) + (0, 0.3 * k - 0.3)
            draw(lamp, rgb if k == on else 0.12 * rgb, cold + 5 * (k == on), 3.0 * (k == on))
    elif shape != "warning":
        for dy in (-0.09, 0.09) if shape == "board" else (0.0,):
            tone = (0.05,) * 3 if shape == "disc" else (0.7,) * 3
            draw(box * (0.26, 0.05) + (0, dy), tone, cold + 0.4)


# ------------------------------------------------------------------------------ cars and people

_BODIES = {  # stations from rear to front, four numbers each: position, half width, belt, roof (m)
    "saloon": "0 .74 .78 0  .06 .8 .98 0  .75 .83 1.02 0  1.35 .85 1 1.4  2.5 .85 .98 1.43"
    "  3.3 .85 .97 0  4.3 .8 .8 0  4.5 .7 .6 0",
    "hatch": "0 .72 .8 0  .05 .8 1.02 0  .5 .83 1.05 1.42  2.2 .85 1 1.48  3 .85 .98 0"
    "  3.8 .8 .82 0  4 .7 .62 0",
    "suv": "0 .78 .9 0  .05 .86 1.14 0  .4 .9 1.16 1.7  2.8 .92 1.12 1.74  3.5 .92 1.1 0"
    "  4.45 .88 .98 0  4.65 .8 .7 0",
    "van": "0 .86 1.1 0  .04 .92 1.2 1.98  .3 .94 1.2 2.05  3.4 .94 1.15 2.02  4.2 .94 1.1 0"
    "  4.8 .9 .95 0  5 .8 .7 0",
    "pickup": "0 .86 1.05 0  .05 .92 1.1 0  1.9 .92 1.1 0  2.1 .92 1.12 1.76  3.4 .92 1.1 1.78"
    "  4.1 .92 1.08 0  5.1 .88 1 0  5.3 .8 .7 0",
}
_PAINTS = np.array([(0.7, 0.7, 0.7), (0.42, 0.43, 0.45), (0.2, 0.21, 0.22), (0.04, 0.04, 0.04),
                    (0.35, 0.04, 0.05), (0.06, 0.1, 0.25), (0.62, 0.6, 0.54),
                    (0.1, 0.16, 0.14)])  # fmt: skip


def _paint_car(s: _Stage, x: float, z: float, away: bool, warm: float, moving: bool) -> None:
    """A body lofted through stations; `warm` (0 to 1) is how long the engine has been running."""
    rng = s.rng
    kind = str(rng.choice(list(_BODIES), p=(0.35, 0.2, 0.3, 0.07, 0.08)))
    body = np.array(_BODIES[kind].split(), float).reshape(-1, 4)
    paint = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.8, 1.1)
    slope, long = 2 * s.bend * z + rng.normal(0, 0.02), float(body[-1, 0])
    ahead = np.array([slope, 0, 1]) / np.hypot(slope, 1) * (1 if away else -1)
    right, middle = np.array([ahead[2], 0, -ahead[0]]), np.array([x, 0, z + long / 2])
    if s.project(middle)[2] < long / 2 + 3.2:
        return
    here, faces = np.array([0, s.eye, 0]), []

    def place(points: Any) -> Array:  # along, across, up → world
        q = np.asarray(points, float)
        return middle + (q[:, :1] - long / 2) * ahead + q[:, 1:2] * right + q[:, 2:] * (0, 1, 0)

    def face(corners: Any, what: str, hot: float = 0.0, nearer: float = 0.0) -> None:
        p = place(corners)
        (ax, ay, az), (bx, by, bz), centre = p[1] - p[0], p[2] - p[0], p.sum(0) / len(p)
        n = np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
        n = n / max(float(n @ n) ** 0.5, 1e-9)
        n = -n if n @ (centre - middle - (0, 0.7, 0)) < 0 else n
        if n @ (here - centre) <= 0:
            return
        up, light = max(float(n[1]), 0), s.lit(*n)
        cold = 0.1 * (s.zenith - s.air) * up
        if what == "glass":
            tone = (0.05 + 0.28 * up) * _rgb(0.95, 1, 1.08)
            look = (tone, 0.3 * light, 0.9, s.air - 1 + 1.8 * cold + 0.1 * s.solar)
        else:
            sunned = 0.7 * s.solar * light * (1.1 - float(paint.mean()))
            gloss = paint * (0.9 + 0.25 * up) + 0.05 * up
            heat = s.air + cold + sunned + hot * rng.uniform(0.7, 1.2) + rng.normal(0, 0.3)
            look = (gloss, light, 0.45 + 0.55 * up, heat)
        label = "engine" if what == "engine" and warm > 0.5 else "car"
        faces.append((float(np.linalg.norm(centre - here)) - nearer, p, look, label))

    for k, (a, b) in enumerate(zip(body, body[1:], strict=False)):
        hood = "engine" if b[0] > long - 1.5 else "paint"
        hot = 9 * warm * (hood == "engine")
        ra, rb = (q[3] or q[2] for q in (a, b))
        wa, wb = (q[1] * (0.78 if q[3] else 0.98) for q in (a, b))
        for way in (-1, 1):
            low = [(q[0], way * q[1], 0.22) for q in (a, b)]
            mid = [(q[0], way * q[1] * 1.03, 0.55) for q in (b, a)]
            top = [(q[0], way * q[1] * 0.98, q[2]) for q in (b, a)]
            face(low + mid, "paint", 0.5 * warm + 0.35 * hot)
            face(mid[::-1] + top, "paint", 0.4 * hot)
            if a[3] or b[3]:
                side = [*top[::-1], (b[0], way * wb, rb), (a[0], way * wa, ra)]
                face(side, "paint" if kind == "van" and k < 3 else "glass")
        quad = np.array([(a[0], -wa, ra), (a[0], wa, ra), (b[0], wb, rb), (b[0], -wb, rb)])
        face(quad, hood, hot)
        if bool(a[3]) != bool(b[3]):  # windscreen and rear window, framed by the body
            face(quad + 0.1 * (quad[[2, 3, 0, 1]] - quad) + (0, 0, 0.006), "glass", nearer=0.05)
    for q, shift in ((body[0], -0.01), (body[-1], 0.01)):
        ring = [
            (q[0] + shift, w * q[1], h) for w, h in ((-1, 0.25), (1, 0.25), (1, q[2]), (-1, q[2]))
        ]
        face(ring, "engine" if shift > 0 else "paint", 7 * warm if shift > 0 else 0.6)
    wide, rubber = float(body[:, 1].max()) * 1.035, (_rgb(0.02, 0.02, 0.02), 0.2, 0.4)
    axles = (0.19 * long, 0.81 * long) if 0.06 * s.f > z else ()  # not where they are a pixel
    for along in axles:  # tyres from behind, under the body
        for way in (-1, 1):
            back = along - 0.3 if away else along + 0.3
            tyre = [
                (back, way * wide * w, h)
                for w, h in ((0.7, 0), (0.97, 0), (0.97, 0.4), (0.7, 0.4))
            ]
            s.fill(place(tyre), (*rubber, s.air + 1.5 + 5 * warm), "car")
    for _, p, look, label in sorted(faces, key=lambda q: -q[0]):
        s.fill(p, look, label)
    view = (here - middle) @ right
    wheels = (
        (0.39, 0.02, 0.5),
        (0.33, 0.035, 1.5 + 5 * warm),
        (0.2, 0.35, 1 + 8 * warm),
        (0.07, 0.1, 2 * warm),
    )
    for along in axles if abs(view) > wide else ():
        for r, tone, hot in wheels:
            disc = _ring(18, r, r) + (along, 0.33)
            rim = np.column_stack([disc[:, 0], np.full(18, wide * np.sign(view)), disc[:, 1]])
            s.fill(place(rim), (_rgb(tone, tone, tone), 0.3, 0.5, s.air + hot), "car")
    at, half, top = (-0.03, *body[0, 1:3]) if away else (long + 0.03, *body[-1, 1:3])
    on = float(moving and (not s.day or rng.random() < 0.3))

    def patch(
        a: float, b: float, c: float, d: float, rgb: Any, hot: float, glow: float = 0.0
    ) -> None:
        p = place([(at, a * half, c), (at, b * half, c), (at, b * half, d), (at, a * half, d)])
        s.fill(p, (rgb, 0.4, 0.7, s.air + hot, glow), "car")

    patch(-1, 1, 0.22, 0.42, (0.05, 0.05, 0.05), 1 + 3 * warm)  # bumper
    patch(-0.33, 0.33, *((0.5, 0.62) if away else (0.36, 0.47)), (0.6, 0.6, 0.57), -0.8)  # plate
    red, white = ((1, 0.1, 0.06), (1, 0.97, 0.85)) if on else ((0.5, 0.02, 0.03), (0.6, 0.6, 0.6))
    for q in (-1, 1):
        if away:
            patch(0.98 * q, 0.66 * q, top - 0.2, top - 0.03, red, 0.8 + on, 2.2 * on)
        else:
            patch(0.98 * q, 0.6 * q, top - 0.16, top - 0.02, white, 1 + 6 * on, 5 * on)
    if away:
        patch(0.5, 0.66, 0.24, 0.33, (0.1, 0.1, 0.1), 15 * warm)  # exhaust
    else:
        patch(-0.5, 0.5, top - 0.2, top - 0.03, (0.04, 0.04, 0.04), 6 * warm)  # grille


def _paint_person(s: _Stage, x: float, z: float, riding: bool) -> None:
    """Capsules for head, trunk and limbs; skin is warmest, clothes lie between it and the air."""
    rng, (cx, cy, depth) = s.rng, s.project((x, 0, z))
    if depth < 3:
        return
    step, lean, flip = rng.uniform(0.05, 0.38), rng.normal(0, 0.04), rng.choice((-1, 1))
    skin = _rgb(0.5, 0.34, 0.26) * rng.uniform(0.35, 1.1)
    coat, legs = _PAINTS[rng.integers(len(_PAINTS), size=2)] * rng.uniform(0.4, 1, (2, 1)) + 0.02
    up, wear = 0.35 * riding, 18.5 + 0.35 * s.air + rng.normal(0, 1)
    hip, neck = np.array([0, 0.92 + 0.4 * up]), np.array([lean + 0.12 * riding, 1.45 + 0.5 * up])
    head = neck + (0.02, 0.2)
    limbs: list[tuple[Any, Any, float, float, Any, float]] = []
    for way, fore in ((1.0, 1.0), (-0.9, -0.5)):
        knee = np.array([0.6 * step * fore + 0.05, 0.5 + up])
        heel = np.array([way * step, 0.06 + (0.25 if way > 0 else 0.5) * riding])
        hand = np.array([-0.75 * way * step + 0.47 * riding, 0.88 + 0.25 * riding])
        limbs += [
            (hip, knee, 0.085, 0.065, legs, wear),
            (knee, heel, 0.065, 0.05, legs, wear - 1.5),
        ]
        limbs += [(heel, heel + (0.12, -0.01), 0.05, 0.04, 0.3 * legs, wear - 4)]
        limbs += [(neck - (0, 0.08), hand, 0.06, 0.045, coat, wear)]
        limbs += [(hand, hand + (0.03, -0.07), 0.045, 0.04, skin, 30.0)]
    limbs.insert(-4, (hip + (0, 0.05), neck, 0.15, 0.16, coat, wear + 0.8))
    limbs += [
        (neck, head, 0.06, 0.06, skin, 33.0),
        (head - (0, 0.03), head + (0, 0.03), 0.1, 0.105, skin, 32.5),
    ]
    limbs += [(head + (-0.02, 0.07), head + (-0.01, 0.09), 0.1, 0.095, 0.2 * skin, wear)]
    if riding:
        metal, cold = _rgb(0.08, 0.08, 0.08), s.air + 0.3 * s.solar
        wheel = _ring(24, 0.34, 0.34) + (0, 0.34)
        bars = [
            (q + (dx, 0), r + (dx, 0))
            for dx in (-0.5, 0.55)
            for q, r in zip(wheel, np.roll(wheel, 1, 0), strict=True)
        ]
        joints = np.array([(-0.5, 0.34), (-0.1, 0.85), (0.4, 0.8), (0.55, 0.34), (0, 0.3)])
        bars += [
            (joints[a], joints[b]) for a, b in ((0, 1), (1, 2), (2, 3), (1, 4), (4, 2), (0, 4))
        ]
        limbs = [(a, b, 0.018, 0.018, metal, cold) for a, b in bars] + limbs
    k = s.f / depth * rng.uniform(0.92, 1.06)
    sunward = flip * float(s.sun[0])
    for a, b, ra, rb, rgb, heat in limbs:
        ends, r = np.array([a, b]), max(ra, rb) + 1 / k
        sl = s.clip(
            cx + flip * k * np.append(ends[:, 0] - r, ends[:, 0] + r),
            cy - k * np.append(ends[:, 1] - r, ends[:, 1] + r),
        )
        if sl is None:
            continue
        px, py = s.ax[:, sl[1]] * s.f + s.cx - cx, cy - s.cy + s.ay[sl[0]] * s.f
        px, py = (px * flip / k).astype(np.float32), (py / k).astype(np.float32)
        d = ends[1] - ends[0]
        q = np.clip(((px - a[0]) * d[0] + (py - a[1]) * d[1]) / max(float(d @ d), 1e-6), 0, 1)
        ex, ey, r = px - a[0] - q * d[0], py - a[1] - q * d[1], ra + q * (rb - ra)
        away = np.hypot(ex, ey)
        seen, felt = s.noise(px + 9 + a[0], py + 9, np.full((1, 1), 1 / k), 0.4, 0.15, 0.06)
        light = np.clip(0.4 + 0.5 * ex / r * sunward + 0.1 * seen, 0, 1)
        warmth = heat + 0.6 * felt * (heat < 30) - 1.5 * np.square(np.clip(away / r, 0, 1))
        look = ([c * (1 + 0.12 * seen) for c in rgb], light, 0.65 + 0.15 * ey / r, warmth)
        s.paint(
            sl,
            np.clip((r - away) * k + 0.5, 0, 1),
            look,
            "person" if ra > 0.02 else "post",
            np.float32(depth),
        )


# ------------------------------------------------------------------------------ the two cameras


def _blur(a: Array, radius: float) -> Array:
    """Gaussian blur of a non-negative plane, done on a smaller copy."""
    h, w = a.shape
    k = max(1, min(int(radius / 2), h // 8, w // 8))
    small = _resize(a, h // k, w // k, Image.Resampling.BOX)
    top = max(float(small.max()), 1e-6)
    soft = Image.fromarray((small * (255 / top)).astype(np.uint8))
    soft = soft.filter(ImageFilter.GaussianBlur(radius / k))
    return _resize(np.asarray(soft, np.float32) * (top / 255), h, w)


def _lamplight(s: _Stage) -> Array:
    """Light of the street lamps and our own headlights: (3, h, w), computed at half the size."""
    depth, a, b = s.planes[DEPTH, ::2, ::2], s.ax[:, ::2], s.ay[::2]
    x, y = depth * (a * np.float32(s.cos) + np.float32(s.sin)), depth * b + np.float32(s.eye)
    z = depth * (np.float32(s.cos) - a * np.float32(s.sin))
    light = np.zeros((3, *depth.shape), np.float32)
    for lx, ly, lz, colour in s.lamps[:5]:
        gap = np.square(x - np.float32(lx)) + np.square(z - np.float32(lz))
        gap += np.square(y - np.float32(ly))
        down = np.clip((np.float32(ly + 0.4) - y) / np.sqrt(gap + 1), 0.05, 1)
        light += colour[:, None, None] * (down * np.float32(12 if s.night else 0.8) / (gap + 4))
    if s.night:
        beam = (
            np.exp(-np.square(a / 0.3)) * np.clip(0.12 - b * 9, 0.03, 1) / (np.square(depth) + 60)
        )
        light += _rgb(42, 40, 36)[:, None, None] * beam
    return np.stack([_resize(c, s.h, s.w) for c in light])


def _visible_camera(s: _Stage, dy: int, dx: int) -> Array:
    """Light × albedo through haze, halos, a film-like curve, noise and a slight blur."""
    p, rng = s.planes, s.rng
    lamps = np.zeros(3, np.float32) if s.day else _lamplight(s)
    far = np.exp(np.minimum(p[DEPTH], FAR) * np.float32(-1 / s.haze_length))
    far[p[DEPTH] > FAR] = 1
    exposure = (0.95 if s.day else 1.0 if not s.night else 1.5) * rng.uniform(0.85, 1.2)
    tint = 1 + rng.normal(0, 0.015, 3)
    if s.night:
        tint = np.array([1, rng.uniform(0.88, 1), rng.uniform(0.45, 1.0)])
    crop = (slice(MARGIN - dy, s.h - MARGIN - dy), slice(MARGIN - dx, s.w - MARGIN - dx))
    h, w = s.h - 2 * MARGIN, s.w - 2 * MARGIN
    grain = _resize(rng.standard_normal((h // 2, w // 2), np.float32), h, w)
    grain = grain * np.float32(1.5 if s.day else 4.0 if s.night else 2.5)
    floor = 0.06 if s.day else 0.045
    curve = (1 - np.exp(-1.55 * np.linspace(0, 4, 4096))) / 0.86 * (1 - floor) + floor
    curve = (255 * np.clip(curve, 0, 1) ** (1 / 1.9)).astype(np.float32)
    bands = []
    for k in range(3):
        light = p[SUN] * np.float32(s.sun_colour[k]) + p[SKY] * np.float32(s.sky_colour[k])
        light += lamps[k] + p[GLOW]
        light = (p[k] * light - s.haze[k]) * far + s.haze[k]
        light = light[crop] * np.float32(exposure * tint[k])
        if not s.day:
            halo = np.clip(light - 0.9, 0, 4)
            light = light + 0.9 * _blur(halo, 0.012 * w) + 0.5 * _blur(halo, 0.05 * w)
        level = curve[(np.clip(light, 0, 3.99) * 1024).astype(np.int16)] + grain
        bands.append(Image.fromarray(np.clip(level, 0, 255).astype(np.uint8)))
    return np.array(Image.merge("RGB", bands).filter(ImageFilter.BoxBlur(0.5)))


def _thermal_camera(heat: Array, rng: np.random.Generator) -> Array:
    """Noise, then a gain between linear and histogram equalisation, as thermal cores have it."""
    h, w = heat.shape
    noise = _resize(rng.standard_normal((h // 2, w // 2), np.float32), h, w)
    noise = 0.5 * rng.standard_normal((h, w), np.float32) + 0.7 * noise
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
