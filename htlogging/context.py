"""
Fields bound to the current scope, task or thread; they join every event made there.

The names are those of a record's `extra`: `ht_user_id`, `ht_context`, …, and any
other name, which joins `properties` or `traits`::

    with htlogging.scope():
        htlogging.bind(ht_user_id="user123", plan="pro")
        log.info("Order completed", extra={"product_id": "123"})

A scope is a request, a job or a message; the integrations open one for each. `bind` in
it is seen in all of it, on whatever thread or task a framework runs its parts, and
nowhere else. Outside every scope `bind` is for the current task or thread: a task
inherits a copy from the task that made it, a new thread starts with nothing (PEP 567),
a forked child goes on with its parent's.

What a call gives itself wins over what is bound; the dicts (`ht_context` and its like)
are merged. A field of a wrong type raises `InvalidField` where it is bound.
"""

from __future__ import annotations

from htlogging import _bindings
from htlogging._bindings import BoundBlock, ScopeBlock, current
from htlogging._event import bindable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from typing import Any, Literal, TypeAlias
    from uuid import UUID

    from htlogging._block import Block

    Id: TypeAlias = str | int | float | Decimal | UUID
    Type: TypeAlias = Literal["track", "identify", "page", "screen", "group", "alias"]

__all__ = ["bind", "bound", "clear", "current", "get", "scope", "unbind"]

# Not given; `None` is a value: no user from here on.
_UNSET: Any = object()


def bind(  # noqa: PLR0913
    *,
    ht_user_id: Id | None = _UNSET,
    ht_anonymous_id: Id | None = _UNSET,
    ht_context: dict[str, Any] | None = _UNSET,
    ht_group_id: Id | None = _UNSET,
    ht_previous_id: Id | None = _UNSET,
    ht_type: Type | None = _UNSET,
    ht_event: str | None = _UNSET,
    ht_category: str | None = _UNSET,
    ht_name: str | None = _UNSET,
    ht_properties: dict[str, Any] | None = _UNSET,
    ht_traits: dict[str, Any] | None = _UNSET,
    ht_integrations: dict[str, Any] | None = _UNSET,
    ht_timestamp: datetime | None = _UNSET,
    ht_message_id: Id | None = _UNSET,
    **properties: Any,
) -> None:
    """
    Add fields to what is bound in the scope; outside every scope, here.

    A name bound already gets the new value; `ht_context` and the other dicts are merged
    over it. `None` means none: `bind(ht_user_id=None)` after a logout. Inside a `bound`
    block that binds the same name, it shows when that block ends.

    Raises:
        InvalidField: A value has the wrong type, or there is no such `ht_` field.
    """
    _bindings.bind(_checked(locals()))


def bound(  # noqa: PLR0913
    *,
    ht_user_id: Id | None = _UNSET,
    ht_anonymous_id: Id | None = _UNSET,
    ht_context: dict[str, Any] | None = _UNSET,
    ht_group_id: Id | None = _UNSET,
    ht_previous_id: Id | None = _UNSET,
    ht_type: Type | None = _UNSET,
    ht_event: str | None = _UNSET,
    ht_category: str | None = _UNSET,
    ht_name: str | None = _UNSET,
    ht_properties: dict[str, Any] | None = _UNSET,
    ht_traits: dict[str, Any] | None = _UNSET,
    ht_integrations: dict[str, Any] | None = _UNSET,
    ht_timestamp: datetime | None = _UNSET,
    ht_message_id: Id | None = _UNSET,
    **properties: Any,
) -> Block:
    """
    Bind fields above all others for a `with` block or, as a decorator, for each call.

    It decorates functions, coroutines, generators and async generators; between the
    steps of a generator its caller sees nothing of it. At the end all is bound that was
    before. What `bind` bound inside stays in the scope, where there is one.

    Raises:
        InvalidField: A value has the wrong type, or there is no such `ht_` field.
    """
    return BoundBlock(_checked(locals()))


def scope(**fields: Any) -> Block:
    """
    Begin an empty scope for a `with` block or, as a decorator, for each call.

    For whoever begins a request, a job or a message. `bind` inside it, on any thread or
    task that has the context, is seen in all of it; from outside nothing is seen. When
    it ends it reads as empty for whoever still has it. It decorates what `bound` does.

    Args:
        fields: What is bound at its beginning, by the names that `bind` takes.

    Raises:
        InvalidField: A value has the wrong type, or there is no such `ht_` field.
    """
    return ScopeBlock(bindable.check(fields))


def unbind(*names: str) -> None:
    """Take these names out again; one that is not bound is passed over."""
    _bindings.unbind(names)


def clear() -> None:
    """Take out everything that is bound here, in the whole scope where there is one."""
    _bindings.clear()


def get() -> dict[str, Any]:
    """Return a copy of what is bound here; empty when nothing is."""
    return {k: dict(v) if type(v) is dict else v for k, v in current().items()}


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Return what a call gave, from its local variables."""
    properties = given.pop("properties")
    fields = {name: value for name, value in given.items() if value is not _UNSET}
    return bindable.check({**fields, **properties})
