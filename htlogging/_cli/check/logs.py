"""Loggers: levels, names, queues in between, and other logging packages."""

from __future__ import annotations

import logging
import sys
from logging.handlers import MemoryHandler, QueueHandler, QueueListener

from htlogging._cli.check import configuration
from htlogging._event.origin import LOGGER
from htlogging._handler import HtEventsHandler
from htlogging._process import loggers
from htlogging._process.loggers import is_message, is_near, is_running, loguru_formats
from htlogging.htevents._default_client import facade

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from htlogging._cli.check.findings import Findings
    from htlogging._cli.check.sources import Call, Sources


def check(
    handlers: Sequence[HtEventsHandler], sources: Sources, findings: Findings
) -> None:
    """Report mistakes in the loggers."""
    findings.section("Loggers")
    behind = [*_behind(handlers, findings), *_in_loguru(handlers, findings)]
    _check_structlog(sources, findings)
    for handler in handlers:
        _check_place(handler, behind, findings)
    if logging.root.manager.disable >= logging.INFO:
        findings.problem(
            f"logging.disable({logging.getLevelName(logging.root.manager.disable)}) is "
            "in force: plain loggers make no record at INFO",
            "remove it, or call htevents.track, which it does not stop",
        )
    named = [c for c in sources.calls if c.logger is not None and not c.structured]
    for call in named:
        _check_call(call, behind, findings)
    _check_names({call.logger for call in named}, findings)


def _check_place(
    handler: HtEventsHandler, behind: list[HtEventsHandler], findings: Findings
) -> None:
    names = configuration.loggers_of(handler)
    if not names:
        if handler not in behind and not configuration.is_of_client(handler):
            findings.problem(
                f"a handler to {handler.host} is on no logger: no record reaches it",
                "name it under 'handlers' of a logger, such as 'htevents'",
            )
        return
    if handler.level > logging.INFO:
        findings.problem(
            f"{configuration.name_of(handler)} has the level "
            f"{logging.getLevelName(handler.level)}: events at INFO are dropped",
            "set the handler's level to INFO, or leave it out",
        )
    for name in names:
        logger = logging.getLogger(name or None)
        level = logging.getLevelName(logger.getEffectiveLevel())
        own = "" if logger.level else " (not set, from above)"
        findings.fact(
            repr(name or "root"),
            f"level {level}{own}, propagate {logger.propagate}, "
            f"{len(logger.handlers)} handler{'s' * (len(logger.handlers) != 1)}",
        )
        if handler is facade.handler:
            findings.ok("the facade's own handler: its events pass at any level")
        else:
            _check_level(logger, name, findings)


def _check_level(logger: logging.Logger, name: str, findings: Findings) -> None:
    level = logger.getEffectiveLevel()
    if logger.disabled:
        findings.problem(
            f"the logger {name!r} is disabled, by a dictConfig that does not name it",
            "set disable_existing_loggers to False",
        )
    elif logger is logging.root:
        return  # its level is for ordinary records; calls below it are looked at
    elif level > logging.INFO:
        why = "" if logger.level else f"; it has no level, so {_source(logger)} applies"
        findings.problem(
            f"the logger {name!r} has the level {logging.getLevelName(level)}: what is "
            f"logged with info() is dropped{why}",
            f"set the level of {name!r} to INFO",
        )
    elif level <= logging.DEBUG:
        findings.problem(
            f"the logger {name!r} is at level DEBUG: what is logged with debug() becomes "
            "an event, too",
            f"set the level of {name!r} to INFO",
        )


def _source(logger: logging.Logger) -> str:
    above = logger.parent
    while above is not None and not above.level:
        above = above.parent
    return f"that of {(above or logging.root).name!r}"


def reaches(
    logger: logging.Logger, behind: Sequence[HtEventsHandler] = ()
) -> Iterator[logging.Handler]:
    """Yield our handlers that a logger's records reach."""
    for handler in loggers.handlers(logger):
        if isinstance(handler, HtEventsHandler):
            yield handler
        elif isinstance(handler, (QueueHandler, MemoryHandler)):
            yield from behind


