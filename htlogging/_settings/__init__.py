"""Settings: their names, defaults, environment variables and checks."""

from __future__ import annotations

import os

from htlogging._process import capturing
from htlogging._process.capturing import is_loopback
from htlogging._settings import checks
from htlogging._settings.checks import DEFAULT_HOST, Choice, Integer, Seconds
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypedDict

    from htlogging._settings.checks import Check
    from htlogging.exceptions import DeliveryError

    class ClientSettings(TypedDict, total=False):
        """The settings as keyword arguments; docs/settings.md says what each does."""

        host: str | None
        send: bool
        sync_mode: bool
        debug: bool
        on_error: Callable[[DeliveryError, list[dict[str, Any]]], object] | None
        on_invalid: Literal["raise", "report"]
        max_queue_size: int
        max_queue_bytes: int
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
        oauth_client_id: str | None
        oauth_client_key: str | os.PathLike[str] | None
        oauth_key_id: str | None
        oauth_auth_server: str
        oauth_scope: str

    class HandlerSettings(ClientSettings, total=False):
        """The same, and the write key, which a client takes by position."""

        write_key: str | None


# UTF-8 bytes. The server takes 500 KB; the gap is for what a proxy may add.
MAX_BODY_BYTES = 475_000

# Events in a request. Segment's receiver, which Hightouch's is modelled on, answers 200 to
# a larger request but keeps only the first 2,500.
MAX_BODY_EVENTS = 2_500

# Bytes. An event of this size always leaves room for the rest of the body.
MAX_EVENT_LIMIT = 470_000

# Events. A batch of this size is sent at once, unless upload_size says otherwise.
UPLOAD_SIZE = 100


class Setting:
    """
    A setting's row in the table.

    Args:
        default: Its value when none is given.
        check: Called with its name and a value.
        variable: The environment variable that is used when the code gives no value.
    """

    __slots__ = ("check", "default", "variable")

    def __init__(self, default: Any, check: Check, variable: str = "") -> None:
        self.default = default
        self.check = check
        self.variable = variable


TABLE = {
    "write_key": Setting(None, checks.text, "HTEVENTS_WRITE_KEY"),
    "host": Setting(None, checks.text, "HTEVENTS_HOST"),
    "send": Setting(default=True, check=checks.flag, variable="HTEVENTS_SEND"),
    "sync_mode": Setting(default=False, check=checks.flag),
    "debug": Setting(default=False, check=checks.flag, variable="HTEVENTS_DEBUG"),
    "on_error": Setting(None, checks.function),
    "on_invalid": Setting(
        "raise",
        Choice(
            {
                "raise": "the facade raises InvalidEvent",
                "report": "it returns (False, {}), counts and reports",
            }
        ),
        "HTEVENTS_ON_INVALID",
    ),
    "max_queue_size": Setting(10_000, Integer(1, 2**31)),
    "max_queue_bytes": Setting(64 * 1024 * 1024, Integer(1, 2**50)),
    "upload_size": Setting(None, Integer(1, MAX_BODY_EVENTS)),
    "upload_interval": Setting(0.5, Seconds(0.0, 3600.0)),
    "gzip": Setting(default=True, check=checks.flag),
    "timeout": Setting(15.0, Seconds(0.001, 3600.0)),
    "max_retries": Setting(10, Integer(0, 2**31)),
    "proxies": Setting(None, checks.proxies),
    "thread": Setting(1, Integer(1, 64)),
    "shutdown_timeout": Setting(10.0, Seconds(0.0, 3600.0)),
    "overflow": Setting(
        "drop",
        Choice(
            {
                "drop": "a full queue refuses an event",
                "block": "the caller waits for room",
            }
        ),
    ),
    "max_event_size": Setting(32_768, Integer(256, MAX_EVENT_LIMIT)),
    "spool": Setting(None, checks.path, "HTEVENTS_SPOOL"),
    "spool_sync": Setting(
        "normal",
        Choice(
            {
                "normal": "events survive the death of the process",
                "full": "a loss of power too",
            }
        ),
    ),
    "spool_max_bytes": Setting(256 * 1024 * 1024, Integer(2**20, 2**50)),
    "spool_max_age": Setting(None, Seconds(1.0, 10 * 366 * 86_400.0)),
    "oauth_client_id": Setting(None, checks.text),
    "oauth_client_key": Setting(None, checks.text_or_path),
    "oauth_key_id": Setting(None, checks.text),
    "oauth_auth_server": Setting("https://oauth2.hightouch.io", checks.oauth_server),
    "oauth_scope": Setting("tracking_api:write", checks.text),
}

DEFAULTS: dict[str, Any] = {name: row.default for name, row in TABLE.items()}


