"""What the pictures of the book are drawn with: shapes as SVG text, in one visual language.

Visible is blue, infrared orange, what belongs to both violet; bar codes are bits that are sent.
The pictures follow the colour scheme of the page that shows them, and stand on their own ground,
so that they are readable in light and dark, in Jupyter and on the web.
"""

STYLE = """
  :root { color-scheme: light dark; --ground: #ffffff; --edge: #d5dae0; --ink: #1d2733;
    --faint: #66717f; --idle: #f3f5f7; --line: #9aa5b1;
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


class Drawing:
    """Shapes in the order in which they are drawn."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def flow(self, path: str, cross: bool = False, plain: bool = False) -> None:
        """A line with an arrow head; one that crosses another gets a gap around itself."""
        if cross:
            self.lines.append(f'<path class="halo" d="{path}"/>')
        self.lines.append(f'<path class="flow{" plain" if plain else ""}" d="{path}"/>')

    def name(self, x: float, y: float, text: str, kind: str = "left") -> None:
        self.lines.append(label(x, y, text, kind))

    def svg(self, width: int, height: int, title: str, style: str = "") -> str:
        """The whole picture, on its ground."""
        body = "\n".join(self.lines)
        box = f'viewBox="0 0 {width} {height}"'
        return f"""<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">
<title>{title}</title>
<style>{STYLE}{style}</style>
<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6.5" markerHeight="6.5"
 orient="auto"><path d="M0 0L8 4L0 8z"/></marker>
</defs>
<rect x=".75" y=".75" width="{width - 1.5}" height="{height - 1.5}" rx="10" class="ground"/>
{body}
</svg>
"""


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
    up = f'<tspan dx="5" dy="-7" font-size="13">{above}</tspan><tspan dy="7">&#8203;</tspan>'
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