def _check_names(known: set[str | None], findings: Findings) -> None:
    """Report loggers whose name is almost that of the facade."""
    for logger in loggers.all_loggers():
        name = logger.name
        if name not in known and is_near(name) and not list(reaches(logger)):
            findings.problem(
                f"wrong logger? {name!r} has no HtEventsHandler, and {LOGGER!r} has",
                f"write logging.getLogger({LOGGER!r})",
            )


def _check_call(
    call: Call, behind: Sequence[HtEventsHandler], findings: Findings
) -> None:
    """Say what becomes of an event that the code logs."""
    name = call.logger or "root"
    logger = logging.getLogger(call.logger or None)
    if not list(reaches(logger, behind)):
        findings.problem(
            f"wrong logger: {call.place} logs an event on {name!r}, whose records reach no "
            "HtEventsHandler",
            "log on 'htevents', or give this logger the handler",
        )
    elif logger.disabled:
        findings.problem(
            f"{call.place} logs an event on {name!r}, which is disabled, by a dictConfig "
            "that does not name it",
            "set disable_existing_loggers to False",
        )
    elif logging.getLevelName(call.level) < logger.getEffectiveLevel():
        if call.level != "DEBUG" and any(
            isinstance(handler, HtEventsHandler) for handler in logger.handlers
        ):
            return  # the logger's level was named
        level = logging.getLevelName(logger.getEffectiveLevel())
        findings.problem(
            f"{call.place} logs an event at {call.level} on {name!r}, whose level is "
            f"{level}: it is dropped",
            f"log it at INFO, and set the level of {name!r} to INFO",
        )


def _behind(
    handlers: Sequence[HtEventsHandler], findings: Findings
) -> Iterator[HtEventsHandler]:
    """Yield handlers that get their records from a queue or a buffer, and report them."""
    for listener in loggers.objects_of(QueueListener):
        for handler in handlers:
            if handler in listener.handlers:
                yield handler
                _check_queue(listener, findings)
    for buffer in loggers.objects_of(MemoryHandler):
        for handler in handlers:
            if handler is buffer.target:
                yield handler
                findings.note(
                    "a handler behind a MemoryHandler: events wait for its flush; it is "
                    "not needed, the handler has a queue of its own"
                )


def _check_queue(listener: Any, findings: Findings) -> None:
    if not is_running(listener):
        findings.problem(
            "a handler behind a queue: its QueueListener is not started, and no event "
            "reaches it",
            "call listener.start(), or put the handler on the logger itself: it has a "
            "queue of its own",
        )
    else:
        findings.problem(
            "a handler behind a queue: the facade does not find it there and makes one "
            "of its own; it is not needed, the handler has a queue of its own",
            "put the handler on the logger itself",
        )


def _in_loguru(
    handlers: Sequence[HtEventsHandler], findings: Findings
) -> Iterator[HtEventsHandler]:
    """Yield handlers that are loguru sinks, and report them."""
    for handler in handlers:
        for form in loguru_formats(handler):
            yield handler
            if is_message(form):
                findings.ok("a loguru sink: records with a bound ht_ field are events")
                continue
            findings.problem(
                "a handler of ours is a loguru sink: an event's name is the whole line "
                "that loguru formats, with its time",
                'add it as logger.add(handler, format="{message}")',
            )


def _check_structlog(sources: Sources, findings: Findings) -> None:
    structlog = sys.modules.get("structlog")
    if structlog is None:
        return
    config = structlog.get_config()
    factory, last = config["logger_factory"], config["processors"][-1]
    kind = getattr(last, "__name__", type(last).__name__)
    if type(factory).__module__ != "structlog.stdlib":
        why = f"structlog does not log through logging ({type(factory).__name__})"
        cure = "use structlog.stdlib.LoggerFactory() and render_to_log_kwargs"
    elif kind in (
        "render_to_log_kwargs",
        "wrap_for_formatter",
        "render_to_log_args_and_kwargs",
    ):
        findings.ok(f"structlog passes fields on to logging ({kind})")
        return
    else:
        why = f"structlog renders fields into the text ({kind})"
        cure = "let structlog.stdlib.render_to_log_kwargs be the last processor"
    calls = [call.place for call in sources.calls if call.structured]
    if calls:
        findings.problem(
            f"{why}, so the call at {calls[0]} makes no event",
            f"{cure}, or call htevents.track",
        )
    else:
        findings.note(f"{why}: ht_ fields given to its loggers make no event")
