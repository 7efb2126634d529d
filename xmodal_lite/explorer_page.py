"""The page form of an explorer: HTML with native controls and precomputed states.

What changes with the controls is a *part*: a picture, a chart, a table or a sentence. Every
content that a part can have is stored once; a state is a list of contents, and one small script
puts those of the chosen state in place. Nothing is loaded: no kernel, no network, no framework.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image


class Control(NamedTuple):
    """A choice among ``values``, each with the text that a reader sees."""

    name: str
    label: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    start: int = 0
    slider: bool = False


class Picture(NamedTuple):
    """What a picture shows in one state; ``caption`` may hold HTML, ``overlay`` an SVG."""

    src: str
    alt: str
    caption: str
    overlay: str = ""


class View(NamedTuple):
    """One state: a sentence, and the parts in reading order, pictures or HTML, by name."""

    status: str
    parts: dict[str, Picture | str]


# --- pictures ------------------------------------------------------------------------------------


def lossless(image: np.ndarray, palette: np.ndarray | None = None) -> str:
    """A data URI of a uint8 image (H, W) or (H, W, 3), to the last bit; WebP, smaller than PNG.

    Args:
        palette: (n, 3) uint8; the image then holds its indices.
    """
    picture = Image.fromarray(np.ascontiguousarray(image if palette is None else palette[image]))
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def colours(name: str, count: int) -> np.ndarray:
    """``count`` steps of a Matplotlib colour map, (count, 3) uint8."""
    steps = matplotlib.colormaps[name](np.linspace(0, 1, count))[:, :3]
    return (255 * steps).round().astype(np.uint8)


def mapped(values: np.ndarray, low: float, high: float, name: str, steps: int = 32) -> str:
    """A data URI of a map of values, clipped to [low, high], in ``steps`` colours."""
    share = (np.clip(values, low, high) - low) / (high - low)
    return lossless(np.rint(share * (steps - 1)).astype(np.uint8), colours(name, steps))


def scale_bar(name: str, low: str, high: str) -> str:
    """A colour scale with its two ends named, for a caption."""
    stops = ",".join("#" + bytes(c.tolist()).hex() for c in colours(name, 9))
    bar = f'<span class="xm-scale" style="background:linear-gradient(90deg,{stops})"></span>'
    return f'<span class="xm-legend">{low} {bar} {high}</span>'


# --- charts and tables ---------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """A table whose first column names the rows."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{c}</td>" for c in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{caption}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{lines}</tbody></table>"
    )


def chart(shapes: str, width: float, height: float, about: str) -> str:
    """An inline SVG that reads as one picture."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(about)}">'
        f"{shapes}</svg>"
    )


def words(x: float, y: float, text: str, anchor: str = "middle", turn: bool = False) -> str:
    """A line of text in a chart."""
    turned = f' transform="rotate(-90 {x:g} {y:g})"' if turn else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{turned}>{text}</text>'


def box(x: float, y: float, width: float, height: float) -> str:
    """The place of an SVG rectangle."""
    return f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'


class Axes:
    """Plot coordinates of a chart: a frame with round ticks and names."""

    left, top, right, bottom = 46, 10, 312, 172
    width, height = 320, 214

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: tuple[str, str]):
        self.x_range, self.y_range, self.names = x, y, names

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def frame(self) -> str:
        out = ""
        for v in ticks(*self.x_range):
            out += f'<path class="xm-grid" d="M{self.x(v):.1f} {self.top}V{self.bottom}"/>'
            out += words(self.x(v), self.bottom + 15, f"{v:g}")
        for v in ticks(*self.y_range):
            out += f'<path class="xm-grid" d="M{self.left} {self.y(v):.1f}H{self.right}"/>'
            out += words(self.left - 5, self.y(v) + 4, f"{v:g}", "end")
        out += words((self.left + self.right) / 2, self.bottom + 34, self.names[0])
        return out + words(11, (self.top + self.bottom) / 2, self.names[1], turn=True)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About ``count`` round values in [low, high]."""
    raw = (high - low) / count
    size = 10 ** np.floor(np.log10(raw))
    step = next(k * size for k in (1, 2, 5, 10) if k * size >= raw)
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [round(float(k * step), 9) + 0.0 for k in np.arange(first, last + 1)]  # no −0


# --- the whole -----------------------------------------------------------------------------------

