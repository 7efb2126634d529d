"""Draw the figures of single parts: how they are built, and what a file looks like.

    python book/figures/draw_figures.py                           all of them
    python book/figures/draw_figures.py channel_alignment.svg     one

Colours and shapes are those of the system map; what is drawn is what the package does.
"""

import sys
from pathlib import Path

from drawing import Drawing, bits, box, label, symbol

HERE = Path(__file__).parent

STYLE = """
  .tiny { font-size: 14.5px; } .right { text-anchor: end; } .strong { font-weight: 600; }
  .lit .tiny { font-weight: 400; }
  .region { fill: none; stroke: var(--line); stroke-width: 1.4; stroke-dasharray: 6 5; }
  .cell { fill: var(--ground); stroke: var(--line); stroke-width: 1; }
  .visible .cell { fill: var(--visible-fill); stroke: var(--visible); }
  .infrared .cell { fill: var(--infrared-fill); stroke: var(--infrared); }
  .both .cell { fill: var(--both-fill); stroke: var(--both); }
  .window { fill: none; stroke: var(--ink); stroke-width: 2.6; }
  .tick { stroke: var(--line); stroke-width: 1.4; fill: none; }
  .zoom { fill: var(--idle); stroke: none; }
"""


def hue(name: str, *shapes: str) -> str:
    return f'<g class="lit {name}">{"".join(shapes)}</g>'


def maps(x: float, y: float, text: str = "", width: float = 52, height: float = 42) -> str:
    """A feature tensor, around its front: three of its channels, one behind the other."""
    left, top = x - width / 2, y - height / 2
    sheets = (
        f'<rect class="box" x="{left + 7 * k}" y="{top - 7 * k}" width="{width}" '
        f'height="{height}" rx="3"/>'
        for k in (2, 1, 0)
    )
    return "".join(sheets) + label(x, y, text)


def circle(x: float, y: float, text: str) -> str:
    return f'<circle class="box" cx="{x}" cy="{y}" r="16"/>' + label(x, y, text)


def column(x: float, y: float, count: int = 7, side: float = 11) -> str:
    """A list of numbers, around its centre."""
    top = y - count * side / 2
    return "".join(
        f'<rect class="cell" x="{x - side / 2}" y="{top + k * side}" width="{side}" '
        f'height="{side}"/>'
        for k in range(count)
    )


def tile(x: float, y: float, side: float) -> str:
    return f'<rect class="cell" x="{x}" y="{y}" width="{side}" height="{side}"/>'


def grid(x: float, y: float, count: int, side: float) -> str:
    """Tokens on their places, from the corner."""
    return "".join(
        tile(x + side * k, y + side * j, side) for j in range(count) for k in range(count)
    )


