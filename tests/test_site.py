"""The built site in a browser: silent, self-contained, legible, and usable with the keyboard.

Chromium opens every page from a web server, and one of each kind as a file, with no way out to a
network. What was seen there is a `Visit`; each test is a statement about all visits.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright
from test_book import NOTEBOOKS, SITE, listed, notebook

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
if not CHROMIUM:
    pytest.skip("no Chromium on the path (nor named by CHROMIUM)", allow_module_level=True)

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# What axe finds in the tools' own output, by rule and element, and why it stays.
THEIRS = {
    (
        "aria-required-children",
        ".citation-list",
    ): "docutils: entries of a list are doc-biblioentry",
}
SIDES = {"wide": 1280, "narrow": 390}


@dataclass
class Visit:
    """What a browser saw of one page."""

    page: str
    noise: list[str] = field(default_factory=list)  # errors in the console, and uncaught ones
    outside: list[str] = field(default_factory=list)  # requests that left the site
    broken: list[str] = field(default_factory=list)  # pictures that do not show
    violations: list[str] = field(default_factory=list)
    overflow: dict[str, str] = field(default_factory=dict)  # what stands out, by screen
    modes: list[str] = field(default_factory=list)  # after each press of the switch
    next: str = ""
    previous: str = ""
    code_cells: int = 0
    copy_buttons: int = 0
    print: dict = field(default_factory=dict)
    explorers: dict[str, list[str]] = field(default_factory=dict)  # kind → complaints


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if not (SITE / "index.html").is_file():
        pytest.fail("the book is not built (_build/html/index.html): run `make book` first")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=SITE)) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}/"
        site.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    # No name is resolved: nothing can be loaded from elsewhere, whatever a page tries.
    closed = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-gpu"]
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=closed)
        # one profile for all pages: what they share is read and compiled once
        yield chromium.new_context(color_scheme="light", reduced_motion="reduce")
        chromium.close()


def watched(browser: BrowserContext, visit: Visit, home: str) -> Page:
    """A tab that writes down what a page says, and what it asks for."""
    tab = browser.new_page()
    resize(tab, "wide")
    tab.set_default_timeout(60_000)

    def asked(address: str) -> None:
        if not address.startswith((home, "data:", "blob:")):
            visit.outside.append(address)

    tab.on(
        "console",
        lambda m: visit.noise.append(m.text) if m.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: visit.noise.append(error.message))
    tab.on("request", lambda request: asked(request.url))
    return tab


def ready(tab: Page, address: str) -> None:
    """Open a page and wait until its formulas are set; colours then change at once."""
    tab.goto(address)
    tab.add_style_tag(content="*, ::before, ::after { transition: none !important }")
    tab.evaluate("() => window.MathJax?.startup?.promise")


BROKEN = """() => [...document.images].filter(i => i.loading !== 'lazy' && !i.naturalWidth)
  .map(i => i.src.slice(0, 80))"""

# Elements that reach beyond the window, unless something around them scrolls or cuts them off.
OVERFLOW = """() => {
  if (document.documentElement.scrollWidth <= innerWidth) return '';
  const held = e => { for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
    if (getComputedStyle(e).overflowX !== 'visible') return true; return false; };
  const out = [...document.querySelectorAll('body *')].filter(
    e => e.getBoundingClientRect().right > innerWidth + 1 && !held(e));
  return document.documentElement.scrollWidth + ' px: ' + out.slice(0, 5).map(
    e => e.tagName + '.' + e.className).join(' ');
}"""

FACTS = """() => ({
  next: document.querySelector('.prev-next-footer a.right-next')?.href ?? '',
  previous: document.querySelector('.prev-next-footer a.left-prev')?.href ?? '',
  code_cells: document.querySelectorAll('.cell_input div.highlight').length,
  copy_buttons: document.querySelectorAll('.cell_input div.highlight button.copybtn').length,
})"""

PRINTED = """() => {
  const seen = s => [...document.querySelectorAll(s)].filter(e => e.checkVisibility())
    .map(e => e.className);
  const article = document.querySelector('article') ?? document.body;
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
    return (0.3 * r + 0.6 * g + 0.1 * b) / 255; };
  return {
    frame: seen('.bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, '
      + '.prev-next-footer, button.copybtn, .bd-footer-content'),
    ink: light(getComputedStyle(article).color),
    paper: light(getComputedStyle(document.body).backgroundColor + ' 1'),
  };
}"""


# Code and formulas look alike all over the book, and are most of a page's elements.
THIN = """() => ['mjx-container', '.cell_input pre', '.cell_output pre'].forEach(
  kind => [...document.querySelectorAll(kind)].slice(2).forEach(e => e.replaceChildren()))"""


def violations(tab: Page, theme: str, **options: object) -> list[str]:
    """Serious and critical findings of axe, which has to be in the page."""
    findings = tab.evaluate(
        """async options => (await axe.run({resultTypes: ['violations'], preload: false,
             ...options})).violations.filter(v => /serious|critical/.test(v.impact)).map(
               v => [v.id, v.nodes.map(n => n.target.join(' ')), v.nodes[0].failureSummary])""",
        options,
    )
    own = [
        (rule, [place for place in places if (rule, place) not in THEIRS], why)
        for rule, places, why in findings
    ]
    return [
        f"{theme}: {rule}, {len(places)} times: {', '.join(places[:4])}: {why}"
        for rule, places, why in own
        if places
    ]


def visit_served(browser: BrowserContext, home: str, name: str) -> Visit:
    visit = Visit(name)
    tab = watched(browser, visit, home)
    ready(tab, f"{home}{name}.html")
    for fact, value in tab.evaluate(FACTS).items():
        setattr(visit, fact, value)
    visit.overflow["wide"] = tab.evaluate(OVERFLOW)
    _switch_to(tab, "dark", visit)
    tab.emulate_media(media="print")
    visit.print = tab.evaluate(PRINTED)
    tab.emulate_media(media="screen")
    resize(tab, "narrow")
    visit.overflow["narrow"] = tab.evaluate(OVERFLOW)
    for explorer in tab.locator("[data-explorer]").all():
        kind = explorer.get_attribute("data-explorer") or ""
        visit.explorers.setdefault(kind, []).extend(complaints(tab, explorer))
    resize(tab, "wide")
    tab.evaluate(AXE)
    tab.evaluate(THIN)
    visit.violations = violations(tab, "dark", runOnly=["color-contrast"])
    _switch_to(tab, "light", visit)
    visit.violations += violations(tab, "light")
    tab.close()
    return visit


def resize(tab: Page, screen: str) -> None:
    tab.set_viewport_size({"width": SIDES[screen], "height": 900})


def _switch_to(tab: Page, theme: str, visit: Visit) -> None:
    """Press the theme's switch until the page is light or dark."""
    for _ in range(3):
        tab.locator("button.theme-switch-button:visible").first.click()
        visit.modes.append(tab.evaluate("document.documentElement.dataset.theme"))
        if visit.modes[-1] == theme:
            return


