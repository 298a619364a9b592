"""
The shapes of events, for type checkers.

`htevents.track()` and the other calls return them, `on_error` gets them, and
`HtEventsFormatter` writes them::

    queued, event = htevents.track("user123", "Order completed")
    completed = cast("TrackEvent", event)

At run time they are plain dicts. All ids are strings here, whatever the call gave.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Union

__all__ = [
    "AliasEvent",
    "Context",
    "Event",
    "GroupEvent",
    "IdentifyEvent",
    "Library",
    "PageEvent",
    "ScreenEvent",
    "TrackEvent",
]


class Library(TypedDict):
    """What made the event: `htlogging` and its version."""

    name: str
    version: str


class _ContextLibrary(TypedDict):
    library: Library


class Context(_ContextLibrary, total=False):
    """
    The circumstances of an event: always `library`, and what the caller gave.

    These are the names that Hightouch knows; others are passed on unchanged.
    """

    active: bool
    app: dict[str, Any]
    campaign: dict[str, Any]
    consent: dict[str, Any]
    device: dict[str, Any]
    groupId: str
    htevents: dict[str, Any]
    ip: str
    locale: str
    location: dict[str, Any]
    network: dict[str, Any]
    os: dict[str, Any]
    page: dict[str, Any]
    referrer: dict[str, Any]
    screen: dict[str, Any]
    sessionId: int | str
    timezone: str
    traits: dict[str, Any]
    userAgent: str


class _Common(TypedDict):
    anonymousId: str | None
    context: Context
    integrations: dict[str, Any]
    timestamp: str
    messageId: str


class _OfACustomer(_Common):
    userId: str | None


class TrackEvent(_OfACustomer):
    """Something a customer did; `event` names it."""

    type: Literal["track"]
    event: str
    properties: dict[str, Any]


class IdentifyEvent(_OfACustomer):
    """Who a customer is."""

    type: Literal["identify"]
    traits: dict[str, Any]


class PageEvent(_OfACustomer):
    """A page that was seen."""

    type: Literal["page"]
    category: str | None
    name: str | None
    properties: dict[str, Any]


class ScreenEvent(_OfACustomer):
    """A screen of an app that was seen."""

    type: Literal["screen"]
    category: str | None
    name: str | None
    properties: dict[str, Any]


class GroupEvent(_OfACustomer):
    """A group that a customer belongs to."""

    type: Literal["group"]
    groupId: str
    traits: dict[str, Any]


class AliasEvent(_Common):
    """An id that a customer had before."""

    type: Literal["alias"]
    previousId: str
    userId: str


Event = Union[  # noqa: UP007  (an alias is evaluated; 3.10 has no `|` for all of these)
    TrackEvent, IdentifyEvent, PageEvent, ScreenEvent, GroupEvent, AliasEvent
]
