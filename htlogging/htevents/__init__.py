"""
The facade: functions that use one client, which the first call makes.

Settings are attributes of this module. The first call reads them; to have them read again,
set `default_client = None`.

`identify`, `track`, `page`, `screen`, `group` and `alias` return `(queued, event)`, and raise
`InvalidEvent` for a mistake in the call; `Client` says more. Each logs a record on the logger
`htevents`. When that logger has an `HtEventsHandler`, or inherits one, the facade uses that
handler, and the settings here have no effect.
"""

from __future__ import annotations

import functools
import logging
import sys

from htlogging._event.origin import LOGGER
from htlogging._handler import HtEventsHandler
from htlogging._process.block import Block
from htlogging._process.shutdown import close_all, flush_all, living
from htlogging._process.threads import run_beside
from htlogging._settings import DEFAULTS
from htlogging._stats import Stats
from htlogging.htevents._default_client import facade as _facade
from htlogging.htevents._routing import nearest_handlers
from htlogging.htevents.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, TypeVar

    from htlogging.exceptions import DeliveryError

    C = TypeVar("C")

__all__ = [
    "Client",
    "alias",
    "flush",
    "flushed",
    "group",
    "identify",
    "join",
    "page",
    "screen",
    "shutdown",
    "track",
]

# docs/settings.md says what each does.
write_key: str | None = DEFAULTS["write_key"]
host: str | None = DEFAULTS["host"]
send: bool = DEFAULTS["send"]
sync_mode: bool = DEFAULTS["sync_mode"]
debug: bool = DEFAULTS["debug"]
on_error: Callable[[DeliveryError, list[dict[str, Any]]], object] | None = DEFAULTS[
    "on_error"
]
on_invalid: Literal["raise", "report"] = DEFAULTS["on_invalid"]
max_queue_size: int = DEFAULTS["max_queue_size"]
max_queue_bytes: int = DEFAULTS["max_queue_bytes"]
upload_size: int | None = DEFAULTS["upload_size"]
upload_interval: float = DEFAULTS["upload_interval"]
gzip: bool = DEFAULTS["gzip"]
timeout: float = DEFAULTS["timeout"]
max_retries: int = DEFAULTS["max_retries"]
proxies: Mapping[str, str] | str | None = DEFAULTS["proxies"]
thread: int = DEFAULTS["thread"]
shutdown_timeout: float = DEFAULTS["shutdown_timeout"]
overflow: Literal["drop", "block"] = DEFAULTS["overflow"]
max_event_size: int = DEFAULTS["max_event_size"]
spool: str | os.PathLike[str] | None = DEFAULTS["spool"]
spool_sync: Literal["normal", "full"] = DEFAULTS["spool_sync"]
spool_max_bytes: int = DEFAULTS["spool_max_bytes"]
spool_max_age: float | None = DEFAULTS["spool_max_age"]
oauth_client_id: str | None = DEFAULTS["oauth_client_id"]
oauth_client_key: str | os.PathLike[str] | None = DEFAULTS["oauth_client_key"]
oauth_key_id: str | None = DEFAULTS["oauth_key_id"]
oauth_auth_server: str = DEFAULTS["oauth_auth_server"]
oauth_scope: str = DEFAULTS["oauth_scope"]

# The counters of the client behind the functions.
stats: Stats

# The client behind the functions. `None` before the first call; set it to `None` to start
# anew.
default_client: Client | None = None

# Settings that were changed after the client had read them.
_late = _facade.late


def _on_client(method: C) -> C:
    """Return a method of the client as a function of this module."""
    call: Any = method

    def function(*args: Any, **kwargs: Any) -> Any:
        # As `_facade.client` does: a call of it takes 1 % of the time of `track`.
        client = _facade.client() if default_client is None or _late else default_client
        return call(client, *args, **kwargs) if kwargs else call(client, *args)

    functools.update_wrapper(function, call)
    # So that help() and editors show the parameters without `self`.
    function.__wrapped__ = functools.partial(call, None)  # type: ignore[attr-defined]
    return function  # type: ignore[return-value]


identify = _on_client(Client.identify)
track = _on_client(Client.track)
page = _on_client(Client.page)
screen = _on_client(Client.screen)
group = _on_client(Client.group)
alias = _on_client(Client.alias)


def flush(timeout: float | None = None, *, check: bool = False) -> bool:
    """
    Wait until everything accepted so far is delivered or given up.

    It covers every handler and client of the process, and needs no write key.

    Args:
        timeout: Seconds. `None` means as in `HtEventsHandler.flush`.
        check: Whether to raise if events were given up since the last such call.

    Returns:
        Whether all was settled in time; `True` if there was nothing to do.

    Raises:
        DeliveryError: With `check` only: events were given up.
    """
    return flush_all(_living(), timeout, check=check)


def join() -> None:
    """
    Flush within `shutdown_timeout`, then stop the threads; later events still go.

    It covers every handler and client of the process, and needs no write key.
    """
    close_all(_living())


def shutdown() -> None:
    """Do what `join` does."""
    join()


def _nearest() -> list[HtEventsHandler]:
    return nearest_handlers(logging.getLogger(LOGGER), logging.root)[0]


def _living() -> list[HtEventsHandler]:
    """Return all handlers of this process, the facade's own first."""
    own = _nearest()
    every = [h for h in living() if isinstance(h, HtEventsHandler)]
    return [*own, *(handler for handler in every if handler not in own)]


class _FlushedBlock(Block):
    """
    Flush at the end of the block.

    Args:
        timeout: Seconds, as in `flush`.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout

    def fresh(self) -> _FlushedBlock:
        """Return a block that does the same."""
        return _FlushedBlock(self._timeout)

    def end(self) -> None:
        """Flush."""
        flush(self._timeout)

    async def end_async(self) -> None:
        """Flush on another thread, while the event loop keeps running."""
        await run_beside(self.end)


def flushed(timeout: float | None = 5.0) -> _FlushedBlock:
    """
    Flush when a `with` block or, as a decorator, each call ends.

    Use it for functions whose process is frozen once they have returned, as in AWS
    Lambda. It decorates functions, coroutines, generators and async generators. In a
    coroutine the event loop keeps running while it flushes.

    Args:
        timeout: Seconds, as in `flush`. Events that are not delivered by then wait for
            the next call.

    Raises:
        TypeError: The timeout is not a number: `@flushed` without `()`, for example.
    """
    if timeout is not None and not isinstance(timeout, (int, float)):
        raise TypeError(
            f"timeout must be seconds or None, not {type(timeout).__name__}; as a "
            "decorator it is written @flushed()"
        )
    return _FlushedBlock(timeout)


def __dir__() -> list[str]:
    return sorted({*globals(), "stats"})


class _Facade(type(sys)):  # type: ignore[misc]
    """This module's class: it has the counters, and notices settings that come too late."""

    @property
    def stats(self) -> Stats:
        """The facade's counters; all are 0 before its first call."""
        if default_client is None and not _nearest():
            return Stats.none()
        return _facade.client().stats

    def __setattr__(self, name: str, value: object) -> None:
        before = globals().get(name)
        super().__setattr__(name, value)
        if name == "default_client":
            _facade.start_anew()
        elif name in DEFAULTS and default_client is not None and value != before:
            _late.add(name)


_facade.serve(globals())

sys.modules[__name__].__class__ = _Facade