def visit_file(browser: BrowserContext, name: str) -> Visit:
    visit = Visit(name)
    tab = watched(browser, visit, SITE.as_uri())
    ready(tab, f"{SITE.as_uri()}/{name}.html")
    visit.broken = tab.evaluate(BROKEN)
    tab.close()
    return visit


# --- explorers -----------------------------------------------------------------------------------

# What an explorer shows apart from its controls, as one number.
SHOWN = """root => {
  const copy = root.cloneNode(true);
  copy.querySelectorAll('style, script, select, output[for], label').forEach(e => e.remove());
  const text = copy.textContent + [...copy.querySelectorAll('img')].map(i => i.src).join()
    + [...copy.querySelectorAll('svg')].map(s => s.outerHTML).join();
  let hash = 0;
  for (let k = 0; k < text.length; k++) hash = (hash * 31 + text.charCodeAt(k)) | 0;
  return hash;
}"""

# Where the keyboard is: the control, whether it can be named and seen, and what it says.
FOCUSED = """root => {
  const e = document.activeElement;
  if (!root.contains(e)) return null;
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  const name = e.labels?.[0]?.textContent || e.getAttribute('aria-label') || e.textContent;
  const choices = e.tagName === 'SELECT' ? e.options.length
    : e.type === 'range' ? 1 + (e.max - e.min) / (e.step || 1) : 2;
  return {tag: e.type === 'range' ? 'range' : e.tagName.toLowerCase(), name: name.trim(),
    at: [...root.querySelectorAll('input, select, button')].indexOf(e), choices,
    value: e.value, says: e.getAttribute('aria-valuetext'),
    shown: e.labels ? [...root.querySelectorAll('output')].some(o => o.htmlFor.contains(e.id)
      && o.textContent.trim()) : false,
    ring: ring || style.boxShadow !== 'none', inside: box.left >= 0 && box.right <= innerWidth};
}"""

