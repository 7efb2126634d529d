"""Painters of the street itself: sky and hills, ground, houses (chapter 1, for `scenes`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .scene_canvas import CONDITIONS, FAR, LABELS, Array, Canvas, World, as_rgb, cover, resize

SHADOWS = (32.0, 128.0, 0.125)  # maps of the ground from above: half width, length, step, m
WEAR = (8.0, 48.0, 0.04)

# --- sky, hills, ground --------------------------------------------------------------------------


def paint_backdrop(canvas: Canvas, world: World) -> None:
    """Sky with clouds, then hills and distant trees that close the view."""
    pick = CONDITIONS.index(world.condition)
    sl = (slice(0, int(canvas.cy) + 2), slice(0, canvas.w))
    up = np.maximum(canvas.ay[sl[0]], 0)
    t = 1 / (up[::8] + np.float32(0.07))
    part = canvas.noise(
        canvas.ax[:, ::8] * t + 40, t + 40, t * t * np.float32(0.02), 12, 5, 2, 0.8, 0.3
    )
    box, cubic = Image.Resampling.BOX, Image.Resampling.BICUBIC
    small = (resize(p, max(len(t) // 3, 2), canvas.w // 24, box) for p in part)
    seen, felt = (resize(p, sl[0].stop, canvas.w, cubic) for p in small)
    amount = np.clip((seen + 2.6 * world.cloud - 1.5) * 0.6, 0, 1)
    blue = (as_rgb(0.36, 0.54, 0.84), as_rgb(0.42, 0.46, 0.62), as_rgb(0.016, 0.017, 0.026))[pick]
    white = (as_rgb(0.97, 0.97, 0.98), as_rgb(0.72, 0.6, 0.58), as_rgb(0.035, 0.035, 0.04))[pick]
    high = np.clip(up / 0.42, 0, 1) ** 0.7
    sky = [a + high * (b - a) for a, b in zip(world.haze, blue, strict=True)]
    rgb = [a + amount * (b * (0.93 + 0.05 * seen) - a) for a, b in zip(sky, white, strict=True)]
    heat = world.air - 5 + (world.zenith - world.air) * (1 - np.exp(-5.5 * up))
    heat = heat + amount * (world.air - 6 - heat) * 0.4 + (0.4 + world.cloud) * felt
    canvas.paint(sl, 1.0, (rgb, 0.0, 0.0, heat, 1.0), "sky", 2 * FAR)
    one = np.ones((1, 1), np.float32)
    hills, trees = world.rng.uniform(0, 0.1), world.rng.uniform(0.015, 0.05)
    for tall, depth in ((hills, 900.0), (trees, 220.0)):
        fine = (0.6, 0.2, 0.06) if depth > 500 else (0.6, 0.2, 0.06, 0.02, 0.012, 0.006)
        ridge = canvas.noise(canvas.ax + 9 + depth, 5 * one, one * 1e-4, *fine)[0]
        top = canvas.cy - canvas.f * np.maximum(tall * (0.75 + 0.22 * ridge), 0.002)
        first, last = max(int(top.min()) - 2, 0), min(int(canvas.cy) + 3, canvas.h)
        sl = (slice(first, last), slice(0, canvas.w))
        rows = np.arange(sl[0].start, sl[0].stop, dtype=np.float32)[:, None]
        seen, felt = canvas.noise(
            canvas.ax + 9, canvas.ay[sl[0]] + 9, one * 5e-4, 0.03, 0.012, 0.005, 0.003
        )
        tone = 0.07 + 0.02 * seen
        heat = world.air - 1.5 + 0.5 * felt + 0.15 * world.solar * seen
        look = ((tone, tone * 1.2, tone * 0.7), 0.35 + 0.15 * seen, 0.75, heat)
        canvas.paint(sl, np.clip(rows - top, 0, 1), look, "plant", np.float32(depth))


def _shadow_map(world: World) -> Image.Image:
    """The ground from above: shadow now, shadow earlier (warmth lags behind), contact shadow."""
    half, long, step = SHADOWS
    bands = [Image.new("L", (int(2 * half / step), int(long / step))) for _ in range(3)]
    slope = -world.sun[[0, 2]] / max(float(world.sun[1]), 0.12)
    c, d = np.cos(0.3), np.sin(0.3)
    earlier = 0.8 * np.array([c * slope[0] - d * slope[1], d * slope[0] + c * slope[1]])
    for band, lean in zip(bands, (slope, earlier, 0 * slope), strict=True):
        draw = ImageDraw.Draw(band)
        for foot, height in world.shadows:
            near = ((foot + (half, 0)) / step).tolist()
            far = ((foot + lean * height + (half, 0)) / step).tolist()
            rings = [near, far] + [[near[k - 1], near[k], far[k], far[k - 1]] for k in range(4)]
            for ring in rings if band is not bands[2] or 1 < height < 1.5 else ():
                draw.polygon([tuple(q) for q in ring], fill=245)
        for x, y, z, r in world.puffs if band is not bands[2] else ():
            x, z = (x + lean[0] * y + half) / step, (z + lean[1] * y) / step
            draw.ellipse([x - r / step, z - r / step, x + r / step, z + r / step], fill=225)
    blurs = zip(bands, (0.8, 5, 2), strict=True)
    return Image.merge("RGB", [band.filter(ImageFilter.GaussianBlur(r)) for band, r in blurs])


def _wear_map(world: World) -> Image.Image:
    """The road nearby from above, around 128: darkness, warmth; and puddles."""
    (half, long, step), rng = WEAR, world.rng
    bands = [Image.new("L", (int(2 * half / step), int(long / step)), v) for v in (128, 128, 0)]
    dark, warm, wet = (ImageDraw.Draw(band) for band in bands)

    def spot(x: Any, z: Any) -> Array:
        return np.stack([x + world.road_x(z) + half, z], -1) / step

    for _ in range(rng.integers(0, 4)):  # patches of newer asphalt
        x, z = rng.uniform(-4, 3), rng.uniform(4, 40)
        w, d = rng.uniform(0.6, 2.4), rng.uniform(1, 8)
        corners = np.array([x, x + w, x + w, x]), np.array([z, z, z + d, z + d])
        ring = [tuple(q) for q in spot(*corners)]
        dark.polygon(ring, fill=int(rng.integers(85, 160)))
        warm.polygon(ring, fill=int(rng.integers(105, 165)))
    for _ in range(rng.integers(3, 14)):  # cracks and the tar in them
        ahead = (0.0, 0.3) if rng.random() < 0.6 else (0.3, 0.0)
        walk = np.cumsum(rng.normal(0, 0.09, (rng.integers(10, 60), 2)) + ahead, axis=0)
        x, z = rng.uniform(-world.road, world.road), rng.uniform(3, 40)
        wide = int(rng.integers(1, 4))
        line = [tuple(q) for q in spot(x + walk[:, 0], z + walk[:, 1])]
        dark.line(line, fill=int(rng.integers(60, 110)), width=wide)
        warm.line(line, fill=int(rng.choice((90, 170, 190))), width=wide + 1)
    for k in range(rng.integers(0, 7)):  # manholes, puddles
        (x, z), r = spot(rng.uniform(-3, 3), rng.uniform(5, 30)), 0.33 / step
        if k < 2:
            dark.ellipse([x - r, z - r, x + r, z + r], fill=90, outline=60)
            warm.ellipse([x - r, z - r, x + r, z + r], fill=int(rng.choice((100, 185))))
        elif world.cloud > 0.6:
            for dx, dz in rng.normal(0, 6, (7, 2)):
                wet.ellipse([x + dx - 5, z + dz - 8, x + dx + 5, z + dz + 8], fill=160)
    return Image.merge("RGB", [band.filter(ImageFilter.GaussianBlur(0.7)) for band in bands])


def _from_above(
    canvas: Canvas, image: Image.Image, size: tuple[float, float, float], r0: int
) -> Array:
    """A map of the ground as the camera sees it, from row r0 down: (3, rows, columns)."""
    half, _, step = size
    # depth = k / (row − cy), x = depth · (cos·a + sin), z = depth · (cos − sin·a)
    k, down, col = canvas.eye * canvas.f, r0 - canvas.cy, canvas.cx / canvas.f
    cos, sin = canvas.cos, canvas.sin
    x = np.array([k * cos / canvas.f, half, k * (sin - cos * col) + half * down])
    z = np.array([-k * sin / canvas.f, 0, k * (cos + sin * col)])
    how = (Image.Transform.PERSPECTIVE, [*(x / step / down), *(z / step / down), 0, 1 / down])
    seen = image.transform((canvas.w, canvas.h - r0), *how, Image.Resampling.BILINEAR)
    return np.asarray(seen).transpose(2, 0, 1).astype(np.float32)


def paint_ground(canvas: Canvas, world: World) -> None:
    """Asphalt with its markings and wear, kerb, pavement, and what lies beyond them."""
    r0, uniform = int(canvas.cy) + 2, world.rng.uniform
    sl = (slice(r0, canvas.h), slice(0, canvas.w))
    depth = np.float32(canvas.eye) / -canvas.ay[sl[0]]
    x, z = canvas.unproject(depth, canvas.ax)
    foot = depth / np.float32(canvas.f)
    deep = foot * np.maximum(depth / np.float32(canvas.eye), 1)  # a pixel reaches further in depth
    u = x - world.road_x(z).astype(np.float32)
    side = np.abs(u)
    seen, felt = canvas.noise(x, z, np.sqrt(foot * deep), 7, 2, 0.5, 0.15, 0.05, 0.02)
    now, before, contact = _from_above(canvas, _shadow_map(world), SHADOWS, r0) / 255
    dark, tar, wet = _from_above(canvas, _wear_map(world), WEAR, r0) / 128
    known = ((dark > 0) * np.clip(1.6 - z / 30, 0, 1)).astype(np.float32)
    dark, tar, wet = (dark - 1) * known, (tar - 1) * known, np.clip(wet, 0, 1) * known
    shade = 0.55 * now + 0.45 * before

    def lay(over: Array, tone: Sequence[Any], warmth: Any) -> Array:
        for k in range(3):
            rgb[k] = rgb[k] + over * (tone[k] - rgb[k])
        return heat + over * (warmth - heat)

    base = world.ground + 0.75 * world.solar - 0.7 * world.solar * shade
    track = np.exp(-np.square((np.abs(side - world.road * 0.5) - 0.8) / 0.35))  # where tyres run
    tone = uniform(0.17, 0.3) * (1 + uniform(0.015, 0.06) * seen + 0.5 * dark - 0.07 * track)
    rgb = [tone, tone * 0.98, tone * 0.96]
    rough = uniform(0.05, 0.16)
    heat = base + rough * felt + uniform(-0.5, 0.9) * track + 1.3 * tar
    mark, yellow = _markings(world, u, z, foot, deep)
    wear = mark * np.clip(0.85 + 0.22 * seen, 0, 1)
    paint = (0.75, 0.58, 0.2) if yellow else (0.72, 0.7, 0.67)
    heat = lay(wear, paint, heat - 0.5 - 0.18 * world.solar)
    walk = cover(side - world.road, foot)
    joint = np.maximum(
        1 - np.abs((z + 40) % 1.5 - 0.75) / np.maximum(0.03, 2 * deep),
        1 - np.abs(side - world.road - world.walk / 2) / np.maximum(0.02, foot),
    )
    joint = np.clip(joint, 0, 1) * np.clip(0.05 / foot, 0, 1) ** 2
    stone = uniform(0.32, 0.46) * (1 + 0.06 * seen - 0.35 * joint)
    heat = lay(walk, (stone, 0.97 * stone, 0.92 * stone), base - 0.7 + rough * felt + 0.6 * joint)
    kerb = cover(0.09 - np.abs(side - world.road - 0.09), foot)
    paint = (0.5, 0.1, 0.09) if uniform() < 0.2 else (0.5, 0.5, 0.48)
    heat = lay(kerb, paint, base + 0.8 + 0.2 * felt)
    gutter = cover(0.14 - np.abs(side - world.road + 0.14), foot)
    heat = lay(0.35 * gutter, (0.08, 0.08, 0.08), base - 2)
    kind = world.rng.choice(3, p=(0.45, 0.35, 0.2))  # beyond the pavement: grass, paving, gravel
    lawn, bumpy, cool = kind == 0, (0.3, 0.08, 0.2)[kind], (2.8, 0.6, 1.0)[kind]
    soil = np.array([(0.13, 0.17, 0.07), (0.36, 0.33, 0.29), (0.36, 0.31, 0.25)])[kind]
    beyond = cover(side - world.road - world.walk - 0.15 * seen * (kind != 1), foot)
    tones = [c * (1 + bumpy * seen) for c in soil]
    warmth = base - cool - 0.06 * cool * world.solar + (0.15 + 1.6 * bumpy) * felt
    heat = lay(beyond, tones, warmth)
    pool = wet * (1 - beyond)
    if pool.any():
        heat = lay(0.5 * pool, (0.03, 0.03, 0.03), 0.5 * (world.zenith + heat))
    light = world.sun[1] * (1 - now) * (1 - contact)
    look = (rgb, light, 1 - 0.8 * contact, heat + 0.6 * contact, 0.05 * pool * (not world.night))
    canvas.paint(sl, 1.0, look, "road", depth)
    canvas.labels[sl][walk > 0.5] = LABELS.index("walk")
    canvas.labels[sl][beyond > 0.5] = LABELS.index("plant" if lawn else "walk")


def _markings(world: World, u: Array, z: Array, foot: Array, deep: Array) -> tuple[Array, bool]:
    """Coverage of the road by paint, and whether it is yellow."""
    draw, yellow = world.rng.random(5), bool(world.rng.random() < 0.45)
    side = np.abs(u)
    if yellow:
        mark = cover(0.06 - np.abs(side - 0.16), foot)
    else:
        mark = cover(0.07 - side, foot) * cover(1.5 - np.abs(z % 9 - 4.5), deep)
    if draw[0] < 0.5:
        mark = np.maximum(mark, cover(0.06 - np.abs(side - world.road + 0.4), foot))
    if world.road > 4.6 and draw[1] < 0.6:
        mark = np.maximum(mark, cover(0.05 - np.abs(side - world.road + 2.1), foot))
    if draw[2] < 0.35:  # a crossing, with its stop line
        start = 6 + 16 * draw[3]
        across = cover(1.5 - np.abs(z - start), deep)
        bars = cover(0.25 - np.abs(u % 1 - 0.5), foot) * across
        mark = np.maximum(mark * (1 - across), bars)
        mark = np.maximum(mark, cover(0.2 - np.abs(z - start + 3.2), deep) * (u > 0))
    return mark * cover(world.road - side, foot), yellow


# --- houses --------------------------------------------------------------------------------------

_WALLS = ((0.62, 0.58, 0.5), (0.7, 0.68, 0.64), (0.45, 0.24, 0.17), (0.5, 0.42, 0.32),
          (0.38, 0.4, 0.42), (0.66, 0.55, 0.4))  # fmt: skip


def paint_house(
    canvas: Canvas, world: World, side: int, x: float, z: float, long: float, tall: float
) -> None:
    """The wall towards the camera, the wall along the street, the roof over it."""
    uniform, deep = world.rng.uniform, 40.0 if long == 40 else 10.0
    gable = tall < 7 and deep < 20 and uniform() < 0.75
    rise = uniform(1.7, 3.5) if gable else 0.0
    pick, brick, boards = world.rng.integers(len(_WALLS)), uniform() < 0.15, uniform() < 0.25
    style = {
        "tone": np.array(_WALLS[pick]) * uniform(0.75, 1.1),
        "course": 0.075 if brick or pick in (2, 3) else 0.17 if boards else 0.0,
        "pitch": uniform(1.9, 3.4),
        "floor": uniform(2.8, 3.4),
        "window": (uniform(0.2, 0.31), uniform(0.7, 1.1), uniform(2.0, 2.5)),
        "shop": uniform() < (0.5 if world.style == "town" else 0.12),
        "sign": uniform(0.05, 0.5, 3),
        "lit": uniform(0.1, 0.6),
        "cell": int(world.rng.integers(24)),
        "kept": world.rng.normal(0.5, 0.8) + 0.6 * world.stored,
        "frame": (0.74, 0.73, 0.7) if uniform() < 0.6 else (0.12, 0.12, 0.12),
        "arch": uniform() < 0.25,
        "plain": uniform() < 0.4,
    }
    left = min(x, x + side * deep)
    _paint_wall(
        canvas, world, (left, 0, z), (1, 0, 0), (0, 0, -1), deep, tall, rise, style, deep < 20
    )
    if x * side > 0.3 and deep < 20:
        _paint_wall(
            canvas, world, (x, 0, z), (0, 0, 1), (-side, 0, 0), long, tall, 0.0, style, False
        )
    if gable:
        lean = float(np.hypot(deep / 2, rise))
        slope = np.array([side * deep / 2, rise, 0]) / lean
        start = np.array([x, tall, z - 0.3]) - 0.5 * slope
        panel = canvas.panel(start, (0, 0, 1), slope, long + 0.6, lean + 0.5)
        if panel is None:
            return
        sl, u, v, t, foot, alpha = panel
        seen, felt = canvas.noise(u, v, foot, 3, 0.8, 0.25, 0.08)
        wave = np.cos(u * 28) * np.clip(0.22 / (3 * foot) - 0.3, 0, 1)
        tiles = np.abs(v % 0.3 - 0.15) / 0.15 * np.clip(0.1 / foot - 0.3, 0, 1)
        tiles = tiles * (0.6 + 0.4 * wave)
        gutter, light = cover(0.15 - v, foot), world.lit(-side * slope[1], abs(slope[0]), 0)
        roof = np.array((0.42, 0.22, 0.14) if uniform() < 0.5 else (0.2, 0.19, 0.19))
        tone = uniform(0.6, 1.2) * (1 + 0.08 * seen + 0.3 * (tiles - 0.4)) * (1 - 0.4 * gutter)
        warmth = 1.2 * world.solar * light - (4.5 if world.night else 2.5)
        heat = world.air + warmth + 0.35 * felt + 0.9 * tiles + 1.5 * gutter
        canvas.paint(sl, alpha, ([c * tone for c in roof], light, 0.9, heat), "wall", t)


def _paint_wall(
    canvas: Canvas,
    world: World,
    p0: Any,
    eu: Any,
    normal: Any,
    long: float,
    tall: float,
    rise: float,
    style: Any,
    end: bool,
) -> None:
    """A wall of plaster, bricks or boards, up to a gable where `rise` is not 0."""
    panel = canvas.panel(p0, eu, (0, 1, 0), long, tall + rise)
    if panel is None:
        return
    sl, u, v, t, foot, alpha = panel
    if rise:
        alpha = alpha * cover(tall + rise * (1 - np.abs(u / long * 2 - 1)) - v, foot)
    seen, felt = canvas.noise(u, v, foot, 6, 1.6, 0.45, 0.12, 0.035)
    streak, damp = canvas.noise(u, v * np.float32(0.12), foot, 1.3, 0.4, 0.15)
    plaster, damp_heat = world.rng.uniform((0.01, -0.15), (0.07, 0.15))
    tone, light = 1 + plaster * (seen + streak), world.lit(*normal)
    absorb = 1.1 - float(style["tone"].mean())
    heat = world.air + style["kept"] + damp_heat * (felt + damp) + 0.06 * (tall - v)
    if course := style["course"]:  # bricks, or boards
        joint = np.clip(1 - np.abs(v % course - course / 2) / np.maximum(0.012, foot), 0, 1)
        joint = joint * np.clip(course / (3 * foot) - 0.4, 0, 1)
        row = (v / course).astype(np.int32)
        brick = canvas.cells[0, row & 31, (u / 0.23 + 0.5 * (row & 1)).astype(np.int32) & 31] - 0.5
        fine = np.clip(0.05 / foot - 0.3, 0, 1) * (course < 0.1)
        tone = tone + 0.3 * brick * fine + (0.2 if course < 0.1 else -0.3) * joint
        heat = heat - 0.4 * joint
    shade = np.float32(-1)  # the houses across the street keep the sun off below this height
    if light > 0 and world.style in ("town", "suburb") and abs(normal[0]) > 0.5:
        gap = 2 * (world.road + world.walk) + (1 if world.style == "town" else 12)
        across = canvas.cells[1, 7, (u / 14 + p0[2]).astype(np.int32) & 31]
        across = 6 + 8 * across if world.style == "town" else 3 + 3 * across
        sideways, up = abs(float(world.sun[0])), float(world.sun[1])
        shade = across - np.float32(gap / max(sideways, 0.05) * up)
    sun = light * np.clip((v - shade) / np.maximum(2 * foot, 0.15), 0, 1)
    heat = heat + world.solar * absorb * (0.2 * light + 0.8 * sun)
    plinth = cover(0.55 - v, foot) * (style["pitch"] > 2.4)
    band = cover(v - tall + 0.4, foot) * (not rise)
    eave = np.clip(1 - (tall - v) / (0.5 + 0.6 * light), 0, 1) * (0.7 * (tall < 7 and not rise))
    rgb = [c * tone * (1 - 0.3 * plinth) * (1 + 0.2 * band) for c in style["tone"]]
    heat = heat + 0.7 * plinth - 0.6 * band
    sky = (0.55 + 0.3 * np.clip(v / 6, 0, 1) - 0.2 * np.clip(1 - v / 0.3, 0, 1)) * (1 - 0.4 * eave)
    look: Sequence[Any] = (rgb, sun * (1 - eave), sky, heat, 0.0)
    glass = None
    if not (end and style["plain"]):
        look, glass = _add_windows(canvas, world, look, u, v, foot, long, tall, style, end)
    canvas.paint(sl, alpha, look, "wall", t)
    if glass is not None:
        np.copyto(canvas.labels[sl], LABELS.index("glass"), where=(alpha > 0.5) & glass)


def _add_windows(
    canvas: Canvas,
    world: World,
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
    a, b, c, d = (x[cell] for x in canvas.cells)
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
    hole = cover(inside, foot) * there
    bars = cover(0.03 - np.minimum(across, np.abs(up - (low + high) / 2) + 9 * door), foot)
    frame = np.clip(hole - cover(inside - 0.07, foot) + bars * hole * (c < 0.7), 0, 1)
    ledge = cover(0.08 - np.abs(up - low + 0.08), foot) * cover(half + 0.1 - across, foot)
    ledge = ledge * (there & ~door & ~shop)
    reveal = np.clip(1 - (high - up) / 0.3, 0, 1) * hole
    bright = (0.3 + 0.7 * c) * (0.05 if world.day else 1.0) * np.where(shop, 1.6, 1.0)
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
            board = cover(0.28 - np.abs(v - 3.05), foot) * (j <= 1)
            rgb[k] = rgb[k] + board * (style["sign"][k] * (0.8 + 0.4 * (a > 0.5)) - rgb[k])
    cold, indoors = world.air - 2.5 - 4.5 * a, world.air - 1 + (4.5 if world.night else 1.0) * c
    glass = np.where(c < 0.5, cold, indoors) + 1.2 * blind + 1.5 * (lit > 0.1) * (not world.day)
    glass = np.where(door, world.air + 1.5, glass)
    heat = heat + hole * (glass - heat) + 1.0 * frame - 0.7 * ledge + 0.5 * reveal
    sun = sun * (1 - 0.75 * reveal) * (1 - 0.3 * hole)
    return (rgb, sun, sky, heat, glow), (hole > 0.5) & ~door
