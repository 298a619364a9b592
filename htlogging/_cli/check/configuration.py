"""The handlers that there are, their settings, and where each setting is from."""

from __future__ import annotations

import logging
import os
from functools import partial

from htlogging._event.origin import LOGGER
from htlogging._handler import HtEventsHandler, pipeline_of, sends_alike
from htlogging._process.capturing import VARIABLE
from htlogging._process.loggers import all_loggers, objects_of, reached_twice
from htlogging._process.shutdown import living
from htlogging._settings import DEFAULTS, TABLE, Settings
from htlogging.exceptions import HtLoggingError
from htlogging.htevents import Client
from htlogging.htevents._default_client import facade as default

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._cli.check.findings import Findings

# The beginning of a variable that is meant for this package.
_PREFIXES = ("HTEVENT", "HT_EVENT", "HTLOGGING")

# Settings whose value is not shown, only whether they are set.
_SECRETS = ("write_key", "oauth_client_key", "proxies")


def handlers(findings: Findings, *, facade: bool) -> list[HtEventsHandler]:
    """
    Return all handlers of the process; make the facade's if the application would.

    Args:
        findings: Gets wrong settings.
        facade: Whether the application calls the facade.
    """
    found = living()
    if facade or default.given() or default.unknown() or not found:
        try:
            default.client()
        except HtLoggingError as exc:
            if not any(text == str(exc) for text, _ in findings.problems):
                findings.problem(str(exc), "set it, then check again")
    names = [h for h in living() if isinstance(h, HtEventsHandler)]
    return sorted(names, key=_order)


def _order(handler: HtEventsHandler) -> tuple[bool, str]:
    names = sorted(loggers_of(handler))
    return (LOGGER not in names, ",".join(names))


def loggers_of(handler: logging.Handler) -> list[str]:
    """Return the names of the loggers that have this handler."""
    return [logger.name for logger in all_loggers() if handler in logger.handlers]


def is_of_client(handler: HtEventsHandler) -> bool:
    """Return whether it belongs to a `Client`, whose logger is in no list."""
    return any(handler in client.logger.handlers for client in objects_of(Client))


def name_of(handler: HtEventsHandler) -> str:
    """Return a handler's name for a line."""
    names = [name or "root" for name in loggers_of(handler)]
    if names:
        return f"the handler of {', '.join(map(repr, names))}"
    return "the handler of a Client" if is_of_client(handler) else "a handler"


def check_environment(findings: Findings) -> None:
    """Report environment variables that look like ours and are not read."""
    from difflib import get_close_matches

    known = {row.variable for row in TABLE.values() if row.variable}
    for name in sorted(os.environ):
        if not name.upper().startswith(_PREFIXES) or name in (*known, VARIABLE):
            continue
        near = get_close_matches(name.upper(), sorted(known), 1)
        findings.problem(
            f"the environment variable {name} has no effect: it is not read",
            f"write {near[0]}" if near else f"use one of {', '.join(sorted(known))}",
        )


def check_settings(handler: HtEventsHandler, findings: Findings) -> None:
    """Print every setting and where it is from; never a secret."""
    settings = pipeline_of(handler).settings
    findings.section(f"Settings of {name_of(handler)}")
    for name in DEFAULTS:
        findings.fact(name, _shown(settings, name), settings.origin(name))
    if not settings.send:
        origin = settings.origin("send")
        findings.problem(
            f"send is False ({origin}): nothing is sent",
            "remove send=False"
            if origin == "code"
            else "remove HTEVENTS_SEND from the environment",
        )
    if settings.debug:
        findings.note("debug is on: the log htlogging has a line for each request")
    if settings.is_unencrypted():
        findings.problem(
            f"the write key and all events are sent to {settings.host} unencrypted",
            "use https://",
        )
    twice = reached_twice(handler, partial(sends_alike, settings))
    if twice is not None:
        findings.problem(
            f"two handlers: records of the logger {twice!r} reach two that send to "
            f"{settings.host}, and each event is sent twice",
            "remove one handler, or set propagate to False",
        )


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if name in _SECRETS:
        return "(set, not shown)" if value else "(not set)"
    if name == "on_error" and value is not None:
        return getattr(value, "__qualname__", type(value).__name__)
    return "(not set)" if value is None else str(value)