KEYS = {"range": ("ArrowRight", "ArrowLeft"), "select": ("ArrowDown", "ArrowUp")}


def complaints(tab: Page, explorer) -> list[str]:
    """Walk through an explorer with Tab and arrow keys only, and say what does not work."""
    wrong = []
    controls = explorer.locator("input:enabled:visible, select:enabled:visible, button:visible")
    expected = controls.count()
    explorer.evaluate("root => { root.tabIndex = -1; root.focus(); }")
    tab.keyboard.press("Tab")
    visited = []
    while (before := explorer.evaluate(FOCUSED)) and len(visited) < 2 * expected:
        if before["tag"] in ("range", "select", "button", "input"):
            visited.append(before["at"])
            wrong += [f"{before['name'] or before['tag']}: {w}" for w in _faults(before)]
            if before["choices"] > 1 and not _answers(tab, explorer, before):
                wrong.append(f"{before['name']}: its keys change neither picture nor number")
        tab.keyboard.press("Tab")
    if not expected:
        wrong.append("no controls")
    if len(set(visited)) != expected:
        wrong.append(f"Tab reaches {len(set(visited))} of {expected} controls")
    return wrong


def _faults(control: dict) -> Iterator[str]:
    if not control["name"]:
        yield "no accessible name"
    if not control["ring"]:
        yield "no visible focus"
    if not control["inside"]:
        yield "reaches beyond a narrow screen"
    if control["tag"] == "range" and not control["says"]:
        yield "no aria-valuetext"
    if control["tag"] == "range" and not control["shown"]:
        yield "its value is not written beside it"


def _answers(tab: Page, explorer, control: dict) -> bool:
    """Whether pressing a key changes what is shown, and a slider's text with it."""
    before = explorer.evaluate(SHOWN)
    for key in KEYS.get(control["tag"], ("Enter",)):
        tab.keyboard.press(key)
        now = explorer.evaluate(FOCUSED)
        moved = control["tag"] != "range" or now["says"] != control["says"]
        if moved and explorer.evaluate(SHOWN) != before:
            return True
    return False


def expected_explorers(name: str) -> set[str]:
    """The kinds that a page's notebook calls for."""
    path = next((p for p in NOTEBOOKS if p.stem == Path(name).name), None)
    cells = notebook(path).cells if path else []
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return set(re.findall(r"\b(lambda|attention|affine|bits)_explorer\(", code))


# --- statements ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visits(browser: BrowserContext, server: str) -> list[Visit]:
    return [visit_served(browser, server, name) for name in [*listed(), "search", "genindex"]]


@pytest.fixture(scope="module")
def files_opened(browser: BrowserContext) -> list[Visit]:
    """The first two pages and those with explorers; the others load nothing of another kind."""
    pages = listed()
    names = [*pages[:2], *(page for page in pages[2:] if expected_explorers(page))]
    return [visit_file(browser, name) for name in names]


