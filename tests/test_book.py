"""The book: every page is listed, notebooks hold no pictures, no page loads from outside."""

import importlib
import json
import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import docutils.utils
import nbformat
import pytest
import yaml
from docutils import nodes
from store_outputs import compared

from xmodal_lite.bitstream import Header, pack, required_sections, section_sizes
from xmodal_lite.curves import bd_table
from xmodal_lite.pretrained import load_codec
from xmodal_lite.records import load_measurements
from xmodal_lite.teaching import complaint

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
SITE = ROOT / "_build" / "html"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def listed() -> list[str]:
    """Every page that _toc.yml names, without suffix."""
    table = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def pages(node):
        for entry in node.get("chapters", []) + node.get("sections", []):
            yield entry["file"]
            yield from pages(entry)

    return [table["root"], *(page for part in table["parts"] for page in pages(part))]


def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def drawing_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook(path).cells if "plt.show()" in cell.source]


# --- sources -------------------------------------------------------------------------------------


def test_every_listed_page_exists_once():
    pages = listed()
    assert len(pages) == len(set(pages))
    for page in pages:
        found = [s for s in (".md", ".ipynb") if (ROOT / page).with_suffix(s).is_file()]
        assert len(found) == 1, f"{page}: {found or 'no source'}"


def test_every_page_of_the_book_is_listed():
    sources = {f"book/{p.stem}" for suffix in ("md", "ipynb") for p in BOOK.glob(f"*.{suffix}")}
    assert sources == set(listed())


def test_chapters_stand_in_the_order_of_their_numbers():
    chapters = [page for page in listed() if re.match(r"book/\d\d_", page)]
    assert chapters == sorted(chapters)


@names
def test_notebooks_are_valid_and_hold_only_outputs_that_are_compared(path):
    book = notebook(path)
    nbformat.validate(book)
    for cell in book.cells:
        assert cell.id
        if cell.cell_type == "code":
            assert bool(cell.outputs) == compared(cell), cell.source[:80]
            assert (cell.execution_count is not None) == compared(cell), cell.source[:80]
            for output in cell.outputs:  # words, no pictures: those may show frames
                assert set(output.data) <= {"text/plain", "text/markdown"}, cell.source[:80]
    assert any(map(compared, book.cells))
    assert set(book.metadata) <= {"kernelspec", "language_info"}
    assert book.metadata.kernelspec.name == "python3"


@names
def test_every_figure_has_alt_text_and_a_caption(path):
    for cell in drawing_cells(path):
        about = cell.metadata.get("mystnb", {})
        assert len(about.get("image", {}).get("alt", "")) > 40, cell.source[:80]
        assert len(about.get("figure", {}).get("caption", "")) > 20, cell.source[:80]


@names
def test_cells_that_show_a_table_say_so(path):
    for cell in notebook(path).cells:
        if cell.cell_type == "code" and re.search(r"^table\(", cell.source, re.MULTILINE):
            marked = cell.metadata.get("mystnb", {}).get("markdown_format")
            assert marked == "myst", f"the page shows its source: {cell.source[:80]}"


@names
def test_figure_names_are_unique(path):
    labels = [cell.metadata.mystnb.figure.get("name") for cell in drawing_cells(path)]
    assert len(labels) == len(set(labels))


def script(name):
    """A script of book/figures, as a module."""
    sys.path.insert(0, str(BOOK / "figures"))  # the scripts import each other
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BOOK / "figures"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_opens_with_its_number_and_its_system_map(path):
    maps = script("make_map")
    number = int(path.name[:2])
    picture = maps.path_of(path.stem if path.stem in maps.LIT else "").name
    first = notebook(path).cells[0].source
    assert first.startswith(f"# {number} · ")
    assert f"](figures/{picture})" in first


def test_the_welcome_page_says_the_minutes_that_a_chapter_says():
    welcome = (BOOK / "index.md").read_text(encoding="utf-8")
    for path in CHAPTERS:
        minutes = re.search(r"\*\*It takes\*\* (\d+) minutes", notebook(path).cells[0].source)
        row = next(line for line in welcome.splitlines() if f"]({path.stem})" in line)
        assert minutes and row.endswith(f"| {minutes[1]} |"), f"{path.stem}: {row}"