STYLE = """
.xm-explorer{--xm-line:#8a94a0;--xm-soft:#eef1f4;--xm-focus:#0072b2;
border:1px solid var(--xm-line);border-radius:8px;padding:.8rem;margin:.5rem 0 1rem;
font-size:.9rem;line-height:1.4;color:inherit}
.xm-explorer *{box-sizing:border-box}
.xm-explorer .xm-controls{display:flex;flex-wrap:wrap;gap:.5rem 1.2rem;align-items:center;
padding:.5rem .6rem;background:var(--xm-soft);border-radius:6px}
.xm-explorer .xm-control{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem;min-width:0}
.xm-explorer label{font-weight:600;margin:0}
.xm-explorer select{max-width:100%;min-height:2rem;font:inherit;color:inherit;
background:Canvas;background:var(--xm-field,#fff);border:1px solid var(--xm-line);
border-radius:4px}
.xm-explorer input[type=range]{width:9rem;max-width:100%;min-height:2rem;
accent-color:var(--xm-focus);margin:0}
.xm-explorer output{display:inline-block;min-width:3.2em;font-variant-numeric:tabular-nums}
.xm-explorer :focus-visible{outline:3px solid var(--xm-focus);outline-offset:2px}
.xm-explorer .xm-status{margin:.7rem 0;min-height:2.8em}
.xm-explorer .xm-parts{display:grid;gap:.8rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,max(15rem,40%)),1fr))}
.xm-explorer figure{margin:0;width:auto}
.xm-explorer .xm-frame{position:relative;line-height:0}
.xm-explorer img{width:100%;height:auto;image-rendering:pixelated;border-radius:3px;margin:0}
.xm-explorer .xm-over svg{position:absolute;inset:0;width:100%;height:100%;overflow:hidden;
pointer-events:none}
.xm-explorer figcaption{font-size:.85rem;line-height:1.35;margin-top:.25rem;text-align:left;
color:inherit}
.xm-explorer .xm-legend{white-space:nowrap}
.xm-explorer .xm-scale{display:inline-block;width:5rem;height:.7em;vertical-align:baseline;
border:1px solid var(--xm-line)}
.xm-explorer .xm-extra{min-width:0;overflow-x:auto}
.xm-explorer .xm-extra p{font-size:.85rem;line-height:1.35;margin:0 0 .3rem}
.xm-explorer .xm-extra svg{width:100%;max-width:30rem;height:auto;display:block}
.xm-explorer svg text{font-size:11px;fill:currentColor}
.xm-explorer .xm-grid{stroke:var(--xm-line);stroke-opacity:.35;fill:none}
.xm-explorer table{border-collapse:collapse;width:100%;margin:0;font-size:.85rem;display:table;
color:inherit}
.xm-explorer caption{caption-side:top;text-align:left;font-weight:600;color:inherit;padding:0}
.xm-explorer th,.xm-explorer td{padding:.1rem .4rem;text-align:right;background:none;
border:0;border-bottom:1px solid var(--xm-line);font-variant-numeric:tabular-nums;color:inherit}
.xm-explorer th:first-child{text-align:left;font-weight:400}
.xm-explorer .xm-print{display:none}
html[data-theme=dark] .xm-explorer{--xm-line:#77828f;--xm-soft:#232b35;--xm-focus:#56b4e9;
--xm-field:#12171d}
@media (prefers-color-scheme:dark){html:not([data-theme]) .xm-explorer{--xm-line:#77828f;
--xm-soft:#232b35;--xm-focus:#56b4e9;--xm-field:#12171d}}
@media (prefers-reduced-motion:no-preference){.xm-explorer svg .xm-now{transition:all .15s}}
@media print{.xm-explorer .xm-controls{display:none}.xm-explorer .xm-print{display:block}
.xm-explorer{border:0;padding:0}}
"""

SCRIPT = """
(function () {
  "use strict";
  var root = document.getElementById("@id@");
  if (!root) { return; }
  var data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  var controls = Array.from(root.querySelectorAll("[data-control]"));
  function part(name) { return root.querySelector("[data-part='" + name + "']"); }
  function fill(name, content) {
    var element = part(name);
    if (element.innerHTML !== content) { element.innerHTML = content; }
  }
  function update() {
    var chosen = {};
    controls.forEach(function (control) {
      var name = control.dataset.control, text = data.texts[name][Number(control.value)];
      chosen[name] = Number(control.value);
      if (control.type === "range") {
        control.setAttribute("aria-valuetext", text);
        part("value-" + name).textContent = text;
      }
    });
    var key = data.by.map(function (name) { return chosen[name]; }).join(" ");
    data.states[key].forEach(function (at, k) {
      var content = data.contents[at], name = data.parts[k];
      if (Array.isArray(content)) {
        part(name).src = content[0];
        part(name).alt = content[1];
        fill(name + "-caption", content[2]);
        fill(name + "-overlay", content[3]);
      } else { fill(name, content); }
    });
    @draw@
  }
  root.addEventListener("input", update);
  @start@
  update();
})();
"""