def expect_none(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


def found(visits: list[Visit], what: str) -> list[str]:
    return [f"{visit.page}: {item}" for visit in visits for item in getattr(visit, what)]


def test_no_page_writes_an_error(visits, files_opened):
    expect_none(found(visits + files_opened, "noise"))


def test_no_request_leaves_the_site(visits, files_opened):
    expect_none(found(visits + files_opened, "outside"))


def test_every_picture_shows_when_a_page_is_opened_as_a_file(files_opened):
    expect_none(found(files_opened, "broken"))


@pytest.mark.parametrize("screen", SIDES)
def test_no_page_scrolls_sideways(visits, screen):
    expect_none([f"{v.page}: {v.overflow[screen]}" for v in visits if v.overflow[screen]])


def test_nothing_serious_bars_anyone_in_light_or_dark(visits):
    expect_none(found(visits, "violations"))


def test_the_switch_makes_every_page_dark_and_light_again(visits):
    expect_none([f"{v.page}: {v.modes}" for v in visits if "dark" not in v.modes[:-1]])
    expect_none([f"{v.page}: {v.modes}" for v in visits if v.modes[-1] != "light"])


def test_next_and_previous_follow_the_table_of_contents(visits):
    def name(address: str) -> str:
        return urlsplit(address).path.strip("/").removesuffix(".html")

    pages = listed()
    read = {v.page: (name(v.previous), name(v.next)) for v in visits if v.page in pages}
    assert read == dict(
        zip(pages, zip(["", *pages[:-1]], [*pages[1:], ""], strict=True), strict=True)
    )


def test_every_cell_has_a_copy_button(visits):
    assert sum(v.code_cells for v in visits)
    assert not {v.page for v in visits if v.copy_buttons != v.code_cells}


def test_a_printed_page_is_dark_on_white_without_the_frame(visits):
    for visit in visits:
        assert not visit.print["frame"], visit.page
        assert visit.print["ink"] < 0.3 and visit.print["paper"] > 0.95, visit


def test_pages_have_the_explorers_of_their_notebooks(visits):
    wanted = {v.page: expected_explorers(v.page) for v in visits}
    assert {v.page: set(v.explorers) for v in visits} == wanted


def test_explorers_obey_the_keyboard_on_a_narrow_dark_screen(visits):
    expect_none(
        [
            f"{v.page}: {kind}: {w}"
            for v in visits
            for kind in v.explorers
            for w in v.explorers[kind]
        ]
    )


@pytest.mark.parametrize("served", [True, False], ids=["served", "as a file"])
def test_search_finds_a_chapter_by_a_word(browser, server, served):
    visit = Visit("search")
    home = server if served else f"{SITE.as_uri()}/"
    tab = watched(browser, visit, home)
    ready(tab, f"{home}book/index.html")
    tab.keyboard.press("Control+k")
    tab.keyboard.type("kerb")
    tab.keyboard.press("Enter")
    tab.locator("#search-results li a").first.wait_for()
    assert "01_pairs" in " ".join(
        link.get_attribute("href") or "" for link in tab.locator("#search-results li a").all()
    )
    assert not visit.outside
    if served:  # a browser does not let a file read its neighbours for the extracts
        assert not visit.noise
    tab.close()


@pytest.mark.parametrize("served", [True, False], ids=["served", "as a file"])
def test_a_link_shows_what_it_leads_to_by_pointer_and_by_keyboard(browser, server, served):
    visit = Visit("preview")
    home = server if served else f"{SITE.as_uri()}/"
    tab = watched(browser, visit, home)
    ready(tab, f"{home}book/index.html")
    chapter = tab.locator("article a[href='06_channel_alignment.html']").first
    preview = tab.locator(".tippy-box", has_text="Aligning channels")
    chapter.hover()
    preview.locator("img").wait_for()
    tab.mouse.move(0, 0)
    preview.wait_for(state="hidden")
    chapter.focus()
    preview.wait_for()
    tab.evaluate(AXE)
    assert not violations(tab, "light")
    tab.goto(f"{home}book/13_beyond.html")
    tab.locator("article a[href^='bibliography.html']").first.hover()
    tab.locator(".tippy-box .citation, .tippy-box p", has_text="Lu").first.wait_for()
    assert not visit.outside and not visit.noise
    tab.close()


def test_the_front_door_opens_the_book(browser, server):
    visit = Visit("index")
    tab = watched(browser, visit, server)
    tab.goto(f"{server}index.html")
    tab.wait_for_url("**/book/index.html")
    assert not visit.outside
    tab.close()
