"""Mistakes that can be read in an application's code, before a request meets them."""

from __future__ import annotations

import ast
import logging
import os
import re
from contextlib import suppress

from htlogging._cli.check.values import Scope, is_a
from htlogging._event.builder import BODY, FIELDS, near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

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

# What has names of its own.
_WITH_NAMES = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

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
        files: Paths of Python files, with what the modules' names are.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        self.calls: list[Call] = []
        self.strays: list[tuple[str, str]] = []  # a misspelt name, and where it is
        self.uses_facade = False
        for path, namespace in files.items():
            # A file that cannot be read says nothing.
            with suppress(OSError, SyntaxError, ValueError, RecursionError):
                with open(path, "rb") as file:
                    tree = ast.parse(file.read())
                self._read(tree, Scope(tree.body, namespace), _short(path))

    def _read(self, node: ast.AST, scope: Scope, path: str) -> None:
        if isinstance(node, ast.Call):
            self._look(node, scope, f"{path}:{node.lineno}")
        for inner in ast.iter_child_nodes(node):
            within = scope.inner(inner) if isinstance(inner, _WITH_NAMES) else scope
            self._read(inner, within, path)

    def _look(self, node: ast.Call, scope: Scope, place: str) -> None:
        name = _last(node.func)
        self.uses_facade |= name in _CALLS and _first(node.func) == "htevents"
        words = {word.arg: word.value for word in node.keywords if word.arg}
        given = scope.value(words.get("extra"))
        extra = [*_texts(given)]
        if name in _BINDERS:
            extra += words
        elif name in METHODS or name == "log":
            # Of `log(level, message)` the level comes first.
            first = [scope.value(each) for each in node.args[:2]] + [None, None]
            level, message = first[:2] if name == "log" else (None, first[0])
            logger, around = _receiver(node.func, scope)
            extra += [*_texts(message), *around]
            structured = [*words, *_bound_before(node.func)]
            is_structured = any(word in FIELDS for word in structured)
            if is_structured:
                extra += structured
            if any(key in FIELDS or _is_stray(key) for key in extra):
                named = METHODS.get(name) or _level(level)
                self.calls.append(Call(place, logger, named, structured=is_structured))
        self.strays += [(key, place) for key in extra if _is_stray(key)]


def _texts(given: Any) -> list[str]:
    """Return the names in a dict; nothing for anything else."""
    return [key for key in given if is_a(key, str)] if is_a(given, dict) else []


def _level(given: Any) -> str:
    return str(logging.getLevelName(given)) if is_a(given, int) else "INFO"


def _receiver(function: ast.expr, scope: Scope) -> tuple[str | None, list[str]]:
    """Return the name of the logger that is called, and the fields of adapters around it."""
    if not isinstance(function, ast.Attribute):
        return None, []
    found, fields = scope.value(function.value), []
    while is_a(found, logging.LoggerAdapter):
        fields += _texts(found.extra)
        found = found.logger
    if found is logging or found is logging.root:
        return "", fields
    return (found.name if is_a(found, logging.Logger) else None), fields


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
