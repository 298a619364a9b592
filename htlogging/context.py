"""
Fields bound to the current task or thread; they join every event made there.

The names are those of a record's `extra`: `ht_user_id`, `ht_context`, …, and any
other name, which joins `properties` or `traits`::

    with htlogging.bound(ht_user_id="user123", plan="pro"):
        log.info("Order completed", extra={"product_id": "123"})

What a call gives itself wins over what is bound; the dicts (`ht_context` and its
like) are merged. Bindings live in a `contextvars.ContextVar`: a task inherits a copy
from the task that made it, a new thread starts with none (PEP 567), a forked child
goes on with its parent's.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

__all__ = ["bind", "bound", "clear", "get", "unbind"]

# Never changed in place: each change binds a new dict, so that a copied context (a
# task, an executor) is a snapshot. `None` rather than a shared mutable default.
_fields: ContextVar[dict[str, Any] | None] = ContextVar("htlogging", default=None)


_NOTHING: dict[str, Any] = {}


def bind(**fields: Any) -> None:
    """Add fields to what is bound here; a name bound already gets the new value."""
    _fields.set({**(_fields.get() or {}), **fields})


def unbind(*names: str) -> None:
    """Take these names out again; one that is not bound is passed over."""
    kept = _fields.get() or {}
    _fields.set({name: kept[name] for name in kept if name not in names})


def clear() -> None:
    """Take everything out: for the start of a request on a pooled thread."""
    _fields.set(None)


def get() -> dict[str, Any]:
    """Return a copy of what is bound here; empty when nothing is."""
    return dict(_fields.get() or {})


def current() -> Mapping[str, Any]:
    """Return what is bound here, without a copy: it is not to be changed."""
    return _fields.get() or _NOTHING


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """
    Bind fields for a `with` block or, as a decorator, for each call.

    At its end all is bound that was before, whatever was bound or cleared inside. A
    call of an `async def` function only makes the coroutine: use `with` inside it.
    """
    token = _fields.set({**(_fields.get() or {}), **fields})
    try:
        yield
    finally:
        # A generator may be closed in another context than it was begun in (a web
        # framework's dependency with `yield`); nothing was bound there.
        with suppress(ValueError):
            _fields.reset(token)
