"""Write each inline script once a page.

Scripts that extensions add while the environment is read (sphinx_thebe, sphinx_togglebutton) stand
twice in a page of Sphinx 7, and a second `const` of the same name is an error in the console.
"""

from typing import Any

from sphinx.application import Sphinx


def once(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Keep the first of equal inline scripts, in place: the theme holds the same list."""
    scripts, kept, bodies = context["script_files"], [], set()
    for script in scripts:
        body = getattr(script, "attributes", {}).get("body")
        if body is None or body not in bodies:
            kept.append(script)
        bodies.add(body)
    scripts[:] = kept


def setup(app: Sphinx) -> dict[str, bool]:
    """Run after every extension that adds scripts to a page."""
    app.connect("html-page-context", once, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
