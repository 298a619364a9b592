from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "htlogging"

# From the ground up: a module imports from rows above its own, and nothing else.
LAYERS = """
exceptions context types _version _stats _sending _fork _wire _clock _dates
_ids _settings _values _retry _exchange _exit _spool_place _spool_lock _spool_schema
_json _event _batch _reasons _rules _server _show _spool_file
_record _queue _transport _report _console _spool_rows _spool_shared _spool_books
_formatter _delivery _spool_care _spool_view _spool_list _spool_status _lines
_worker _spool _pump _spool_erase _send_input _send_state
_handler _spool_replay _send_queue
_seen collector
htevents.client
htevents
__init__
_demo_app
_demo _spool_cli _send
_cli
__main__
"""
LEVEL = {
    name: level
    for level, row in enumerate(LAYERS.strip().splitlines())
    for name in row.split()
}


def name_of(path):
    """Return a module's name as it stands in the table."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_for_checkers(node):
    """Tell whether it is an `if TYPE_CHECKING:`."""
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


class TestLayers:
    def test_every_module_has_its_place(self):
        """A new module is placed in the table, a removed one taken out."""
        new = MODULES.keys() - LEVEL.keys()
        assert not new, f"place these in LAYERS, tests/test_layers.py: {new}"
        gone = LEVEL.keys() - MODULES.keys()
        assert not gone, f"take these out of LAYERS, tests/test_layers.py: {gone}"

    @pytest.mark.parametrize("module", MODULES)
    def test_imports_come_from_below(self, module):
        """Equals do not meet, but in type hints; imports in functions count too."""
        level = LEVEL[module]
        tree = ast.parse(MODULES[module].read_text("utf-8"))
        for imported, for_checkers in imports_of(tree):
            limit = level if for_checkers else level - 1
            assert LEVEL[imported] <= limit, f"{module} imports {imported} from above"

    def test_types_stand_alone(self):
        """The public shapes cost nothing: the standard library is enough."""
        tree = ast.parse(MODULES["types"].read_text("utf-8"))
        assert not list(imports_of(tree))


class TestReadingImports:
    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("import json", []),
            ("import htlogging", [("__init__", False)]),
            ("import htlogging._json", [("_json", False)]),
            ("from htlogging import _json, bind", [("_json", 0), ("__init__", 0)]),
            ("from htlogging._json import encode", [("_json", False)]),
            ("from htlogging.htevents import Client", [("htevents", False)]),
            ("def f():\n from htlogging import _json", [("_json", False)]),
            ("if TYPE_CHECKING:\n from htlogging import _json", [("_json", True)]),
            ("import_module('htlogging._json')", [("_json", False)]),
        ],
    )
    def test_each_form(self, source, found):
        """Every way to import is seen, and whether it is for type checkers."""
        assert list(imports_of(ast.parse(source))) == found
