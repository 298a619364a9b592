"""
The signatures of the calls for type checkers: required arguments, and ids of many types.

Nothing imports it at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, overload

from htlogging.context import Id
from htlogging.types import (
    AliasEvent,
    GroupEvent,
    IdentifyEvent,
    PageEvent,
    ScreenEvent,
    TrackEvent,
)

Fields = Mapping[str, Any] | None
Method = Callable[..., Any]


class Identify(Protocol):
    """What `identify` takes: the traits come second."""

    def __call__(
        self,
        user_id: Id | None = None,
        traits: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, IdentifyEvent]: ...


class Track(Protocol):
    """What `track` takes: the event's name is required."""

    @overload
    def __call__(
        self,
        user_id: Id | None,
        event: str,
        properties: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, TrackEvent]: ...
    @overload
    def __call__(
        self,
        *,
        event: str,
        properties: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, TrackEvent]: ...


class Page(Protocol):
    """What `page` takes."""

    def __call__(
        self,
        user_id: Id | None = None,
        category: str | None = None,
        name: str | None = None,
        properties: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, PageEvent]: ...


class Screen(Protocol):
    """What `screen` takes."""

    def __call__(
        self,
        user_id: Id | None = None,
        category: str | None = None,
        name: str | None = None,
        properties: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, ScreenEvent]: ...


class Group(Protocol):
    """What `group` takes: the group's id is required."""

    @overload
    def __call__(
        self,
        user_id: Id | None,
        group_id: Id,
        traits: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, GroupEvent]: ...
    @overload
    def __call__(
        self,
        *,
        group_id: Id,
        traits: Fields = None,
        context: Fields = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, GroupEvent]: ...


class Alias(Protocol):
    """What `alias` takes: the second id may be bound, if the first has its name."""

    @overload
    def __call__(
        self,
        previous_id: Id,
        user_id: Id | None,
        context: Fields = None,
        timestamp: datetime | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, AliasEvent]: ...
    @overload
    def __call__(
        self,
        *,
        previous_id: Id,
        context: Fields = None,
        timestamp: datetime | None = None,
        integrations: Fields = None,
        message_id: Id | None = None,
    ) -> tuple[bool, AliasEvent]: ...


@overload
def signature(kind: Literal["identify"]) -> Callable[[Method], Identify]: ...
@overload
def signature(kind: Literal["track"]) -> Callable[[Method], Track]: ...
@overload
def signature(kind: Literal["page"]) -> Callable[[Method], Page]: ...
@overload
def signature(kind: Literal["screen"]) -> Callable[[Method], Screen]: ...
@overload
def signature(kind: Literal["group"]) -> Callable[[Method], Group]: ...
@overload
def signature(kind: Literal["alias"]) -> Callable[[Method], Alias]: ...
def signature(kind: str) -> Callable[[Method], Any]:
    """Return a decorator that gives a method the signature of a call."""
    raise NotImplementedError
