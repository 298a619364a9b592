"""The application's loggers: the handlers that they reach, and mistakes in them."""

from __future__ import annotations

import gc
import logging
import sys
from logging.handlers import QueueHandler, QueueListener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

# The logger of the facade. Other names may be alike on purpose: `order` and `orders`.
NAME = "htevents"

# The share of letters that two names have in common, in order.
_ALIKE = 0.8

# Letters by which the length of a misspelt name may differ.
_MORE = 2


def all_loggers() -> list[logging.Logger]:
    """Return the root logger, then all that `getLogger` has made."""
    # A copy: other threads may make loggers meanwhile. Names that only have loggers below
    # them have a placeholder in it.
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(each for each in named if isinstance(each, logging.Logger))]


def objects_of(kind: type[T]) -> Iterator[T]:
    """
    Yield all objects of a class that there are; it takes a while.

    For commands alone: a tuple that another thread makes of a generator at that moment
    fails there with a SystemError, for `gc.get_objects` holds it.
    """
    for each in gc.get_objects():
        # By its type: `isinstance` asks for `__class__`, which would evaluate a lazy
        # object.
        if issubclass(type(each), kind):
            yield each


def _listeners_of(handler: logging.Handler) -> Iterator[QueueListener]:
    """Yield the listeners that have a handler; it takes a while."""
    for together in _referrers(handler, tuple):
        yield from _referrers(together, QueueListener)
        for attributes in _referrers(together, dict):
            yield from _referrers(attributes, QueueListener)


def _referrers(thing: object, kind: type[T]) -> list[T]:
    return [each for each in gc.get_referrers(thing) if issubclass(type(each), kind)]


def makes_events(handler: object) -> bool:
    """
    Return whether a handler is an `HtEventsHandler`.

    By its mark: the class is defined in a layer above. What runs for each record looks at
    the mark itself.
    """
    return bool(getattr(handler, "makes_events", False))


def handlers(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    """Yield the handlers that see a logger's records, in order."""
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def reached_twice(
    handler: logging.Handler, is_like: Callable[[logging.Handler], bool]
) -> str | None:
    """
    Return the name of a logger whose records reach a handler and then a similar one.

    Args:
        handler: The handler.
        is_like: Returns whether another handler sends to the same place.
    """
    for logger in all_loggers():
        # Loggers without handlers of their own reach the same handlers as those above.
        if not logger.handlers:
            continue
        reached = list(_reached(logger))
        if handler in reached:
            later = reached[reached.index(handler) + 1 :]
            if any(other is not handler and is_like(other) for other in later):
                return logger.name
    return None


def _reached(logger: logging.Logger) -> Iterator[logging.Handler]:
    for handler in handlers(logger):
        yield handler
        yield from behind_queues([handler])


def behind_queues(each: Iterable[logging.Handler]) -> Iterator[logging.Handler]:
    """Yield the handlers that read the queues of others, where these know of them."""
    for handler in each:
        # From CPython 3.12 on, those of `dictConfig` do.
        yield from getattr(getattr(handler, "listener", None), "handlers", ())


def oddities(handler: logging.Handler, told: Container[str]) -> Iterator[str]:
    """
    Yield a line for each mistake that has cost a record.

    A logger remembers for which levels it was asked (`Logger._cache`, since CPython 3.7),
    so a call that was dropped can be told from one that never came.

    Args:
        handler: A handler of ours.
        told: Names of loggers whose events were reported as lost.
    """
    _, *named = all_loggers()
    own = [logger for logger in named if handler in logger.handlers]
    for logger in own:
        yield from _of_level(logger)
    if any(logger.name == NAME for logger in own):
        yield from _of_name(logger for logger in named if logger.name not in told)
    for form in loguru_formats(handler):
        if not is_message(form):
            yield (
                "a handler is a loguru sink without a format of its own: an event's name "
                "is the whole line that loguru prints, with its time; add it as "
                'logger.add(handler, format="{message}")'
            )


def loguru_formats(handler: logging.Handler) -> Iterator[str]:
    """Yield the format of each loguru sink that a handler is; empty if not known."""
    # Private names of loguru's (0.7), which has no others; a test with loguru watches.
    loguru = sys.modules.get("loguru")
    core = getattr(getattr(loguru, "logger", None), "_core", None)
    for sink in dict(getattr(core, "handlers", {})).values():
        if getattr(getattr(sink, "_sink", None), "_handler", None) is handler:
            yield str(getattr(sink, "_decolorized_format", ""))


def is_message(form: str) -> bool:
    """Return whether a sink's format is the message alone; loguru adds the traceback."""
    return not form or form.startswith("{message}")


def _asked(logger: logging.Logger, level: int) -> bool | None:
    """Return how a logger answered whether this level passes; `None`: it was not asked."""
    cache: dict[int, bool] = getattr(logger, "_cache", {})
    return cache.get(level)


def _of_level(logger: logging.Logger) -> Iterator[str]:
    level = logging.getLevelName(logger.getEffectiveLevel())
    if not logger.level and _asked(logger, logging.INFO) is False:
        yield (
            f"the logger {logger.name!r} has no level, so {level} of a logger above it "
            "applies: what is logged with info() is dropped; set its level to INFO"
        )
    if _asked(logger, logging.DEBUG):
        yield (
            f"the logger {logger.name!r} is at level {level}: what is logged with debug() "
            "becomes an event, too; set its level to INFO"
        )


def _of_name(named: Iterable[logging.Logger]) -> Iterator[str]:
    for logger in named:
        if is_near(logger.name) and _asked(logger, logging.INFO) is not None:
            yield (
                f"the logger {logger.name!r} has no HtEventsHandler, and {NAME!r} has: "
                "is the name right?"
            )


def is_near(name: str) -> bool:
    """Return whether a logger's name looks like a misspelt `htevents`."""
    if name == NAME or name.startswith(f"{NAME}."):
        return False
    if name[:1] not in "hH" or abs(len(name) - len(NAME)) > _MORE:
        return False
    # Not difflib: a forked child, at its end, must not wait for an import's lock.
    return 2 * _common(name.lower(), NAME) > _ALIKE * (len(name) + len(NAME))


def _common(one: str, other: str) -> int:
    """Return how many letters two names have in common, in the same order."""
    row = [0] * (len(other) + 1)
    for letter in one:
        last = 0
        for n, theirs in enumerate(other, 1):
            best = last + 1 if letter == theirs else max(row[n], row[n - 1])
            last, row[n] = row[n], best
    return row[-1]


def idle_listener(handler: logging.Handler, *, listeners: bool) -> Iterator[str]:
    """
    Yield a line if a handler is fed by a `QueueListener` that does not run.

    Args:
        handler: A handler of ours that no record has reached: otherwise the listener has
            run, and was stopped at the application's end.
        listeners: Whether to look at all that there are. Else those that are known to
            a `QueueHandler` of `dictConfig`, from CPython 3.12 on.
    """
    feeding = (
        _listeners_of(handler)
        if listeners
        else (
            getattr(each, "listener", None)
            for logger in all_loggers()
            for each in logger.handlers
            if isinstance(each, QueueHandler)
        )
    )
    for listener in feeding:
        if handler in getattr(listener, "handlers", ()) and not is_running(listener):
            yield (
                "an HtEventsHandler is behind a queue whose listener is not started: no "
                "event reaches it; call listener.start(), or put it on the logger itself"
            )
            return


def is_running(listener: object) -> bool:
    """Return whether a `QueueListener` hands records over."""
    return getattr(listener, "_thread", None) is not None
