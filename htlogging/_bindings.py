"""
Where bound fields live: one `ContextVar`, read for every event.

Outside every scope it holds a dict that is never changed in place: a copied context (a
task, an executor) has a snapshot. In a scope it holds the scope, one object for all who
have the context, so that what a thread or task of a request binds is seen by the rest.

No locks: a `dict`'s own `update`, `pop` and copy are atomic, so signal handlers, forks
and threads may come at any moment.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar

from htlogging._block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from typing import Any

    Fields = dict[str, Any]
    Lazy = Callable[[], Mapping[str, Any]]

# Fields that are dicts: a later one is merged over an earlier one.
_DICTS = ("ht_context", "ht_integrations", "ht_properties", "ht_traits")

# Never changed.
_NOTHING: Fields = {}

# What no context variable holds.
_UNBEGUN: Any = object()


class Scope:
    """
    What is bound in one request, job or message, for all threads and tasks it runs on.

    Args:
        fields: What is bound at its beginning.
        lazy: Called at each event made here; what it returns lies below what is bound.
            For what is dear to find out or not known yet. It does not raise.
    """

    __slots__ = ("_fields", "_hidden", "_lazy")

    def __init__(self, fields: Mapping[str, Any], lazy: Lazy | None = None) -> None:
        # `None` once it has ended: a pooled thread may keep the context for ever.
        self._fields: Fields | None = {}
        self._lazy = lazy
        # Names of `lazy` that were unbound.
        self._hidden: frozenset[str] = frozenset()
        self.bind(fields)

    @property
    def ended(self) -> bool:
        """Whether it reads as empty, and takes nothing any more."""
        return self._fields is None

    def read(self) -> Mapping[str, Any]:
        """Return what is bound, the dicts in it for reading only."""
        fields, lazy = self._fields, self._lazy
        if fields is None:
            return _NOTHING
        if lazy is None:
            return fields.copy()
        below, hidden = lazy(), self._hidden
        if hidden:
            below = {k: v for k, v in below.items() if k not in hidden}
        return merged(below, fields.copy())

    def bind(self, fields: Mapping[str, Any]) -> None:
        """Add fields; nothing happens once it has ended."""
        mine = self._fields
        if mine is None:
            return
        added = dict(fields)
        for name in _DICTS:
            value = added.get(name)
            if value is not None:
                known = mine.get(name)
                if known is None:
                    added[name] = dict(value)
                else:
                    # In place: two threads that bind at once both have their effect.
                    known.update(value)
                    del added[name]
        mine.update(added)

    def unbind(self, names: tuple[str, ...]) -> None:
        """Take names out, those of `lazy` too."""
        fields = self._fields
        if fields is not None:
            if self._lazy is not None:
                self._hidden |= frozenset(names)
            for name in names:
                fields.pop(name, None)

    def clear(self) -> None:
        """Take everything out."""
        self._lazy = None
        if self._fields is not None:
            self._fields.clear()

    def end(self) -> None:
        """Be empty, for whoever still has it, and stay so."""
        self._fields = self._lazy = None


class _Above:
    """Fields of `bound` blocks inside a scope: they lie above what is bound there."""

    __slots__ = ("fields", "scope")

    def __init__(self, scope: Scope, fields: Fields) -> None:
        self.scope = scope
        self.fields = fields

    def read(self) -> Mapping[str, Any]:
        """Return what is bound, seen from within the block."""
        if self.scope.ended:
            return _NOTHING
        return merged(self.scope.read(), self.fields)


_bound: ContextVar[Fields | Scope | _Above | None] = ContextVar(
    "htlogging", default=None
)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Fields:
    """Lay fields over others; those that are dicts are merged."""
    fields = {**below, **above}
    for name in _DICTS:
        if above.get(name) is not None and below.get(name) is not None:
            fields[name] = {**below[name], **above[name]}
    return fields


def current() -> Mapping[str, Any]:
    """Return what is bound here; it is not to be changed, nor are the dicts in it."""
    found = _bound.get()
    if found is None:
        return _NOTHING
    return found if type(found) is dict else found.read()  # type: ignore[union-attr]


def innermost() -> Scope | None:
    """Return the scope that this code runs in; `None` outside, or when it has ended."""
    found = _bound.get()
    scope = found.scope if isinstance(found, _Above) else found
    return scope if isinstance(scope, Scope) and not scope.ended else None


def bind(fields: Fields) -> None:
    """Bind in the innermost scope; outside, for this task or thread."""
    scope = innermost()
    if scope is None:
        _bound.set(merged(current(), fields))
    else:
        scope.bind(fields)


def unbind(names: tuple[str, ...]) -> None:
    """Take names out of what is bound here."""
    scope = innermost()
    if scope is None:
        _bound.set({k: v for k, v in current().items() if k not in names})
        return
    scope.unbind(names)
    found = _bound.get()
    if isinstance(found, _Above):
        kept = {k: v for k, v in found.fields.items() if k not in names}
        _bound.set(_Above(scope, kept))


def clear() -> None:
    """Take everything out of what is bound here."""
    scope = innermost()
    if scope is not None:
        scope.clear()
    _bound.set(scope)


class ScopeBlock(Block):
    """
    A scope, from its beginning to its end.

    Args:
        fields: What is bound at its beginning.
        lazy: As for `Scope`.
    """

    def __init__(self, fields: Mapping[str, Any], lazy: Lazy | None = None) -> None:
        self._given = (fields, lazy)
        self._scope: Scope | None = None
        self._token: Token[Any] | None = None

    def fresh(self) -> ScopeBlock:
        """Return a block with a scope of its own."""
        return ScopeBlock(*self._given)

    def resume(self) -> None:
        """Run in the scope from here on."""
        if self._scope is None:
            self._scope = Scope(*self._given)
        self._token = _bound.set(self._scope)

    def pause(self) -> None:
        """Run outside it again."""
        _reset(self._token)

    def end(self) -> None:
        """End the scope, for all threads and tasks."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.end()


class BoundBlock(Block):
    """
    Fields above what is bound, for a block.

    Args:
        fields: These.
    """

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        # What the block was begun on; at first nothing that can be bound.
        self._below = _UNBEGUN
        self._inside: Fields | _Above | None = None
        self._token: Token[Any] | None = None

    def fresh(self) -> BoundBlock:
        """Return a block of the same fields."""
        return BoundBlock(self._fields)

    def resume(self) -> None:
        """Bind the fields, and what was bound until `pause` unless all has changed."""
        below = _bound.get()
        if below is not self._below:
            self._below = below
            scope = innermost()
            if scope is None:
                self._inside = merged(current(), self._fields)
            else:
                others = below.fields if isinstance(below, _Above) else _NOTHING
                self._inside = _Above(scope, merged(others, self._fields))
        self._token = _bound.set(self._inside)

    def pause(self) -> None:
        """Take them away."""
        self._inside = _bound.get()  # type: ignore[assignment]
        _reset(self._token)

    def end(self) -> None:
        """Forget what was bound inside."""
        self._below = _UNBEGUN


def _reset(token: Token[Any] | None) -> None:
    if token is not None:
        # A generator may be closed in another context than it was begun in (a web
        # framework's dependency with `yield`); nothing was bound there.
        with suppress(ValueError):
            _bound.reset(token)
