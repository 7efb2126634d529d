"""What belongs together stays on one line: number and unit, formula and the stop behind it.

And a number that was glued in has the sign of a number, no hyphen.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx

NO_BREAK = "\u00a0"
UNIT = r"(?=(?:%|dB|bpp|kB|MB|GB|px|s|pixels)(?!\w))"
INSIDE = re.compile(rf"(?<=\d) {UNIT}")
BEHIND = re.compile(rf"\A {UNIT}")
INTERVAL = re.compile(r"(\[[−\d.]+,) (?=[\d.]+[\])])")  # [0, 255]
STOP = re.compile(r"\A[.,;:)]+")
NEGATIVE = re.compile(r"\A-(?=\d)")
LEFT_ALONE = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def joined(text: str, before: nodes.Node | None) -> str:
    """The text with its breaks forbidden; ``before`` is what stands in front of it."""
    text = INTERVAL.sub(rf"\1{NO_BREAK}", INSIDE.sub(NO_BREAK, text))
    if isinstance(before, nodes.inline) and before.astext()[-1:].isdigit():
        text = BEHIND.sub(NO_BREAK, text)
    return text


def join(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Every text of a page that is no code and no formula."""
    for text in list(doctree.findall(nodes.Text)):
        parent = text.parent
        if isinstance(parent, LEFT_ALONE):
            continue
        # by identity: texts that read alike are equal, and `index` would find the first of them
        index = next(k for k, child in enumerate(parent) if child is text)
        before = parent[index - 1] if index else None
        new = joined(str(text), before)
        if "pasted-text" in parent.get("classes", []):
            new = NEGATIVE.sub("−", new)
        stop = STOP.match(new)
        if isinstance(before, nodes.math) and stop:
            held = nodes.inline("", "", before.deepcopy(), nodes.Text(stop[0]), classes=["held"])
            parent[index - 1 : index + 1] = [held, nodes.Text(new[stop.end() :])]
        elif new != str(text):
            parent[index] = nodes.Text(new)


def setup(app: Sphinx) -> dict[str, bool]:
    """After numbers are glued in and references are resolved."""
    app.connect("doctree-resolved", join)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
