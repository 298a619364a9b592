"""
Where events go in tests: who is shown them, and what may leave the machine.

The one place for that. A handler asks before it accepts an event and before it sends a
request; outside tests it compares two numbers and goes on. `htlogging.testing` and the
pytest plugin are what sets it.
"""

from __future__ import annotations

import os
import threading

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Destination(Protocol):
        """The settings that say where events are sent."""

        host: str
        proxies: dict[str, str] | None

    # Called with an event's JSON and whether it is held back.
    Observer = Callable[[bytes, bool], None]

# Set to 1 while only loopback is sent to: processes that a test starts obey, too.
VARIABLE = "HTEVENTS_LOOPBACK_ONLY"

# Changed with every change below: who has seen this one need not look again.
generation = 0

# Whether a handler needs no write key.
keyless = False

_observers: tuple[Observer, ...] = ()

# Whether events are held back that would leave the machine: the last word holds.
_rules: tuple[Rule, ...] = ()


class Rule:
    """
    What may be sent, while it is in force.

    Args:
        hold: Whether what would leave the machine is held back.
    """

    def __init__(self, *, hold: bool) -> None:
        self.hold = hold


class _Lock:
    """Guards the changes below. A forked child has its own."""

    def __init__(self) -> None:
        self.held = threading.RLock()

    def after_fork_in_child(self) -> None:
        self.held = threading.RLock()


_lock = _Lock()
fork.register(_lock)


def begin(rule: Rule) -> None:
    """Have a rule hold, over those before it."""
    global _rules  # noqa: PLW0603
    with _lock.held:
        _rules = (*_rules, rule)
        _changed()


def end(rule: Rule) -> None:
    """Take a rule back."""
    global _rules  # noqa: PLW0603
    with _lock.held:
        _rules = tuple(other for other in _rules if other is not rule)
        _changed()


def observe(observer: Observer) -> None:
    """Show an observer every event that a handler accepts, sent or held back."""
    global _observers  # noqa: PLW0603
    with _lock.held:
        _observers = (*_observers, observer)
        _changed()


def ignore(observer: Observer) -> None:
    """Show an observer no more events."""
    global _observers  # noqa: PLW0603
    with _lock.held:
        _observers = tuple(other for other in _observers if other is not observer)
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
    """Return whether somebody is shown events."""
    return bool(_observers)


def show(event: bytes, *, held: bool) -> None:
    """Show an event to those who observe."""
    for observer in _observers:
        observer(event, held)


def holds(destination: Destination) -> bool:
    """Return whether what would be sent there is held back."""
    return bool(_rules) and _rules[-1].hold and not _is_local(destination)


def _is_local(destination: Destination) -> bool:
    """Return whether what is sent there stays on this machine, proxies included."""
    server = getattr(destination, "oauth_auth_server", None)
    urls = [destination.host, *([server] if isinstance(server, str) else [])]
    if not all(_is_loopback(url) for url in urls):
        return False
    given = destination.proxies or {}
    proxies = [url for name, url in given.items() if name != "no_proxy"]
    return all(map(_is_loopback, [*proxies, *_proxies_of_environment(urls)]))


def _is_loopback(url: str) -> bool:
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    name = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


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


if os.environ.get(VARIABLE) == "1":
    begin(Rule(hold=True))
