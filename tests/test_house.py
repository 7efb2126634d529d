"""The house: modules stand in one order, import upwards only, and every name has one home."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import xmodal_lite

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xmodal_lite"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
LISTED = re.findall(r"^\| \[`(\w+)`\]", (ROOT / "book" / "api.md").read_text("utf-8"), re.M)
modules = pytest.mark.parametrize("module", MODULES)


def parent_of(module: str) -> str | None:
    """The listed module itself, or the one that a helper helps: `scenes` of `scene_street`."""
    if module in LISTED:
        return module
    return {name.rstrip("s"): name for name in LISTED}.get(module.partition("_")[0])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports_of(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import from the package, those inside functions too; "" if whole."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            found += [(part[1], "") for part in parts if part[0] == "xmodal_lite" and part[1:]]
        elif isinstance(node, ast.ImportFrom):
            whole = "." * node.level + (node.module or "")
            home = re.fullmatch(r"(?:\.|xmodal_lite\.?)(\w*)", whole)
            for alias in node.names if home else ():
                found.append((home[1], alias.name) if home[1] else (alias.name, ""))
    return [(module, name) for module, name in found if module in MODULES]


def defined_in(module: str) -> set[str]:
    """Names that a module makes itself, not those that it imports."""
    names: set[str] = set()
    for node in tree(PACKAGE / f"{module}.py").body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            names |= {part.id for part in ast.walk(target or ast.Pass()) if hasattr(part, "id")}
    return names


def test_every_module_is_listed_once_or_helps_one_that_is():
    assert len(set(LISTED)) == len(LISTED) and set(LISTED) <= set(MODULES)
    assert not [module for module in MODULES if parent_of(module) is None]


@modules
def test_a_module_imports_only_modules_above_it(module):
    """Helpers stand where their parent stands, and do not import it."""
    here = parent_of(module)
    for other, _ in imports_of(PACKAGE / f"{module}.py"):
        there = parent_of(other)
        own_helper = there == here and other not in LISTED
        assert own_helper or LISTED.index(there) < LISTED.index(here), f"{module} imports {other}"


@modules
def test_a_name_is_imported_from_the_module_that_makes_it(module):
    for home, name in imports_of(PACKAGE / f"{module}.py"):
        assert not name or name in defined_in(home), f"{module}: {name} is not made in {home}"


def test_the_package_hands_names_out_from_where_they_are_made():
    for home, names in xmodal_lite._HOMES.items():
        assert set(names) <= defined_in(home), home
