"""A client: its calls become log records, and these become events."""

from __future__ import annotations

import logging

from htlogging._event.builder import fields_of
from htlogging._event.origin import LOGGER
from htlogging._handler import HtEventsHandler, pipeline_of
from htlogging._process.shutdown import close_all, flush_all
from htlogging._settings import with_settings
from htlogging._stats import Stats
from htlogging.exceptions import InvalidEvent, InvalidSetting
from htlogging.htevents import _routing
from htlogging.htevents._routing import nearest_handlers, only_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Any

    from typing_extensions import Unpack

    from htlogging import types
    from htlogging._settings import ClientSettings
    from htlogging.context import Id
    from htlogging.htevents._signatures import signature
else:

    def signature(_: object) -> object:
        """Leave a method as it is: signatures are for type checkers."""
        return lambda method: method


__all__ = ["Client"]


class Client:
    """
    The facade's calls, bound to one write key.

    Each call logs a record, so filters and other handlers see it. It returns `(queued,
    event)`: whether the event was accepted, and the event itself. The client has a logger
    of its own, below `htevents`. Levels, `logging.disable()` and a reconfiguration of
    logging have no effect on it. Its methods may be called from any thread.

    All parameters may be given by name. `None` means "not given": then a bound field is
    used. Ids are non-empty strings, numbers or UUIDs.

    Args:
        write_key: If it is not given, `HTEVENTS_WRITE_KEY` is used.
        settings: See docs/settings.md.

    Raises:
        InvalidSetting: A setting is missing, unknown, of a wrong type or out of range.
    """

    logger: logging.Logger

    def __init__(
        self, write_key: str | None = None, **settings: Unpack[ClientSettings]
    ) -> None:
        try:
            handler = HtEventsHandler(write_key=write_key, **settings)
        except InvalidSetting as exc:
            # Crash reporters show the locals of each frame: none may hold a secret.
            del write_key, settings
            raise exc.with_traceback(None) from None
        # Not getLogger, which keeps a logger for ever: a service may have a client for
        # each of its tenants. A name and a parent are all that logging needs.
        logger = logging.Logger(f"{LOGGER}.client")  # noqa: LOG001
        logger.parent = logging.getLogger(LOGGER)
        logger.manager = logging.root.manager
        logger.addHandler(handler)
        self._attach(logger, logger, lambda: handler)

    def _attach(
        self,
        logger: logging.Logger,
        top: logging.Logger,
        make_handler: Callable[[], HtEventsHandler],
    ) -> None:
        """
        Take a logger.

        Args:
            logger: Where calls are logged.
            top: The last logger, from `logger` upwards, that is searched for a handler.
            make_handler: Called when no handler is found.
        """
        self.logger = logger
        self._top = top
        # The handlers as last seen: a reconfiguration may remove them, and no event may
        # be lost by that. Replaced as a whole, by any thread.
        self._handlers = self._reached()[0] or [make_handler()]

    def _reached(self) -> tuple[list[HtEventsHandler], bool]:
        """Return the nearest of our handlers that the logger's records reach."""
        return nearest_handlers(self.logger, self._top)

    def __repr__(self) -> str:
        # When a setting is wrong, the object is not complete and has no logger yet.
        name = getattr(getattr(self, "logger", None), "name", None)
        return f"<{type(self).__name__} on logger {name}>"

    @signature("identify")
    def identify(
        self,
        user_id: Id | None = None,
        traits: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Mapping[str, Any] | None = None,
        message_id: Id | None = None,
    ) -> tuple[bool, types.IdentifyEvent]:
        """
        Say who a user is, with `traits` such as `email` and `name`.

        Raises:
            InvalidEvent: A field is missing or has the wrong type.
        """
        return self._log(
            "identify",
            (),
            user_id,
            anonymous_id,
            traits,
            context,
            timestamp,
            integrations,
            message_id,
        )

    @signature("track")
    def track(
        self,
        user_id: Id | None = None,
        event: str | None = None,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Mapping[str, Any] | None = None,
        message_id: Id | None = None,
    ) -> tuple[bool, types.TrackEvent]:
        """
        Say what a user did; `event` names it, and its warehouse table.

        Raises:
            InvalidEvent: A field is missing or has the wrong type.
        """
        return self._log(
            "track",
            (event,),
            user_id,
            anonymous_id,
            properties,
            context,
            timestamp,
            integrations,
            message_id,
        )

    @signature("page")
    def page(
        self,
        user_id: Id | None = None,
        category: str | None = None,
        name: str | None = None,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Mapping[str, Any] | None = None,
        message_id: Id | None = None,
    ) -> tuple[bool, types.PageEvent]:
        """
        Say that a user saw a page.

        Raises:
            InvalidEvent: A field is missing or has the wrong type.
        """
        return self._log(
            "page",
            (category, name),
            user_id,
            anonymous_id,
            properties,
            context,
            timestamp,
            integrations,
            message_id,
        )

    @signature("screen")
    def screen(
        self,
        user_id: Id | None = None,
        category: str | None = None,
        name: str | None = None,
        properties: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Mapping[str, Any] | None = None,
        message_id: Id | None = None,
    ) -> tuple[bool, types.ScreenEvent]:
        """
        Say that a user saw a screen of an app.

        Raises:
            InvalidEvent: A field is missing or has the wrong type.
        """
        return self._log(
            "screen",
            (category, name),
            user_id,
            anonymous_id,
            properties,
            context,
            timestamp,
            integrations,
            message_id,
        )

    @signature("group")
    def group(
        self,
        user_id: Id | None = None,
        group_id: Id | None = None,
        traits: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
        anonymous_id: Id | None = None,
        integrations: Mapping[str, Any] | None = None,
        message_id: Id | None = None,
    ) -> tuple[bool, types.GroupEvent]:
        """
        Say that a user belongs to a group; `traits` are the group's.

        Raises:
            InvalidEvent: A field is missing or has the wrong type.
        """
        return self._log(
            "group",
            (group_id,),
            user_id,
            anonymous_id,
            traits,
            context,
            timestamp,
            integrations,
            message_id,
        )

    @signature("alias")
    def alias(
        self,
        previous_id: Id | None = None,
        user_id: Id | None = None,
        context: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
        integrations: Mapping[str, Any] | None = None,
        message_id: Id | None = None,
    ) -> tuple[bool, types.AliasEvent]:
        """
        Say that two ids belong to the same user.

        Raises:
            InvalidEvent: A field is missing or has the wrong type.
        """
        return self._log(
            "alias",
            (previous_id,),
            user_id,
            None,
            None,
            context,
            timestamp,
            integrations,
            message_id,
        )

    def flush(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """
        Wait as `HtEventsHandler.flush` does, and return what it returns.

        Raises:
            DeliveryError: With `check` only: events were given up.
        """
        return flush_all(self._now(), timeout, check=check)

    def join(self) -> None:
        """Flush within `shutdown_timeout`, then stop the threads; later events still go."""
        close_all(self._now())

    def shutdown(self) -> None:
        """Do what `join` does."""
        self.join()

    @property
    def stats(self) -> Stats:
        """The handler's counters, or their sums if the logger has several handlers."""
        each = [handler.stats for handler in self._now()]
        return Stats({name: sum(stats[name] for stats in each) for name in each[0]})

    @property
    def host(self) -> str:
        """Where events are sent."""
        return self._now()[0].host

    def _now(self) -> list[HtEventsHandler]:
        self._handlers = self._reached()[0] or self._handlers
        return self._handlers

    def _log(self, *given: Any) -> tuple[bool, Any]:
        """
        Emit a record whatever its level, and return what happened to it.

        Args:
            given: What the call gave, in the order of `builder.make`.
        """
        handler = only_handler(self.logger)
        if handler is None:
            return self._log_record(fields_of(*given))
        try:
            limit = handler._settings.max_event_size  # noqa: SLF001  (a call takes 1 %)
            event, encoded = _routing.make(given, limit)
        except InvalidEvent as exc:
            pipeline_of(handler).rejections.count(exc)
            return _routing.refuse(exc, handler, self.logger)
        except (RecursionError, MemoryError):
            # Too little stack or memory: the way with a record reports it. Any other error
            # comes from a signal handler that has interrupted this, and goes to the caller.
            return self._log_record(fields_of(*given))
        # Not inside the `try`: an event that is queued must not be made again.
        return handler.enqueue(encoded), event

    def _log_record(self, fields: dict[str, Any]) -> tuple[bool, Any]:
        reached, is_attached = self._reached()
        if reached:
            self._handlers = reached
        return _routing.log(
            self.logger, fields, self._handlers, is_attached=is_attached
        )


Client.__doc__ = with_settings(Client.__doc__)
