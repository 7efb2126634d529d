"""Draw the system map: the whole of it, and one for each chapter with that chapter's parts lit.

    python book/figures/make_map.py                  the whole, and every chapter that is there
    python book/figures/make_map.py 04_entropy       one chapter

The pictures follow the colour scheme of the page that shows them, and stand on their own ground,
so that they are readable in light and dark, in Jupyter and on the web.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent

# What each chapter is about: a part is a group of shapes below. A chapter that is not here is
# about the whole of it and shows system_map.svg.
LIT = {
    "": {"all"},
    "01_pairs": {"pair"},
    "02_rate_distortion": {"bits", "reconstruction"},
    "03_transforms": {"transforms"},
    "04_entropy": {"bits"},
    "05_visible_codec": {"visible codec"},
    "06_channel_alignment": {"features", "channel alignment", "coefficients"},
    "07_spatial_alignment": {"spatial alignment"},
    "10_results": {"bits", "reconstruction"},
    "11_lambda_explorer": {"bits", "reconstruction"},
    "12_inside_alignment": {"channel alignment", "coefficients", "spatial alignment"},
}

STYLE = """
  :root { color-scheme: light dark; --ground: #ffffff; --edge: #d5dae0; --ink: #1d2733;
    --faint: #8a95a3; --idle: #f3f5f7; --line: #9aa5b1;
    --visible: #0072b2; --visible-fill: #d6eaf7; --infrared: #c4530a; --infrared-fill: #fde3cf;
    --both: #6a3d9a; --both-fill: #e9def5; --sent: #1d2733; }
  @media (prefers-color-scheme: dark) { :root { --ground: #161b22; --edge: #39424e;
    --ink: #e8edf2; --faint: #8b97a5; --idle: #1e252e; --line: #66727f;
    --visible: #56b4e9; --visible-fill: #123a55; --infrared: #f5954f; --infrared-fill: #552b10;
    --both: #b79be0; --both-fill: #3a2a55; --sent: #e8edf2; } }
  text { font: 19px "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif;
    fill: var(--ink); text-anchor: middle; dominant-baseline: central; }
  .small { font-size: 16px; } .left { text-anchor: start; }
  .box, .frame, .bit { fill: var(--idle); stroke: var(--line); stroke-width: 1.5; }
  .bit { fill: var(--line); stroke: none; }
  .flow { fill: none; stroke: var(--line); stroke-width: 1.6; marker-end: url(#tip); }
  .plain { marker-end: none; } .halo { fill: none; stroke: var(--ground); stroke-width: 7; }
  .ground { fill: var(--ground); stroke: var(--edge); stroke-width: 1.5; }
  #tip path { fill: var(--line); } .idle text { fill: var(--faint); }
  .lit .box, .lit .frame { stroke-width: 2.4; }
  .lit.visible .box, .lit.visible .frame { fill: var(--visible-fill); stroke: var(--visible); }
  .lit.infrared .box, .lit.infrared .frame { fill: var(--infrared-fill);
    stroke: var(--infrared); }
  .lit.both .box { fill: var(--both-fill); stroke: var(--both); }
  .lit text { font-weight: 600; } .lit .small { font-weight: 400; }
  .lit.visible .scene { fill: var(--visible); } .lit.infrared .scene { fill: var(--infrared); }
  .key-visible { fill: var(--visible); } .key-infrared { fill: var(--infrared); }
  .key-both { fill: var(--both); } .lit .bit { fill: var(--sent); } .scene { fill: var(--line); }
"""


class Map:
    """Shapes in order; those of a group are lit together, in the group's hue."""

    def __init__(self, lit: set[str]) -> None:
        self.lit = lit
        self.lines: list[str] = []

    def group(self, parts: str, hue: str, *shapes: str) -> None:
        named = set(parts.split(", "))
        state = "lit" if "all" in self.lit or named & self.lit else "idle"
        self.lines.append(f'<g class="{state} {hue}">{"".join(shapes)}</g>')

    def flow(self, path: str, cross: bool = False, plain: bool = False) -> None:
        """A line with an arrow head; one that crosses another gets a gap around itself."""
        if cross:
            self.lines.append(f'<path class="halo" d="{path}"/>')
        self.lines.append(f'<path class="flow{" plain" if plain else ""}" d="{path}"/>')

    def name(self, x: float, y: float, text: str, kind: str = "left") -> None:
        self.lines.append(label(x, y, text, kind))


def label(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{text}</text>'


def box(x: float, y: float, width: float, height: float, *text: str) -> str:
    """A network, around its centre; a second line of text is small."""
    heights = [y + 11 * (2 * k - len(text) + 1) for k in range(len(text))]
    lines = [label(x, heights[k], t, "small" * (k > 0)) for k, t in enumerate(text)]
    return (
        f'<rect class="box" x="{x - width / 2}" y="{y - height / 2}" width="{width}" '
        f'height="{height}" rx="7"/>{"".join(lines)}'
    )


def symbol(letter: str, above: str = "", below: str = "") -> str:
    """A letter with an index; the next letter stands on the line again."""
    up = f'<tspan dx="2" dy="-6" font-size="13">{above}</tspan><tspan dy="6">&#8203;</tspan>'
    down = f'<tspan dy="4" font-size="13">{below}</tspan><tspan dy="-4">&#8203;</tspan>'
    return f'<tspan font-style="italic">{letter}</tspan>{up * bool(above)}{down * bool(below)}'


def frame(x: float, y: float, width: float, name: str = "", below: float = 0) -> str:
    """A picture of the road: horizon, vanishing lines, a car."""
    height = 0.8 * width
    left, top = x - width / 2, y - height / 2
    road = (
        f"M{left + 0.08 * width} {top + height} L{x - 0.04 * width} {top + 0.45 * height} "
        f"h{0.08 * width} L{left + 0.92 * width} {top + height} z"
    )
    car = f'<rect x="{x + 0.12 * width}" y="{top + 0.6 * height}" width="{0.2 * width}" '
    return (
        f'<rect class="frame" x="{left}" y="{top}" width="{width}" height="{height}" rx="4"/>'
        f'<path class="scene" opacity=".45" d="{road}"/>'
        f'{car}height="{0.2 * height}" rx="2" class="scene"/>' + label(x, y + below, name)
    )


def bits(x: float, y: float) -> str:
    """Bits that are sent: a short bar code."""
    bars = ((-15, 4), (-9, 2), (-5, 5), (2, 2), (6, 2), (10, 5))
    return "".join(
        f'<rect class="bit" x="{x + at}" y="{y - 13}" width="{width}" height="26"/>'
        for at, width in bars
    )


def upsampling(x: float, y: float, height: float) -> str:
    """One upsampling stage of the decoder."""
    return (
        f'<path class="box" d="M{x - 9} {y - height / 2 + 6} L{x + 9} {y - height / 2} '
        f'V{y + height / 2} L{x - 9} {y + height / 2 - 6} z"/>'
    )


def draw(lit: set[str]) -> str:
    """The whole picture as SVG text."""
    m = Map(lit)
    top, mid, low, under = 92, 262, 362, 466  # the four heights on which things happen
    stages, spaces = (624, 726, 828, 930), (675, 777, 879)

    # the visible lane, and what leaves it
    m.flow(f"M92 {top}H116")
    m.flow(f"M206 {top}H222", plain=True)
    m.flow(f"M260 {top}H282")
    m.flow(f"M412 {top}H442")
    for j, x, y in ((1, 378, 48), (2, 348, 33), (3, 318, 18)):
        m.flow(f"M{x} {top - 31}V{y}H{spaces[j - 1]}V{low - 31}")
        m.name(spaces[j - 1] + 9, 150, symbol("h", below=str(j)))
    m.flow(f"M484 {top + 34}V161")
    m.flow(f"M484 201V{mid - 31}")
    m.name(494, 215, symbol("f", above="v"))

    # the infrared lane
    m.flow(f"M84 {low}H108")
    m.flow(f"M200 {low}H434")
    m.flow(f"M330 {low}V{mid}H388")
    m.name(340, 312, symbol("f", above="i"))
    m.flow(f"M484 {mid + 31}V{low - 31}")
    m.name(494, 312, "f̄")
    m.flow(f"M534 {low}H548", plain=True)
    m.flow(f"M584 {low}H{stages[0] - 9}")
    for stage, space in zip(stages, spaces, strict=False):
        m.flow(f"M{stage + 9} {low}H{space - 32}")
        m.flow(f"M{space + 32} {low}H{space + 42}")
    m.flow(f"M{stages[3] + 9} {low}H954")
    m.flow(f"M1046 {low}H1066")
    # f̄ on the decoder's side, by way of γ and β
    m.flow(f"M580 {mid}H599V{under}H1000V{low + 32}", cross=True)
    m.name(760, under - 19, "f̄ = γ " + symbol("f", above="v") + " + β")

    visible, infrared, both = "visible", "infrared", "both"
    g_a, g_s = symbol("g", below="a"), symbol("g", below="s")
    m.group("pair", visible, frame(52, top, 80, symbol("x", above="v"), 50))
    m.group("visible codec, transforms", visible, box(162, top, 88, 62, "encoder", g_a))
    m.group("bits", visible, bits(241, top))
    m.group("visible codec, transforms", visible, box(348, top, 128, 62, "decoder", g_s))
    m.group("reconstruction, visible codec", visible, frame(484, top, 80))
    m.name(532, top, symbol("x̂", above="v"))
    m.group("features", visible, box(484, 181, 156, 40, "feature encoder"))
    m.group("channel alignment", both,
            box(484, mid, 190, 62, "channel alignment", "one γ, one β a channel"))  # fmt: skip
    m.group("coefficients", both, bits(599, 308))
    m.name(624, 308, "γ, β")

    m.group("pair", infrared, frame(52, low, 56, symbol("x", above="i"), 42))
    m.group("features", infrared, box(154, low, 90, 62, "feature", "encoder"))
    m.group("transforms", infrared, box(484, low, 96, 62, "encoder", g_a))
    m.group("bits", infrared, bits(566, low))
    for k, x in enumerate(stages):
        m.group("transforms", infrared, upsampling(x, low, 36 + 8 * k))
    for k, x in enumerate(spaces):
        m.group("spatial alignment", both, box(x, low, 62, 62, "space", str(k + 1)))
    m.group("features", infrared, box(1000, low, 90, 62, "feature", "decoder"))
    m.group("reconstruction", infrared, frame(1097, low, 56, symbol("x̂", above="i"), 42))
    caption = f"decoder {g_s}: four steps, three looks at the visible one"
    m.name(612, low + 52, caption, "small left")

    m.group("all", both, bits(46, 208))
    m.name(72, 208, "bits: all that the decoder is given", "small left")
    for x, hue in ((32, visible), (138, infrared), (254, both)):
        m.lines.append(f'<rect x="{x}" y="236" width="28" height="16" rx="3" class="key-{hue}"/>')
        m.name(x + 36, 244, hue, "small left")
    body = "\n".join(m.lines)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1136 488" role="img">
<title>How a pair flows through the codec</title>
<style>{STYLE}</style>
<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6.5" markerHeight="6.5"
 orient="auto"><path d="M0 0L8 4L0 8z"/></marker>
</defs>
<rect x=".75" y=".75" width="1134.5" height="486.5" rx="10" class="ground"/>
{body}
</svg>
"""


def path_of(name: str) -> Path:
    return HERE / f"system_map{'_' * bool(name)}{name}.svg"


def main(names: list[str]) -> None:
    pages = {path.stem for path in HERE.parent.glob("*.ipynb")}
    for name in names or ["", *sorted(pages & LIT.keys())]:
        if name not in LIT:
            raise SystemExit(
                f"{name}: no such chapter; expected one of {', '.join(filter(None, LIT))}"
            )
        path_of(name).write_text(draw(LIT[name]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
