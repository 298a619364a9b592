from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "htlogging"

# The page of the manual that says what is where.
PAGE = (PACKAGE / "docs" / "architecture.md").read_text("utf-8")

# The same table that import-linter checks by `lint-imports`. This test needs no tool, and
# sees what that does not: imports of the package itself, `import_module`, type hints.
CONTRACTS = PACKAGE.parent / ".importlinter"


def rows():
    """Return the rows of the table from the ground up: lists of modules and folders."""
    contracts = configparser.ConfigParser()
    contracts.read(CONTRACTS, "utf-8")
    table = contracts["importlinter:contract:layers"]["layers"].strip().splitlines()
    found = [row.replace("|", " ").split() for row in reversed(table)]
    # The package's own names: import-linter has no row for them.
    found.insert(found.index(["collector"]) + 1, ["__init__"])
    return found


LEVEL = {name: level for level, row in enumerate(rows()) for name in row}


def name_of(path):
    """Return a module's name as it stands in the table."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_checkers(node):
    """Return whether it is an `if TYPE_CHECKING:`."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def names_in(node):
    """Return the full names that a statement may import from."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert not node.level, "import by the full name, not relative"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_module":
        return [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return []


def module_in(name):
    """Return the module of ours that a full name is of, or is in; else `None`."""
    first, *rest = name.split(".")
    if first != "htlogging":
        return None
    while rest and ".".join(rest) not in MODULES:
        rest.pop()
    return ".".join(rest) or "__init__"


def imports_of(tree):
    """Yield (module of ours, whether for type checkers alone), at any depth."""
    checkers = {
        id(inner)
        for node in ast.walk(tree)
        if is_for_checkers(node)
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        for name in names_in(node):
            module = module_in(name)
            if module:
                yield module, id(node) in checkers


def unit_of(module):
    """Return the folder or the module, directly in the package, that a module is of."""
    return module.partition(".")[0]


@pytest.mark.once
class TestLayers:
    def test_every_module_has_its_place(self):
        """A new module is placed in the table."""
        new = {unit_of(module) for module in MODULES} - LEVEL.keys()
        assert not new, f"place these in the layers of .importlinter: {new}"

    @pytest.mark.parametrize("module", MODULES)
    def test_imports_come_from_below(self, module):
        """Equals do not meet, but in type hints; imports in functions count too."""
        unit = unit_of(module)
        tree = ast.parse(MODULES[module].read_text("utf-8"))
        for imported, for_checkers in imports_of(tree):
            if unit_of(imported) != unit:
                limit = LEVEL[unit] if for_checkers else LEVEL[unit] - 1
                above = LEVEL[unit_of(imported)] > limit
                assert not above, f"{module} imports {imported} from above"

    def test_none_is_long(self):
        """A module can be read at a sitting."""
        long = [m for m, p in MODULES.items() if p.read_text("utf-8").count("\n") > 350]
        assert not long, f"these have over 350 lines: {long}"

    def test_no_circle(self):
        """Modules of a folder import in one direction, too."""
        left = {
            module: {
                imported
                for imported, for_checkers in imports_of(
                    ast.parse(path.read_text("utf-8"))
                )
                if not for_checkers and imported != module
            }
            for module, path in MODULES.items()
        }
        while ready := {module for module in left if not left[module] & left.keys()}:
            left = {module: left[module] for module in left.keys() - ready}
        assert not left, f"these import in a circle, or from one: {left}"

    def test_types_stand_alone(self):
        """The public shapes cost nothing: the standard library is enough."""
        tree = ast.parse(MODULES["types"].read_text("utf-8"))
        assert not list(imports_of(tree))


@pytest.mark.once
class TestPage:
    def test_named_modules_exist(self):
        """The modules and folders that the page names are there."""
        names = set(re.findall(r"(?<![/\w])(?!tests/)(?:\w+/)*\w+\.py\b", PAGE))
        missing = {n for n in names if not (PACKAGE / n).is_file()}
        folders = re.findall(r"`((?!tests/)(?:\w+/)+)`", PAGE)
        missing |= {n for n in folders if not (PACKAGE / n).is_dir()}
        assert len(names) > 20
        assert len(folders) > 10
        assert not missing

    def test_each_module_is_named(self):
        """Each folder's table has every module of the folder once, and no other."""
        named: dict[str, list[str]] = {}
        for title, _, rest in (
            part.partition("\n") for part in PAGE.split("\n### ")[1:]
        ):
            rows = re.findall(r"(?m)^\| (`.*?) \|", rest.partition("\n## ")[0])
            named[title.strip("`/")] = re.findall(r"`(\w+)`", " ".join(rows))
        modules: dict[str, list[str]] = {folder: [] for folder in named}
        for path in PACKAGE.rglob("*.py"):
            folder = path.parent.relative_to(PACKAGE).as_posix()
            if folder != "." and path.stem != "__init__":
                modules.setdefault(folder, []).append(path.stem)
        top = {path.name for path in PACKAGE.glob("*.py") if path.stem[:2] != "__"}
        assert {folder: sorted(names) for folder, names in named.items()} == {
            folder: sorted(names) for folder, names in modules.items()
        }
        assert not [n for n in top - {"_version.py"} if n not in PAGE]


class TestReadingImports:
    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("import json", []),
            ("import htlogging", [("__init__", False)]),
            ("import htlogging._report", [("_report", False)]),
            ("from htlogging import _report, bind", [("_report", 0), ("__init__", 0)]),
            (
                "from htlogging._event.encoder import encode",
                [("_event.encoder", False)],
            ),
            ("from htlogging.htevents import Client", [("htevents", False)]),
            ("def f():\n from htlogging import _report", [("_report", False)]),
            ("if TYPE_CHECKING:\n from htlogging import _report", [("_report", True)]),
            ("import_module('htlogging._report')", [("_report", False)]),
        ],
    )
    def test_each_form(self, source, found):
        """Every way to import is seen, and whether it is for type checkers."""
        assert list(imports_of(ast.parse(source))) == found
