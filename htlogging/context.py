"""
Fields bound to the current scope, task or thread; they join every event made there.

The names are those of a record's `extra`: `ht_user_id`, `ht_context`, …, and any
other name, which joins `properties` or `traits`::

    with htlogging.scope():
        htlogging.bind(ht_user_id="user123", plan="pro")
        log.info("Order completed", extra={"product_id": "123"})

A scope is a request, a job or a message; the integrations open one for each. Fields that
are bound in a scope are seen in all of it, on whatever thread or task a framework runs its
parts, and nowhere else. Outside every scope `bind` binds for the current task or thread: a
task starts with a copy of what its creator had bound, a new thread starts with nothing
(PEP 567), and a forked child keeps what its parent had bound.

What a call itself gives wins over bound fields; the dicts (such as `ht_context`) are merged.
A field of a wrong type raises `InvalidField` when it is bound.
"""

from __future__ import annotations

from htlogging._event import bindable, bindings
from htlogging._event.bindings import BoundBlock, ScopeBlock, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from typing import Any, Literal, TypeAlias
    from uuid import UUID

    from htlogging._process.block import Block

    Id: TypeAlias = str | int | float | Decimal | UUID
    Type: TypeAlias = Literal["track", "identify", "page", "screen", "group", "alias"]

__all__ = ["bind", "bound", "clear", "get", "scope", "unbind"]

# Means "not given". `None` is a value: no user from now on.
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
    Bind fields in the current scope; outside every scope, in this task or thread.

    A name that is bound already gets the new value; `ht_context` and the other dicts are
    merged. `None` removes a value, as in `bind(ht_user_id=None)` after a logout. Inside a
    `bound` block that binds the same name, the new value shows when that block ends.

    Raises:
        InvalidField: A value has the wrong type, or there is no such `ht_` field.
    """
    bindings.bind(_checked(locals()))


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
    Bind fields over all others, for a `with` block or, as a decorator, for each call.

    It decorates functions, coroutines, generators and async generators. Between the steps
    of a generator, its caller does not see the fields. At the end the fields are as they
    were before. What `bind` bound inside stays in the scope, if there is one.

    Raises:
        InvalidField: A value has the wrong type, or there is no such `ht_` field.
    """
    return BoundBlock(_checked(locals()))


def scope(**fields: Any) -> Block:
    """
    Begin an empty scope for a `with` block or, as a decorator, for each call.

    Use it around a request, a job or a message. What is bound inside, on any thread or
    task that has the context, is seen in all of the scope; nothing from outside is seen.
    Once the scope has ended it is empty for code that still holds it. It decorates what
    `bound` decorates.

    Args:
        fields: Bound at its beginning; the names are those of `bind`.

    Raises:
        InvalidField: A value has the wrong type, or there is no such `ht_` field.
    """
    return ScopeBlock(bindable.check(fields))


def unbind(*names: str) -> None:
    """Remove these names; a name that is not bound is ignored."""
    bindings.unbind(names)


def clear() -> None:
    """Remove everything that is bound here; inside a scope, in the whole scope."""
    bindings.clear()


def get() -> dict[str, Any]:
    """Return a copy of the bound fields."""
    return {k: dict(v) if type(v) is dict else v for k, v in current().items()}


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Check and return the fields of a call, from its local variables."""
    properties = given.pop("properties")
    fields = {name: value for name, value in given.items() if value is not _UNSET}
    return bindable.check({**fields, **properties})
