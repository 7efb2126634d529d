"""Painters of what stands and moves in a street: plants, posts, cars, people (for `scenes`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .scene_canvas import Array, Canvas, World, as_rgb, cover, resize

# --- plants --------------------------------------------------------------------------------------


def _paint_leaves(
    canvas: Canvas, world: World, foot: Any, blobs: Array, tone: Array, leaf: float = 1.0
) -> None:
    """Leaves in clusters: blobs (n, 3) are x, y (m, from `foot`) and radius."""
    x, y, depth = canvas.project(foot)
    k = canvas.f / max(depth, 0.1)
    reach = blobs[:, 2] * 1.3
    sl = canvas.clip(
        x + k * np.append(blobs[:, 0] - reach, blobs[:, 0] + reach),
        y - k * np.append(blobs[:, 1] - reach, blobs[:, 1] + reach),
    )
    if sl is None or depth < 2:
        return
    h, w = sl[0].stop - sl[0].start, sl[1].stop - sl[1].start
    q = 4 if min(h, w) > 40 else 1
    px = (np.linspace(sl[1].start, sl[1].stop, max(w // q, 2), dtype=np.float32)[None] - x) / k
    py = (y - np.linspace(sl[0].start, sl[0].stop, max(h // q, 2), dtype=np.float32)[:, None]) / k
    best = np.full((py.size, px.size), -9, np.float32)
    shade = np.zeros_like(best)
    right_, up_, ahead = canvas.turn(world.sun + (0, canvas.eye, 0))
    for bx, by, br in blobs:
        ex, ey = (px - bx) / br, (py - by) / br
        d = 1 - np.square(ex) - np.square(ey)
        bulge = np.sqrt(np.maximum(d, 0))
        facing = 0.5 * (right_ * ex + up_ * ey) - 0.35 * ahead * bulge + 0.25 * ey
        np.copyto(shade, facing, where=d > best)
        np.maximum(best, d, out=best)
    best, shade = resize(best, h, w), resize(shade, h, w)
    start = world.rng.uniform(40, 90)
    u = np.float32(start) + (np.arange(sl[1].start, sl[1].stop, dtype=np.float32)[None] - x) / k
    v = np.float32(start) + (y - np.arange(sl[0].start, sl[0].stop, dtype=np.float32)[:, None]) / k
    scales = (x * leaf for x in (0.8, 0.3, 0.12, 0.05, 0.03))
    seen, felt = canvas.noise(u, v, np.full((1, 1), 1 / k, np.float32), *scales)
    field, rough, patchy = best + 0.3 * seen, *world.rng.uniform((0.1, 0.12), (0.27, 0.6))
    alpha = np.clip(field * 0.17 * k * float(blobs[:, 2].mean()), 0, 1)
    deep = np.clip(0.85 + 0.5 * shade + rough * seen, 0.12, 1.6)
    lit = np.clip(0.3 + 0.7 * shade + rough * seen, 0, 1)
    tint = deep * (1 + 0.1 * felt)
    cool = world.air - (0.8 if world.night else 0.0)
    heat = cool + 0.28 * world.solar * lit + patchy * felt + 0.5 * shade
    heat = heat - 2.5 * np.clip(0.35 - field, 0, 1)  # thin edges let the cold sky through
    look = ([c * tint for c in tone], lit, 0.4 + 0.5 * np.clip(deep, 0, 1), heat)
    canvas.paint(sl, alpha, look, "plant", np.float32(depth))


def _leaf_tone(world: World) -> Array:
    rng = world.rng
    return as_rgb(0.09, 0.115, 0.05) * rng.uniform(0.55, 1.4) * (1 + rng.normal(0, 0.08, 3))


def _bark(world: World, pale: float = 1.0) -> tuple[Any, ...]:
    tone = world.rng.uniform(0.12, 0.24) * pale * as_rgb(1, 0.9, 0.78)
    return tone, 0.55, 0.7, world.air + 0.6 + 0.4 * world.stored + 0.25 * world.solar


def paint_tree(canvas: Canvas, world: World, x: float, z: float, size: float) -> None:
    """A trunk, branches, and leaves around their ends."""
    rng, foot, bark = world.rng, np.array([x, 0.0, z]), _bark(world)
    tall, wide, n = rng.uniform(4, 6.5) * size, rng.uniform(1.8, 3.2) * size, rng.integers(12, 26)
    thick = 0.28 * size + 0.08
    fork = foot + (rng.normal(0, 0.25), tall * rng.uniform(0.35, 0.5), 0)
    canvas.stick(foot, fork, thick, 0.7 * thick, bark, "plant")
    angle, radius = rng.uniform(0, 2 * np.pi, n), wide * np.sqrt(rng.random(n))
    at = np.stack([radius * np.cos(angle), tall + 0.75 * radius * np.sin(angle), 0 * angle], -1)
    for end in at[::2]:
        canvas.stick(fork, foot + end, 0.4 * thick, 0.1 * thick, bark, "plant")
    blobs = np.column_stack([at[:, :2], wide * rng.uniform(0.22, 0.46, n)])
    _paint_leaves(canvas, world, foot, blobs, _leaf_tone(world))


def paint_bush(canvas: Canvas, world: World, x: float, z: float, size: float) -> None:
    """Leaves down to the ground."""
    n = world.rng.integers(4, 9)
    low, high = np.array([[-1.0, 0.1, 0.35], [1.0, 0.8, 0.6]]) * size
    blobs = world.rng.uniform(low, high, (n, 3))
    _paint_leaves(canvas, world, (x, 0, z), blobs, _leaf_tone(world), 0.6)


def paint_palm(canvas: Canvas, world: World, x: float, z: float, size: float) -> None:
    """A bent trunk and feathered fronds."""
    rng, tall = world.rng, world.rng.uniform(7, 12) * size
    rise = np.linspace(0, tall, 8)
    spine = np.stack([x + rng.normal(0, 0.006) * rise**2, rise, z + 0 * rise], -1)
    tone, sun, sky, heat = _bark(world, 1.3)
    for k in range(7):
        look = (tone, sun, sky, heat + rng.normal(0, 0.3))
        canvas.stick(spine[k], spine[k + 1], 0.42 - 0.02 * k, 0.4 - 0.02 * k, look, "plant")
    cx, cy, depth = canvas.project(spine[-1])
    k, tone, reach = canvas.f / max(depth, 0.1), _leaf_tone(world), rng.uniform(1.6, 2.4)
    q = np.linspace(0, 1, 15)
    for angle in rng.permutation(np.linspace(-0.9, np.pi + 0.9, 30)):
        long = k * reach * rng.uniform(0.75, 1.1) * (0.55 + 0.45 * abs(np.cos(angle)))
        px = cx + long * np.cos(angle) * q
        py = cy - long * np.sin(angle) * q + 0.55 * k * reach * q**2
        wide = k * 0.15 * np.sin(np.pi * (0.1 + 0.9 * q)) + 0.3
        lower = py + wide * (0.6 + 0.9 * (np.arange(15) % 2))
        upper = np.column_stack([px, py - wide / 2])
        ring = np.vstack([upper, np.column_stack([px, lower])[::-1]])
        lit = float(np.clip(0.35 + 0.35 * np.sin(angle) + rng.normal(0, 0.2), 0, 1))
        warmth = world.air - 0.6 + 0.3 * world.solar * lit + rng.normal(0, 0.6)
        look = (tone * (0.6 + lit), lit, 0.4 + 0.4 * lit, warmth)
        canvas.fill(ring, look, "plant", max(depth, 0.1))


def paint_fence(
    canvas: Canvas, world: World, side: int, out: float, z: float, draw: Array
) -> None:
    """7.2 m of rails or pickets."""
    tall = 0.9 + 0.8 * draw[0]
    panel = canvas.panel((world.road_x(z) + side * out, 0, z), (0, 0, 1), (0, 1, 0), 7.2, tall)
    if panel is None:
        return
    sl, u, v, t, foot, alpha = panel
    along = foot * np.maximum(t / out, 1)
    solid = cover(0.06 - np.abs(u % 2.4 - 1.2), along)
    if draw[1] < 0.5:
        solid = np.maximum(solid, cover(0.05 - np.abs(v % (tall / 3) - tall / 6), foot))
    else:
        solid = np.maximum(solid, cover(0.045 - np.abs(u % 0.16 - 0.08), along))
    tone = as_rgb(0.75, 0.74, 0.72) if draw[2] < 0.6 else as_rgb(0.28, 0.2, 0.13)
    light = world.lit(-side, 0, 0)
    heat = world.air + 0.3 + 0.6 * world.solar * light - 0.5 * v
    canvas.paint(sl, alpha * solid, (tone, light, 0.75, heat), "post", t)


# --- posts, wires, signs -------------------------------------------------------------------------

SIGNS = {  # corners, face, rim
    "disc": (20, (0.75, 0.72, 0.7), (0.65, 0.05, 0.06)),
    "stop": (8, (0.6, 0.04, 0.05), (0.75, 0.75, 0.75)),
    "warning": (4, (0.8, 0.6, 0.05), (0.05, 0.05, 0.05)),
    "board": (0, (0.05, 0.28, 0.15), (0.7, 0.7, 0.7)),
    "light": (0, (0.05, 0.05, 0.05), (0.08, 0.08, 0.08)),
}


def _metal(world: World, tone: float) -> tuple[Any, ...]:
    return as_rgb(tone, tone, tone), 0.5, 0.7, world.air - 0.5 + 0.35 * world.solar


def _ring(n: int, wide: float, tall: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False) + (np.pi / 8 if n == 8 else 0)
    return np.column_stack([wide * np.cos(angle), tall * np.sin(angle)])


def paint_lamp(
    canvas: Canvas, world: World, x: float, y: float, z: float, reach: float, colour: Array
) -> None:
    """A street lamp, bent over the road by `reach` or straight."""
    canvas.stick((x, 0, z), (x, y, z), 0.17, 0.1, _metal(world, 0.22), "post")
    if reach:
        canvas.stick((x, y, z), (x + reach, y + 0.1, z), 0.08, 0.06, _metal(world, 0.22), "post")
    cx, cy, depth = canvas.project((x + reach, y + 0.1, z))
    ring = _ring(14, 0.24, 0.08 if reach else 0.3) * canvas.f / max(depth, 0.5) + (cx, cy)
    on, off = (colour, 0.5, 0.8, world.air + 7, 6.0), ((0.6, 0.6, 0.58), 0.5, 0.8, world.air + 1)
    canvas.fill(ring, off if world.day else on, "post", max(depth, 0.1))


def paint_pole(canvas: Canvas, world: World, x: float, z: float, next_x: float) -> None:
    """A wooden pole and the wires from it to the next one, 30 m on."""
    q = np.linspace(0, 1, 13)
    for high, dx in ((8.6, -0.8), (8.6, 0.8), (8.6, 0), (6.8, 0)):
        line = np.stack([x + dx + (next_x - x) * q, high - 3 * q * (1 - q), z + 30 * q], -1)
        for a, b in zip(line, line[1:], strict=False):
            canvas.stick(a, b, 0.035, 0.035, _metal(world, 0.06), "post")
    canvas.stick((x - 1.1, 8.4, z), (x + 1.1, 8.4, z), 0.12, 0.12, _bark(world), "post")
    canvas.stick((x, 0, z), (x, 9.2, z), 0.3, 0.2, _bark(world), "post")


def paint_sign(canvas: Canvas, world: World, x: float, z: float, shape: str) -> None:
    """A traffic sign or light on its post."""
    high = 3.4 if shape == "light" else 2.6
    canvas.stick((x, 0, z), (x, high, z), 0.09, 0.08, _metal(world, 0.3), "post")
    (cx, cy, depth), light = canvas.project((x, high - 0.3, z)), world.lit(0, 0, -1)
    cold = world.air - 1.5 + 0.5 * world.solar * light

    def draw(form: Array, rgb: Any, heat: float, glow: float = 0.0) -> None:
        look = (rgb, light, 0.75, heat, glow)
        canvas.fill(form * canvas.f / max(depth, 0.5) + (cx, cy), look, "post", max(depth, 0.1))

    n, face, rim = SIGNS[shape]
    wide, tall = (0.17, 0.5) if shape == "light" else (0.45, 0.28)
    box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    form = _ring(n, 0.36, 0.36) if n else box * (wide, tall)
    draw(form, rim, cold + 0.6)
    draw(form * (0.8 if shape == "disc" else 0.9), face, cold)
    if shape == "light":
        on = world.rng.integers(3)
        for k, rgb in enumerate((as_rgb(1, 0.12, 0.06), as_rgb(1, 0.6, 0.1), as_rgb(0.1, 1, 0.5))):
            lamp = _ring(14, 0.11, 0.11) + (0, 0.3 * k - 0.3)
            draw(lamp, rgb if k == on else 0.12 * rgb, cold + 5 * (k == on), 3.0 * (k == on))
    elif shape != "warning":
        for dy in (-0.09, 0.09) if shape == "board" else (0.0,):
            tone = (0.05,) * 3 if shape == "disc" else (0.7,) * 3
            draw(box * (0.26, 0.05) + (0, dy), tone, cold + 0.4)


# --- cars and people -----------------------------------------------------------------------------

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


def paint_car(
    canvas: Canvas, world: World, x: float, z: float, away: bool, warm: float, moving: bool
) -> None:
    """A body lofted through stations; `warm` (0 to 1) is how long the engine has been running."""
    rng = world.rng
    kind = str(rng.choice(list(_BODIES), p=(0.35, 0.2, 0.3, 0.07, 0.08)))
    body = np.array(_BODIES[kind].split(), float).reshape(-1, 4)
    paint = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.8, 1.1)
    slope, long = 2 * world.bend * z + rng.normal(0, 0.02), float(body[-1, 0])
    ahead = np.array([slope, 0, 1]) / np.hypot(slope, 1) * (1 if away else -1)
    right, middle = np.array([ahead[2], 0, -ahead[0]]), np.array([x, 0, z + long / 2])
    if canvas.project(middle)[2] < long / 2 + 3.2:
        return
    here, faces = np.array([0, canvas.eye, 0]), []

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
        up, light = max(float(n[1]), 0), world.lit(*n)
        cold = 0.1 * (world.zenith - world.air) * up
        if what == "glass":
            tone = (0.05 + 0.28 * up) * as_rgb(0.95, 1, 1.08)
            look = (tone, 0.3 * light, 0.9, world.air - 1 + 1.8 * cold + 0.1 * world.solar)
        else:
            sunned = 0.7 * world.solar * light * (1.1 - float(paint.mean()))
            gloss = paint * (0.9 + 0.25 * up) + 0.05 * up
            heat = world.air + cold + sunned + hot * rng.uniform(0.7, 1.2) + rng.normal(0, 0.3)
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
        square = ((-1, 0.25), (1, 0.25), (1, q[2]), (-1, q[2]))
        ring = [(q[0] + shift, w * q[1], h) for w, h in square]
        face(ring, "engine" if shift > 0 else "paint", 7 * warm if shift > 0 else 0.6)
    wide, rubber = float(body[:, 1].max()) * 1.035, (as_rgb(0.02, 0.02, 0.02), 0.2, 0.4)
    axles = (0.19 * long, 0.81 * long) if 0.06 * canvas.f > z else ()  # not where they are a pixel
    for along in axles:  # tyres from behind, under the body
        for way in (-1, 1):
            back = along - 0.3 if away else along + 0.3
            outline = ((0.7, 0), (0.97, 0), (0.97, 0.4), (0.7, 0.4))
            tyre = [(back, way * wide * w, h) for w, h in outline]
            canvas.fill(place(tyre), (*rubber, world.air + 1.5 + 5 * warm), "car")
    for _, p, look, label in sorted(faces, key=lambda q: -q[0]):
        canvas.fill(p, look, label)
    view = (here - middle) @ right
    wheels = ((0.39, 0.02, 0.5), (0.33, 0.035, 1.5 + 5 * warm),
              (0.2, 0.35, 1 + 8 * warm), (0.07, 0.1, 2 * warm))  # fmt: skip
    for along in axles if abs(view) > wide else ():
        for r, tone, hot in wheels:
            disc = _ring(18, r, r) + (along, 0.33)
            rim = np.column_stack([disc[:, 0], np.full(18, wide * np.sign(view)), disc[:, 1]])
            canvas.fill(place(rim), (as_rgb(tone, tone, tone), 0.3, 0.5, world.air + hot), "car")
    at, half, top = (-0.03, *body[0, 1:3]) if away else (long + 0.03, *body[-1, 1:3])
    on = float(moving and (not world.day or rng.random() < 0.3))

    def patch(
        a: float, b: float, c: float, d: float, rgb: Any, hot: float, glow: float = 0.0
    ) -> None:
        p = place([(at, a * half, c), (at, b * half, c), (at, b * half, d), (at, a * half, d)])
        canvas.fill(p, (rgb, 0.4, 0.7, world.air + hot, glow), "car")

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


def paint_person(canvas: Canvas, world: World, x: float, z: float, riding: bool) -> None:
    """Capsules for head, trunk and limbs; skin is warmest, clothes lie between it and the air."""
    rng, (cx, cy, depth) = world.rng, canvas.project((x, 0, z))
    if depth < 3:
        return
    step, lean, flip = rng.uniform(0.05, 0.38), rng.normal(0, 0.04), rng.choice((-1, 1))
    skin = as_rgb(0.5, 0.34, 0.26) * rng.uniform(0.35, 1.1)
    coat, legs = _PAINTS[rng.integers(len(_PAINTS), size=2)] * rng.uniform(0.4, 1, (2, 1)) + 0.02
    up, wear = 0.35 * riding, 18.5 + 0.35 * world.air + rng.normal(0, 1)
    hip, neck = np.array([0, 0.92 + 0.4 * up]), np.array([lean + 0.12 * riding, 1.45 + 0.5 * up])
    head = neck + (0.02, 0.2)
    limbs: list[tuple[Any, Any, float, float, Any, float]] = []
    for way, fore in ((1.0, 1.0), (-0.9, -0.5)):
        knee = np.array([0.6 * step * fore + 0.05, 0.5 + up])
        heel = np.array([way * step, 0.06 + (0.25 if way > 0 else 0.5) * riding])
        hand = np.array([-0.75 * way * step + 0.47 * riding, 0.88 + 0.25 * riding])
        limbs += [(hip, knee, 0.085, 0.065, legs, wear)]
        limbs += [(knee, heel, 0.065, 0.05, legs, wear - 1.5)]
        limbs += [(heel, heel + (0.12, -0.01), 0.05, 0.04, 0.3 * legs, wear - 4)]
        limbs += [(neck - (0, 0.08), hand, 0.06, 0.045, coat, wear)]
        limbs += [(hand, hand + (0.03, -0.07), 0.045, 0.04, skin, 30.0)]
    limbs.insert(-4, (hip + (0, 0.05), neck, 0.15, 0.16, coat, wear + 0.8))
    limbs += [(neck, head, 0.06, 0.06, skin, 33.0)]
    limbs += [(head - (0, 0.03), head + (0, 0.03), 0.1, 0.105, skin, 32.5)]
    limbs += [(head + (-0.02, 0.07), head + (-0.01, 0.09), 0.1, 0.095, 0.2 * skin, wear)]
    if riding:
        metal, cold = as_rgb(0.08, 0.08, 0.08), world.air + 0.3 * world.solar
        wheel = _ring(24, 0.34, 0.34) + (0, 0.34)
        rim = list(zip(wheel, np.roll(wheel, 1, 0), strict=True))
        bars = [(q + (dx, 0), r + (dx, 0)) for dx in (-0.5, 0.55) for q, r in rim]
        joints = np.array([(-0.5, 0.34), (-0.1, 0.85), (0.4, 0.8), (0.55, 0.34), (0, 0.3)])
        tubes = ((0, 1), (1, 2), (2, 3), (1, 4), (4, 2), (0, 4))
        bars += [(joints[a], joints[b]) for a, b in tubes]
        limbs = [(a, b, 0.018, 0.018, metal, cold) for a, b in bars] + limbs
    k = canvas.f / depth * rng.uniform(0.92, 1.06)
    sunward = flip * float(world.sun[0])
    for a, b, ra, rb, rgb, heat in limbs:
        ends, r = np.array([a, b]), max(ra, rb) + 1 / k
        sl = canvas.clip(
            cx + flip * k * np.append(ends[:, 0] - r, ends[:, 0] + r),
            cy - k * np.append(ends[:, 1] - r, ends[:, 1] + r),
        )
        if sl is None:
            continue
        px = canvas.ax[:, sl[1]] * canvas.f + canvas.cx - cx
        py = cy - canvas.cy + canvas.ay[sl[0]] * canvas.f
        px, py = (px * flip / k).astype(np.float32), (py / k).astype(np.float32)
        d = ends[1] - ends[0]
        q = np.clip(((px - a[0]) * d[0] + (py - a[1]) * d[1]) / max(float(d @ d), 1e-6), 0, 1)
        ex, ey, r = px - a[0] - q * d[0], py - a[1] - q * d[1], ra + q * (rb - ra)
        away = np.hypot(ex, ey)
        seen, felt = canvas.noise(px + 9 + a[0], py + 9, np.full((1, 1), 1 / k), 0.4, 0.15, 0.06)
        light = np.clip(0.4 + 0.5 * ex / r * sunward + 0.1 * seen, 0, 1)
        warmth = heat + 0.6 * felt * (heat < 30) - 1.5 * np.square(np.clip(away / r, 0, 1))
        look = ([c * (1 + 0.12 * seen) for c in rgb], light, 0.65 + 0.15 * ey / r, warmth)
        label = "person" if ra > 0.02 else "post"
        canvas.paint(sl, np.clip((r - away) * k + 0.5, 0, 1), look, label, np.float32(depth))
