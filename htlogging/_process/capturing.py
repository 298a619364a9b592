"""
Where events go in tests: which observers see them, and what may leave the machine.

This is the only place for that. A handler asks before it accepts an event and before it
sends a request; outside tests that only compares two numbers. `htlogging.testing` and the
pytest plugin set it.
"""

from __future__ import annotations

import os
import re

from htlogging._process import fork, locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Destination(Protocol):
        """The settings that say where events are sent."""

        host: str
        proxies: dict[str, str] | None
        oauth_client_id: str | None
        oauth_auth_server: str

    # Called with an event's JSON, and with whether it is held back.
    Observer = Callable[[bytes, bool], None]

# Set to 1 while only loopback may be sent to, so that processes started by a test obey,
# too.
VARIABLE = "HTEVENTS_LOOPBACK_ONLY"

# A URL, its scheme may be missing, of a name that never leaves this machine (RFC 6761,
# 6.3) or an address of its loopback.
_LOOPBACK = (
    r"(?:[a-z][a-z0-9+.-]*:)?(?://)?(?:[^/?#\\@]*@)?"
    r"(?:(?:[a-z0-9_-]+\.)*localhost\.?"
    r"|127(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}\.?"
    r"|\[(?:::|(?:0{1,4}:){7})0{0,3}1\])"
    r"(?::[0-9]*)?(?:[/?#].*)?"
)

# Counts the changes below: a handler compares it with the number that it saw last.
generation = 0

# Whether a handler needs no write key.
keyless = False

# Replaced as a whole, with `_lock`; read by every thread without it.
_observers: tuple[Observer, ...] = ()

# Whether events that would leave the machine are held back: the last rule decides.
_rules: tuple[Rule, ...] = ()


class Rule:
    """
    A rule for what may be sent.

    Args:
        hold: Whether events that would leave the machine are held back.
        everywhere: Whether those that would stay on it are held back, too.
    """

    def __init__(self, *, hold: bool, everywhere: bool = False) -> None:
        self.hold = hold
        self.everywhere = everywhere


class _Lock:
    """Guards the changes below. A forked child has its own."""

    def __init__(self) -> None:
        self.held = locks.rlock()

    def after_fork_in_child(self) -> None:
        self.held = locks.rlock()


_lock = _Lock()
fork.register(_lock)


def begin(rule: Rule) -> None:
    """Put a rule in force, over the earlier ones."""
    global _rules  # noqa: PLW0603
    with _lock.held:
        _rules = (*_rules, rule)
        _changed()


def end(rule: Rule) -> None:
    """Remove a rule."""
    global _rules  # noqa: PLW0603
    with _lock.held:
        _rules = tuple(other for other in _rules if other is not rule)
        _changed()


def observe(observer: Observer) -> None:
    """Call an observer with every event that a handler accepts, sent or held back."""
    global _observers  # noqa: PLW0603
    with _lock.held:
        _observers = (*_observers, observer)
        _changed()


def ignore(observer: Observer) -> None:
    """Stop calling an observer."""
    global _observers  # noqa: PLW0603
    with _lock.held:
        # By `!=`, not `is not`: each access to a method makes another object.
        _observers = tuple(other for other in _observers if other != observer)
        _changed()


def need_key(*, needed: bool) -> None:
    """Say whether handlers need a write key."""
    global keyless  # noqa: PLW0603
    keyless = not needed


def _changed() -> None:
    global generation  # noqa: PLW0603
    generation += 1
    if _rules and _rules[-1].hold:
        os.environ[VARIABLE] = "1"
    else:
        os.environ.pop(VARIABLE, None)


def is_watched() -> bool:
    """Return whether there is an observer."""
    return bool(_observers)


def show(event: bytes, *, held: bool) -> None:
    """Call the observers with an event."""
    for observer in _observers:
        observer(event, held)


def is_in_force() -> bool:
    """Return whether events that would leave the machine are held back."""
    return bool(_rules) and _rules[-1].hold


def holds(destination: Destination) -> bool:
    """Return whether events for this destination are held back."""
    if not is_in_force():
        return False
    return _rules[-1].everywhere or not _is_local(destination)


def _is_local(destination: Destination) -> bool:
    """Return whether what is sent there stays on this machine, with its proxies, too."""
    urls = [destination.host]
    if destination.oauth_client_id is not None:
        urls.append(destination.oauth_auth_server)
    if not all(is_loopback(url) for url in urls):
        return False
    given = destination.proxies or {}
    proxies = [url for name, url in given.items() if name != "no_proxy"]
    return all(map(is_loopback, [*proxies, *_proxies_of_environment(urls)]))


def is_loopback(url: str) -> bool:
    """
    Return whether a URL leads to this machine, by its name alone.

    Imports nothing: a signal handler may log while this thread is in here, and would find
    a module half imported. What it does not understand is another machine.
    """
    # Compiling the pattern takes 0.2 ms, so it is not used for the most common URLs.
    name, _, port = url.partition("://")[2].partition(":")
    if url.startswith("http://") and name in ("localhost", "127.0.0.1"):
        if port.isascii() and port.isdigit():
            return True
    elif not any(mark in url.lower() for mark in ("localhost", "127.", "[")):
        return False
    return (
        re.fullmatch(_LOOPBACK, url, re.IGNORECASE | re.ASCII | re.DOTALL) is not None
    )


def _proxies_of_environment(
    urls: list[str], environ: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the environment's proxies that a request to one of the URLs may take."""
    names = ("http_proxy", "https_proxy", "all_proxy")
    found = [url for name, url in environ.items() if name.lower() in names and url]
    if not found:
        return []
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass

    passed = (proxy_bypass(urlsplit(url).netloc) for url in urls)
    return [] if all(passed) else found


# Whether a test runner in another process, the parent, holds events back here.
inherited = os.environ.get(VARIABLE) == "1"

if inherited:
    begin(Rule(hold=True))
