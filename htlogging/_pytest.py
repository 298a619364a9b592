"""
The pytest plugin: nothing leaves the machine, and tests can look at the events.

pytest loads it by the entry point `pytest11`. Until a test uses events it imports only pytest
and what `htlogging` itself imports.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from htlogging._process import capturing

if TYPE_CHECKING:
    import logging
    from collections.abc import Generator, Iterator

    from htlogging.collector import Collector
    from htlogging.testing import Events

# The rule that is in force until the process ends: events of atexit hooks are kept, too.
_HELD = capturing.Rule(hold=True)

# What the marker takes.
_OPTIONS = {"send", "strict"}

# Seconds for the events of a test that may send.
_FLUSH = 10.0

_EVENTS = pytest.StashKey["Events"]()
_STACK = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Hold events back from now on: other plugins may import the application next."""
    capturing.end(_HELD)
    capturing.begin(_HELD)
    # A worker of pytest-xdist is started by another one; it is a test runner all the same,
    # and its tests' logs need no line about that.
    capturing.inherited = False
    group = parser.getgroup("htevents", "customer events (htlogging)")
    group.addoption(
        "--htevents-strict",
        action="store_true",
        help="fail a test that made events which it did not look at",
    )
    parser.addini("htevents_strict", "as --htevents-strict", type="bool", default=False)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and make caplog show bound fields."""
    config.addinivalue_line(
        "markers",
        "htevents(send=False, strict=False): send=True lets this test's events leave "
        "the machine; strict fails it for events that it did not look at, or does not.",
    )
    # Missing with `-p no:logging`.
    plugin = config.pluginmanager.get_plugin("logging-plugin")
    for name in ("caplog_handler", "report_handler"):
        handler = getattr(plugin, name, None)
        if handler is not None:
            handler.addFilter(_show_bound)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Set up what a test may send, and the list of its events."""
    stack = item.stash[_STACK] = ExitStack()
    if _option(item, "send", default=False):
        rule = capturing.Rule(hold=False)
        capturing.begin(rule)
        stack.callback(_end_sending, rule)
    if "ht_events" in getattr(item, "fixturenames", ()):
        _watch(item, numbers=True)
    elif _is_strict(item):
        _watch(item, numbers=False)
    return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that did not look at its events, if its marker asks for that."""
    _check_markers(item)
    result = yield
    events = item.stash.get(_EVENTS, None)
    if events is None or not _is_strict(item):
        return result
    from htlogging.testing._events import describe, unseen

    left = unseen(events)
    if left:
        lines = "\n".join(describe(event) for event in left)
        pytest.fail(f"the test did not look at these events:\n{lines}", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """End a test, after its fixtures."""
    try:
        return (yield)
    finally:
        stack = item.stash.get(_STACK, None)
        if stack is not None:
            stack.close()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Show how events differ from a list of dicts."""
    if op != "==":
        return None
    from sys import modules

    found = modules.get("htlogging.testing._events")
    if found is None:
        return None
    if isinstance(left, found.Events) and isinstance(right, list):
        lines = found.differences(left, right)
    elif isinstance(right, found.Events) and isinstance(left, list):
        lines = found.differences(right, left)
    else:
        return None
    return ["the events are not those expected", *lines]


@pytest.fixture
def ht_events(request: pytest.FixtureRequest) -> Events:
    """
    Return this test's events: dicts as they would be sent.

    They come from every handler, client and thread, from the test's setup on. `named` and
    `one` find some of them. Message ids are numbered, and no write key is needed.
    """
    item: pytest.Item = request.node
    if _EVENTS not in item.stash:
        _watch(item, numbers=True)  # in case it is first requested while the test runs
    return item.stash[_EVENTS]


@pytest.fixture
def ht_collector() -> Iterator[Collector]:
    """Return a running collector: a server on this machine that accepts any write key."""
    from htlogging.collector import Collector

    with Collector() as running:
        yield running


def _watch(item: pytest.Item, *, numbers: bool) -> None:
    """Keep a test's events until it ends."""
    from htlogging.testing._capture import numbered
    from htlogging.testing._events import Events, watch

    stack = item.stash[_STACK]
    events = item.stash[_EVENTS] = Events()
    if numbers:
        stack.enter_context(numbered())
    watch(events, stack)
    stack.callback(item.stash.__delitem__, _EVENTS)


def _end_sending(rule: capturing.Rule) -> None:
    """Send what is queued, then hold events back again."""
    from htlogging._process import shutdown

    for handler in shutdown.living():
        handler.flush(_FLUSH)
    capturing.end(rule)


def _check_markers(item: pytest.Item) -> None:
    """Fail a test whose marker says something that would have no effect."""
    for marker in item.iter_markers("htevents"):
        if marker.args or not marker.kwargs.keys() <= _OPTIONS:
            given = [*map(repr, marker.args), *marker.kwargs]
            pytest.fail(
                "@pytest.mark.htevents takes send=True or False and strict=True or "
                f"False, not {', '.join(given)}",
                pytrace=False,
            )


def _option(item: pytest.Item, name: str, *, default: bool) -> bool:
    """Return an option of the nearest marker."""
    for marker in item.iter_markers("htevents"):
        if name in marker.kwargs:
            return bool(marker.kwargs[name])
    return default


def _is_strict(item: pytest.Item) -> bool:
    config = item.config
    strict = config.getoption("--htevents-strict") or config.getini("htevents_strict")
    return _option(item, "strict", default=bool(strict))


def _show_bound(record: logging.LogRecord) -> bool:
    """Put the bound fields on an event's record, which caplog keeps."""
    from htlogging._event.bindings import current

    bound = current()
    if bound and _is_event(record):
        for field, value in bound.items():
            record.__dict__.setdefault(field, value)
    return True


def _is_event(record: logging.LogRecord) -> bool:
    """Return whether a record is an event, as far as its logger and its fields say."""
    from logging import root

    from htlogging._event.origin import LOGGER
    from htlogging._process.loggers import makes_events

    name = str(record.name)
    if name == LOGGER or name.startswith(f"{LOGGER}."):
        return True
    logger = root.manager.loggerDict.get(name)
    handlers = getattr(logger, "handlers", [])
    return any(map(makes_events, handlers)) or any(
        str(field).startswith("ht_") for field in record.__dict__
    )
