"""Mistakes that can be read in an application's code, before a request meets them."""

from __future__ import annotations

import ast
import os
import re

from htlogging._event.builder import BODY, FIELDS, near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from htlogging._cli.check.findings import Findings

# Methods of loggers, with their levels' names.
METHODS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}

# Functions that take fields by name.
_BINDERS = ("bind", "bound", "scope", "unbind", "new")

_CALLS = frozenset(BODY)

# A name that looks like one of ours, however it is written.
_LIKE = re.compile(r"ht[_-][\w-]+", re.IGNORECASE)


class Call:
    """
    A call of a logger that gives `ht_` fields.

    Args:
        place: The file and line.
        logger: The logger's name; `None` if it cannot be read there.
        level: The level's name.
        structured: Whether fields are keywords, as with structlog.
    """

    def __init__(
        self, place: str, logger: str | None, level: str, *, structured: bool
    ) -> None:
        self.place = place
        self.logger = logger
        self.level = level
        self.structured = structured


class Sources:
    """
    What the files say about events.

    Args:
        files: Paths of Python files.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self.calls: list[Call] = []
        self.strays: list[tuple[str, str]] = []  # a misspelt name, and where it is
        self.uses_facade = False
        for path in files:
            try:
                with open(path, "rb") as file:
                    tree = ast.parse(file.read())
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue
            self._read(tree, _short(path))

    def _read(self, tree: ast.Module, path: str) -> None:
        names = dict(_loggers(tree))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = _last(node.func)
            place = f"{path}:{node.lineno}"
            self.uses_facade |= name in _CALLS and _first(node.func) == "htevents"
            extra = [
                key
                for word in node.keywords
                if word.arg == "extra"
                for key in _keys(word.value)
            ]
            words = [word.arg for word in node.keywords if word.arg]
            if name in _BINDERS:
                extra += words
            elif name in METHODS:
                words += _bound_before(node.func)
                fields = [word for word in words if word in FIELDS]
                if fields or any(key in FIELDS or _is_stray(key) for key in extra):
                    logger = _logger_of(node.func, names)
                    self.calls.append(
                        Call(place, logger, METHODS[name], structured=bool(fields))
                    )
                if fields:
                    extra += words
            self.strays += [(key, place) for key in extra if _is_stray(key)]


def check_fields(sources: Sources, findings: Findings) -> None:
    """Name each misspelt field."""
    for name, place in sources.strays:
        meant = near(
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_")
        )
        hint = f"write {meant}" if meant else f"use one of {', '.join(sorted(FIELDS))}"
        findings.problem(f"no such field: {name}, at {place}", hint)


def _bound_before(function: ast.expr) -> list[str]:
    """Return the fields of `logger.bind(…)` in `logger.bind(…).info`."""
    inner = function.value if isinstance(function, ast.Attribute) else None
    if not isinstance(inner, ast.Call) or _last(inner.func) not in _BINDERS:
        return []
    return [word.arg for word in inner.keywords if word.arg]


def _is_stray(name: str) -> bool:
    return name not in FIELDS and _LIKE.fullmatch(name) is not None


def _short(path: str) -> str:
    short = os.path.relpath(path)
    return path if short.startswith("..") else short


def _last(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _first(function: ast.expr) -> str:
    """Return the name before the last dot."""
    return _last(function.value) if isinstance(function, ast.Attribute) else ""


def _keys(node: ast.expr) -> list[str]:
    """Return the constant keys of a dict as it is written."""
    if isinstance(node, ast.Dict):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return [key for key in keys if isinstance(key, str)]
    if isinstance(node, ast.Call) and _last(node.func) == "dict":
        return [word.arg for word in node.keywords if word.arg]
    return []


def _loggers(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the variables that are loggers, with the loggers' names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            name = _name_of_logger(node.value)
            for target in node.targets:
                if name is not None and isinstance(target, (ast.Name, ast.Attribute)):
                    yield _last(target), name


def _name_of_logger(node: ast.expr) -> str | None:
    if not isinstance(node, ast.Call) or _last(node.func) != "getLogger":
        return None
    if not node.args:
        return ""
    said = node.args[0]
    if isinstance(said, ast.Constant) and isinstance(said.value, str):
        return said.value
    return None


def _logger_of(function: ast.expr, names: dict[str, str]) -> str | None:
    if not isinstance(function, ast.Attribute):
        return None
    of = function.value
    if isinstance(of, ast.Name) and of.id == "logging":
        return ""
    if isinstance(of, (ast.Name, ast.Attribute)):
        return names.get(_last(of))
    return _name_of_logger(of)