def test_pages_quote_measurements_that_there_are(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    known = importlib.import_module("measured").numbers()
    quoted = {
        name
        for path in BOOK.glob("*.md")
        for name in re.findall(r"\{\{ *(\w+) *\}\}", path.read_text(encoding="utf-8"))
    }
    assert quoted and quoted <= known.keys()
    for name, text in known.items():
        assert re.fullmatch(r"[+−]?\d+(\.\d+)?", text), f"{name} is {text}"
    records = load_measurements(ROOT / "results" / "rd.json")
    rates = {r.codec: r for r in bd_table(records, "alone")}
    assert known["rate_flir"] == f"{rates['pair'].mean.rate:+.1f}".replace("-", "−")


def test_a_number_keeps_its_unit_and_a_formula_its_stop(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    on_one_line = importlib.import_module("on_one_line")
    number = nodes.inline("", "20.5")
    joined = on_one_line.joined(" dB at 0.5 bpp, on [0, 255]", number)
    assert joined == "\u00a0dB at 0.5\u00a0bpp, on [0,\u00a0255]"
    assert (
        on_one_line.joined(" dBm", number) == " dBm" and on_one_line.joined(" dB", None) == " dB"
    )
    page = docutils.utils.new_document("page")
    alike = (
        nodes.emphasis("", "so"),
        nodes.Text(". So"),
        nodes.math("", "M = 4"),
        nodes.Text(". So"),
    )
    page += nodes.paragraph("", "", *alike)
    page += nodes.paragraph("", "", nodes.inline("", "-0.70", classes=["pasted-text"]))
    on_one_line.join(None, page, "page")
    assert page[1].astext() == "−0.70"
    held, rest = page[0].children[2:]
    assert (held["classes"], held.astext(), rest) == (["held"], "M = 4.", " So")


def test_troubleshooting_lists_the_weights_that_are_shipped():
    said = complaint(load_codec, "nope")
    assert said in (BOOK / "troubleshooting.md").read_text(encoding="utf-8")


def test_system_maps_are_those_that_the_script_draws():
    maps = script("make_map")
    shown = {"", *(path.stem for path in CHAPTERS)} & maps.LIT.keys()
    for name in shown:
        path = maps.path_of(name)
        assert path.read_text(encoding="utf-8") == maps.draw(maps.LIT[name]), f"redraw {path.name}"
    drawn = {maps.path_of(name).name for name in shown} | set(script("draw_figures").FIGURES)
    assert {path.name for path in BOOK.glob("figures/*.svg")} == drawn


def test_figures_are_those_that_the_script_draws_and_each_is_shown():
    shown = " ".join(cell.source for path in NOTEBOOKS for cell in notebook(path).cells)
    for name, draw in script("draw_figures").FIGURES.items():
        picture = BOOK / "figures" / name
        assert picture.read_text(encoding="utf-8") == draw(), f"redraw {name}"
        assert f"{{figure}} figures/{name}" in shown, name


def test_the_drawn_file_is_laid_out_as_a_real_one():
    figures = script("draw_figures")
    header = Header(
        visible_size=(2, 2),
        infrared_size=(1, 1),
        visible_lmbda=256,
        infrared_lmbda=256,
        target="infrared",
        coefficient_format="int8",
        fingerprint=bytes(8),
    )
    data = pack(header, {section: bytes(8) for section in required_sections(header)})
    assert sum(size for _, size, _ in figures.HEADER) == section_sizes(data)["header"]
    assert len(figures.SECTIONS) == len(section_sizes(data)) - 1


def test_every_part_that_a_map_lights_is_drawn():
    maps = script("make_map")
    dark = maps.draw(set()).count('class="lit')
    assert dark == 0
    for part in set().union(*maps.LIT.values()):
        assert 'class="lit' in maps.draw({part}), part


def test_pictures_of_the_sources_load_nothing_from_elsewhere():
    for path in [*BOOK.rglob("*.svg"), *BOOK.rglob("*.css")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|<script|<image", text), path


# --- the built site ------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser loads for a page, and what the page promises."""

    LOADING_LINKS = {"stylesheet", "icon", "shortcut", "preload", "modulepreload", "prefetch"}
    LOADING_LINKS |= {"manifest", "apple-touch-icon", "preconnect", "dns-prefetch"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.loads: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.css: list[str] = []
        self.preview: dict[str, str] = {}
        self._style = False
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        self.classes.update((values.get("class") or "").split())
        self.css.append(values.get("style") or "")
        self._style = tag == "style"
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag == "meta" and (values.get("property") or "").startswith("og:"):
            self.preview[(values["property"] or "")[3:]] = values.get("content") or ""
        elif tag == "link":
            if self.LOADING_LINKS & set((values.get("rel") or "").lower().split()):
                self.loads.append(values.get("href") or "")
        else:
            self.loads += [values[k] or "" for k in ("src", "data", "poster") if k in values]
            self.loads += [u.split()[0] for u in (values.get("srcset") or "").split(",") if u]
        if tag == "img":
            self.images.append(values)

    def handle_data(self, data: str) -> None:
        if self._style:
            self.css.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._style = False


@cache
def site() -> list[Page]:
    if not (SITE / "index.html").is_file():
        pytest.fail("the book is not built (_build/html/index.html): run `make book` first")
    return [Page(path) for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts]


@cache
def page_at(path: Path) -> Page:
    page = next((page for page in site() if page.path == path), None)
    assert page, f"{path.relative_to(SITE)} is not in the site: list it, and run `make book`"
    return page


def outside(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ftp")


def test_the_site_has_every_listed_page():
    built = {page.path.relative_to(SITE).with_suffix("").as_posix() for page in site()}
    assert set(listed()) <= built


def test_no_page_loads_anything_from_outside():
    for page in site():
        asked = [address for address in page.loads if outside(address)]
        assert not asked, f"{page.path.name}: {asked}"
        foreign = re.findall(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\s]+", " ".join(page.css)
        )
        assert not foreign, f"{page.path.name}: {foreign}"
        assert not re.search(r"(?:import|fetch|open)\s*\(\s*[\"']https?:", page.text)
        # its script would come from a CDN, at a click
        assert not {"btn-launch-thebe", "thebe-launch-button"} & page.classes


def test_no_stylesheet_loads_anything_from_outside():
    site()
    for path in SITE.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), path


def test_everything_that_a_page_loads_is_in_the_site():
    for page in site():
        for address in page.loads:
            parts = urlsplit(address)
            if parts.scheme == "data" or not parts.path:
                continue
            target = page.path.parent / unquote(parts.path)
            assert target.is_file(), f"{page.path.name}: {address}"


def test_links_inside_the_site_lead_somewhere():
    for page in site():
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address in ("", "#"):
                continue
            path = page.path
            if parts.path:
                path = (page.path.parent / unquote(parts.path)).resolve()
            assert path.is_file(), f"{page.path.name}: {address}"
            if parts.fragment and path.suffix == ".html":
                assert unquote(parts.fragment) in page_at(path).ids, f"{page.path.name}: {address}"


def test_every_picture_has_a_description():
    for page in site():
        for image in page.images:
            described = image.get("alt") and not image["alt"].endswith((".png", ".svg"))
            assert described, f"{page.path.name}: {image.get('src')}"


def test_formulas_are_set_by_the_copy_in_the_site():
    math = [page for page in site() if "math notranslate" in page.text]
    assert math
    for page in math:
        scripts = {urlsplit(address).path for address in page.loads}
        assert "../_static/mathjax/tex-chtml.js" in scripts, page.path.name


def test_no_page_shows_an_error_a_warning_or_a_missing_number():
    for page in site():
        assert not {"stderr", "traceback", "problematic", "system-message"} & page.classes, (
            page.path
        )
        assert "undefined" not in re.findall(r'class="pasted-text">([^<]*)<', page.text)


def test_every_listed_page_has_a_preview_with_its_own_title_and_card():
    previews = {name: page_at(SITE / f"{name}.html").preview for name in listed()}
    for name, preview in previews.items():
        assert preview.get("title") and len(preview.get("description", "")) > 40, (name, preview)
        card = urlsplit(preview["image"]).path.split("/_images/")[1]
        assert (SITE / "_images" / card).is_file(), (name, card)
    assert len({(p["title"], p["image"]) for p in previews.values()}) == len(previews)


def test_pages_stay_light_with_all_their_pictures():
    for page in site():
        pictures = {
            page.path.parent / image["src"]
            for image in page.images
            if "_images" in (image.get("src") or "")
        }
        weight = len(page.text.encode()) + sum(path.stat().st_size for path in pictures)
        assert weight < 3_000_000, f"{page.path.name}: {weight / 1e6:.2f} MB"


def test_chapters_were_built_with_their_outputs():
    for path in CHAPTERS:
        page = page_at(SITE / "book" / f"{path.stem}.html")
        figures = [image for image in page.images if "_images" in (image.get("src") or "")]
        assert len(figures) > len(drawing_cells(path)), path.stem  # and the system map


def test_search_finds_a_word_of_a_chapter():
    site()
    index = (SITE / "searchindex.js").read_text(encoding="utf-8")
    words = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    assert "book/01_pairs" in words["docnames"] and "kerb" in words["terms"]
