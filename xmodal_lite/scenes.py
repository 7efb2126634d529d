"""Procedural street scenes, seen twice: by a visible and by a thermal camera (chapter 1).

One small 3-D world (ground, buildings, trees, cars, people, posts) is painted far to near through one pinhole camera into
planes that both cameras share: albedo, sunlight, skylight, own light, temperature, depth, label. The visible frame is
albedo × light, the thermal frame is the temperature plane through an automatic gain. Edges therefore coincide, while
polarity and level differ, as in real pairs. Metres, °C; x right, y up, z forward, the camera above the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Array = np.ndarray
CONDITIONS = ("day", "dusk", "night")
LABELS = (
    "sky",
    "road",
    "pavement",
    "wall",
    "glass",
    "plant",
    "vehicle",
    "engine",
    "person",
    "post",
)
MARGIN = 4  # canvas pixels around the frame: room for a shift of 2 infrared (4 visible) pixels
SMALLEST, LARGEST = 64, 4096
RED, GREEN, BLUE, SUN, SKY, GLOW, HEAT, DEPTH, LABEL = range(9)
MAP_X, MAP_Z, MAP_STEP = 32.0, 128.0, 0.125  # the ground seen from above: shadows
NEAR_X, NEAR_Z, NEAR_STEP = 8.0, 48.0, 0.04  # and its near part, finer: cracks, patches, puddles
FAR = 4000.0


@dataclass(frozen=True)
class Scene:
    """One rendered pair and the truth behind it.

    Attributes:
        visible: (2H, 2W, 3) uint8. infrared: (H, W) uint8.
        shift: (dy, dx) in infrared pixels, multiples of 0.5 within ±2: what stands at (y, x) in the infrared frame stands
            at (2(y + dy), 2(x + dx)) in the visible one.
        condition: "day", "dusk" or "night". seed: what made the scene.
        depth: (H, W) float32, metres along the optical axis, infinite in the sky; infrared geometry.
        labels: (H, W) uint8, indices into LABELS; infrared geometry.
        temperature: (H, W) float32, apparent °C before the thermal camera's gain and noise.
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
        height, width: infrared size in pixels, 64 to 4096; the visible frame is twice as large.

    Raises:
        ValueError: for a seed or size that is no integer or out of range, naming the value.
    """
    _check_integer("seed", seed, 0, None)
    _check_integer("height", height, SMALLEST, LARGEST)
    _check_integer("width", width, SMALLEST, LARGEST)
    rng = np.random.default_rng([int(seed), 0x5CE2E5])
    world = _make_world(rng)
    canvas = _Canvas(int(height), int(width), world, rng)
    _paint(canvas, world, rng)
    dy, dx = (float(s) for s in np.clip(np.round(rng.normal(0, 0.8, 2) * 2) / 2, -2, 2))
    visible = _visible_camera(canvas, world, rng, (dy, dx))
    temperature = _halve(canvas.planes[HEAT])
    infrared = _thermal_camera(temperature, rng)
    inner = (slice(MARGIN // 2, -(MARGIN // 2)),) * 2
    depth = canvas.planes[DEPTH][::2, ::2][inner]
    return Scene(
        visible=visible,
        infrared=infrared[inner],
        shift=(dy, dx),
        condition=world.condition,
        seed=int(seed),
        depth=np.where(depth < FAR, depth, np.inf).astype(np.float32),
        labels=canvas.planes[LABEL][::2, ::2][inner].astype(np.uint8),
        temperature=np.ascontiguousarray(temperature[inner]),
    )


def _check_integer(name: str, value: Any, low: int, high: int | None) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        wanted = f"an integer from {low} to {high}" if high is not None else f"an integer ≥ {low}"
        raise ValueError(f"{name} is {value!r}, expected {wanted}")


# --------------------------------------------------------------------------- the world: what there is, and the weather


@dataclass
class _World:
    """Everything random about a scene that several painters need."""

    condition: str
    sun: Array  # unit vector towards the sun
    sun_colour: Array
    sky_colour: Array  # ambient light
    haze_colour: Array
    haze_length: float  # metres
    cloud: float  # 0 clear … 1 overcast
    air: float  # °C
    solar: float  # K that full sun adds to a dark surface
    stored: float  # K that massive things keep from the day
    sky_heat: float  # °C, apparent, at the zenith
    eye: float  # camera height, m
    yaw: float  # radians
    bend: float  # the road's centre at z is at x = offset + bend · z²
    offset: float
    half_road: float
    pavement: float
    verge: str
    style: str
    things: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    lamps: list[tuple[float, float, float, Array]] = field(default_factory=list)  # x, y, z, colour

    def road_x(self, z: Any) -> Any:
        return self.offset + self.bend * np.square(z)

    def add(self, z: float, kind: str, /, **what: Any) -> None:
        self.things.append((z, kind, what))


def _colour(*rgb: float) -> Array:
    return np.array(rgb, np.float32)


def _make_world(rng: np.random.Generator) -> _World:
    condition = str(rng.choice(CONDITIONS, p=(0.5, 0.2, 0.3)))
    day, night = condition == "day", condition == "night"
    elevation = np.radians(rng.uniform(22, 60) if day else rng.uniform(4, 14))
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ]
    )
    cloud = float(rng.beta(0.8, 1.0))
    strength = (1.0 - 0.75 * cloud**2) * (1.0 if day else 0.35 if condition == "dusk" else 0.0)
    tint = _colour(1.0, 0.96, 0.88) if day else _colour(1.0, 0.72, 0.45)
    ambient = {
        "day": (0.42, 0.47, 0.55),
        "dusk": (0.40, 0.40, 0.46),
        "night": (0.020, 0.021, 0.026),
    }[condition]
    haze = {"day": (0.80, 0.86, 0.93), "dusk": (0.80, 0.68, 0.60), "night": (0.03, 0.03, 0.04)}[
        condition
    ]
    air = rng.uniform(12, 20) if day else rng.uniform(6, 15)
    world = _World(
        condition=condition,
        sun=sun.astype(np.float32),
        sun_colour=tint * np.float32(1.15 * strength),
        sky_colour=_colour(*ambient) * np.float32(rng.uniform(0.9, 1.15)),
        haze_colour=_colour(*haze),
        haze_length=float(rng.uniform(180, 700)),
        cloud=cloud,
        air=float(air),
        solar=float(rng.uniform(5, 11)) * strength,
        stored=float(rng.uniform(1.5, 4.0)),
        sky_heat=float(-30 + 22 * cloud + rng.uniform(-5, 5)),
        eye=float(rng.uniform(1.2, 1.7)),
        yaw=float(np.radians(rng.normal(0, 5))),
        bend=float(rng.normal(0, 0.0006)),
        offset=float(rng.uniform(-3.0, 0.5)),
        half_road=float(rng.uniform(3.6, 6.5)),
        pavement=float(rng.uniform(1.6, 3.6)),
        verge=str(rng.choice(("grass", "paving", "gravel"), p=(0.45, 0.35, 0.2))),
        style=str(rng.choice(("town", "suburb", "avenue", "country"), p=(0.4, 0.3, 0.2, 0.1))),
    )
    _line_the_street(world, rng)
    _populate(world, rng)
    world.things.sort(key=lambda thing: -thing[0])
    return world


def _line_the_street(world: _World, rng: np.random.Generator) -> None:
    """Buildings, trees, posts, fences and wires along both sides."""
    density = {"town": 0.95, "suburb": 0.7, "avenue": 0.6, "country": 0.12}[world.style]
    setback = {"town": 0.3, "suburb": 6.0, "avenue": 4.0, "country": 12.0}[world.style]
    edge = world.half_road + world.pavement
    for side in (-1, 1):
        z = float(rng.uniform(-4, 8))
        back = setback * float(rng.uniform(0.8, 1.6))
        while z < 150:
            length = float(rng.uniform(8, 22))
            if rng.random() < density:
                low = world.style != "town" or rng.random() < 0.3
                world.add(
                    z + length,
                    "building",
                    side=side,
                    z0=z,
                    length=length,
                    back=edge + back + float(rng.uniform(0, 1.5)),
                    depth=float(rng.uniform(8, 14)),
                    height=float(rng.uniform(3.2, 6.5) if low else rng.uniform(7, 17)),
                    seed=int(rng.integers(1 << 30)),
                )
            z += length + float(rng.exponential(0.5 if world.style == "town" else 6.0))
        plants = {"town": 22.0, "suburb": 11.0, "avenue": 9.0, "country": 8.0}[world.style]
        kind = "palm" if rng.random() < (0.6 if world.style == "avenue" else 0.2) else "tree"
        z = float(rng.uniform(6, 14))
        while z < 110:
            close = rng.random() < 0.6 or back < 2
            x = edge - 0.9 if close else edge + float(rng.uniform(0.8, max(back, 1.6)))
            big = float(rng.uniform(0.6, 1.2))
            world.add(
                z,
                kind if rng.random() < 0.8 else "tree",
                side=side,
                x=x,
                size=big,
                seed=int(rng.integers(1 << 30)),
            )
            z += float(rng.uniform(0.5, 1.6)) * plants
        if world.style != "town":
            for z in np.cumsum(rng.uniform(2, 9, 14)) + 5:
                x = edge + float(rng.uniform(0.6, back))
                world.add(
                    float(z),
                    "bush",
                    side=side,
                    x=x,
                    size=float(rng.uniform(0.4, 1.1)),
                    seed=int(rng.integers(1 << 30)),
                )
            if rng.random() < 0.5:
                kind = "hedge" if rng.random() < 0.4 else "fence"
                z0 = float(rng.uniform(4, 15))
                world.add(
                    60.0,
                    kind,
                    side=side,
                    x=edge + 0.3,
                    z0=z0,
                    z1=60.0,
                    seed=int(rng.integers(1 << 30)),
                )
    lamp_side = int(rng.choice((-1, 1)))
    spacing, start = float(rng.uniform(18, 32)), float(rng.uniform(8, 24))
    warm = _colour(1.0, 0.74, 0.38) if rng.random() < 0.6 else _colour(0.85, 0.95, 1.0)
    for k, z in enumerate(np.arange(start, 130, spacing)):
        side = lamp_side if world.style != "avenue" else lamp_side * (-1) ** k
        reach = float(rng.choice((0.0, 1.8)))
        x = float(world.road_x(z) + side * (world.half_road + 0.5))
        world.add(
            float(z), "lamp", x=x, reach=-side * reach, height=7.0 if reach else 4.4, colour=warm
        )
        world.lamps.append((x - side * reach, 6.8 if reach else 4.5, float(z), warm))
    if rng.random() < 0.55:
        world.add(
            200.0,
            "wires",
            side=-lamp_side,
            x=world.half_road + 0.8,
            start=float(rng.uniform(9, 20)),
        )
    for _ in range(int(rng.integers(1, 5))):
        z, side = float(rng.uniform(9, 45)), int(rng.choice((-1, 1)))
        shape = str(
            rng.choice(
                ("disc", "octagon", "diamond", "board", "light"), p=(0.2, 0.15, 0.2, 0.25, 0.2)
            )
        )
        world.add(
            z, "sign", x=float(world.road_x(z) + side * (world.half_road + 0.4)), shape=shape
        )


def _populate(world: _World, rng: np.random.Generator) -> None:
    """Parked and moving cars, people on foot and on bicycles."""
    lanes = world.half_road
    for side in (-1, 1):
        if rng.random() < 0.6 and lanes > 4.2:
            z = float(rng.uniform(6, 16))
            while z < 100:
                if rng.random() < 0.65:
                    world.add(
                        z,
                        "car",
                        x=side * (lanes - 1.1),
                        away=side > 0,
                        warm=float(rng.random() ** 4),
                        moving=False,
                    )
                z += float(rng.uniform(5.4, 7.5))
        z = float(rng.uniform(9, 30))
        while z < 120:
            lane = 0.45 if lanes < 4.6 else 0.33
            world.add(
                z,
                "car",
                x=side * lanes * lane,
                away=side > 0,
                warm=float(rng.uniform(0.6, 1)),
                moving=True,
            )
            z += float(rng.uniform(12, 50))
    edge = world.half_road + 0.5
    for _ in range(int(rng.poisson(4 if world.style == "town" else 2.5))):
        z, side = float(rng.uniform(7, 45)), int(rng.choice((-1, 1)))
        x = side * (edge + float(rng.uniform(0, world.pavement - 0.6)))
        for _ in range(int(rng.choice((1, 1, 2, 3)))):
            world.add(z, "person", x=x, riding=False)
            x, z = x + float(rng.uniform(0.5, 0.8)), z + float(rng.uniform(-0.4, 0.4))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 5))):
            world.add(
                float(rng.uniform(9, 22)),
                "person",
                x=float(rng.uniform(-1, 1)) * world.half_road,
                riding=False,
            )
    if rng.random() < 0.35:
        z = float(rng.uniform(8, 26))
        world.add(z, "person", x=float(rng.choice((-1, 1))) * (world.half_road - 2.6), riding=True)


# --------------------------------------------------------------------------- the canvas: projection and painting


class _Canvas:
    """The planes, the camera, and the few ways in which everything is painted."""

    def __init__(self, height: int, width: int, world: _World, rng: np.random.Generator) -> None:
        self.h, self.w = 2 * height + 2 * MARGIN, 2 * width + 2 * MARGIN
        self.f = 2.4 * max(width, 1.1 * height)
        self.cx = self.w / 2 - 0.5
        self.cy = MARGIN + 2 * height * rng.uniform(0.42, 0.54)
        self.eye, self.cos, self.sin = world.eye, np.cos(world.yaw), np.sin(world.yaw)
        self.planes = np.zeros((9, self.h, self.w), np.float32)
        self.planes[DEPTH] = 2 * FAR
        small = rng.standard_normal((64, 64, 2)).astype(np.float32)
        small[..., 1] = (
            0.45 * small[..., 0] + 0.9 * small[..., 1]
        )  # a part of the texture is common to both cameras
        wrapped = np.pad(small, ((4, 4), (4, 4), (0, 0)), mode="wrap")
        table = np.stack(
            [_resize(wrapped[..., k], 576, 576)[32:-32, 32:-32] for k in (0, 1)], axis=-1
        )
        self.table = np.ascontiguousarray(
            table / table.std()
        )  # (512, 512, 2), tileable, eight samples a feature
        self.cells = rng.random((32, 32, 4)).astype(np.float32)

    def turn(self, points: Any) -> Array:
        """World points (..., 3) → camera coordinates."""
        p = np.asarray(points, np.float64)
        x, y, z = p[..., 0], p[..., 1] - self.eye, p[..., 2]
        return np.stack([x * self.cos - z * self.sin, y, x * self.sin + z * self.cos], axis=-1)

    def project(self, points: Any) -> Array:
        """World points (..., 3) in front of the camera → columns, rows, depth."""
        p = self.turn(points)
        z = np.maximum(p[..., 2], 0.05)
        return np.stack(
            [self.cx + self.f * p[..., 0] / z, self.cy - self.f * p[..., 1] / z, p[..., 2]],
            axis=-1,
        )

    def window(self, points: Any) -> tuple[slice, slice] | None:
        """The part of the canvas that a convex body with these corners covers; None when there is none."""
        p = self.turn(points)
        near = 0.4
        if p[:, 2].max() <= near:
            return None
        pairs = [(a, b) for a in p for b in p if a[2] > near >= b[2]]
        cut = [a + (b - a) * (a[2] - near) / (a[2] - b[2]) for a, b in pairs]
        front = np.array([q for q in p if q[2] > near] + cut)
        x, y = (
            self.cx + self.f * front[:, 0] / front[:, 2],
            self.cy - self.f * front[:, 1] / front[:, 2],
        )
        c0, c1 = max(int(x.min()) - 1, 0), min(int(min(x.max(), 1e6)) + 2, self.w)
        r0, r1 = max(int(max(y.min(), -1e6)) - 1, 0), min(int(min(y.max(), 1e6)) + 2, self.h)
        return (slice(r0, r1), slice(c0, c1)) if r0 < r1 and c0 < c1 else None

    def plane(
        self, sl: tuple[slice, slice], p0: Any, eu: Any, ev: Any
    ) -> tuple[Array, Array, Array]:
        """Coordinates u, v (m) on the plane p0 + u·eu + v·ev and the depth, for each pixel of a window."""
        a = ((np.arange(sl[1].start, sl[1].stop) - self.cx) / self.f).astype(np.float32)[None, :]
        b = ((self.cy - np.arange(sl[0].start, sl[0].stop)) / self.f).astype(np.float32)[:, None]
        origin = self.turn(p0)
        eu, ev = self.turn(np.asarray(p0) + eu) - origin, self.turn(np.asarray(p0) + ev) - origin
        n = np.cross(eu, ev)
        across = (n[0] * a + n[2]).astype(np.float32) + (n[1] * b).astype(np.float32)
        t = np.float32(n @ origin) / np.where(np.abs(across) < 1e-6, np.float32(1e-6), across)
        u = t * ((eu[0] * a + eu[2]) + eu[1] * b).astype(np.float32) - np.float32(origin @ eu)
        v = t * ((ev[0] * a + ev[2]) + ev[1] * b).astype(np.float32) - np.float32(origin @ ev)
        return u, v, t

    def noise(
        self, u: Array, v: Array, foot: Array, scales: tuple[float, ...], gain: float = 1.0
    ) -> tuple[Array, Array]:
        """Texture of several scales (m) for the visible and the thermal side; what a pixel cannot resolve fades."""
        total = np.zeros((*np.broadcast_shapes(u.shape, v.shape), 2), np.float32)
        for k, scale in enumerate(scales):
            if float(np.min(foot)) > scale:
                continue
            step = np.float32(8 / scale)
            i, j = (
                (u * step).astype(np.int32) + 97 * k & 511,
                (v * step).astype(np.int32) + 61 * k & 511,
            )
            weight = np.clip(scale / (2 * foot) - 0.5, 0, 1).astype(np.float32) * np.float32(
                gain**k
            )
            total += self.table[j, i] * weight[..., None]
        return total[..., 0], total[..., 1]

    def paint(
        self, sl: tuple[slice, slice], alpha: Any, values: dict[int, Any], label: int, depth: Any
    ) -> None:
        """Blend values over the planes of a window; alpha in [0, 1] is how much of a pixel is covered."""
        for k in range(8):
            value = depth if k == DEPTH else values.get(k, 0.0)
            here = self.planes[k][sl]
            here += alpha * (value - here)
        np.copyto(self.planes[LABEL][sl], np.float32(label), where=np.asarray(alpha) > 0.5)

    def fill(self, points: Any, values: dict[int, Any], label: int, screen: bool = False) -> None:
        """Paint one flat polygon, world corners (n, 3), or with screen columns, rows and depth (n, 3)."""
        p = np.asarray(points) if screen else self.project(points)
        if p[:, 2].min() < 0.3:
            return
        c0, c1 = max(int(p[:, 0].min()) - 1, 0), min(int(p[:, 0].max()) + 2, self.w)
        r0, r1 = max(int(p[:, 1].min()) - 1, 0), min(int(p[:, 1].max()) + 2, self.h)
        if c0 >= c1 or r0 >= r1:
            return
        k = 3 if (c1 - c0) * (r1 - r0) < 60000 else 1
        mask = Image.new("L", ((c1 - c0) * k, (r1 - r0) * k))
        corners = [((x - c0 + 0.5) * k - 0.5, (y - r0 + 0.5) * k - 0.5) for x, y in p[:, :2]]
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        alpha = np.asarray(mask.reduce(k) if k > 1 else mask, np.float32) / 255
        self.paint(
            (slice(r0, r1), slice(c0, c1)), alpha, values, label, np.float32(p[:, 2].mean())
        )


def _resize(
    a: Array, height: int, width: int, how: Image.Resampling = Image.Resampling.BICUBIC
) -> Array:
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(a, np.float32)).resize((width, height), how)
    )


def _halve(a: Array) -> Array:
    return (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) * np.float32(0.25)


def _edge(distance: Array, foot: Array) -> Array:
    """Coverage of a pixel from the distance (m) to an edge, positive inside."""
    return np.clip(distance / foot + 0.5, 0, 1)


def _surface(rgb: Any, sun: Any, sky: Any, heat: Any, glow: Any = 0.0) -> dict[int, Any]:
    return {RED: rgb[0], GREEN: rgb[1], BLUE: rgb[2], SUN: sun, SKY: sky, HEAT: heat, GLOW: glow}


def _lit(world: _World, normal: Any) -> float:
    """How squarely the sun meets a surface."""
    return max(0.0, float(np.dot(normal, world.sun)))


# --------------------------------------------------------------------------- painters, far to near


def _paint(canvas: _Canvas, world: _World, rng: np.random.Generator) -> None:
    _paint_sky(canvas, world, rng)
    _paint_horizon(canvas, world, rng)
    _paint_ground(canvas, world, rng)
    painters = {
        "building": _paint_building,
        "tree": _paint_tree,
        "palm": _paint_palm,
        "bush": _paint_bush,
        "hedge": _paint_fence,
        "fence": _paint_fence,
        "lamp": _paint_lamp,
        "wires": _paint_wires,
        "sign": _paint_sign,
        "car": _paint_car,
        "person": _paint_person,
    }
    for z, kind, what in world.things:
        painters[kind](canvas, world, rng, z=z, **what)


def _paint_sky(canvas: _Canvas, world: _World, rng: np.random.Generator) -> None:
    stop = min(int(canvas.cy) + 2, canvas.h)
    sl = (slice(0, stop), slice(0, canvas.w))
    up = (canvas.cy - np.arange(stop, dtype=np.float32))[:, None] / np.float32(canvas.f)
    a = ((np.arange(canvas.w) - canvas.cx) / canvas.f).astype(np.float32)[None, :]
    t = 1 / (np.maximum(up, 0) + np.float32(0.07))
    seen, warm = canvas.noise(a * t + 40, t + 40, t * t * 3e-3, (12.0, 5.0, 2.0, 0.8, 0.3), 0.62)
    amount = np.clip((seen + 2.2 * world.cloud - 1.3) * 0.7, 0, 1)
    height = np.clip(up / 0.42, 0, 1)
    zenith = {
        "day": (0.36, 0.55, 0.86),
        "dusk": (0.42, 0.46, 0.62),
        "night": (0.012, 0.013, 0.02),
    }[world.condition]
    white = {"day": (0.98, 0.98, 0.99), "dusk": (0.75, 0.60, 0.58), "night": (0.03, 0.03, 0.035)}[
        world.condition
    ]
    blue = height**0.7
    sky = [world.haze_colour[k] * (1 - blue) + zenith[k] * blue for k in range(3)]
    rgb = [s + amount * (0.85 + 0.1 * seen) * (white[k] - s) for k, s in enumerate(sky)]
    cold = world.air - 4 + (world.sky_heat - world.air) * (1 - np.exp(-5.5 * np.maximum(up, 0)))
    heat = cold + amount * (world.air - 6 - cold) * 0.5 + (0.6 + 1.5 * world.cloud) * warm
    canvas.paint(
        sl, 1.0, {RED: rgb[0], GREEN: rgb[1], BLUE: rgb[2], GLOW: 1.0, HEAT: heat}, 0, 2 * FAR
    )


def _paint_horizon(canvas: _Canvas, world: _World, rng: np.random.Generator) -> None:
    """Hills and a line of distant trees and roofs: what closes the view down the street."""
    columns = np.arange(canvas.w, dtype=np.float32)[None, :] / np.float32(canvas.f)
    for tall, depth, rough in (
        (rng.uniform(0.0, 0.10), 900.0, 0.25),
        (rng.uniform(0.015, 0.05), 220.0, 1.0),
    ):
        zero = np.zeros((1, 1), np.float32)
        ridge, _ = canvas.noise(
            columns + rng.uniform(0, 9),
            zero,
            zero + 1e-3,
            (0.6, 0.2, 0.06, 0.02, 0.008),
            0.55 + 0.1 * rough,
        )
        top = canvas.cy - canvas.f * np.maximum(tall * (0.75 + 0.3 * ridge), 0.002)
        r0 = max(int(top.min()) - 2, 0)
        sl = (slice(r0, min(int(canvas.cy) + 3, canvas.h)), slice(0, canvas.w))
        rows = np.arange(sl[0].start, sl[0].stop, dtype=np.float32)[:, None]
        seen, warm = canvas.noise(
            columns, rows / np.float32(canvas.f), zero + 5e-4, (0.03, 0.012, 0.005, 0.002), 0.8
        )
        tone = 0.075 + 0.022 * seen
        heat = world.air - 1.5 + 0.9 * warm + 0.2 * world.solar * seen
        values = _surface((tone, tone * 1.2, tone * 0.7), 0.35 + 0.2 * seen, 0.75, heat)
        canvas.paint(sl, np.clip(rows - top, 0, 1), values, 5, np.float32(depth))


def _ground_maps(world: _World, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """The ground from above: (shadow now, shadow earlier, contact shadow) and, near, (dark, warm, wet)."""
    size = (int(2 * MAP_X / MAP_STEP), int(MAP_Z / MAP_STEP))
    now, before, contact = (Image.new("L", size) for _ in range(3))
    sun = world.sun
    drift = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])

    def spot(x: float, z: float) -> tuple[float, float]:
        return (x + MAP_X) / MAP_STEP, z / MAP_STEP

    lean = -sun[[0, 2]] / max(float(sun[1]), 0.12)
    layers = [(ImageDraw.Draw(now), lean), (ImageDraw.Draw(before), drift @ lean * 0.8)]
    under = ImageDraw.Draw(contact)
    for z, kind, what in world.things:
        if kind == "building":
            corners = [
                (x, what["z0"] + dz)
                for x in (what["back"], what["back"] + what["depth"])
                for dz in (0, what["length"])
            ]
            foot = [(float(world.road_x(what["z0"]) + what["side"] * x), q) for x, q in corners]
            foot = [foot[0], foot[1], foot[3], foot[2]]
            height = what["height"]
        elif kind == "car":
            x, q = float(world.road_x(z) + what["x"]), z
            foot, height = (
                [(x - 0.9, q), (x + 0.9, q), (x + 0.9, q + 4.5), (x - 0.9, q + 4.5)],
                1.2,
            )
            under.polygon([spot(*p) for p in foot], fill=235)
        elif kind in ("tree", "palm", "bush", "lamp", "person"):
            x = (
                float(world.road_x(z) + what.get("side", 1) * what["x"])
                if kind != "lamp"
                else what["x"]
            )
            _plant_shadow(layers, spot, kind, x, z, what, rng)
            continue
        else:
            continue
        for draw, slope in layers:
            top = [(p[0] + slope[0] * height, p[1] + slope[1] * height) for p in foot]
            for k in range(4):
                n = (k + 1) % 4
                draw.polygon(
                    [spot(*foot[k]), spot(*foot[n]), spot(*top[n]), spot(*top[k])], fill=255
                )
            draw.polygon([spot(*p) for p in top], fill=255)
            draw.polygon([spot(*p) for p in foot], fill=255)
    blurs = [(now, 0.8), (before, 5.0), (contact, 2.0)]
    shadows = Image.merge("RGB", [m.filter(ImageFilter.GaussianBlur(r)) for m, r in blurs])
    return shadows, _road_wear(world, rng)


def _plant_shadow(
    layers: Any,
    spot: Any,
    kind: str,
    x: float,
    z: float,
    what: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    size = what.get("size", 1.0)
    high, wide = {
        "tree": (5.0 * size, 2.4 * size),
        "palm": (9.0 * size, 1.5),
        "bush": (0.4, 0.7 * size),
    }.get(kind, (0, 0))
    puffs = rng.normal(0, 0.55, (14, 3)) * wide
    for draw, slope in layers:
        if kind != "bush":
            tall = {"lamp": what.get("height", 0), "person": 1.7}.get(kind, high)
            tip = (x + slope[0] * tall, z + slope[1] * tall)
            draw.line(
                [spot(x, z), spot(*tip)], fill=255, width=4 if kind in ("tree", "person") else 2
            )
        for dx, dy, dz in puffs if wide else ():
            px, pz = x + dx + slope[0] * (high + dy), z + dz + slope[1] * (high + dy)
            r = wide * 0.42
            draw.ellipse([*spot(px - r, pz - r), *spot(px + r, pz + r)], fill=225)


def _road_wear(world: _World, rng: np.random.Generator) -> Image.Image:
    size = (int(2 * NEAR_X / NEAR_STEP), int(NEAR_Z / NEAR_STEP))
    dark, warm, wet = (Image.new("L", size, 128) for _ in range(3))
    draws = [ImageDraw.Draw(m) for m in (dark, warm, wet)]

    def spot(x: float, z: float) -> tuple[float, float]:
        return (x + float(world.road_x(z)) + NEAR_X) / NEAR_STEP, z / NEAR_STEP

    for _ in range(int(rng.integers(0, 4))):  # patches of newer asphalt
        x, z, w, d = (
            rng.uniform(-4, 3),
            rng.uniform(4, 40),
            rng.uniform(0.6, 2.4),
            rng.uniform(1, 8),
        )
        box = [*spot(x, z), *spot(x + w, z + d)]
        box = [min(box[0], box[2]), box[1], max(box[0], box[2]), box[3]]
        draws[0].rectangle(box, fill=int(rng.integers(85, 160)))
        draws[1].rectangle(box, fill=int(rng.integers(105, 165)))
    for _ in range(int(rng.integers(3, 14))):  # cracks and their tar
        x, z = rng.uniform(-world.half_road, world.half_road), rng.uniform(3, 40)
        along = rng.random() < 0.6
        steps = np.cumsum(
            rng.normal(0, 0.09, (int(rng.integers(10, 60)), 2))
            + ([0.0, 0.3] if along else [0.3, 0.0]),
            axis=0,
        )
        line = [spot(x + dx, z + dz) for dx, dz in steps]
        wide, tone, heat = (
            int(rng.integers(1, 4)),
            int(rng.integers(60, 110)),
            int(rng.choice((90, 170, 190))),
        )
        draws[0].line(line, fill=tone, width=wide)
        draws[1].line(line, fill=heat, width=wide + 1)
    for _ in range(int(rng.integers(0, 3))):  # manholes
        x, z = spot(rng.uniform(-3, 3), rng.uniform(5, 30))
        r = 0.33 / NEAR_STEP
        draws[0].ellipse([x - r, z - r, x + r, z + r], fill=90, outline=60)
        draws[1].ellipse(
            [x - r, z - r, x + r, z + r], fill=int(rng.choice((100, 185))), outline=110
        )
    for _ in range(int(rng.integers(0, 5)) if rng.random() < 0.4 else 0):  # puddles
        x, z = spot(rng.uniform(-1, 1) * world.half_road, rng.uniform(5, 30))
        for dx, dz in rng.normal(0, 8, (7, 2)):
            draws[2].ellipse(
                [x + dx - 12, z + 2 * dz - 18, x + dx + 12, z + 2 * dz + 18], fill=255
            )
    return Image.merge("RGB", (dark, warm, wet.filter(ImageFilter.GaussianBlur(2))))


def _from_above(canvas: _Canvas, image: Image.Image, step: float, half: float, r0: int) -> Array:
    """A map of the ground, resampled for the rows from r0 down: (3, rows, columns)."""
    k = canvas.eye * canvas.f
    c, s, f = canvas.cos, canvas.sin, canvas.f
    # depth t = k/(row − cy); world x = t(cos·a + sin), z = t(cos − sin·a), a = (col − cx)/f; one perspective map
    shift = r0 - canvas.cy
    x = np.array([k * c / f, 0, k * (s - c * canvas.cx / f)]) + half * np.array([0, 1, shift])
    z = np.array([-k * s / f, 0, k * (c + s * canvas.cx / f)])
    coefficients = [*(x / step / shift), *(z / step / shift), 0.0, 1 / shift]
    out = image.transform(
        (canvas.w, canvas.h - r0),
        Image.Transform.PERSPECTIVE,
        coefficients,
        Image.Resampling.BILINEAR,
    )
    return np.asarray(out).transpose(2, 0, 1).astype(np.float32)


def _paint_ground(canvas: _Canvas, world: _World, rng: np.random.Generator) -> None:
    r0 = int(canvas.cy) + 2
    sl = (slice(r0, canvas.h), slice(0, canvas.w))
    x, z, depth = canvas.plane(sl, (0, 0, 0), (1, 0, 0), (0, 0, 1))
    foot = depth[:, :1] / np.float32(canvas.f)
    foot = (
        foot * np.sqrt(np.maximum(depth[:, :1] / canvas.eye, 1)) * 0.6
    )  # a pixel reaches further in depth than across
    wide = depth / np.float32(canvas.f)
    u = x - world.road_x(z)
    seen, warm = canvas.noise(x, z, foot, (7.0, 2.0, 0.55, 0.16, 0.05, 0.02), 0.95)
    shadows, wear = _ground_maps(world, rng)
    now, before, contact = _from_above(canvas, shadows, MAP_STEP, MAP_X, r0) / 255
    worn = _from_above(canvas, wear, NEAR_STEP, NEAR_X, r0)
    inside = worn[2] > 0
    dark, tar, wet = (
        (np.where(inside, w, 128) - 128) / 128 * np.clip(1.6 - z / 30, 0, 1) for w in worn
    )
    wet = np.clip(wet * 1.3, 0, 1)

    asphalt = rng.uniform(0.17, 0.30)
    tone = asphalt * (1 + 0.09 * seen + 0.5 * dark)
    lane = world.half_road * 0.5
    track = np.exp(-np.square((np.abs(np.abs(u) - lane) - 0.8) / 0.35))  # where tyres run
    tone = tone * (1 - 0.07 * track)
    mark = _markings(canvas, world, rng, u, z, wide, depth)
    mark[0] = mark[0] * np.clip(0.85 + 0.28 * seen, 0, 1)
    paint = (0.72, 0.70, 0.66) if not mark[1] else (0.75, 0.58, 0.18)
    rgb = [
        tone * c + mark[0] * (p - tone * c) for c, p in zip((1.0, 0.98, 0.96), paint, strict=True)
    ]
    base = world.air + world.stored + 0.8 * world.solar
    kept = 0.55 * now + 0.45 * before
    sign = rng.choice((-1, 1))
    heat = (
        base
        - 0.75 * world.solar * kept
        + 0.35 * warm
        + sign * 0.1 * seen
        + 0.7 * track
        + 1.6 * tar
    )
    heat = heat - mark[0] * (0.5 + 0.18 * world.solar)
    label = np.ones_like(u)

    side = np.abs(u)
    beyond = _edge(side - world.half_road, wide)
    slab = world.pavement * 0.5
    joint = np.maximum(
        1 - np.abs((z + 40) % 1.5 - 0.75 - 0.7) / np.maximum(0.03, wide * 2),
        1 - np.abs(side - world.half_road - slab) / np.maximum(0.02, wide),
    )
    joint = np.clip(joint, 0, 1) * np.clip(0.06 / wide, 0, 1) ** 2
    stone = rng.uniform(0.32, 0.46)
    walk = stone * (1 + 0.08 * seen - 0.35 * joint)
    walk_heat = (
        base - 0.6 + 0.1 * world.solar - 0.7 * world.solar * kept + 0.3 * warm + 0.7 * joint * sign
    )
    rgb = [p + beyond * (walk * c - p) for p, c in zip(rgb, (1.0, 0.97, 0.92), strict=True)]
    heat = heat + beyond * (walk_heat - heat)
    kerb = _edge(side - world.half_road, wide) * _edge(world.half_road + 0.16 - side, wide)
    gutter = _edge(side - world.half_road + 0.25, wide) * (1 - beyond)
    kerb_tone = (0.55, 0.10, 0.09) if rng.random() < 0.2 else (0.5, 0.5, 0.48)
    rgb = [(p + kerb * (k - p)) * (1 - 0.25 * gutter) for p, k in zip(rgb, kerb_tone, strict=True)]
    heat = heat + kerb * (1.2 + 0.1 * world.solar) - 0.6 * gutter
    label[beyond > 0.5] = 2

    off = _edge(
        side - world.half_road - world.pavement - 0.15 * seen * (world.verge != "paving"), wide
    )
    grass = {
        "grass": (0.13, 0.19, 0.07),
        "paving": (0.36, 0.33, 0.29),
        "gravel": (0.36, 0.31, 0.25),
    }[world.verge]
    rough = {"grass": 0.3, "paving": 0.08, "gravel": 0.2}[world.verge]
    cool = {"grass": -2.8, "paving": -0.6, "gravel": -1.0}[world.verge]
    rgb = [p + off * (g * (1 + rough * seen) - p) for p, g in zip(rgb, grass, strict=True)]
    soil = (
        base + cool - 0.5 * world.solar * (0.3 - cool / 8 + kept) + (0.3 + 2 * rough) * warm * 0.8
    )
    heat = heat + off * (soil - heat)
    if world.verge == "grass":
        label[off > 0.5] = 5

    pool = wet * (1 - off)
    rgb = [p * (1 - 0.55 * pool) for p in rgb]
    heat = heat + pool * (0.5 * (world.sky_heat + heat) - heat) * 0.35
    sun = world.sun[1] * (1 - now) * (1 - contact)
    values = _surface(rgb, sun, 1 - 0.8 * contact, heat + contact * 0.6)
    values[GLOW] = pool * 0.05 * (world.condition != "night")
    canvas.paint(sl, 1.0, values, 1, depth)
    canvas.planes[LABEL][sl] = label


def _markings(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    u: Array,
    z: Array,
    wide: Array,
    depth: Array,
) -> list[Any]:
    """Coverage by road paint, and whether it is yellow."""
    mark = np.zeros_like(u)
    yellow = bool(rng.random() < 0.45)
    long = wide * np.maximum(depth / canvas.eye, 1)
    if yellow:
        mark = np.maximum(mark, _edge(0.06 - np.abs(np.abs(u) - 0.16), wide))
    else:
        dash = _edge(1.5 - np.abs(z % 9.0 - 4.5), long)
        mark = np.maximum(mark, _edge(0.07 - np.abs(u), wide) * dash)
    if rng.random() < 0.5:
        mark = np.maximum(mark, _edge(0.06 - np.abs(np.abs(u) - world.half_road + 0.4), wide))
    if world.half_road > 4.6 and rng.random() < 0.6:
        mark = np.maximum(mark, _edge(0.05 - np.abs(np.abs(u) - world.half_road + 2.1), wide))
    road = _edge(world.half_road - np.abs(u), wide)
    if rng.random() < 0.35:
        start, deep = rng.uniform(6, 22), 3.0
        across = _edge(deep / 2 - np.abs(z - start), long)
        bars = _edge(0.25 - np.abs(u % 1.0 - 0.5), wide)
        mark = mark * (1 - across)
        mark = np.maximum(mark, across * bars)
        mark = np.maximum(mark, _edge(0.2 - np.abs(z - start + 3.2), long) * (u > 0))
    return [mark * road, yellow]


def _paint_building(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    side: int,
    length: float,
    back: float,
    depth: float,
    height: float,
    seed: int,
    **_: Any,
) -> None:
    own = np.random.default_rng(seed)
    near_z = z - length
    x = float(world.road_x(near_z) + side * back)
    gable = height < 7 and own.random() < 0.75
    style = _wall_style(world, own)
    rise = depth * 0.5 * own.uniform(0.35, 0.7) if gable else 0.0
    far_x = x + side * depth
    style["roof_tone"] = own.uniform(0.5, 1.3) * _colour(
        *((0.42, 0.22, 0.14) if own.random() < 0.5 else (0.2, 0.19, 0.19))
    )
    # the wall that faces the camera, then the one along the street, then the roof above it
    ahead = np.array([0.0, 0.0, -1.0])
    wall = (min(x, far_x), 0.0, near_z)
    _paint_wall(canvas, world, own, wall, (1, 0, 0), ahead, depth, height, style, rise, plain=True)
    street = np.array([-side, 0.0, 0.0])
    if x * side > 0.3:
        _paint_wall(
            canvas,
            world,
            own,
            (x, 0.0, near_z),
            (0, 0, 1),
            street,
            length,
            height,
            style,
            0.0,
            plain=False,
        )
    if gable:
        slope = np.array([side * depth / 2, rise, 0.0])
        lean = float(np.linalg.norm(slope))
        start = np.array([x, height, near_z - 0.3]) - slope / lean * 0.5
        _paint_roof(canvas, world, start, slope / lean, length + 0.6, lean + 0.5, style, side)


def _wall_style(world: _World, own: np.random.Generator) -> dict[str, Any]:
    palette = [
        (0.62, 0.58, 0.5),
        (0.7, 0.68, 0.64),
        (0.45, 0.24, 0.17),
        (0.55, 0.46, 0.34),
        (0.38, 0.4, 0.42),
        (0.66, 0.55, 0.4),
    ]
    pick = int(own.integers(len(palette)))
    return {
        "rgb": _colour(*palette[pick]) * np.float32(own.uniform(0.75, 1.1)),
        "brick": pick in (2, 3) or own.random() < 0.15,
        "boards": own.random() < 0.25,
        "pitch": float(own.uniform(1.9, 3.4)),
        "floor": float(own.uniform(2.8, 3.4)),
        "win": (
            float(own.uniform(0.4, 0.62)),
            float(own.uniform(0.7, 1.1)),
            float(own.uniform(2.0, 2.5)),
        ),
        "shop": own.random() < (0.5 if world.style == "town" else 0.12),
        "lit": float(own.uniform(0.1, 0.6)),
        "cell": int(own.integers(0, 24)),
        "kept": float(own.normal(0.6, 0.5)),
        "frame": _colour(0.75, 0.74, 0.7) if own.random() < 0.6 else _colour(0.12, 0.12, 0.12),
        "arch": own.random() < 0.2,
    }


def _paint_wall(
    canvas: _Canvas,
    world: _World,
    own: np.random.Generator,
    p0: Any,
    eu: Any,
    normal: Array,
    length: float,
    height: float,
    style: dict[str, Any],
    rise: float,
    plain: bool,
) -> None:
    p0, eu = np.asarray(p0, float), np.asarray(eu, float)
    top = height + rise
    sl = canvas.window([p0, p0 + eu * length, p0 + (0, top, 0), p0 + eu * length + (0, top, 0)])
    if sl is None:
        return
    u, v, t = canvas.plane(sl, p0, eu, (0, 1, 0))
    foot = np.maximum(t, 0.1) / np.float32(canvas.f)
    limit = height + rise * (1 - np.abs(u / length * 2 - 1)) if rise else height
    alpha = (
        _edge(u, foot)
        * _edge(length - u, foot)
        * _edge(limit - v, foot)
        * _edge(v, foot)
        * (t > 0.3)
    )
    if not alpha.any():
        return
    seen, warm = canvas.noise(u, v, foot, (6.0, 1.6, 0.45, 0.12, 0.035), 0.85)
    streak, damp = canvas.noise(u, v * 0.12, foot, (1.3, 0.4, 0.15), 0.8)
    tone = 1 + 0.035 * seen + 0.04 * streak
    light = _lit(world, normal)
    course = 0.0
    if style["brick"] or style["boards"]:
        tall = 0.075 if style["brick"] else 0.17
        joint = np.clip(1 - np.abs(v % tall - tall / 2) / np.maximum(0.012, foot), 0, 1) * np.clip(
            tall / (3 * foot) - 0.4, 0, 1
        )
        course = joint
        if style["brick"]:
            row = np.floor(v / tall).astype(np.int32)
            cell = (
                canvas.cells[row & 31, (u / 0.23 + 0.5 * (row & 1)).astype(np.int32) & 31, 0] - 0.5
            )
            tone = tone + 0.35 * cell * np.clip(0.1 / (2 * foot) - 0.3, 0, 1)
        tone = tone - 0.3 * joint * (1 if style["boards"] else -0.6)
    absorb = 1.1 - float(style["rgb"].mean())
    heat = world.air + style["kept"] + 0.6 * world.stored + world.solar * light * absorb
    shade = _opposite_shade(canvas, world, own, u, p0, normal, light)
    sun = (
        light * np.clip((v - shade) / np.maximum(foot * 2, 0.15), 0, 1)
        if light > 0
        else np.zeros_like(v)
    )
    heat = (
        heat
        - world.solar * absorb * (light - sun) * 0.8
        + 0.3 * warm
        + 0.22 * damp
        - 0.5 * course
        + 0.08 * (height - v)
    )
    sky = 0.55 + 0.3 * np.clip(v / 6, 0, 1) - 0.25 * np.clip(1 - v / 0.3, 0, 1)
    rgb = [tone * c for c in style["rgb"]]
    plinth = _edge(0.55 - v, foot) * (style["pitch"] > 2.4)
    band = _edge(v - height + 0.4, foot) * (0.0 if rise else 1.0)
    eave = (
        np.clip(1 - (height - v) / (0.5 + 0.6 * light), 0, 1)
        * (0.7 if height < 7 else 0.0)
        * (not rise)
    )
    rgb = [c * (1 - 0.3 * plinth) * (1 + 0.2 * band) for c in rgb]
    heat = heat + 0.7 * plinth - 0.6 * band
    sun = sun * (1 - eave)
    sky = sky * (1 - 0.4 * eave)
    glow, label = np.zeros_like(v), np.full(v.shape, 3, np.float32)
    if not plain or own.random() < 0.6:
        rgb, sun, heat, glow = _windows(
            canvas, world, style, u, v, foot, length, height, rgb, sun, heat, label, plain
        )
    canvas.paint(sl, alpha, _surface(rgb, sun, sky, heat, glow), 3, t)
    np.copyto(canvas.planes[LABEL][sl], label, where=alpha > 0.5)


def _opposite_shade(
    canvas: _Canvas,
    world: _World,
    own: np.random.Generator,
    u: Array,
    p0: Array,
    normal: Array,
    light: float,
) -> Array:
    """Height up to which the houses across the street keep the sun off."""
    if light <= 0 or world.style not in ("town", "suburb") or abs(normal[0]) < 0.5:
        return np.float32(-1.0)
    street = 2 * (world.half_road + world.pavement) + (1 if world.style == "town" else 12)
    reach = street / max(abs(float(world.sun[0])), 0.05) * float(world.sun[1])
    across = canvas.cells[(u / 14 + p0[2]).astype(np.int32) & 31, 7, 1]
    return (6 + 8 * across if world.style == "town" else 3 + 3 * across) - np.float32(reach)


def _windows(
    canvas: _Canvas,
    world: _World,
    style: dict[str, Any],
    u: Array,
    v: Array,
    foot: Array,
    length: float,
    height: float,
    rgb: list[Array],
    sun: Array,
    heat: Array,
    label: Array,
    plain: bool,
) -> tuple[list[Array], Array, Array, Array]:
    pitch = length / max(round(length / style["pitch"]), 1)
    part, sill, head = style["win"]
    floors = max(int((height - 0.3) / style["floor"]), 1)
    tall = height / floors if height / floors < 4 else style["floor"]
    i, j = np.floor(u / pitch), np.floor(v / tall)
    du, dv = u - (i + 0.5) * pitch, v - j * tall
    ii, jj = (i + style["cell"]).astype(np.int32) & 31, (j + style["cell"]).astype(np.int32) & 31
    a, b, c, d = (canvas.cells[jj, ii, k] for k in range(4))
    ground = j < 0.5
    shop = ground & bool(style["shop"] and not plain)
    door = ground & ~shop & (a > 0.78) & (not plain)
    half = np.where(shop, pitch * 0.44, np.where(door, 0.5, pitch * part / 2))
    low = np.where(shop, 0.5, np.where(door, 0.0, sill))
    high = np.where(shop, 2.6, np.where(door, 2.15, np.minimum(head, tall - 0.25)))
    there = (j < floors) & ((b < 0.88) | shop) & (not plain or (b < 0.5))
    inside = np.minimum(half - np.abs(du), np.minimum(dv - low, high - dv))
    if style["arch"]:
        round_top = half - np.sqrt(np.square(du) + np.square(np.maximum(dv - high + half, 0)))
        inside = np.minimum(inside, round_top)
    hole = _edge(inside, foot) * there
    frame = hole - _edge(inside - 0.07, foot) * there
    bars = _edge(0.03 - np.abs(du), foot) + _edge(0.03 - np.abs(dv - (low + high) / 2), foot) * (
        ~door
    )
    frame = np.clip(frame + bars * hole * (c < 0.7), 0, 1)
    ledge = (
        _edge(0.08 - np.abs(dv - low + 0.08), foot)
        * _edge(half + 0.1 - np.abs(du), foot)
        * there
        * ~door
        * ~shop
    )
    reveal = np.clip(1 - (high - dv) / 0.3, 0, 1) * hole
    night = world.condition != "day"
    lit = (
        hole
        * (d < style["lit"])
        * (0.25 + 0.75 * c)
        * (1.0 if night else 0.12)
        * np.where(shop, 1.6, 1.0)
    )
    lit = lit * (0.75 + 0.25 * np.sin(u * 9 + 5 * a) * np.sin(v * 5 + 9 * b)) * (~door)
    blind = (
        hole
        * (v > tall * j + low + (high - low) * np.clip(1.6 * b - 0.3, 0, 1))
        * (c > 0.35)
        * ~shop
        * ~door
    )
    mirror = 0.05 + 0.22 * a * np.clip(0.3 + dv / 3, 0, 1)
    pane = [mirror * k + blind * (0.45 - mirror * k) for k in (0.85, 1.0, 1.15)]
    warm_light = (1.0, 0.78, 0.45)
    pane = [p + np.clip(lit * 1.5, 0, 1) * (w - p) for p, w in zip(pane, warm_light, strict=True)]
    pane = [p + door * (k - p) for p, k in zip(pane, style["frame"] * 0.6 + 0.05, strict=True)]
    pane = [p + frame * (k - p) for p, k in zip(pane, style["frame"], strict=True)]
    rgb = [(x + hole * (p - x)) * (1 + 0.15 * ledge) for x, p in zip(rgb, pane, strict=True)]
    sun = sun * (1 - 0.75 * reveal) * (1 - 0.3 * hole)
    inner = 4.5 if world.condition == "night" else 1.0
    glass = np.where(
        c < 0.5, world.air - 2.5 - 4.5 * a, world.air - 1 + inner * (c + 0.6 * (lit > 0.1))
    )
    glass = glass + 1.2 * blind + door * (world.air + 1.5 - glass) + 1.0 * shop * night
    heat = heat + hole * (glass - heat) + frame * 1.2 - 0.8 * ledge + 0.5 * reveal
    label[(hole > 0.5) & ~door] = 4
    return rgb, sun, heat, lit * (1 - frame)


def _paint_roof(
    canvas: _Canvas,
    world: _World,
    start: Array,
    slope: Array,
    length: float,
    lean: float,
    style: dict[str, Any],
    side: int,
) -> None:
    ahead = np.array([0.0, 0.0, 1.0])
    sl = canvas.window(
        [
            start,
            start + ahead * length,
            start + slope * lean,
            start + ahead * length + slope * lean,
        ]
    )
    if sl is None:
        return
    u, v, t = canvas.plane(sl, start, ahead, slope)
    foot = np.maximum(t, 0.1) / np.float32(canvas.f)
    alpha = (
        _edge(u, foot)
        * _edge(length - u, foot)
        * _edge(lean - v, foot)
        * _edge(v, foot)
        * (t > 0.3)
    )
    seen, warm = canvas.noise(u, v, foot, (3.0, 0.8, 0.25, 0.08), 0.9)
    rows = (np.abs(v % 0.3 - 0.15) / 0.15) * np.clip(0.3 / (3 * foot) - 0.3, 0, 1)
    tiles = rows * (
        0.6 + 0.4 * np.cos(u * 2 * np.pi / 0.22) * np.clip(0.22 / (3 * foot) - 0.3, 0, 1)
    )
    tone = 1 + 0.1 * seen + 0.3 * (tiles - 0.4)
    normal = np.array([-side * slope[1], abs(slope[0]), 0.0])
    light = _lit(world, normal)
    warmth = 1.2 * world.solar * light - (4.5 if world.condition == "night" else 2.5)
    heat = world.air + warmth + 0.6 * warm + 1.0 * tiles
    gutter = _edge(0.15 - v, foot)
    rgb = [c * tone * (1 - 0.4 * gutter) + 0.2 * gutter for c in style["roof_tone"]]
    canvas.paint(sl, alpha, _surface(rgb, light, 0.9, heat + 1.5 * gutter), 3, t)


# --------------------------------------------------------------------------- plants


def _foliage(
    canvas: _Canvas,
    world: _World,
    own: np.random.Generator,
    at: tuple[float, float, float],
    blobs: Array,
    tone: Array,
    leaf: float = 1.0,
) -> None:
    """Clusters of leaves: blobs (n, 3) are x, y (m, relative to `at`) and radius."""
    x, y, depth = canvas.project(at)
    if depth < 1.5:
        return
    k = canvas.f / depth
    reach = blobs[:, 2] * 1.25
    c0, c1 = int(x + k * (blobs[:, 0] - reach).min()), int(x + k * (blobs[:, 0] + reach).max()) + 2
    r0, r1 = int(y - k * (blobs[:, 1] + reach).max()), int(y - k * (blobs[:, 1] - reach).min()) + 2
    c0, c1, r0, r1 = max(c0, 0), min(c1, canvas.w), max(r0, 0), min(r1, canvas.h)
    if c1 - c0 < 2 or r1 - r0 < 2:
        return
    h, w = r1 - r0, c1 - c0
    q = 4 if h * w > 4000 else 1
    px = (c0 + (np.arange(max(w // q, 2)) + 0.5) * w / max(w // q, 2) - x) / k
    py = (y - r0 - (np.arange(max(h // q, 2)) + 0.5) * h / max(h // q, 2)) / k
    best = np.full((len(py), len(px)), -9.0, np.float32)
    shade = np.zeros_like(best)
    sunward = canvas.turn(world.sun + np.array([0, world.eye, 0]))
    sunward = sunward / np.linalg.norm(sunward)
    for bx, by, br in blobs:
        ex, ey = (
            ((px - bx) / br).astype(np.float32)[None, :],
            ((py - by) / br).astype(np.float32)[:, None],
        )
        d = 1 - np.square(ex) - np.square(ey)
        facing = (
            0.5 * (sunward[0] * ex + sunward[1] * ey)
            - 0.35 * sunward[2] * np.sqrt(np.maximum(d, 0))
            + 0.25 * ey
        )
        np.copyto(shade, facing, where=d > best)
        np.maximum(best, d, out=best)
    if q > 1:
        best, shade = (_resize(m, h, w, Image.Resampling.BILINEAR) for m in (best, shade))
    u = ((np.arange(c0, c1) - x) / k + own.uniform(0, 50)).astype(np.float32)[None, :] + 40
    v = ((y - np.arange(r0, r1)) / k + own.uniform(0, 50)).astype(np.float32)[:, None] + 40
    foot = np.full((1, 1), 1 / k, np.float32)
    seen, warm = canvas.noise(u, v, foot, (0.9 * leaf, 0.38 * leaf, 0.16 * leaf, 0.07 * leaf), 0.9)
    field = best + 0.36 * seen
    alpha = np.clip(field * 0.35 * k * float(blobs[:, 2].mean()) * 0.5, 0, 1)
    deep = np.clip(0.9 + 0.5 * shade + 0.22 * seen, 0.15, 1.5)
    tint = 1 + 0.12 * warm
    rgb = [c * deep * tint for c in tone]
    lit = np.clip(0.32 + 0.7 * shade + 0.22 * seen, 0, 1)
    night = world.condition == "night"
    heat = (
        world.air
        - (1.0 if night else 0.2)
        + 0.28 * world.solar * lit
        + (0.75 if night else 0.9) * warm
        + 0.55 * shade
    )
    heat = heat - 2.2 * np.clip(0.35 - field, 0, 1) * (
        1 if night else 1.5
    )  # thin edges let the cold sky through
    canvas.paint(
        (slice(r0, r1), slice(c0, c1)),
        alpha,
        _surface(rgb, lit, 0.45 + 0.5 * np.clip(deep, 0, 1), heat),
        5,
        np.float32(depth),
    )


def _leaf_colour(own: np.random.Generator) -> Array:
    green = _colour(0.085, 0.13, 0.045) * np.float32(own.uniform(0.7, 1.7))
    return green * (1 + _colour(*own.normal(0, 0.15, 3)))


def _limb(
    canvas: _Canvas,
    a: Any,
    b: Any,
    wide_a: float,
    wide_b: float,
    values: dict[int, Any],
    label: int,
) -> None:
    """A tapered stick between two world points, widths in metres."""
    p = canvas.project([a, b])
    if p[:, 2].min() < 0.8:
        return
    d = p[1, :2] - p[0, :2]
    n = np.array([-d[1], d[0]]) / max(float(np.hypot(*d)), 1e-6) * canvas.f / 2
    wa, wb = n * wide_a / p[0, 2], n * wide_b / p[1, 2]
    ends = [p[0, :2] + wa, p[1, :2] + wb, p[1, :2] - wb, p[0, :2] - wa]
    values = dict(values)
    light = values.pop("round", None)
    depth = float(p[:, 2].mean())
    canvas.fill(np.column_stack([ends, [depth] * 4]), values, label, screen=True)
    if light is not None:  # the side turned away from the sun is darker
        half = [
            p[0, :2] + wa * light,
            p[1, :2] + wb * light,
            p[1, :2] - wb * light,
            p[0, :2] - wa * light,
        ]
        dark = {k: (0.55 * x if k in (SUN, SKY) else x) for k, x in values.items()}
        dark[HEAT] = values[HEAT] - 0.12 * 4
        corner = ends[:2] + [half[1] * 0.25 + p[1, :2] * 0.75, half[0] * 0.25 + p[0, :2] * 0.75]
        canvas.fill(np.column_stack([corner, [depth] * 4]), dark, label, screen=True)


def _bark(world: _World, own: np.random.Generator, pale: float = 1.0) -> dict[int, Any]:
    tone = own.uniform(0.12, 0.24) * pale
    heat = world.air + 0.6 + 0.4 * world.stored + 0.25 * world.solar
    return {**_surface((tone, tone * 0.9, tone * 0.78), 0.55, 0.7, heat), "round": 1.0}  # type: ignore[dict-item]


def _paint_tree(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    side: int,
    x: float,
    size: float,
    seed: int,
) -> None:
    own = np.random.default_rng(seed)
    foot = np.array([float(world.road_x(z)) + side * x, 0.0, z])
    tall, wide = own.uniform(4.0, 6.5) * size, own.uniform(1.8, 3.2) * size
    bark = _bark(world, own)
    thick = 0.28 * size + 0.08
    fork = foot + (own.normal(0, 0.25), tall * own.uniform(0.35, 0.5), 0)
    _limb(canvas, foot, fork, thick, thick * 0.7, bark, 5)
    n = int(own.integers(10, 22))
    angle, radius = own.uniform(0, 2 * np.pi, n), np.sqrt(own.random(n))
    bx, by = wide * radius * np.cos(angle), tall + wide * 0.75 * radius * np.sin(angle)
    blobs = np.column_stack([bx, by, wide * own.uniform(0.28, 0.5, n)])
    for k in range(0, n, 3):
        _limb(canvas, fork, foot + (bx[k], by[k], 0), thick * 0.45, thick * 0.12, bark, 5)
    _foliage(canvas, world, own, tuple(foot), blobs, _leaf_colour(own))


def _paint_bush(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    side: int,
    x: float,
    size: float,
    seed: int,
) -> None:
    own = np.random.default_rng(seed)
    n = int(own.integers(4, 9))
    blobs = np.column_stack(
        [
            own.normal(0, 0.7, n) * size,
            own.uniform(0.1, 0.8, n) * size,
            own.uniform(0.35, 0.6, n) * size,
        ]
    )
    _foliage(
        canvas,
        world,
        own,
        (float(world.road_x(z)) + side * x, 0.0, z),
        blobs,
        _leaf_colour(own),
        0.7,
    )


def _paint_palm(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    side: int,
    x: float,
    size: float,
    seed: int,
) -> None:
    own = np.random.default_rng(seed)
    foot = np.array([float(world.road_x(z)) + side * x, 0.0, z])
    tall = own.uniform(7, 12) * size
    bend = own.normal(0, 0.03)
    spine = [foot + (bend * (h**2) / 6, h, 0) for h in np.linspace(0, tall, 7)]
    bark = _bark(world, own, 1.3)
    for k in range(6):
        shade = {**bark, HEAT: bark[HEAT] + own.normal(0, 0.4)}
        _limb(canvas, spine[k], spine[k + 1], 0.42 - 0.02 * k, 0.42 - 0.02 * (k + 1), shade, 5)
    top = spine[-1]
    cx, cy, depth = canvas.project(top)
    k = canvas.f / max(depth, 0.1)
    if depth < 2:
        return
    tone, reach = _leaf_colour(own), own.uniform(1.6, 2.4)
    for angle in own.permutation(np.linspace(-0.9, np.pi + 0.9, 26)):
        s = np.linspace(0, 1, 9)
        long = reach * own.uniform(0.75, 1.1) * (0.55 + 0.45 * abs(np.cos(angle)))
        px = cx + k * long * np.cos(angle) * s
        py = cy - k * (long * np.sin(angle) * s - 0.9 * s**2 * reach * 0.6)
        wide = k * 0.17 * np.sin(np.pi * np.clip(s * 0.9 + 0.1, 0, 1)) + 0.4
        tooth = 1 + 0.5 * (np.arange(9) % 2)
        upper, lower = (
            np.column_stack([px, py - wide * 0.5]),
            np.column_stack([px, py + wide * tooth]),
        )
        ring = np.vstack([upper, lower[::-1]])
        lit = float(np.clip(0.35 + 0.35 * np.sin(angle) + own.normal(0, 0.2), 0, 1))
        heat = world.air - 0.6 + 0.3 * world.solar * lit + own.normal(0, 0.8)
        values = _surface(tone * (0.7 + lit), lit, 0.5 + 0.4 * lit, heat)
        canvas.fill(np.column_stack([ring, np.full(len(ring), depth)]), values, 5, screen=True)


def _paint_fence(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    side: int,
    x: float,
    z0: float,
    z1: float,
    seed: int,
) -> None:
    own = np.random.default_rng(seed)
    if own.random() < 0.4:  # a hedge: a row of overlapping blobs, far to near
        tone = _leaf_colour(own)
        for zz in np.arange(z1, z0, -1.6):
            blobs = np.column_stack(
                [own.normal(0, 0.3, 5), own.uniform(0.2, 0.9, 5), own.uniform(0.4, 0.55, 5)]
            )
            _foliage(
                canvas,
                world,
                own,
                (float(world.road_x(zz)) + side * (x + 0.5), 0.0, zz),
                blobs,
                tone,
                0.7,
            )
        return
    xx, high = float(world.road_x(z0)) + side * x, float(own.uniform(0.9, 1.7))
    p0 = np.array([xx, 0.0, z0])
    sl = canvas.window([p0, p0 + (0, high, 0), p0 + (0, 0, z1 - z0), p0 + (0, high, z1 - z0)])
    if sl is None:
        return
    u, v, t = canvas.plane(sl, p0, (0, 0, 1), (0, 1, 0))
    foot = np.maximum(t, 0.1) / np.float32(canvas.f)
    inside = (
        _edge(u, foot)
        * _edge(z1 - z0 - u, foot)
        * _edge(high - v, foot)
        * _edge(v, foot)
        * (t > 0.3)
    )
    along = foot * np.maximum(np.abs(t / max(abs(xx), 0.5)), 1)
    post = _edge(0.06 - np.abs(u % 2.4 - 1.2), along)
    if own.random() < 0.5:
        open_part = np.maximum(post, _edge(0.05 - np.abs(v % (high / 3) - high / 6), foot))
    else:
        slats = _edge(0.045 - np.abs(u % 0.16 - 0.08), along)
        open_part = np.maximum(
            slats, np.maximum(post, _edge(0.05 - np.abs(v - high + 0.12), foot))
        )
    tone = _colour(0.75, 0.74, 0.72) if own.random() < 0.6 else _colour(0.28, 0.2, 0.13)
    light = _lit(world, np.array([-side, 0, 0]))
    heat = world.air + 0.3 + world.solar * light * 0.6 - 0.5 * v
    canvas.paint(sl, inside * open_part, _surface(tone, light, 0.75, heat), 9, t)


# --------------------------------------------------------------------------- posts, wires, signs


def _metal(world: _World, tone: float) -> dict[int, Any]:
    return _surface((tone, tone, tone), 0.5, 0.7, world.air - 0.5 + 0.35 * world.solar)


def _paint_lamp(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    x: float,
    reach: float,
    height: float,
    colour: Array,
) -> None:
    metal = {**_metal(world, 0.22), "round": 1.0}
    _limb(canvas, (x, 0, z), (x, height, z), 0.17, 0.10, metal, 9)
    tip = (x + reach, height + 0.1, z)
    if reach:
        _limb(canvas, (x, height, z), tip, 0.08, 0.06, metal, 9)
    night = world.condition != "day"
    head = _surface(
        colour if night else (0.6, 0.6, 0.58),
        0.5,
        0.8,
        world.air + (7 if night else 1),
        6.0 if night else 0.0,
    )
    cx, cy, depth = canvas.project(tip)
    if depth < 1:
        return
    angle = np.linspace(0, 2 * np.pi, 14)
    r = canvas.f / depth * (0.22 if reach else 0.26)
    flat = 0.35 if reach else 1.3
    ring = np.column_stack(
        [cx + r * np.cos(angle), cy + r * flat * np.sin(angle), np.full(14, depth)]
    )
    canvas.fill(ring, head, 9, screen=True)


def _paint_wires(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    side: int,
    x: float,
    start: float,
) -> None:
    at = [(float(world.road_x(q)) + side * x, q) for q in np.arange(start, 140, 30.0)]
    wood = {**_bark(world, np.random.default_rng(1)), "round": 1.0}
    span = np.linspace(0, 1, 13)
    for (xa, za), (xb, zb) in reversed(list(zip([(at[0][0], -15.0), *at], at, strict=False))):
        for high, shift in ((8.6, -0.8), (8.6, 0.8), (8.6, 0.0), (6.8, 0.0)):
            sag = high - 3.0 * span * (1 - span)
            line = np.column_stack([xa + shift + (xb - xa) * span, sag, za + (zb - za) * span])
            for k in range(12):
                _limb(canvas, line[k], line[k + 1], 0.035, 0.035, _metal(world, 0.06), 9)
        _limb(canvas, (xb - 1.1, 8.4, zb), (xb + 1.1, 8.4, zb), 0.12, 0.12, wood, 9)
        _limb(canvas, (xb, 0, zb), (xb, 9.2, zb), 0.3, 0.2, wood, 9)


def _paint_sign(
    canvas: _Canvas, world: _World, rng: np.random.Generator, z: float, x: float, shape: str
) -> None:
    high = 2.6 if shape != "light" else 3.4
    _limb(canvas, (x, 0, z), (x, high, z), 0.09, 0.08, {**_metal(world, 0.3), "round": 1.0}, 9)
    cx, cy, depth = canvas.project((x, high - 0.3, z))
    k = canvas.f / max(depth, 0.1)
    if depth < 2:
        return
    corners = {"disc": 20, "octagon": 8, "diamond": 4}.get(shape, 4)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + (
        np.pi / corners if shape == "octagon" else 0
    )
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) * 0.36
    if shape == "board":
        ring = np.array([[-0.45, -0.28], [0.45, -0.28], [0.45, 0.28], [-0.45, 0.28]])
    if shape == "light":
        ring = np.array([[-0.17, -0.5], [0.17, -0.5], [0.17, 0.5], [-0.17, 0.5]])
    face = {
        "disc": (0.75, 0.72, 0.7),
        "octagon": (0.6, 0.04, 0.05),
        "diamond": (0.8, 0.6, 0.05),
        "board": (0.05, 0.28, 0.15),
        "light": (0.05, 0.05, 0.05),
    }[shape]
    rim = {
        "disc": (0.65, 0.05, 0.06),
        "octagon": (0.75, 0.75, 0.75),
        "diamond": (0.05, 0.05, 0.05),
        "board": (0.7, 0.7, 0.7),
        "light": (0.08, 0.08, 0.08),
    }[shape]
    light = _lit(world, np.array([0, 0, -1.0]))
    cold = world.air - 1.5 + 0.5 * world.solar * light

    def draw(
        scale: float, rgb: Any, heat: float, glow: float = 0.0, dy: float = 0.0, form: Array = ring
    ) -> None:
        p = np.column_stack(
            [
                cx + form[:, 0] * k * scale,
                cy + (form[:, 1] * scale + dy) * k,
                np.full(len(form), depth),
            ]
        )
        canvas.fill(p, _surface(rgb, light, 0.75, heat, glow), 9, screen=True)

    draw(1.0, rim, cold + 0.6)
    draw(0.8 if shape == "disc" else 0.9, face, cold)
    if shape == "light":
        disc = (
            np.column_stack([np.cos(np.linspace(0, 6.3, 14)), np.sin(np.linspace(0, 6.3, 14))])
            * 0.11
        )
        on = int(rng.integers(3))
        for n, rgb in enumerate(((1.0, 0.12, 0.06), (1.0, 0.6, 0.1), (0.1, 1.0, 0.5))):
            lit = n == on
            draw(
                1.0,
                rgb if lit else np.array(rgb) * 0.12,
                cold + (5 if lit else 0),
                3.0 if lit else 0.0,
                (n - 1) * 0.3,
                disc,
            )
    elif shape != "diamond":
        for row in (-0.09, 0.09) if shape == "board" else (0.0,):
            bar = np.array([[-0.26, -0.05], [0.26, -0.05], [0.26, 0.05], [-0.26, 0.05]]) + (0, row)
            draw(
                1.0,
                (0.7, 0.7, 0.7) if shape != "disc" else (0.05, 0.05, 0.05),
                cold + 0.4,
                form=bar,
            )


# --------------------------------------------------------------------------- cars and people

# stations along a car, rear to front: position, half width, height of the belt line, height of the roof
_BODIES = {
    "saloon": [(0, .74, .78, 0), (.06, .80, .98, 0), (.75, .83, 1.02, 0), (1.35, .85, 1.0, 1.40), (2.5, .85, .98, 1.43), (3.3, .85, .97, 0), (4.3, .80, .80, 0), (4.5, .70, .60, 0)],
    "hatch": [(0, .72, .8, 0), (.05, .80, 1.02, 0), (.5, .83, 1.05, 1.42), (2.2, .85, 1.0, 1.48), (3.0, .85, .98, 0), (3.8, .80, .82, 0), (4.0, .70, .62, 0)],
    "suv": [(0, .78, .9, 0), (.05, .86, 1.14, 0), (.4, .90, 1.16, 1.70), (2.8, .92, 1.12, 1.74), (3.5, .92, 1.1, 0), (4.45, .88, .98, 0), (4.65, .8, .7, 0)],
    "van": [(0, .86, 1.1, 0), (.04, .92, 1.2, 1.98), (.3, .94, 1.2, 2.05), (3.4, .94, 1.15, 2.02), (4.2, .94, 1.1, 0), (4.8, .9, .95, 0), (5.0, .8, .7, 0)],
    "pickup": [(0, .86, 1.05, 0), (.05, .92, 1.1, 0), (1.9, .92, 1.1, 0), (2.1, .92, 1.12, 1.76), (3.4, .92, 1.1, 1.78), (4.1, .92, 1.08, 0), (5.1, .88, 1.0, 0), (5.3, .8, .7, 0)],
}  # fmt: skip
_PAINTS = [(.7, .7, .7), (.42, .43, .45), (.2, .21, .22), (.04, .04, .045), (.35, .04, .05), (.06, .1, .25), (.62, .6, .54), (.1, .16, .14), (.75, .75, .76)]  # fmt: skip


def _paint_car(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    z: float,
    x: float,
    away: bool,
    warm: float,
    moving: bool,
) -> None:
    kind = str(rng.choice(list(_BODIES), p=(0.35, 0.2, 0.3, 0.07, 0.08)))
    body = np.array(_BODIES[kind])
    paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.8, 1.1)
    length = body[-1, 0]
    slope = 2 * world.bend * z + (rng.normal(0, 0.02))
    ahead = np.array([slope, 0, 1.0]) / np.hypot(slope, 1) * (1 if away else -1)
    right = np.array([ahead[2], 0, -ahead[0]])
    middle = np.array([float(world.road_x(z)) + x, 0.0, z + length / 2])
    if canvas.project(middle)[2] < length / 2 + 3.2:
        return

    def place(along: float, across: float, up: float) -> Array:
        return middle + ahead * (along - length / 2) + right * across + (0, up, 0)

    faces: list[tuple[float, Array, dict[int, Any], int]] = []
    here = np.array([0, world.eye, 0])

    def face(corners: Any, what: str, hot: float = 0.0, label: int = 6) -> None:
        p = np.array([place(*c) for c in corners])
        n = np.cross(p[1] - p[0], p[2] - p[0])
        n = n / max(float(np.linalg.norm(n)), 1e-9)
        centre = p.mean(0)
        if n @ (centre - (middle + (0, 0.7, 0))) < 0:
            n = -n
        if n @ (here - centre) <= 0:
            return
        up, light = max(float(n[1]), 0), _lit(world, n)
        sky = 0.45 + 0.55 * up
        cold = (world.sky_heat - world.air) * 0.12 * up
        if what == "glass":
            tone = 0.05 + 0.28 * up
            values = _surface(
                (tone * 0.95, tone, tone * 1.08),
                light * 0.3,
                0.9,
                world.air + 0.6 + 1.8 * cold + 0.1 * world.solar + hot,
            )
        elif what == "dark":
            values = _surface((0.03, 0.03, 0.03), light, 0.4, world.air + 1.5 + hot)
        else:
            absorb = 1.1 - float(paint.mean())
            gloss = paint * (0.9 + 0.25 * up) + 0.05 * up
            values = _surface(
                gloss, light, sky, world.air + cold + 0.7 * world.solar * light * absorb + hot
            )
        faces.append((float(np.linalg.norm(centre - here)), p, values, label))

    for s, (a, b) in enumerate(zip(body[:-1], body[1:], strict=True)):
        hot = 0.0
        front = b[0] > body[-1, 0] - 1.5
        if front:
            hot = 9.0 * warm
        label = 7 if front and warm > 0.5 else 6
        cabin_a, cabin_b = a[3] > 0, b[3] > 0
        for way in (-1, 1):
            low = [
                (a[0], way * a[1], 0.22),
                (b[0], way * b[1], 0.22),
                (b[0], way * b[1] * 1.03, 0.55),
                (a[0], way * a[1] * 1.03, 0.55),
            ]
            face(low, "paint", 0.5 * warm + 0.35 * hot)
            high = [
                low[3],
                low[2],
                (b[0], way * b[1] * 0.98, b[2]),
                (a[0], way * a[1] * 0.98, a[2]),
            ]
            face(high, "paint", 0.4 * hot)
            if cabin_a or cabin_b:
                ra, rb = (a[3] if cabin_a else a[2]), (b[3] if cabin_b else b[2])
                wa, wb = (0.78 if cabin_a else 0.93) * a[1], (0.78 if cabin_b else 0.93) * b[1]
                blank = kind == "van" and s < 3
                face(
                    [high[3], high[2], (b[0], way * wb, rb), (a[0], way * wa, ra)],
                    "paint" if blank else "glass",
                )
        ra, rb = (a[3] if cabin_a else a[2]), (b[3] if cabin_b else b[2])
        wa, wb = (0.78 if cabin_a else 0.98) * a[1], (0.78 if cabin_b else 0.98) * b[1]
        quad = [(a[0], -wa, ra), (a[0], wa, ra), (b[0], wb, rb), (b[0], -wb, rb)]
        face(quad, "paint", hot, label)
        if cabin_a != cabin_b:  # windscreen and rear window, framed by the body

            def inset(i: int, j: int, f: float, quad: Any = quad) -> list[float]:
                return [quad[i][n] + f * (quad[j][n] - quad[i][n]) for n in range(3)]

            glass = [inset(0, 2, 0.1), inset(1, 3, 0.1), inset(2, 0, 0.1), inset(3, 1, 0.1)]
            face([[g[0], g[1], g[2] + 0.006] for g in glass], "glass")
            faces[-1:] = [(faces[-1][0] - 0.05, *faces[-1][1:])] if faces else []
    for end, sign in ((body[0], -0.01), (body[-1], 0.01)):
        ring = [
            (end[0] + sign, -end[1], 0.25),
            (end[0] + sign, end[1], 0.25),
            (end[0] + sign, end[1] * 0.98, end[2]),
            (end[0] + sign, -end[1] * 0.98, end[2]),
        ]
        face(ring, "paint", (7.0 * warm if sign > 0 else 0.6), 7 if sign > 0 and warm > 0.5 else 6)
    for along in (
        length * 0.19,
        length * 0.81,
    ):  # tyres: seen from the side, and from behind under the body
        for way in (-1, 1):
            w = float(body[:, 1].max())
            tyre = 6.0 * warm + 1.5
            for inner in (0.62, 1.0):
                p = [
                    place(along + dl, way * w * inner, 0.02 + dh)
                    for dl, dh in ((-0.3, 0), (0.3, 0), (0.3, 0.5), (-0.3, 0.5))
                ]
                _ = p
            back = np.array(
                [
                    place(along - 0.3 * (1 if away else -1), way * w * q, h)
                    for q, h in ((0.7, 0), (1, 0), (1, 0.4), (0.7, 0.4))
                ]
            )
            if back[:, 2].min() > 0.5:
                canvas.fill(back, _surface((0.02, 0.02, 0.02), 0.2, 0.4, world.air + tyre), 6)
    for _, p, values, label in sorted(faces, key=lambda f: -f[0]):
        canvas.fill(p, values, label)
    _car_details(canvas, world, rng, place, body, here, away, warm, moving)


def _car_details(
    canvas: _Canvas,
    world: _World,
    rng: np.random.Generator,
    place: Any,
    body: Array,
    here: Array,
    away: bool,
    warm: float,
    moving: bool,
) -> None:
    """Wheels on the visible side; lamps, plate, grille, exhaust on the visible end."""
    length, w = body[-1, 0], float(body[:, 1].max()) * 1.035
    centre, tip = place(length / 2, 0, 0.5), place(length / 2, 1, 0.5)
    way = 1 if (tip - centre) @ (here - centre) > 0 else -1
    ring = np.linspace(0, 2 * np.pi, 18)
    if abs((tip - centre) @ (here - centre)) > w:
        for along in (length * 0.19, length * 0.81):
            for r, rgb, heat in (
                (0.39, (0.02, 0.02, 0.02), 0.5),
                (0.33, (0.035, 0.035, 0.035), 1.5 + 6 * warm),
                (0.2, (0.35, 0.35, 0.36), 1 + 9 * warm),
                (0.07, (0.1, 0.1, 0.1), 3 * warm),
            ):
                p = [place(along + r * np.cos(q), way * w, 0.33 + r * np.sin(q)) for q in ring]
                canvas.fill(p, _surface(rgb, 0.3, 0.5, world.air + heat), 6)
    dark = world.condition != "day"
    end, e = (body[0], -0.03) if away else (body[-1], 0.03)
    if not away and (place(length, 0, 0) - centre) @ (here - centre) <= 0:
        return

    def patch(
        a: float, b: float, c: float, d: float, rgb: Any, heat: float, glow: float = 0.0
    ) -> None:
        p = [place(end[0] + e, q, h) for q, h in ((a, c), (b, c), (b, d), (a, d))]
        canvas.fill(p, _surface(rgb, 0.4, 0.7, world.air + heat, glow), 6)

    hw, top = float(end[1]), float(end[2])
    patch(-hw, hw, 0.22, 0.42, (0.05, 0.05, 0.05), 1.0 + 3 * warm)
    on = moving and (dark or rng.random() < 0.3)
    for q in (-1, 1):
        if away:
            patch(
                q * hw * 0.98,
                q * hw * 0.66,
                top - 0.22,
                top - 0.03,
                (0.55, 0.02, 0.03) if not on else (1.0, 0.1, 0.06),
                0.8 + on,
                2.2 * on,
            )
        else:
            patch(
                q * hw * 0.98,
                q * hw * 0.6,
                top - 0.16,
                top - 0.02,
                (0.6, 0.6, 0.6) if not on else (1.0, 0.97, 0.85),
                1 + 6 * on,
                5.0 * on,
            )
    if away:
        patch(-0.26, 0.26, 0.5, 0.62, (0.65, 0.65, 0.62), -0.8)
        patch(hw * 0.5, hw * 0.66, 0.24, 0.33, (0.1, 0.1, 0.1), 16 * warm)
    else:
        patch(-hw * 0.5, hw * 0.5, top - 0.2, top - 0.03, (0.04, 0.04, 0.04), 7 * warm)
        patch(-0.26, 0.26, 0.36, 0.47, (0.65, 0.65, 0.62), 1.0)


def _paint_person(
    canvas: _Canvas, world: _World, rng: np.random.Generator, z: float, x: float, riding: bool
) -> None:
    """Capsules: head, trunk, arms, legs; skin is warmest, clothes in between."""
    cx, cy, depth = canvas.project((float(world.road_x(z)) + x, 0.0, z))
    if depth < 3:
        return
    size = rng.uniform(0.92, 1.06)
    stride, lean = (rng.uniform(0.05, 0.38), rng.normal(0, 0.04))
    flip = int(rng.choice((-1, 1)))
    skin = np.array([0.5, 0.34, 0.26]) * rng.uniform(0.35, 1.1)
    coat, legs = (
        np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.4, 1.0) + 0.02
        for _ in range(2)
    )
    up = 0.35 if riding else 0.0
    hip, neck = (0.0, 0.92 + up * 0.4), (lean + 0.12 * riding, 1.45 + up * 0.5)
    warm = world.air * 0.35
    wear = 18.5 + warm + rng.normal(0, 1.0)
    head_at = (neck[0] + 0.02, neck[1] + 0.20)
    feet = ((stride, 0.06 + 0.25 * riding), (-stride * 0.9, 0.06 + 0.5 * riding))
    knees = ((0.6 * stride + 0.05, 0.5 + up), (-0.35 * stride + 0.06, 0.5 + up * 1.2))
    hands = (
        (stride * 0.8 + 0.45 * riding, 0.88 + 0.25 * riding),
        (-stride * 0.7 + 0.5 * riding, 0.88 + 0.25 * riding),
    )
    limbs = [(hip, k, 0.085, 0.065, legs, wear) for k in knees]
    limbs += [(k, f, 0.065, 0.05, legs, wear - 1.5) for k, f in zip(knees, feet, strict=True)]
    limbs += [(f, (f[0] + 0.12, f[1] - 0.01), 0.05, 0.04, legs * 0.3, wear - 4) for f in feet]
    limbs += [((hip[0], hip[1] + 0.05), neck, 0.15, 0.16, coat, wear + 0.8)]
    limbs += [((neck[0], neck[1] - 0.08), h, 0.06, 0.045, coat, wear) for h in hands]
    limbs += [(h, (h[0] + 0.03, h[1] - 0.07), 0.045, 0.04, skin, 30.0) for h in hands]
    limbs += [
        (neck, head_at, 0.06, 0.06, skin, 33.0),
        (
            (head_at[0], head_at[1] - 0.03),
            (head_at[0], head_at[1] + 0.03),
            0.10,
            0.105,
            skin,
            32.5,
        ),
    ]
    limbs += [
        (
            (head_at[0] - 0.02, head_at[1] + 0.07),
            (head_at[0] - 0.01, head_at[1] + 0.09),
            0.10,
            0.095,
            skin * 0.2,
            wear - 0.5,
        )
    ]
    k = canvas.f / depth * size
    if riding:
        for wx in (-0.5, 0.55):
            angle = np.linspace(0, 2 * np.pi, 25)
            for a, b in zip(angle[:-1], angle[1:], strict=True):
                _disc_line(
                    canvas,
                    cx,
                    cy,
                    k,
                    depth,
                    flip,
                    (wx + 0.34 * np.cos(a), 0.34 + 0.34 * np.sin(a)),
                    (wx + 0.34 * np.cos(b), 0.34 + 0.34 * np.sin(b)),
                    world,
                )
        for a, b in (
            ((-0.5, 0.34), (-0.1, 0.85)),
            ((-0.1, 0.85), (0.4, 0.8)),
            ((0.4, 0.9), (0.55, 0.34)),
            ((-0.1, 0.85), (0.0, 0.3)),
            ((0.0, 0.3), (0.4, 0.8)),
        ):
            _disc_line(canvas, cx, cy, k, depth, flip, a, b, world)
    c0, c1 = max(int(cx - 0.9 * k), 0), min(int(cx + 0.9 * k) + 1, canvas.w)
    r0, r1 = max(int(cy - 2.3 * k), 0), min(int(cy + 0.1 * k) + 2, canvas.h)
    if c1 - c0 < 2 or r1 - r0 < 2:
        return
    sl = (slice(r0, r1), slice(c0, c1))
    px = (((np.arange(c0, c1) - cx) / k) * flip).astype(np.float32)[None, :]
    py = ((cy - np.arange(r0, r1)) / k).astype(np.float32)[:, None]
    foot = np.full((1, 1), 1 / k, np.float32)
    seen, felt = canvas.noise(px + 9 + x * 7, py + 9, foot, (0.4, 0.15, 0.06), 0.9)
    sunward = flip * float(world.sun[0])
    for a, b, ra, rb, rgb, heat in limbs:
        d = (b[0] - a[0], b[1] - a[1])
        s = np.clip(
            ((px - a[0]) * d[0] + (py - a[1]) * d[1]) / max(d[0] ** 2 + d[1] ** 2, 1e-6), 0, 1
        )
        ex, ey = px - a[0] - s * d[0], py - a[1] - s * d[1]
        r = ra + s * (rb - ra)
        dist = np.sqrt(np.square(ex) + np.square(ey))
        alpha = np.clip((r - dist) * k + 0.5, 0, 1)
        bulge = ex / r
        light = np.clip(0.4 + 0.5 * bulge * sunward + 0.1 * seen, 0, 1)
        tone = [c * (1 + 0.15 * seen) for c in rgb]
        warm_here = (
            heat
            + 0.7 * felt * (heat < 30)
            - 1.5 * np.square(np.clip(dist / r, 0, 1))
            + 0.2 * world.solar
        )
        canvas.paint(
            sl, alpha, _surface(tone, light, 0.65 + 0.15 * ey / r, warm_here), 8, np.float32(depth)
        )


def _disc_line(
    canvas: _Canvas,
    cx: float,
    cy: float,
    k: float,
    depth: float,
    flip: int,
    a: Any,
    b: Any,
    world: _World,
) -> None:
    p, q = (
        np.array([cx + flip * k * a[0], cy - k * a[1]]),
        np.array([cx + flip * k * b[0], cy - k * b[1]]),
    )
    n = np.array([p[1] - q[1], q[0] - p[0]])
    n = n / max(float(np.hypot(*n)), 1e-6) * k * 0.018
    canvas.fill(
        np.column_stack([[p + n, q + n, q - n, p - n], [depth] * 4]),
        _metal(world, 0.08),
        9,
        screen=True,
    )


# --------------------------------------------------------------------------- the two cameras


def _blurred(a: Array, radius: float) -> Array:
    """Gaussian blur of a plane, at a quarter of the size where that shows no difference."""
    h, w = a.shape
    k = max(1, min(int(radius / 2), h // 8, w // 8))
    small = _resize(a, max(h // k, 1), max(w // k, 1), Image.Resampling.BOX) if k > 1 else a
    low, high = float(small.min()), float(small.max())
    scale = 255.0 / max(high - low, 1e-6)
    image = Image.fromarray(np.clip((small - low) * scale, 0, 255).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(radius / k)), np.float32) / scale + low
    return _resize(soft, h, w, Image.Resampling.BILINEAR) if k > 1 else soft


def _lamplight(canvas: _Canvas, world: _World, rng: np.random.Generator) -> Array:
    """Light of street lamps and of our own headlights, at half resolution and then enlarged: (3, h, w)."""
    depth = canvas.planes[DEPTH][::2, ::2]
    a = ((np.arange(0, canvas.w, 2) - canvas.cx) / canvas.f).astype(np.float32)[None, :]
    b = ((canvas.cy - np.arange(0, canvas.h, 2)) / canvas.f).astype(np.float32)[:, None]
    x = depth * (a * np.float32(canvas.cos) + np.float32(canvas.sin))
    z = depth * (np.float32(canvas.cos) - a * np.float32(canvas.sin))
    y = depth * b + np.float32(canvas.eye)
    light = np.zeros((3, *depth.shape), np.float32)
    power = 9.0 if world.condition == "night" else 0.8
    for lx, ly, lz, colour in world.lamps[:5]:
        d2 = (
            np.square(x - np.float32(lx))
            + np.square(y - np.float32(ly))
            + np.square(z - np.float32(lz))
        )
        down = np.clip((np.float32(ly + 0.4) - y) / np.sqrt(d2 + 1), 0.05, 1)
        e = power * down / (d2 + 4)
        light += colour[:, None, None] * e
    if world.condition == "night":
        beam = (
            np.exp(-np.square(a / 0.22))
            * np.clip(0.12 - b * 9, 0.03, 1)
            * 34
            / (np.square(depth) + 60)
        )
        light += _colour(1.0, 0.95, 0.85)[:, None, None] * beam
    return np.stack([_resize(c, canvas.h, canvas.w, Image.Resampling.BILINEAR) for c in light])


def _visible_camera(
    canvas: _Canvas, world: _World, rng: np.random.Generator, shift: tuple[float, float]
) -> Array:
    p = canvas.planes
    lamps = _lamplight(canvas, world, rng) if world.condition != "day" else None
    far = np.exp(-np.minimum(p[DEPTH], FAR) / np.float32(world.haze_length))
    far = np.where(p[DEPTH] > FAR, 1, far)
    exposure = {"day": 0.95, "dusk": 1.0, "night": 1.1}[world.condition] * rng.uniform(0.85, 1.2)
    cast = 1 + rng.normal(0, 0.03, 3)
    if world.condition == "night":
        cast = np.array([1.0, 0.92, rng.uniform(0.5, 1.05)])
    dy, dx = (int(round(2 * s)) for s in shift)
    crop = (slice(MARGIN - dy, canvas.h - MARGIN - dy), slice(MARGIN - dx, canvas.w - MARGIN - dx))
    h, w = canvas.h - 2 * MARGIN, canvas.w - 2 * MARGIN
    sensor = rng.standard_normal((h // 2 + 1, w // 2 + 1)).astype(np.float32)
    grain = _resize(sensor, h, w) * {"day": 0.006, "dusk": 0.010, "night": 0.016}[world.condition]
    planes = []
    for k in range(3):
        light = p[SUN] * world.sun_colour[k] + p[SKY] * world.sky_colour[k]
        if lamps is not None:
            light += lamps[k]
        radiance = p[k] * (light + p[GLOW])
        radiance = (radiance - world.haze_colour[k]) * far + world.haze_colour[k]
        radiance = radiance[crop] * np.float32(exposure * cast[k])
        size = 0.012 * w
        halo = np.maximum(radiance - 0.9, 0)
        if world.condition != "day":
            radiance = (
                radiance
                + 0.9 * _blurred(np.minimum(halo, 4), size)
                + 0.5 * _blurred(np.minimum(halo, 4), 4 * size)
            )
        floor = 0.045 + 0.02 * (world.condition == "day")
        signal = floor + (1 - floor) * (1 - np.exp(-1.55 * radiance)) / 0.86
        signal = np.power(np.clip(signal, 0, 1), np.float32(1 / 1.9)) + grain
        planes.append(np.clip(signal * 255 + 0.5, 0, 255).astype(np.uint8))
    image = Image.fromarray(np.stack(planes, axis=-1)).filter(ImageFilter.GaussianBlur(0.6))
    return np.asarray(image)


def _thermal_camera(temperature: Array, rng: np.random.Generator) -> Array:
    """Lens blur, noise, and a gain between linear and histogram equalisation, as thermal cores do it."""
    h, w = temperature.shape
    noise = rng.standard_normal((h, w)).astype(np.float32)
    noise = 0.6 * noise + 0.6 * _resize(rng.standard_normal((h // 2 + 1, w // 2 + 1)), h, w)
    columns = rng.standard_normal((1, w)).astype(np.float32) * 0.35
    level = temperature + rng.uniform(0.06, 0.16) * (noise + columns)
    low, high = np.percentile(level, (0.5, 99.7))
    high = max(float(high), float(low) + 4.0)
    counts, edges = np.histogram(level, bins=512, range=(float(low), high))
    plateau = np.minimum(counts, level.size * rng.uniform(0.006, 0.02))
    curve = np.cumsum(plateau + 1e-3)
    equal = np.interp(level, edges[1:], curve / curve[-1])
    linear = np.clip((level - low) / (high - low), 0, 1)
    mix = rng.uniform(0.35, 0.85)
    tone = (mix * equal + (1 - mix) * linear).astype(np.float32) * 255
    base = _blurred(tone, 0.015 * w)
    tone = base * np.float32(0.92) + 8 + (tone - base) * np.float32(rng.uniform(1.1, 1.6))
    soft = Image.fromarray(np.clip(tone + 0.5, 0, 255).astype(np.uint8))
    return np.asarray(soft)
