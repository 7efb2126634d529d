"""Draw the system map: the whole of it, and one for each chapter with that chapter's parts lit.

    python book/figures/make_map.py                  the whole, and every chapter that is there
    python book/figures/make_map.py 04_entropy       one chapter

Colours and shapes are those of drawing.py.
"""

import sys
from pathlib import Path

from drawing import Drawing, bits, box, frame, symbol, upsampling

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


class Map(Drawing):
    """Shapes of a group are lit together, in the group's hue."""

    def __init__(self, lit: set[str]) -> None:
        super().__init__()
        self.lit = lit

    def group(self, parts: str, hue: str, *shapes: str) -> None:
        named = set(parts.split(", "))
        state = "lit" if "all" in self.lit or named & self.lit else "idle"
        self.lines.append(f'<g class="{state} {hue}">{"".join(shapes)}</g>')


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
    return m.svg(1136, 488, "How a pair flows through the codec")


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
