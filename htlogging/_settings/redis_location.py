"""
A Redis URL → the stream, its bounds, and a connection.

`redis://USER:PASSWORD@HOST:PORT/DB?stream=htevents&maxbytes=1000000000`; `rediss://` is
TLS. `?cluster=1` is a Redis Cluster, `?sentinel=NAME` asks the Sentinels that the URL names
(`redis://one:26379,two:26379/0?sentinel=mymaster`) for the master. Other parameters are
redis-py's (`socket_timeout`, `ssl_ca_certs`, …).
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.util import find_spec
from urllib.parse import parse_qsl, unquote, urlencode

from htlogging._process import fork
from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@fork.late_import
def _redis() -> Any:
    import redis.backoff
    import redis.connection
    import redis.retry
    import redis.sentinel

    return redis


DEFAULT_STREAM = "htevents"

# Parameters that can switch TLS verification off, and all the values that do not: events
# and passwords would go to any server. redis-py takes several words for no.
_SAFE = {
    "ssl_cert_reqs": ("required",),
    "ssl_check_hostname": ("1", "true", "True", "yes"),
}

_NO_HOST = "it must name a host, such as redis://localhost:6379/0"

# Not by urlsplit, which refuses several IPv6 addresses from Python 3.14 on.
_URL = re.compile(
    r"(?P<scheme>\w+)://(?:(?P<secret>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:\#.*)?"
)

# The name, and the port after it.
_HOST = re.compile(r"([^\s/:@\[\]]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?")
_SENTINEL_PORT = 26_379


class Location:
    """
    Where a stream is.

    Args:
        url: A Redis URL.
        name: The setting or argument that it comes from, for messages.

    Raises:
        InvalidSetting: The URL makes no sense, or redis-py is not installed. The message
            contains no password.
    """

    def __init__(self, url: str, name: str = "host") -> None:
        self._name = name
        parts = _URL.fullmatch(url)
        if not parts or set("[]") & set(parts["secret"] or ""):
            raise self._wrong(f"{_NO_HOST}; percent-encode the password")
        query = parts["query"] or ""
        asked = None
        with suppress(ValueError):  # left behind: its frames hold the password
            asked = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        if asked is None:
            raise self._wrong("its query must be name=value&name=value")
        options = dict(asked)
        # The stream holds bytes: decoded ones would be taken for damaged entries.
        options.pop("decode_responses", None)
        self.stream = options.pop("stream", DEFAULT_STREAM)
        self.max_bytes = self._number("maxbytes", options.pop("maxbytes", None))
        self._cluster = self._flag("cluster", options.pop("cluster", "0"))
        self._sentinel = options.pop("sentinel", None)
        self._options = options
        user, _, password = (parts["secret"] or "").partition(":")
        self._user, self._password = unquote(user), unquote(password)
        self._hosts = parts["hosts"].split(",") if parts["hosts"] else []
        self._scheme = parts["scheme"].lower()
        self._database = parts["path"].strip("/")
        self._check()

    def _check(self) -> None:
        if not self._hosts or not all(map(_HOST.fullmatch, self._hosts)):
            raise self._wrong(_NO_HOST)
        if len(self._hosts) > 1 and self._sentinel is None:
            raise self._wrong("several hosts are Sentinels: add sentinel=NAME")
        if not re.fullmatch(r"\d{0,5}", self._database):
            raise self._wrong("the database must be a number, such as /0")
        if not self.stream or any(c <= " " or c == "\x7f" for c in self.stream):
            raise self._wrong("stream must be a name without spaces")
        for key, safe in _SAFE.items():
            if self._options.get(key, safe[0]) not in safe:
                raise self._wrong(
                    f"{key} would switch the check of the server's certificate off; "
                    "name your own authority with ssl_ca_certs=PATH"
                )
        if find_spec("redis") is None:
            raise InvalidSetting(
                f"{self._name} is a Redis URL, and redis is not installed: "
                "pip install 'htlogging[redis]'"
            )

    def _wrong(self, why: str) -> InvalidSetting:
        # Without the URL: its password may be anywhere in it.
        return InvalidSetting(f"{self._name} is no Redis URL that can be used: {why}")

    def _number(self, name: str, text: str | None) -> int | None:
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,15}", text) or int(text) == 0:
            raise self._wrong(f"{name} must be a number of bytes")
        return int(text)

    def _flag(self, name: str, text: str) -> bool:
        if text.lower() not in ("0", "1", "true", "false"):
            raise self._wrong(f"{name} must be 1 or 0")
        return text.lower() in ("1", "true")

    def __str__(self) -> str:
        """Return the URL without user, password and redis-py's parameters."""
        database = f"/{self._database}" if self._database else ""
        more = {"stream": self.stream}
        if self.max_bytes is not None:
            more["maxbytes"] = str(self.max_bytes)
        hosts = ",".join(self._hosts)
        return f"{self._scheme}://{hosts}{database}?{urlencode(more)}"

    def __repr__(self) -> str:
        return f"<Location {self}>"

    @property
    def has_options(self) -> bool:
        """Whether the URL has parameters that only redis-py can check."""
        # A RedisCluster asks the network as soon as it is made.
        return bool(self._options) and not self._cluster

    def check_options(self) -> None:
        """
        Have redis-py check its parameters, without a network.

        Raises:
            InvalidSetting: It refuses one.
        """
        redis = _redis()
        try:
            redis.Redis.from_url(self._url()).connection_pool.make_connection()
        except (ValueError, TypeError, redis.RedisError) as exc:
            refused = self._refused(exc)
        else:
            return
        # Not with the cause, whose frames hold the password.
        raise refused

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{self.stream}:dead"

    def connect(self, timeout: float) -> Any:
        """
        Return a client; it connects with its first command.

        Args:
            timeout: Seconds to wait for a connection, and for each answer.

        Raises:
            InvalidSetting: redis-py refuses a parameter of the URL.
        """
        redis = _redis()
        common: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            # We retry ourselves, with a deadline, and report an outage.
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        }
        try:
            if self._sentinel is not None:
                return self._of_sentinels(redis, common)
            if self._cluster:
                return redis.RedisCluster.from_url(self._url(), **common)
            return redis.Redis.from_url(self._url(), **common)
        except (ValueError, TypeError) as exc:
            refused = self._refused(exc)
        raise refused

    def _refused(self, exc: Exception) -> InvalidSetting:
        why = str(exc)
        # Any of a URL's values may be the password, in a wrong place.
        for secret in (self._password, *self._options.values()):
            why = why.replace(secret, "***") if secret else why
        return self._wrong(f"redis-py says: {why[:200]}")

    def _url(self, host: str | None = None) -> str:
        from urllib.parse import quote

        secret = ""
        if self._user or self._password:
            user, word = quote(self._user, safe=""), quote(self._password, safe="")
            secret = f"{user}:{word}@"
        options = self._options
        if self._scheme == "rediss":
            # redis-py checks host names by itself only from version 6 on.
            options = {"ssl_check_hostname": "true", **options}
        query = f"?{urlencode(options)}" if options else ""
        host = host or self._hosts[0]
        return f"{self._scheme}://{secret}{host}/{self._database}{query}"

    def _of_sentinels(self, redis: Any, common: dict[str, Any]) -> Any:
        options = redis.connection.parse_url(self._url())
        for key in ("host", "port", "connection_class"):
            options.pop(key, None)
        if self._scheme == "rediss":
            options["ssl"] = True
        found = filter(None, map(_HOST.fullmatch, self._hosts))
        pairs = [(one[1].strip("[]"), int(one[2] or _SENTINEL_PORT)) for one in found]
        # The Sentinels' certificates are checked as the master's is.
        secure = {name: v for name, v in options.items() if name.startswith("ssl")}
        sentinel = redis.sentinel.Sentinel(pairs, sentinel_kwargs={**common, **secure})
        return sentinel.master_for(
            self._sentinel, redis_class=redis.Redis, **{**options, **common}
        )
