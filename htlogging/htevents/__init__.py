"""
The facade: functions that use one client, which the first call makes.

Settings are attributes of this module. The first call reads them; to have them read again,
set `default_client = None`. Each call logs a record on the logger `htevents`. When that
logger has an `HtEventsHandler`, or inherits one, the facade uses that handler, and the
settings here have no effect.
"""

from __future__ import annotations

import functools
import logging

from htlogging._event.record import LOGGER
from htlogging._handler import HtEventsHandler
from htlogging._process import fork
from htlogging._settings import DEFAULTS
from htlogging.htevents._flushed import FlushedBlock
from htlogging.htevents.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

    from htlogging.exceptions import DeliveryError

    P = ParamSpec("P")
    R = TypeVar("R")

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

# The client behind the functions. `None` before the first call; set it to `None` to start
# anew.
default_client: Client | None = None

# The handler that was made here; it is removed when the next one is made.
_made: HtEventsHandler | None = None


def _client() -> Client:
    global default_client  # noqa: PLW0603
    if default_client is None:
        # This lock and not one of its own, because a fork waits for it.
        with fork.importing:
            if default_client is None:
                default_client = _FacadeClient()
    return default_client


class _FacadeClient(Client):
    """The client of the logger `htevents`."""

    def __init__(self) -> None:
        _take_off()
        self._attach(logging.getLogger(LOGGER), logging.root, _make_handler)


def _take_off() -> None:
    global _made
    made, _made = _made, None
    if made is not None:
        logging.getLogger(LOGGER).removeHandler(made)
        made.retire()


def forget_keyless() -> None:
    """Begin anew if a test made the client without a key; for `htlogging.testing`."""
    global default_client  # noqa: PLW0603
    if _made is not None and _made.lacks_key:
        default_client = None
        _take_off()


def _make_handler() -> HtEventsHandler:
    global _made  # noqa: PLW0603
    # A setting that still has its default was not given: the environment may set it.
    given = {n: globals()[n] for n in DEFAULTS if globals()[n] is not DEFAULTS[n]}
    given.setdefault("write_key", None)
    # Without this, a misspelt setting would be an attribute that is never read. Names with
    # two underscores are Python's own: a warning leaves a __warningregistry__, for example.
    strays = [n for n in globals() if n not in _NAMES and not n.startswith("__")]
    _made = HtEventsHandler(**given, **{name: globals()[name] for name in strays})
    logging.getLogger(LOGGER).addHandler(_made)
    return _made


def _on_client(method: Callable[Concatenate[Client, P], R]) -> Callable[P, R]:
    """Return a method of the client as a function of this module."""

    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(_client(), *args, **kwargs)

    functools.update_wrapper(function, method)
    # So that help() and editors show the parameters without `self`.
    function.__wrapped__ = functools.partial(method, None)  # type: ignore[attr-defined,arg-type]
    return function


identify = _on_client(Client.identify)
track = _on_client(Client.track)
page = _on_client(Client.page)
screen = _on_client(Client.screen)
group = _on_client(Client.group)
alias = _on_client(Client.alias)
flush = _on_client(Client.flush)
join = _on_client(Client.join)
shutdown = _on_client(Client.shutdown)


def flushed(timeout: float | None = 5.0) -> FlushedBlock:
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
    return FlushedBlock(functools.partial(_flush_all, timeout))


def _flush_all(timeout: float | None) -> None:
    if default_client is not None:  # otherwise nothing was logged
        flush(timeout)


_NAMES = frozenset(globals()) | {"_NAMES"}
