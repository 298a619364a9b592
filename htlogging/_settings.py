"""Settings: their names, defaults, environment variables and checks."""

from __future__ import annotations

import math
import os

from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, TypedDict

    class SettingsDict(TypedDict, total=False):
        """The settings as keyword arguments; README, Settings, says what each does."""

        write_key: str | None
        host: str | None
        send: bool
        sync_mode: bool
        debug: bool
        on_error: Callable[[Exception, list[dict[str, Any]]], object] | None
        max_queue_size: int
        upload_size: int | None
        upload_interval: float
        gzip: bool
        timeout: float
        max_retries: int
        proxies: Mapping[str, str] | str | None
        thread: int
        shutdown_timeout: float
        overflow: Literal["drop", "block"]
        max_event_size: int
        spool: str | os.PathLike[str] | None


DEFAULT_HOST = "https://us-east-1.hightouch-events.com"

# UTF-8 bytes. The server takes 500 KB; the gap is for what a proxy may add.
MAX_BODY_BYTES = 475_000

# Events in a request; of more, Segment's receiver, which this one is modelled on,
# keeps the first 2,500 under a 200.
MAX_BODY_EVENTS = 2_500

# Bytes of an event that always leave room for the rest of the body.
MAX_EVENT_LIMIT = 470_000

# Events that make a batch go at once, where upload_size is not given.
UPLOAD_SIZE = 100

DEFAULTS: dict[str, Any] = {
    "write_key": None,
    "host": None,
    "send": True,
    "sync_mode": False,
    "debug": False,
    "on_error": None,
    "max_queue_size": 10_000,
    "upload_size": None,
    "upload_interval": 0.5,
    "gzip": True,
    "timeout": 15.0,
    "max_retries": 10,
    "proxies": None,
    "thread": 1,
    "shutdown_timeout": 10.0,
    "overflow": "drop",
    "max_event_size": 32_768,
    "spool": None,
}

# Name → the smallest and the largest value.
_INTEGERS = {
    "max_queue_size": (1, None),
    "upload_size": (1, MAX_BODY_EVENTS),
    "max_retries": (0, None),
    "thread": (1, 64),
    "max_event_size": (256, MAX_EVENT_LIMIT),
}
_SECONDS = {
    "upload_interval": (0.0, 3600.0),
    "timeout": (0.001, 3600.0),
    "shutdown_timeout": (0.0, 3600.0),
}
_FLAGS = ("send", "sync_mode", "debug", "gzip")


class Settings:
    """
    Every setting as an attribute, checked.

    Args:
        given: Settings by name; the rest have their defaults.

    Raises:
        InvalidSetting: A name is unknown, a type wrong, a number out of range, the
            write key or the host missing. The message says what to set, and holds
            neither the write key nor a proxy's password.
    """

    write_key: str
    host: str
    send: bool
    sync_mode: bool
    debug: bool
    on_error: Callable[[Exception, list[dict[str, Any]]], object] | None
    max_queue_size: int
    upload_size: int | None
    upload_interval: float
    gzip: bool
    timeout: float
    max_retries: int
    proxies: dict[str, str] | None
    thread: int
    shutdown_timeout: float
    overflow: Literal["drop", "block"]
    max_event_size: int
    spool: str | None

    __slots__ = tuple(DEFAULTS)

    def __init__(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in DEFAULTS:
                raise InvalidSetting(_unknown(name))
        for name, default in DEFAULTS.items():
            value = given.get(name, default)
            setattr(self, name, default if value is None else _checked(name, value))
        self.host = _host(self.host or os.environ.get("HTEVENTS_HOST") or DEFAULT_HOST)
        key = self.write_key or os.environ.get("HTEVENTS_WRITE_KEY") or ""
        self.write_key = _write_key(key, given) if key or self.send else ""

    def __repr__(self) -> str:
        return f"<Settings for {self.host}>"


def _checked(name: str, value: Any) -> Any:
    if name in _FLAGS:
        return _instance(name, value, bool)
    if name in _INTEGERS:
        return _integer(name, value)
    if name in _SECONDS:
        return _seconds(name, value)
    if name in ("write_key", "host"):
        return _instance(name, value, str)
    if name == "proxies":
        return _proxies(value)
    if name == "overflow" and value not in ("drop", "block"):
        raise InvalidSetting("overflow must be 'drop' or 'block'")
    if name == "on_error" and not callable(value):
        raise InvalidSetting(
            f"on_error must be callable as on_error(exception, events), not "
            f"{type(value).__name__}; in a dictConfig file, write ext://package.name"
        )
    if name == "spool":
        raise InvalidSetting("spool is not available in this version; leave it out")
    return value


def _instance(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise InvalidSetting(
            f"{name} must be a {kind.__name__}, not {type(value).__name__}"
        )
    return value


def _integer(name: str, value: Any) -> int:
    low, high = _INTEGERS[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSetting(f"{name} must be an int, not {type(value).__name__}")
    if value < low or (high is not None and value > high):
        upper = "or more" if high is None else f"to {high}"
        raise InvalidSetting(f"{name} must be {low} {upper}, not {value}")
    return value


def _seconds(name: str, value: Any) -> float:
    low, high = _SECONDS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidSetting(
            f"{name} must be a number of seconds, not {type(value).__name__}"
        )
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidSetting(f"{name} must be {low:g} to {high:g} s, not {value}")
    return float(value)


def _host(host: str) -> str:
    scheme, sep, rest = host.partition("://")
    if scheme.lower() not in ("http", "https") or not sep or rest[:1] in ("", "/", ":"):
        raise InvalidSetting(
            "host must be a URL that begins with https:// or http://, such as "
            f"{DEFAULT_HOST}; set host, or HTEVENTS_HOST"
        )
    if any(c <= " " or c in "?#\x7f" for c in host):
        raise InvalidSetting(
            "host must be scheme, name, port and path alone: no spaces, no ? and no #"
        )
    return host.rstrip("/")


def _write_key(key: str, given: Mapping[str, Any]) -> str:
    if not key:
        import sys

        # dictConfig of 3.12.0 to 3.12.3 drops the settings of a QueueHandler (gh-111615).
        lost = not given and (3, 12) <= sys.version_info < (3, 12, 4)
        raise InvalidSetting(
            "no write key; set write_key, or the environment variable "
            "HTEVENTS_WRITE_KEY (to send nothing, say send=False)"
            + ('; in dictConfig write "()" instead of "class"' if lost else "")
        )
    if not key.isascii() or not key.isprintable() or " " in key or ":" in key:
        raise InvalidSetting(
            "write_key must be printable ASCII without spaces or colons; "
            "look for a line break or quotes that were copied with it"
        )
    return key


def _proxies(value: Any) -> dict[str, str]:
    if isinstance(value, str) and value:
        url = value if "://" in value else f"http://{value}"
        return {"http": url, "https": url}
    try:
        proxies = dict(value)
    except (TypeError, ValueError):
        proxies = {None: None}
    if not all(isinstance(x, str) for pair in proxies.items() for x in pair):
        raise InvalidSetting(
            "proxies must be a URL, or a dict such as {'https': 'http://proxy:3128'}"
        ) from None
    return proxies


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(name), DEFAULTS, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(DEFAULTS)}"
    return f"unknown setting {str(name)[:40]!r}{hint}"
