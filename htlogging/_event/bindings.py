"""
Bound fields: one `ContextVar`, which is read for every event.

Outside every scope it holds a dict that is never changed in place, so that a copied context
(a task, an executor) is a snapshot. In a scope it holds the scope: one object for all code
with this context, so that what one thread or task of a request binds is seen by the others.

There are no locks: `update`, `pop` and copying of a `dict` are atomic, so signal handlers,
forks and threads do no harm.
"""

from __future__ import annotations

from contextvars import ContextVar

from htlogging._process.block import Block

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
    The bound fields of one request, job or message, on all its threads and tasks.

    Args:
        fields: Bound at its beginning.
        lazy: Called for each event; its fields lie below the bound ones. For fields that
            are expensive to find out or not known yet. It must not raise.
    """

    __slots__ = ("_fields", "_hidden", "_lazy")

    def __init__(self, fields: Mapping[str, Any], lazy: Lazy | None = None) -> None:
        # `None` once the scope has ended: a pooled thread may keep the context for ever.
        self._fields: Fields | None = {}
        self._lazy = lazy
        # Names of `lazy` that were unbound.
        self._hidden: frozenset[str] = frozenset()
        if fields:
            self.bind(fields)

    @property
    def ended(self) -> bool:
        """Whether the scope has ended: it is empty, and nothing can be bound in it."""
        return self._fields is None

    def uses(self, lazy: Lazy) -> bool:
        """Return whether the scope was begun with this function, and still uses it."""
        return self._lazy is lazy

    def read(self) -> Mapping[str, Any]:
        """Return the bound fields; the dicts in it must not be changed."""
        fields, lazy = self._fields, self._lazy
        if fields is None:
            return _NOTHING
        if lazy is None:
            return fields.copy()
        below, hidden = lazy(), self._hidden
        if hidden:
            below = {k: v for k, v in below.items() if k not in hidden}
        return merged(below, fields.copy()) if fields else below

    def bind(self, fields: Mapping[str, Any]) -> None:
        """Bind fields; do nothing once the scope has ended."""
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
                    # In place, so that two threads can bind at the same time.
                    known.update(value)
                    del added[name]
        mine.update(added)

    def unbind(self, names: tuple[str, ...]) -> None:
        """Remove names, those of `lazy` too."""
        fields = self._fields
        if fields is not None:
            if self._lazy is not None:
                self._hidden |= frozenset(names)
            for name in names:
                fields.pop(name, None)

    def clear(self) -> None:
        """Remove all fields."""
        self._lazy = None
        if self._fields is not None:
            self._fields.clear()

    def end(self) -> None:
        """End the scope: it is empty from now on, for all code that holds it."""
        self._fields = self._lazy = None


class _Above:
    """Fields of `bound` blocks inside a scope; they lie above those bound in it."""

    __slots__ = ("fields", "scope")

    def __init__(self, scope: Scope, fields: Fields) -> None:
        self.scope = scope
        self.fields = fields

    def read(self) -> Mapping[str, Any]:
        """Return the fields as seen inside the block."""
        if self.scope.ended:
            return _NOTHING
        return merged(self.scope.read(), self.fields)


# What is bound here: a dict outside every scope; see above.
_bound: ContextVar[Fields | Scope | _Above | None] = ContextVar(
    "htlogging", default=None
)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Fields:
    """Return fields merged over others; the values of dict fields are merged, too."""
    fields = {**below, **above}
    for name in _DICTS:
        if above.get(name) is not None and below.get(name) is not None:
            fields[name] = {**below[name], **above[name]}
    return fields


def current() -> Mapping[str, Any]:
    """Return the bound fields; neither the dict nor the dicts in it may be changed."""
    found = _bound.get()
    if found is None:
        return _NOTHING
    return found if type(found) is dict else found.read()  # type: ignore[union-attr]


def innermost() -> Scope | None:
    """Return the current scope; `None` outside of one, or when it has ended."""
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
    """Remove names from the bound fields."""
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
    """Remove all bound fields."""
    scope = innermost()
    if scope is not None:
        scope.clear()
    _bound.set(scope)


class ScopeBlock(Block):
    """
    A scope, from its beginning to its end.

    Args:
        fields: Bound at its beginning.
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
        self._token = _set(self._scope)

    def pause(self) -> None:
        """Run outside it again."""
        _reset(self._token)
        self._token = None

    def end(self) -> None:
        """End the scope, for all threads and tasks."""
        if self._token is not None:
            self.pause()
        if self._scope is not None:
            self._scope.end()
            self._scope = None


class BoundBlock(Block):
    """
    Fields over the bound ones, for a block.

    Args:
        fields: The fields.
    """

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        # What was bound when the block began; at first a value that is never bound.
        self._below = _UNBEGUN
        self._inside: Fields | _Above | None = None
        self._token: Token[Any] | None = None

    def fresh(self) -> BoundBlock:
        """Return a block of the same fields."""
        return BoundBlock(self._fields)

    def resume(self) -> None:
        """Bind the fields, and what was bound until `pause`, unless that has changed."""
        below = _bound.get()
        if below is not self._below:
            self._below = below
            scope = innermost()
            if scope is None:
                self._inside = merged(current(), self._fields)
            else:
                others = below.fields if isinstance(below, _Above) else _NOTHING
                self._inside = _Above(scope, merged(others, self._fields))
        self._token = _set(self._inside)

    def pause(self) -> None:
        """Remove the fields again."""
        self._inside = _bound.get()  # type: ignore[assignment]
        _reset(self._token)
        self._token = None

    def end(self) -> None:
        """Forget what was bound inside."""
        if self._token is not None:
            self.pause()
        self._below = _UNBEGUN


def _set(value: Fields | Scope | _Above | None) -> Token[Any]:
    before = _bound.get()
    try:
        return _bound.set(value)
    except BaseException:  # a signal handler's; the token is lost
        _bound.set(before)
        raise


def _reset(token: Token[Any] | None) -> None:
    if token is not None:
        try:
            _bound.reset(token)
        except (ValueError, RuntimeError) as exc:
            # A generator may be closed in another context than it began in (a web
            # framework's dependency with `yield`): nothing was bound there. Or `pause` was
            # cut short after this. What a signal handler raises has a frame of its own.
            trace = exc.__traceback__
            if trace is None or trace.tb_next is not None:
                raise