def page(
    kind: str,
    title: str,
    controls: Sequence[Control],
    states: dict[tuple[int, ...], View],
    summary: str,
    *,
    by: Sequence[str] | None = None,
    more: dict[str, Any] | None = None,
    draw: str = "",
    start: str = "",
    times_shown: int = 0,
    first: View | None = None,
) -> str:
    """The explorer's HTML, showing the state at which its controls start.

    Args:
        states: by the positions of the controls named in ``by`` (all of them by default).
        summary: a table of every state, for print and where scripts do not run.
        more: further data for ``draw`` and ``start``, script that runs at each change and once.
        times_shown: makes ids differ where the same explorer stands on a page twice.
        first: what is there before the script runs; the state at the start if None.
    """
    used = [control.name for control in controls] if by is None else list(by)
    places = {control.name: control.start for control in controls}
    view = states[tuple(places[name] for name in used)]
    names = ["status", *view.parts]
    contents: dict[str, int] = {}
    known: list[Any] = []

    def at(content: Any) -> int:
        where = contents.setdefault(repr(content), len(known))
        if where == len(known):
            known.append(content)
        return where

    listed = {
        " ".join(map(str, key)): [
            at(list(part) if isinstance(part, Picture) else part)
            for part in (state.status, *state.parts.values())
        ]
        for key, state in states.items()
    }
    data = {
        "by": used,
        "parts": names,
        "contents": known,
        "states": listed,
        "texts": {control.name: control.texts for control in controls},
        **(more or {}),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    root = f"xm-{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-{times_shown}"
    script = SCRIPT.replace("@id@", root).replace("@draw@", draw).replace("@start@", start)
    return (
        f'<div class="xm-explorer" data-explorer="{kind}" id="{root}" role="group" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style><div class="xm-controls">'
        + "".join(control_html(control, root) for control in controls)
        + f"</div>{view_html(first or view)}"
        f"<noscript><style>#{root} .xm-print{{display:block}}</style></noscript>"
        f'<div class="xm-print">{summary}</div>'
        f'<script type="application/json">{text}</script><script>{script}</script></div>'
    )


def control_html(control: Control, root: str) -> str:
    """A labelled native control; sliders say their value as text."""
    own = f'id="{root}-{control.name}" data-control="{control.name}"'
    label = f'<label for="{root}-{control.name}">{escape(control.label)}</label>'
    text = escape(control.texts[control.start])
    if control.slider:
        field = (
            f'<input type="range" {own} min="0" max="{len(control.values) - 1}" step="1" '
            f'value="{control.start}" aria-valuetext="{text}" autocomplete="off">'
            f'<output for="{root}-{control.name}" data-part="value-{control.name}">{text}</output>'
        )
    else:
        options = "".join(
            f'<option value="{k}"{" selected" * (k == control.start)}>{escape(name)}</option>'
            for k, name in enumerate(control.texts)
        )
        field = f'<select {own} autocomplete="off">{options}</select>'
    return f'<div class="xm-control">{label}{field}</div>'


def view_html(view: View) -> str:
    """The parts of one state, without controls; what the live form shows too."""
    cells = ""
    for name, p in view.parts.items():
        if isinstance(p, str):
            cells += f'<div class="xm-extra" data-part="{name}">{p}</div>'
            continue
        cells += (
            f'<figure><div class="xm-frame"><img data-part="{name}" src="{p.src}" '
            f'alt="{escape(p.alt)}"><div class="xm-over" data-part="{name}-overlay">{p.overlay}'
            f'</div></div><figcaption data-part="{name}-caption">{p.caption}</figcaption></figure>'
        )
    return (
        f'<p class="xm-status" data-part="status" aria-live="polite">{view.status}</p>'
        f'<div class="xm-parts">{cells}</div>'
    )
