"""Figures as lossless WebP: equal to the last bit, and little more than half of a PNG."""

import re
from pathlib import Path

from PIL import Image
from sphinx.application import Sphinx

FIGURE = re.compile(r'(src=\\?"[^"]*_images/)([^"/]+)\.png(\\?")')


def as_webp(picture: Path) -> None:
    """Put a WebP file in the place of a PNG file."""
    with Image.open(picture) as image:
        # lossless: `quality` is only how long it looks for a smaller file
        image.save(picture.with_suffix(".webp"), lossless=True, quality=60, method=4)
    picture.unlink()


def rewrite(app: Sphinx, error: Exception | None) -> None:
    """Every PNG that a page or a preview shows; cards for chats and feeds stay what they are."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir, "_images")
    previews = Path(app.outdir, "_static", "tippy").rglob("*.js")
    for page in [*Path(app.outdir).rglob("*.html"), *previews]:
        text = page.read_text(encoding="utf-8")
        stems = {stem for _, stem, _ in FIGURE.findall(text)}
        for picture in (folder / f"{stem}.png" for stem in sorted(stems)):
            if picture.is_file():
                as_webp(picture)
        if stems:
            page.write_text(FIGURE.sub(r"\1\2.webp\3", text), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """After every page and every preview is written."""
    app.connect("build-finished", rewrite, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
