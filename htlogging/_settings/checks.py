"""What a setting's value must be: one function for each kind of value."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Name, value → the value to keep; or `InvalidSetting`, which names the setting.
    Check = Callable[[str, Any], Any]

DEFAULT_HOST = "https://us-east-1.hightouch-events.com"

# Characters. Real keys are far shorter. It bounds the size of the rest of a body.
MAX_KEY = 1_000

# Patterns, compiled when they are used: compiling takes longer than importing this module.
# A host: its name (or address) and port, then a path. `requests` would refuse a bad one
# only when it sends, and at every try; so it is refused here.
_HOST = (
    r"https?://(?:[^/:@\[\]\\.*]+(?:\.[^/:@\[\]\\.]+)*\.?|\[[0-9a-fA-F:.]+\])"
    r"(?::([0-9]{1,5}))?(?:/[^\\]*)?"
)

# A proxy: `requests` takes these, SOCKS with its extra.
_PROXY = r"(?i:https?|socks[45]|socks4a|socks5h)://[^\s/?#]+/?"

# The keys that `requests` looks up proxies by; it would never use others.
_PROXY_KEY = r"(?:https?|all)(?:://[^\s/@]+)?|no_proxy"


def flag(name: str, value: Any) -> bool:
    """Accept only True and False."""
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)
    return value


def text(name: str, value: Any) -> str:
    """Accept a str; `host_url` and `write_key` check its content later."""
    if not isinstance(value, str):
        raise _wrong(name, "a str", value)
    return value


class Integer:
    """
    An int within a range.

    Args:
        low: The smallest.
        high: The largest.
    """

    def __init__(self, low: int, high: int) -> None:
        self.bounds = (low, high)

    def __call__(self, name: str, value: Any) -> int:
        """Return the value, or raise."""
        low, high = self.bounds
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(name, f"an int from {low} to {high}", value)
        if not low <= value <= high:
            raise _out_of_range(name, f"{low} to {high}", value)
        return value


class Seconds:
    """
    A number of seconds within a range, as a float.

    Args:
        low: The smallest.
        high: The largest.
    """

    def __init__(self, low: float, high: float) -> None:
        self.bounds = (low, high)

    def __call__(self, name: str, value: Any) -> float:
        """Return the value, or raise."""
        low, high = self.bounds
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(name, f"a number of seconds from {low:g} to {high:g}", value)
        # NaN is out of every range.
        if not low <= value <= high:
            raise _out_of_range(name, f"{low:g} to {high:g} seconds", value)
        return float(value)


class Choice:
    """
    One of a few words.

    Args:
        words: Each word, with what it does.
    """

    def __init__(self, words: dict[str, str]) -> None:
        self.words = words

    def __call__(self, name: str, value: Any) -> str:
        """Return the value, or raise."""
        if isinstance(value, str) and value in self.words:
            return value
        given = "another str" if isinstance(value, str) else type(value).__name__
        both = " or ".join(f"{word!r} ({what})" for word, what in self.words.items())
        raise InvalidSetting(f"{name} must be {both}, not {given}")


def function(name: str, value: Any) -> Any:
    """Accept a callable; a falsy value means none."""
    if callable(value):
        return value
    if not value:
        return None  # False is what code written for events-sdk-python passes
    raise InvalidSetting(
        f"{name} must be callable as {name}(exception, events), not "
        f"{type(value).__name__}; in dictConfig write ext://package.function"
    )


def path(name: str, value: Any) -> str:
    """Return the absolute path of a file."""
    try:
        given = os.fspath(value)
    except TypeError:
        given = None
    if not isinstance(given, str) or not given or "\0" in given:
        raise _wrong(name, "a path of a file, as a str or a Path", value)
    # Absolute from now on: a daemon may change its folder later.
    return os.path.abspath(given)


def text_or_path(name: str, value: Any) -> str:
    """Return a str, or the text of a path."""
    try:
        given = os.fspath(value)
    except TypeError:
        given = None
    if not isinstance(given, str):
        raise _wrong(name, "a str or a Path", value)
    return given


def oauth_server(name: str, value: Any) -> str:
    """Return the URL of an OAuth server without a slash at the end."""
    url = text(name, value).removesuffix("/")
    scheme, _, rest = url.partition("://")
    found = re.fullmatch(_HOST, f"{scheme.lower()}://{rest}")
    port = int(found[1] or 443) if found else 0
    if not 0 < port < 2**16 or any(c <= " " or c in "?#@\x7f" for c in url):
        raise InvalidSetting(
            f"{name} must be a URL such as https://oauth2.hightouch.io: scheme, name, "
            "port and path, nothing else"
        )
    return url


def all_of_oauth(given: dict[str, bool]) -> None:
    """Refuse OAuth settings that lack one of the three that belong together."""
    three = ("oauth_client_id", "oauth_client_key", "oauth_key_id")
    missing = [name for name in three if not given[name]]
    if missing and any(given.values()):
        raise InvalidSetting(
            f"{', '.join(three)} belong together: set {' and '.join(missing)} too, or "
            "no oauth_ setting at all"
        )


def from_environment(variable: str, said: str, check: Check, name: str) -> Any:
    """
    Return the value of an environment variable.

    Args:
        variable: Its name, for the message.
        said: Its text, not empty.
        check: The setting's check.
        name: The setting's name.
    """
    if check is not flag:
        return check(name, said)
    words = {"0": False, "false": False, "1": True, "true": True}
    value = words.get(said.strip().lower())
    if value is None:
        raise InvalidSetting(
            f"the environment variable {variable} must be 0 or 1 (or false or true), "
            "not another text"
        )
    return value


def _wrong(name: str, expected: str, value: Any) -> InvalidSetting:
    hint = ""
    if isinstance(value, str):
        # From a file or the environment. A guess at the meaning of "no" or "1_0" would
        # be wrong for some users.
        hint = "; strings are not converted: leave out the quotes, or convert it"
    elif name in ("write_key", "host"):
        hint = "; decode bytes, and give a secret's text rather than its wrapper"
    return InvalidSetting(
        f"{name} must be {expected}, not {type(value).__name__}{hint}"
    )


def _out_of_range(name: str, expected: str, value: float) -> InvalidSetting:
    # Python refuses to make a str of an int of more than 4,300 digits.
    far = isinstance(value, int) and abs(value) >= 10**18
    given = "an int far outside" if far else f"{value}"
    return InvalidSetting(f"{name} must be {expected}, not {given}")


def is_redis(host: str) -> bool:
    """Return whether a host is a Redis URL; `redis_location` checks it."""
    return host[:9].lower().startswith(("redis://", "rediss://"))


def host_url(host: str) -> str:
    """Check a host, and return it without a slash at the end."""
    if host == DEFAULT_HOST:
        return host
    if any(c <= " " or c in "?#\x7f" for c in host):
        raise InvalidSetting(
            "host must be only scheme, name, port and path: no spaces or line "
            "breaks, no ? and no #; correct host or HTEVENTS_HOST"
        )
    scheme, sep, rest = host.partition("://")
    if scheme.lower() not in ("http", "https") or not sep:
        raise InvalidSetting(
            "host must be a URL that begins with https:// or http:// (or redis://), such as "
            f"{DEFAULT_HOST}; set host, or HTEVENTS_HOST"
        )
    if "@" in rest.partition("/")[0]:
        raise InvalidSetting(
            "host must have no user and password: the write key is sent instead; "
            "correct host or HTEVENTS_HOST"
        )
    found = re.fullmatch(_HOST, f"{scheme.lower()}://{rest}")
    if found is None or not 0 < int(found[1] or 443) < 2**16:
        raise InvalidSetting(
            "host must have a name, and its port must be 1 to 65535, such as "
            f"{DEFAULT_HOST} or http://localhost:8080; correct host or HTEVENTS_HOST"
        )
    return host.rstrip("/")


def write_key(key: str, *, lost: bool) -> str:
    """Check a write key, which goes into a header; `lost`: no setting was given at all."""
    if not key:
        # dictConfig of 3.12.0-3.12.3 drops a QueueHandler's settings (gh-111615).
        lost = lost and (3, 12) <= sys.version_info < (3, 12, 4)
        raise InvalidSetting(
            "no write key; set write_key, or the environment variable "
            "HTEVENTS_WRITE_KEY (to send nothing, set send=False)"
            + ('; in dictConfig write "()" instead of "class"' if lost else "")
        )
    if not key.isascii() or not key.isprintable() or " " in key or ":" in key:
        raise InvalidSetting(
            "write_key must be printable ASCII without spaces or colons; "
            "look for a line break or a space that was copied with it"
        )
    if len(key) > MAX_KEY:
        raise InvalidSetting(
            f"write_key must have at most {MAX_KEY} characters, not {len(key)}; "
            "look for what was copied with it"
        )
    return key


def proxies(name: str, value: Any) -> dict[str, str]:
    """Return the proxies as a dict."""
    if isinstance(value, str):
        value = {"http": value, "https": value} if value else {}
    if not isinstance(value, Mapping):
        raise InvalidSetting(
            f"{name} must be a URL, or a dict such as {{'https': "
            f"'http://proxy:3128'}}, not {type(value).__name__}"
        )
    return {_proxy_key(key): _proxy(key, url) for key, url in value.items()}


def _proxy_key(key: Any) -> str:
    if not (isinstance(key, str) and re.fullmatch(_PROXY_KEY, key)):
        raise InvalidSetting(
            "proxies must have the keys 'http', 'https', 'all' (each alone or with "
            "://name) or 'no_proxy'; correct the key, small letters included"
        )
    return key


def _proxy(key: str, url: Any) -> str:
    # The message holds no part of the URL: its password may be anywhere in it.
    if not isinstance(url, str):
        raise InvalidSetting(
            f"proxies[{key!r}] must be a str, not {type(url).__name__}; "
            "leave out a host without a proxy"
        )
    if key == "no_proxy":
        return url
    full = url if "://" in url else f"http://{url}"
    if not re.fullmatch(_PROXY, full):
        raise InvalidSetting(
            f"proxies[{key!r}] must be a URL such as http://proxy:3128 or "
            "http://user:password@proxy:3128 (http, https, socks4, socks5); percent-"
            "encode other characters of the password"
        )
    return full