def region(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="region" x="{x}" y="{y}" width="{width}" height="{height}" rx="9"/>'


def channel_alignment() -> str:
    """Figure 2 of the paper, and what becomes of the coefficients."""
    d = Drawing()
    up, down, middle, decoded = 92, 192, 142, 368  # γ, β, the trunk between them, f̄
    f_v, f_i, x_hat = (symbol(*name) for name in (("f", "v"), ("f", "i"), ("x̂", "v")))

    d.lines.append(region(140, 22, 712, 234))
    d.name(156, 45, "encoder only: it takes " + f_i, "small left")
    # both features side by side, four convolutions
    d.flow(f"M104 {up}H120V{middle}", plain=True)
    d.flow(f"M104 {down}H120V{middle}", plain=True)
    d.flow(f"M120 {middle}H156")
    for x in (228, 316, 404):
        d.flow(f"M{x} {middle}H{x + 18}")
    d.flow(f"M492 {middle}H504", plain=True)
    for y in (up, down):
        d.flow(f"M504 {middle}V{y}H522")
        d.flow(f"M602 {y}H620")
        d.flow(f"M692 {y}H710")
        d.flow(f"M732 {y}H750")
        d.flow(f"M832 {y}H884")
    d.lines += [hue("visible", maps(56, up, f_v)), hue("infrared", maps(56, down, f_i))]
    d.name(60, middle, "F × H × W", "tiny")
    for x in (193, 281, 369, 457):
        change = "2F → F" if x == 193 else "F → F"
        d.lines.append(hue("both", box(x, middle, 70, 74, "3×3", change)))
    d.name(325, middle + 60, "four convolutions, a LeakyReLU after each", "tiny")
    for y, mark in ((up, "γ"), (down, "β")):
        d.lines.append(hue("both", box(562, y, 78, 58, "3×3", f"head of {mark}")))
        d.lines.append(hue("both", column(721, y)))
    d.name(721, middle, "F", "tiny")
    d.lines.append(hue("both", box(656, middle, 72, 158, "mean", "over", "H × W")))
    d.lines.append(
        hue("both", box(792, middle, 80, 158, "round", "to the", "steps of", "the wire"))
    )
    # on the wire, and into the affine map
    d.lines.append(region(140, 304, 712, 112))
    d.name(156, 327, f"encoder and decoder alike: {f_v} comes from {x_hat}", "small left")
    d.flow(f"M920 {up}H964V442H516V{decoded + 18}", cross=True)
    d.flow(f"M902 {down + 16}V282H636V{decoded - 18}", cross=True)
    d.flow(f"M104 {decoded}H498")
    d.flow(f"M534 {decoded}H618")
    d.flow(f"M654 {decoded}H756")
    for y, mark in ((up, "γ"), (down, "β")):
        d.lines.append(hue("both", bits(902, y)))
        d.name(902, y - 28, mark, "")
    d.lines.append(hue("visible", maps(56, decoded, f_v)))
    d.lines += [hue("both", circle(516, decoded, "×")), hue("both", circle(636, decoded, "+"))]
    d.lines.append(hue("both", maps(784, decoded, "f̄")))
    return d.svg(1000, 462, "How the affine coefficients are found, sent and used", STYLE)


def spatial_alignment() -> str:
    """Figure 3 of the paper: the module, one of its blocks, and its windows."""
    d = Drawing()
    _module(d, visible=74, infrared=178)
    _block(d, visible=350, infrared=436)
    _windows(d, top=604)
    return d.svg(1000, 812, "How visible features are fetched to where infrared needs them", STYLE)


def _module(d: Drawing, visible: float, infrared: float) -> None:
    d.flow(f"M108 {visible}H146")
    d.flow(f"M222 {visible}H256")
    d.flow(f"M108 {infrared}H256")
    for y in (visible, infrared):
        d.flow(f"M344 {y}H374")
    d.flow(f"M428 {visible}H650V{infrared - 38}")
    d.flow(f"M528 {visible}V{infrared - 38}")
    for start, end in ((428, 480), (576, 602), (698, 724), (812, 834), (888, 908)):
        d.flow(f"M{start} {infrared}H{end}")
    d.flow(f"M124 {infrared}V{infrared + 72}H945V{infrared + 33}")
    h_j, stage = symbol("h", below="j"), "stage j"
    d.lines.append(hue("visible", maps(60, visible, h_j)))
    d.name(64, visible + 36, "N × sH × sW", "tiny")
    d.lines.append(hue("infrared", maps(60, infrared)))
    d.name(60, infrared, stage, "tiny strong")
    d.name(64, infrared + 36, "N × H × W", "tiny")
    d.lines.append(hue("visible", box(184, visible, 76, 58, "3×3", "stride s")))
    for y, name in ((visible, "visible"), (infrared, "infrared")):
        d.lines.append(hue(name, box(300, y, 88, 58, "embed", "p × p")))
        d.lines.append(hue(name, grid(377, y - 24, 4, 12)))
    d.name(440, visible - 16, "E-channel tokens: keys, values for both blocks", "tiny left")
    d.name(401, infrared + 37, "queries", "tiny")
    d.lines.append(hue("both", box(528, infrared, 96, 76, "block 1", "windows")))
    d.lines.append(hue("both", box(650, infrared, 96, 76, "block 2", "moved")))
    d.lines.append(hue("both", box(768, infrared, 88, 58, "back", "p × p")))
    d.lines.append(hue("both", maps(858, infrared, "", 40, 34)))
    d.lines.append(hue("infrared", box(945, infrared, 74, 66, "stage", "j + 1")))
    d.name(858, infrared - 46, "N × H × W", "tiny")
    d.name(534, infrared + 57, "beside them, unchanged: 2N channels go in", "tiny")


def _block(d: Drawing, visible: float, infrared: float) -> None:
    middle = (visible + infrared) / 2
    key, value = visible - 20, visible + 28
    d.lines.append(region(22, visible - 66, 956, 244))
    d.name(40, visible - 44, "one block", "left strong")
    d.flow(f"M90 {visible}H112")
    d.flow(f"M90 {infrared}H112")
    d.flow(f"M172 {visible}H188", plain=True)
    d.flow(f"M188 {visible}V{key}H208")
    d.flow(f"M188 {visible}V{value}H208")
    d.flow(f"M172 {infrared}H208")
    for y in (key, value, infrared):
        d.flow(f"M252 {y}H282")
    d.flow(f"M498 {middle}H524")
    d.flow(f"M592 {middle}H622")
    d.flow(f"M658 {middle}H694")
    d.flow(f"M754 {middle}H776")
    d.flow(f"M856 {middle}H874")
    d.flow(f"M910 {middle}H930")
    d.flow(f"M98 {infrared}V{infrared + 50}H640V{middle + 18}")
    d.flow(f"M674 {middle}V{infrared + 50}H892V{middle + 18}")
    d.lines.append(hue("visible", grid(42, visible - 24, 4, 12)))
    d.lines.append(hue("infrared", grid(42, infrared - 24, 4, 12)))
    d.lines.append(hue("visible", box(142, visible, 60, 44, "norm")))
    d.lines.append(hue("infrared", box(142, infrared, 60, 44, "norm")))
    d.lines.append(hue("visible", box(230, key, 44, 36, "K"), box(230, value, 44, 36, "V")))
    d.lines.append(hue("infrared", box(230, infrared, 44, 36, "Q")))
    attention = "softmax(QKᵀ/√d + B) V", "inside each window,", "in every head by itself"
    d.lines.append(hue("both", box(390, middle, 216, 150, "attention", *attention)))
    d.lines.append(hue("both", box(558, middle, 68, 44, "linear")))
    d.lines.append(hue("both", circle(640, middle, "+"), circle(892, middle, "+")))
    d.lines.append(hue("both", box(724, middle, 60, 44, "norm")))
    d.lines.append(hue("both", box(816, middle, 80, 58, "MLP", "E–4E–E")))
    d.lines.append(hue("both", grid(932, middle - 16, 3, 11)))
    d.name(372, infrared + 67, "residual: the infrared tokens themselves", "tiny")


def _windows(d: Drawing, top: float) -> None:
    side, cell = 8, 19
    left = (90, 424, 758)
    titles = "block 1: 4 × 4 windows", "block 2: moved by 2", "its last window, wrapped"
    notes = (
        "a query sees 16 keys",
        "now also those next door",
        "4 are neighbours, 12 are masked",
    )
    for x, title, note in zip(left, titles, notes, strict=True):
        middle = x + side * cell / 2
        d.name(middle, top - 24, title, "strong")
        d.name(middle, top + side * cell + 24, note, "small")
        d.lines.append(grid(x, top, side, cell))

    def cells(name: str, x: float, rows: range, columns: range) -> None:
        tiles = (tile(x + cell * k, top + cell * j, cell) for j in rows for k in columns)
        d.lines.append(hue(name, *tiles))

    def windows(x: float, edges: tuple[int, ...]) -> None:
        reach = side * cell
        lines = (f"M{x + cell * k} {top}v{reach}M{x} {top + cell * k}h{reach}" for k in edges)
        d.lines.append(f'<path class="window" d="{"".join(lines)}"/>')

    inside = (range(0, 4), range(2, 6), range(4, 6))
    query = (range(3, 4), range(3, 4), range(4, 5))
    for x, keys, own in zip(left, inside, query, strict=True):
        cells("visible", x, keys, keys)
        cells("infrared", x, own, own)
    for x, edges in zip(left, ((0, 4, 8), (0, 2, 6, 8), (0, 4, 8)), strict=True):
        windows(x, edges)
    shut = [(j, k) for j in range(4, 8) for k in range(4, 8) if j > 5 or k > 5]
    crosses = "".join(
        f"M{left[2] + cell * k + 6} {top + cell * j + 6}l7 7m0 -7l-7 7" for j, k in shut
    )
    d.lines.append(f'<path class="tick" d="{crosses}"/>')
    seam, reach = 6 * cell, side * cell
    ends = f"M{left[2] + seam} {top}v{reach}M{left[2]} {top + seam}h{reach}"
    d.lines.append(f'<path class="region" d="{ends}"/>')
    d.lines.append(hue("infrared", tile(268, top + 40, cell)))
    d.name(294, top + 50, "query", "small left")
    d.lines.append(hue("visible", tile(268, top + 72, cell)))
    d.name(294, top + 82, "keys, values", "small left")
    d.lines.append(f'<path class="region" d="M600 {top + 50}h24"/>')
    d.name(632, top + 50, "where the", "small left")
    d.name(632, top + 70, "frame ends", "small left")


BYTE = 26  # pixels
# name, bytes, hue of each field of a header with both frames
HEADER = (
    ("magic", 4, ""),
    ("version", 1, ""),
    ("flags", 1, "both"),
    ("modes", 1, "both"),
    ("fingerprint of the weights", 8, ""),
    ("height", 2, "visible"),
    ("width", 2, "visible"),
    ("λ", 4, "visible"),
    ("height", 2, "infrared"),
    ("width", 2, "infrared"),
    ("λ", 4, "infrared"),
    ("CRC-32", 4, ""),
)
# name, width in the picture, hue; the kind of a section is its place
SECTIONS = (
    (symbol("ẑ", above="v"), 92, "visible"),
    (symbol("ŷ", above="v"), 206, "visible"),
    ("γ, β", 92, "both"),
    (symbol("ẑ", above="i"), 92, "infrared"),
    (symbol("ŷ", above="i"), 178, "infrared"),
    ("symbols", 126, ""),
)


def bitstream() -> str:
    """The .xmc container, from the whole file down to single bits."""
    d = Drawing()
    section, strip, head, flags = 92, 220, 362, 498  # middles of the four rows
    left, right = 45, 955

    # the file
    places, x = [], left + 106
    for _, width, _ in SECTIONS:
        places.append((x, x + width))
        x += width + 3
    wide = places[4]
    d.lines.append(
        f'<path class="zoom" d="M{wide[0]} {strip - 29}L330 {section + 25}H{right}'
        f'L{wide[1]} {strip - 29}z"/>'
    )
    total = sum(size for _, size, _ in HEADER)
    opened = f"M{left} {strip + 29}V{head - 36}H{right}L{left + 103} {strip + 29}z"
    d.lines.append(f'<path class="zoom" d="{opened}"/>')
    d.name(left, strip - 46, "a file; widths of sections are not to scale", "small left")
    d.lines.append(box(left + 51.5, strip, 103, 58, "header", f"{total} bytes"))
    for kind, ((name, _, shade), (start, end)) in enumerate(zip(SECTIONS, places, strict=True), 1):
        d.lines.append(
            hue(shade, box((start + end) / 2, strip, end - start, 58, name, f"kind {kind}"))
        )
    for start, end in ((left, places[1][1]), places[5]):
        d.lines.append(f'<path class="key-visible" d="M{start} {strip + 37}H{end}v5H{start}z"/>')
    d.name(
        (places[2][0] + places[4][1]) / 2,
        strip + 46,
        "the visible frame alone needs the marked parts",
        "small",
    )

    # one section
    d.name(left, section - 46, "every section", "left strong")
    d.name(left, section - 20, "All numbers are little-endian.", "small left")
    d.name(left, section + 2, "A length is written seven bits", "small left")
    d.name(left, section + 24, "a byte, lowest first (LEB128).", "small left")
    edges = (330, 402, 502, 612, right)
    parts = (
        ("kind", "1 byte"),
        ("length", "1 to 4"),
        ("CRC-32", "4"),
        ("payload", "1 byte or more"),
    )
    for start, end, (name, size) in zip(edges[:-1], edges[1:], parts, strict=True):
        shade = "" if name != "payload" else "infrared"
        d.lines.append(hue(shade, box((start + end) / 2, section, end - start, 50, name, size)))
    d.flow(f"M366 {section - 27}V{section - 44}H557V{section - 27}")
    d.flow(f"M452 {section - 27}V{section - 44}", plain=True)
    d.flow(f"M783 {section - 27}V{section - 44}H557", plain=True)
    d.name(575, section - 60, "the checksum is over kind, length and payload", "small left")

    # the header
    x = left
    at = {}
    for name, size, shade in HEADER:
        width = size * BYTE
        at[name] = x, x + width
        middle = x + width / 2
        text = name.split(" of ")
        if size == 1:
            turn = f'<g transform="rotate(-90 {middle} {head})">'
            upright = turn + label(middle, head, name, "tiny") + "</g>"
            shape = box(middle, head, width, 72) + upright
        elif size == 2:
            shape = box(middle, head, width, 72) + label(middle, head, name, "tiny")
        else:
            shape = box(middle, head, width, 72, text[0], *(f"of {rest}" for rest in text[1:]))
        d.lines.append(hue(shade, shape))
        d.name(middle, head + 50, f"{size}{' bytes' * (name == 'magic')}", "tiny")
        x += width

    # flags and modes
    unit = 44
    for name, start, parts in (
        ("flags", left, ((4, "0"), (2, "target"), (1, "i"), (1, "v"))),
        ("modes", 430, ((4, "γ, β format"), (4, "context"))),
    ):
        d.lines.append(
            f'<path class="zoom" d="M{at[name][0]} {head + 62}H{at[name][1]}'
            f'L{start + 8 * unit} {flags - 22}H{start}z"/>'
        )
        x = start
        for size, text in parts:
            shade = {"v": "visible", "i": "infrared", "0": ""}.get(text, "both")
            d.lines.append(hue(shade, box(x + size * unit / 2, flags, size * unit, 40, text)))
            x += size * unit
        d.name(start, flags - 36, f"{name}, bits 7 to 0", "small left")
    d.name(left, flags + 40, "v, i: is this frame in the file?", "small left")
    d.name(left, flags + 62, "target: 0 none, 1 infrared, 2 visible", "small left")
    d.name(430, flags + 40, "format: 0 none, 1 float32, 2 float16, 3 int8", "small left")
    d.name(430, flags + 62, "context: 0 checkerboard, 1 autoregressive", "small left")
    for k, line in enumerate(
        ("Kind 6 has, for each", "frame, a CRC-32 of", "its decoded symbols.")
    ):
        d.name(808, flags - 14 + 22 * k, line, "small left")
    return d.svg(1000, 588, "What is in an .xmc file, byte by byte", STYLE)


FIGURES = {
    "channel_alignment.svg": channel_alignment,
    "spatial_alignment.svg": spatial_alignment,
    "bitstream.svg": bitstream,
}


def main(names: list[str]) -> None:
    for name in names or FIGURES:
        if name not in FIGURES:
            raise SystemExit(f"{name}: no such figure; expected one of {', '.join(FIGURES)}")
        (HERE / name).write_text(FIGURES[name](), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
