"""What scenes are painted on, and what the painters are told (chapter 1; `scenes` comes after).

`World` holds the weather, the street and what stands in it. `Canvas` holds eight planes behind one
pinhole camera: red, green and blue albedo, the shares of sunlight and of skylight, own light,
apparent temperature, depth. Painters give every surface a look in all planes at once, so that both
cameras of a scene see the same edges.
World coordinates in metres: x right, y up, z forward, the camera `eye` above the origin; °C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Window = tuple[slice, slice]
CONDITIONS = ("day", "dusk", "night")
LABELS = ("sky", "road", "walk", "wall", "glass", "plant", "car", "engine", "person", "post")
RGB, SUN, SKY, GLOW, HEAT, DEPTH = slice(0, 3), 3, 4, 5, 6, 7  # the planes
MARGIN = 4  # canvas pixels around the frame: room for a shift of 2 infrared (4 visible) pixels
FAR = 4000.0  # depth of the sky, m


def as_rgb(*tone: float) -> Array:
    return np.array(tone, np.float32)


def resize(a: Array, h: int, w: int, how: Any = Image.Resampling.BILINEAR) -> Array:
    return np.asarray(Image.fromarray(np.ascontiguousarray(a, np.float32)).resize((w, h), how))


def cover(inside: Array, foot: Array) -> Array:
    """How much of a pixel of size `foot` (m) lies inside an edge that is `inside` (m) away."""
    return np.clip(inside / foot + 0.5, 0, 1)


@dataclass
class World:
    """Weather, street and what stands in it; colours are linear RGB, float32 (3,)."""

    rng: np.random.Generator  # every draw of the scene, in the order of painting
    condition: str  # one of CONDITIONS
    sun: Array  # (3,), unit vector towards it
    cloud: float  # 0 clear to 1 overcast
    sun_colour: Array
    sky_colour: Array
    haze: Array  # colour of what is too far to see
    haze_length: float  # m
    air: float  # °C
    solar: float  # K that full sun adds to a dark surface
    stored: float  # K that massive things have kept from earlier
    ground: float  # °C of asphalt in the shade
    zenith: float  # °C of the sky overhead, apparent
    style: str  # "town", "suburb", "avenue" or "open"
    road: float  # half its width, m
    walk: float  # width of each pavement, m
    bend: float  # x of the road's middle is offset + bend·z²
    offset: float
    things: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    shadows: list[tuple[Array, float]] = field(default_factory=list)  # (4, 2) and height, m
    puffs: list[tuple[float, ...]] = field(default_factory=list)  # leaves: x, height, z, radius, m
    lamps: list[tuple[float, float, float, Array]] = field(default_factory=list)  # x, y, z, colour

    @property
    def day(self) -> bool:
        return self.condition == "day"

    @property
    def night(self) -> bool:
        return self.condition == "night"

    def road_x(self, z: Any) -> Any:
        """x of the road's middle."""
        return self.offset + self.bend * np.square(z)

    def lit(self, *normal: float) -> float:
        """How squarely the sun meets a surface."""
        x, y, z = normal
        across = x * self.sun[0] + y * self.sun[1] + z * self.sun[2]
        return max(0.0, float(across) / (x * x + y * y + z * z) ** 0.5)

    def put(self, distance: float, painter: Callable[..., None], *details: Any) -> None:
        """Have a painter called with `details`, before those of what stands nearer."""
        self.things.append((distance, painter, details))

    def cast(self, x: float, z: float, wide: float, long: float, height: float) -> None:
        """A box that throws a shadow on the ground."""
        box = [(x, z), (x + wide, z), (x + wide, z + long), (x, z + long)]
        self.shadows.append((np.array(box), height))


class Canvas:
    """The planes (8, h, w) of a scene, its camera, and the few ways of painting on them."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
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
        seen, felt = (resize(x, 576, 576, Image.Resampling.BICUBIC)[32:-32, 32:-32] for x in small)
        self.table = ((seen + 1j * felt) / seen.std()).astype(np.complex64).ravel()
        self.cells = rng.random((4, 32, 32)).astype(np.float32)  # one draw a window, brick, …

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

    def unproject(self, depth: Array, a: Array) -> tuple[Array, Array]:
        """World x and z of what is `depth` away in columns `a` (a part of `ax`)."""
        cos, sin = np.float32(self.cos), np.float32(self.sin)
        return depth * (a * cos + sin), depth * (cos - a * sin)

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
        alpha = cover(np.minimum(np.minimum(u, lu - u), np.minimum(v, lv - v)), foot) * (t > 0.3)
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
                total += resize(parts[q].real, *shape) + 1j * resize(parts[q].imag, *shape)
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
