"""What an expression of the application is, as far as that can be seen without running it."""

from __future__ import annotations

import ast
import builtins
import inspect
import logging
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# What cannot be seen.
UNKNOWN: Any = object()

# `self` or `cls`.
_THIS: Any = object()

# Names as most modules have them, for those that could not be imported.
_USUAL = {
    "logging": logging,
    "getLogger": logging.getLogger,
    "LoggerAdapter": logging.LoggerAdapter,
}

# The most expressions that are followed for one.
_DEPTH = 20


def is_a(value: object, kind: type) -> bool:
    """Return whether a value is of a class, without evaluating a lazy object."""
    return issubclass(type(value), kind)


class Scope:
    """
    The names that the code of a module, a class or a function sees.

    Args:
        body: The code.
        namespace: What the module's names are; empty if it could not be imported.
        around: The scope around it; `None` for a module.
        arguments: The names of a function's arguments.
    """

    def __init__(
        self,
        body: list[ast.stmt],
        namespace: Mapping[str, Any],
        around: Scope | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self._namespace = namespace
        self._around = around
        self._names: dict[str, ast.expr | None] = dict.fromkeys(arguments)
        self._names.update(_assigned(body))
        # The class around a method.
        self.owner: _Class | None = around.owner if around is not None else None

    def inner(self, node: ast.AST) -> Scope:
        """Return the scope of a class or a function in this one."""
        if isinstance(node, ast.ClassDef):
            return _Class(node, self._namespace, self)
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        given = node.args
        each = (*given.posonlyargs, *given.args, *given.kwonlyargs)
        names = tuple(argument.arg for argument in each)
        return Scope(node.body, self._namespace, self, names)

    def value(self, node: ast.expr | None, depth: int = 0) -> Any:
        """Return what an expression is, or `UNKNOWN`; of a dict, only the names count."""
        made: Any = UNKNOWN
        if depth > _DEPTH:
            pass
        elif isinstance(node, ast.Constant):
            made = node.value
        elif isinstance(node, ast.Name):
            made = self.of_name(node.id, depth)
        elif isinstance(node, ast.Attribute):
            made = self._of_attribute(node, depth)
        elif isinstance(node, ast.Call):
            made = self._of_call(node, depth)
        elif isinstance(node, ast.Dict):
            made = self._of_dict(node, depth)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            both = [self.value(each, depth + 1) for each in (node.left, node.right)]
            if all(is_a(each, dict) for each in both):
                made = {**both[0], **both[1]}
        return made

    def of_name(self, name: str, depth: int = 0) -> Any:
        """Return what a name is."""
        given = self._names.get(name)
        if self._around is None:
            if name in self._namespace:
                return self._namespace[name]
            if given is None:
                return _USUAL.get(name, getattr(builtins, name, UNKNOWN))
        elif name not in self._names:
            return self._around.of_name(name, depth)
        if given is not None:
            return self.value(given, depth + 1)
        return _THIS if self.owner and name in ("self", "cls") else UNKNOWN

    def _of_attribute(self, node: ast.Attribute, depth: int) -> Any:
        of = self.value(node.value, depth + 1)
        if of is _THIS and self.owner is not None:
            return self.owner.attribute(node.attr, depth)
        if is_a(of, ModuleType):
            return vars(of).get(node.attr, UNKNOWN)
        if is_a(of, type):
            return inspect.getattr_static(of, node.attr, UNKNOWN)
        return UNKNOWN

    def _of_call(self, node: ast.Call, depth: int) -> Any:
        words = {word.arg: word.value for word in node.keywords if word.arg}

        def argument(place: int, name: str) -> Any:
            given = node.args[place] if len(node.args) > place else words.get(name)
            return None if given is None else self.value(given, depth + 1)

        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "getChild":
            parent, name = self.value(function.value, depth + 1), argument(0, "suffix")
            known = is_a(parent, logging.Logger) and is_a(name, str)
            return parent.getChild(name) if known else UNKNOWN
        called = self.value(function, depth + 1)
        if called is logging.getLogger:
            name = argument(0, "name")
            known = name is None or is_a(name, str)
            return logging.getLogger(name) if known else UNKNOWN
        if called is dict and not node.args:
            return dict.fromkeys(words, UNKNOWN)
        if is_a(called, type) and issubclass(called, logging.LoggerAdapter):
            logger, extra = argument(0, "logger"), argument(1, "extra")
            if is_a(logger, logging.Logger) or is_a(logger, logging.LoggerAdapter):
                return logging.LoggerAdapter(logger, extra if is_a(extra, dict) else {})
        return UNKNOWN

    def _of_dict(self, node: ast.Dict, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, given in zip(node.keys, node.values, strict=True):
            if key is None:  # **given
                inner = self.value(given, depth + 1)
                found.update(inner if is_a(inner, dict) else {})
            else:
                name = self.value(key, depth + 1)
                if is_a(name, str):
                    found[name] = UNKNOWN
        return found


class _Class(Scope):
    """The scope of a class, and what its methods assign to `self`."""

    def __init__(
        self, node: ast.ClassDef, namespace: Mapping[str, Any], around: Scope
    ) -> None:
        super().__init__(node.body, namespace, around)
        self._kind = around.value(ast.Name(node.name))
        self.owner = self
        self._set = {
            name: (given, self.inner(method))
            for method in node.body
            if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
            for name, given in _assigned(method.body, to="self")
        }

    def attribute(self, name: str, depth: int) -> Any:
        """Return what an attribute of an object is."""
        if name in self._set:
            given, scope = self._set[name]
            return scope.value(given, depth + 1)
        if is_a(self._kind, type):
            # Not `getattr`, which would run a property. Base classes are looked at, too.
            found = inspect.getattr_static(self._kind, name, UNKNOWN)
            if found is not UNKNOWN:
                return found
        return self.value(self._names.get(name), depth + 1)


def _assigned(
    body: list[ast.stmt], to: str | None = None
) -> Iterator[tuple[str, ast.expr]]:
    """
    Yield what code assigns, but not functions and classes in it.

    Args:
        body: The code.
        to: Whose attributes; `None` for names.
    """
    for node in _statements(body):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and to is None:
                yield target.id, node.value
            elif isinstance(target, ast.Attribute):
                of = target.value
                if isinstance(of, ast.Name) and of.id == to:
                    yield target.attr, node.value


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)