class Settings:
    """
    Every setting as an attribute, checked.

    Args:
        given: Settings by name; the others have their defaults.

    Raises:
        InvalidSetting: A name is unknown, a type wrong, a number out of range, the
            write key or the host missing. The message says what to set. It contains
            neither the write key, nor the OAuth key, nor a proxy's password.
    """

    write_key: str
    host: str
    send: bool
    sync_mode: bool
    debug: bool
    on_error: Callable[[DeliveryError, list[dict[str, Any]]], object] | None
    on_invalid: Literal["raise", "report"]
    max_queue_size: int
    max_queue_bytes: int
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
    oauth_client_id: str | None
    oauth_client_key: str | None
    oauth_key_id: str | None
    oauth_auth_server: str
    oauth_scope: str

    # The URL of Redis with its password, if `host` is one; `host` is without it.
    redis_url: str | None

    # The names of those that the code gave.
    given: frozenset[str]

    __slots__ = (*DEFAULTS, "given", "redis_url")

    def __init__(self, given: Mapping[str, Any]) -> None:
        check_names(given)
        self.given = frozenset(
            # By type: comparing an array or another odd object may raise.
            name
            for name, value in given.items()
            if value is not None and not (isinstance(value, str) and not value)
        )
        for name, row in TABLE.items():
            setattr(self, name, _value(name, row, given.get(name)))
        # Stronger than the code: this process sends nothing.
        if _of_environment("send", TABLE["send"]) is False:
            self.send = False
        self._set_host(self.host or DEFAULT_HOST)
        key = self.write_key or ""
        # Redis needs none: the relay has its own.
        needed = self.send and not capturing.keyless and self.redis_url is None
        if key or needed:
            key = checks.write_key(key, lost=not given)
        self.write_key = key
        server = self.oauth_auth_server
        if server[:6].lower() != "https:" and not is_loopback(server):
            raise InvalidSetting(
                "oauth_auth_server must begin with https://: others could read the token "
                "on its way (http:// is for this machine alone)"
            )
        checks.all_of_oauth(
            {n: getattr(self, n) != DEFAULTS[n] for n in DEFAULTS if n[:6] == "oauth_"}
        )

    def _set_host(self, host: str) -> None:
        self.redis_url = None
        if checks.is_redis(host):
            # Late: few have a Redis.
            from htlogging._settings.redis_location import Location

            location = Location(host)
            if location.has_options:
                location.check_options()
            self.redis_url, host = host, str(location)
        else:
            host = checks.host_url(host)
        self.host = host

    def origin(self, name: str) -> str:
        """Return where a setting's value is from: `check` shows it."""
        variable = TABLE[name].variable
        said = bool(variable and os.environ.get(variable))
        # HTEVENTS_SEND=0 is stronger than the code.
        if said and (name not in self.given or (name == "send" and not self.send)):
            return f"environment {variable}"
        return "code" if name in self.given else "default"

    def __repr__(self) -> str:
        # When a setting is wrong, the object is not complete and has no host yet.
        return f"<Settings for {getattr(self, 'host', None)}>"

    def lacks_key(self) -> bool:
        """Return whether there is no key for what is sent: a test needed none."""
        return self.send and not self.write_key

    def is_unencrypted(self) -> bool:
        """Return whether others on the network can read what is sent."""
        cleartext = self.send and self.host[:5].lower() == "http:"
        return cleartext and not is_loopback(self.host)


def with_settings(doc: str | None) -> str | None:
    """Return a class's docstring with the settings below: what `help` shows."""
    if doc is None:
        return None  # python -OO
    lines = [
        f"    {name}={row.default!r}"
        + (f" (else {row.variable})" if row.variable else "")
        for name, row in TABLE.items()
    ]
    title = "Settings (docs/settings.md says what each does):"
    return "\n".join([doc.rstrip(), "", f"    {title}", *(f"    {li}" for li in lines)])


def _value(name: str, row: Setting, given: Any) -> Any:
    """Return a setting's value: from the code, else the environment, else the default."""
    if given is not None:
        given = row.check(name, given)
        # An empty key or host counts as missing.
        if given or type(given) is not str:
            return given
    said = _of_environment(name, row)
    return row.default if said is None else said


def _of_environment(name: str, row: Setting) -> Any:
    """Return the environment's value of a setting; `None` if there is none."""
    said = os.environ.get(row.variable) if row.variable else None
    if not said:
        return None
    return checks.from_environment(row.variable, said, row.check, name)


def check_names(names: Iterable[str]) -> None:
    """Raise `InvalidSetting` for a name that no setting has."""
    for name in names:
        if name not in DEFAULTS:
            raise InvalidSetting(_unknown(name))


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), DEFAULTS, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(DEFAULTS)}"
    return f"unknown setting {name[:40]!r}{hint}"
