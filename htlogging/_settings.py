"""Settings: their names, defaults, environment variables and checks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypedDict

    class ClientSettings(TypedDict, total=False):
        """The settings as keyword arguments; README, Settings, says what each does."""

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
        spool_sync: Literal["normal", "full"]
        spool_max_bytes: int
        spool_max_age: float | None

    class HandlerSettings(ClientSettings, total=False):
        """The same, with the one that a client takes by position."""

        write_key: str | None


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
    "spool_sync": "normal",
    "spool_max_bytes": 256 * 1024 * 1024,
    "spool_max_age": None,
}

# Characters. No key is near it; with it, the rest of the body has a bound.
MAX_KEY = 1_000

# Name → the smallest and the largest value.
_INTEGERS = {
    "max_queue_size": (1, 2**31),
    "spool_max_bytes": (2**20, 2**50),
    "upload_size": (1, MAX_BODY_EVENTS),
    "max_retries": (0, 2**31),
    "thread": (1, 64),
    "max_event_size": (256, MAX_EVENT_LIMIT),
}
_SECONDS = {
    "upload_interval": (0.0, 3600.0),
    "timeout": (0.001, 3600.0),
    "shutdown_timeout": (0.0, 3600.0),
    "spool_max_age": (1.0, 10 * 366 * 86_400.0),
}
_CHOICES = {
    "overflow": {
        "drop": "a full queue refuses an event",
        "block": "the caller waits for room",
    },
    "spool_sync": {
        "normal": "events survive the death of the process",
        "full": "a loss of power too",
    },
}
_FLAGS = ("send", "sync_mode", "debug", "gzip")

# Patterns, compiled where they are used: that takes longer than importing this module.
# A host: its name (or address) and port, then a path. What `requests` would refuse
# only when it sends, and then at every try, is refused here.
_HOST = (
    r"https?://(?:[^/:@\[\]\\.*]+(?:\.[^/:@\[\]\\.]+)*\.?|\[[0-9a-fA-F:.]+\])"
    r"(?::([0-9]{1,5}))?(?:/[^\\]*)?"
)

# A proxy: `requests` takes these, SOCKS with its extra.
_PROXY = r"(?i:https?|socks[45]|socks4a|socks5h)://[^\s/?#]+/?"

# What `requests` looks proxies up by; others it would never use.
_PROXY_KEY = r"(?:https?|all)(?:://[^\s/@]+)?|no_proxy"


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
    spool_sync: Literal["normal", "full"]
    spool_max_bytes: int
    spool_max_age: float | None

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
        if not isinstance(value, bool):
            raise _wrong(name, "True or False", value)
    elif name in _INTEGERS:
        return _integer(name, value)
    elif name in _SECONDS:
        return _seconds(name, value)
    elif name in ("write_key", "host"):
        if not isinstance(value, str):
            raise _wrong(name, "a str", value)
    elif name == "proxies":
        return _proxies(value)
    else:
        return _check_other(name, value)
    return value


def _check_other(name: str, value: Any) -> Any:
    if name in _CHOICES:
        return _choice(name, value)
    if name == "on_error" and not callable(value):
        if not value:
            return None  # False, as code written for events-sdk-python has it
        raise InvalidSetting(
            "on_error must be callable as on_error(exception, events), not "
            f"{type(value).__name__}; in dictConfig write ext://package.function"
        )
    if name == "spool":
        return _path(name, value)
    return value


def _choice(name: str, value: Any) -> str:
    choices = _CHOICES[name]
    if isinstance(value, str) and value in choices:
        return value
    given = "another str" if isinstance(value, str) else type(value).__name__
    both = " or ".join(f"{choice!r} ({what})" for choice, what in choices.items())
    raise InvalidSetting(f"{name} must be {both}, not {given}")


def _path(name: str, value: Any) -> str:
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:
        raise _wrong(name, "a path of a file, as a str or a Path", value)
    # Where the process is now: a daemon may change its folder later.
    return os.path.abspath(path)


def _integer(name: str, value: Any) -> int:
    low, high = _INTEGERS[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, f"an int from {low} to {high}", value)
    if not low <= value <= high:
        raise _out_of_range(name, f"{low} to {high}", value)
    return value


def _seconds(name: str, value: Any) -> float:
    low, high = _SECONDS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(name, f"a number of seconds from {low:g} to {high:g}", value)
    # NaN is out of every range.
    if not low <= value <= high:
        raise _out_of_range(name, f"{low:g} to {high:g} seconds", value)
    return float(value)


def _wrong(name: str, expected: str, value: Any) -> InvalidSetting:
    hint = ""
    if isinstance(value, str):
        # From a file or the environment. A guess at what "no" or "1_0" shall mean
        # would be wrong for some, so none is made.
        hint = "; strings are not converted: leave out the quotes, or convert it"
    elif name in ("write_key", "host"):
        hint = "; decode bytes, and give a secret's text rather than its wrapper"
    return InvalidSetting(
        f"{name} must be {expected}, not {type(value).__name__}{hint}"
    )


def _out_of_range(name: str, expected: str, value: float) -> InvalidSetting:
    # Not every int has a str: from 4,301 digits on, Python refuses.
    far = isinstance(value, int) and abs(value) >= 10**18
    given = "an int far beyond" if far else f"{value}"
    return InvalidSetting(f"{name} must be {expected}, not {given}")


def _host(host: str) -> str:
    if host == DEFAULT_HOST:
        return host
    if any(c <= " " or c in "?#\x7f" for c in host):
        raise InvalidSetting(
            "host must be scheme, name, port and path alone: no spaces or line "
            "breaks, no ? and no #; mend host, or HTEVENTS_HOST"
        )
    scheme, sep, rest = host.partition("://")
    if scheme.lower() not in ("http", "https") or not sep:
        raise InvalidSetting(
            "host must be a URL that begins with https:// or http://, such as "
            f"{DEFAULT_HOST}; set host, or HTEVENTS_HOST"
        )
    if "@" in rest.partition("/")[0]:
        raise InvalidSetting(
            "host must hold no user and password: the write key is what is sent; "
            "mend host, or HTEVENTS_HOST"
        )
    found = re.fullmatch(_HOST, f"{scheme.lower()}://{rest}")
    if found is None or not 0 < int(found[1] or 443) < 2**16:
        raise InvalidSetting(
            "host must have a name, and its port must be 1 to 65535, such as "
            f"{DEFAULT_HOST} or http://localhost:8080; mend host, or HTEVENTS_HOST"
        )
    return host.rstrip("/")


def _write_key(key: str, given: Mapping[str, Any]) -> str:
    if not key:
        # dictConfig of 3.12.0-3.12.3 drops a QueueHandler's settings (gh-111615).
        lost = not given and (3, 12) <= sys.version_info < (3, 12, 4)
        raise InvalidSetting(
            "no write key; set write_key, or the environment variable "
            "HTEVENTS_WRITE_KEY (to send nothing, say send=False)"
            + ('; in dictConfig write "()" instead of "class"' if lost else "")
        )
    if not key.isascii() or not key.isprintable() or " " in key or ":" in key:
        raise InvalidSetting(
            "write_key must be printable ASCII without spaces or colons; "
            "look for a line break or a blank that was copied with it"
        )
    if len(key) > MAX_KEY:
        raise InvalidSetting(
            f"write_key must have at most {MAX_KEY} characters, not {len(key)}; "
            "look for what was copied with it"
        )
    return key


def _proxies(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        value = {"http": value, "https": value} if value else {}
    if not isinstance(value, Mapping):
        raise InvalidSetting(
            f"proxies must be a URL, or a dict such as {{'https': "
            f"'http://proxy:3128'}}, not {type(value).__name__}"
        )
    return {_proxy_key(key): _proxy(key, url) for key, url in value.items()}


def _proxy_key(key: Any) -> str:
    if not (isinstance(key, str) and re.fullmatch(_PROXY_KEY, key)):
        raise InvalidSetting(
            "proxies must have the keys 'http', 'https', 'all' (each alone or with "
            "://name) or 'no_proxy'; mend the key, small letters included"
        )
    return key


def _proxy(key: str, url: Any) -> str:
    # The message holds no part of the URL: its password may be anywhere in it.
    if not isinstance(url, str):
        raise InvalidSetting(
            f"proxies[{key!r}] must be a str, not {type(url).__name__}; "
            "leave out what has no proxy"
        )
    if key == "no_proxy":
        return url
    full = url if "://" in url else f"http://{url}"
    if not re.fullmatch(_PROXY, full):
        raise InvalidSetting(
            f"proxies[{key!r}] must be a URL such as http://proxy:3128 or "
            "http://user:password@proxy:3128 (http, https, socks4, socks5); percent-"
            "encode what else is in the password"
        )
    return full


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), DEFAULTS, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(DEFAULTS)}"
    return f"unknown setting {name[:40]!r}{hint}"
