"""A batch → one entry of a Redis stream; `redis` is imported by the thread that sends."""

from __future__ import annotations

import re
from contextlib import suppress

from htlogging._delivery.exchange import Answer, Unreachable
from htlogging._delivery.network_errors import causes
from htlogging._process import fork
from htlogging._process.interruption import pass_on
from htlogging._queue.redis.entry import fields, lines
from htlogging._settings.redis_location import Location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from htlogging._settings import Settings

# Clients that a forked child has from its parent: kept, unused, so that nothing of them is
# closed there. Added to in the child, on its only thread.
_inherited: list[Any] = []


class RedisTransport:
    """
    The `Transport` to Redis: a connection for one thread.

    An answer means that Redis has the batch. A Redis that is away, loading, read-only, out
    of memory or over `maxbytes` is `Unreachable`: an outage. Nothing is trimmed.

    Args:
        settings: Its redis_url and timeout.
    """

    def __init__(self, settings: Settings) -> None:
        self._location = Location(settings.redis_url or "")
        self._timeout = settings.timeout
        self._client: Any = None
        # Whether the stream was over `maxbytes` when it was last asked.
        self._full = False
        fork.register(self)

    def open(self) -> None:
        """Import `redis`, so that the first `post` takes less time."""
        self._ready()

    def body(self, events: Sequence[bytes]) -> bytes:
        """Return what is stored of events: a line each."""
        return lines(events)

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        """
        Append a batch to the stream.

        Args:
            body: What `body` returned.
            compress: Whether to compress it.
            timeout: Seconds for the connection, and for each answer.

        Raises:
            Unreachable: Redis did not take it, as far as is known.
        """
        entry = fields(body, body.count(b"\n"), compress=compress)
        if timeout < self._timeout:
            # Near a deadline: a connection of its own, which waits no longer.
            client = self._location.connect(timeout)
            try:
                return self._append(client, entry)
            finally:
                with suppress(Exception):
                    client.close()
        return self._append(self._ready(), entry)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # the other side may be gone
                client.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connection to the parent."""
        if self._client is not None:
            _inherited.append(self._client)
            self._client = None

    def _ready(self) -> Any:
        if self._client is None:
            self._client = self._location.connect(self._timeout)
        return self._client

    def _append(self, client: Any, entry: dict[str, Any]) -> Answer:
        stream, most = self._location.stream, self._location.max_bytes
        try:
            if most is not None and self._full:
                self._look(client.memory_usage(stream), most)
            if most is None:
                client.xadd(stream, entry)
            else:
                # In one round trip: what the stream takes now decides about the next.
                pipeline = client.pipeline(transaction=False)
                pipeline.xadd(stream, entry)
                pipeline.memory_usage(stream)
                added, used = pipeline.execute(raise_on_error=False)
                if isinstance(added, Exception):
                    raise added  # noqa: TRY301  (as `execute` itself would)
                # Redis has the batch, whatever the second answer is. If that is an error
                # (no permission, for example), the next batch meets it before it is added.
                failed = isinstance(used, Exception)
                self._full = failed or (used or 0) >= most
        except Unreachable:
            raise
        except Exception as exc:  # noqa: BLE001
            # Whatever redis-py raises: the events are tried again, and the thread lives.
            self.close()
            pass_on(reversed(causes(exc)))
            raise Unreachable(why(exc, self._location), code="redis") from None
        return Answer(200)

    def _look(self, used: int | None, most: int) -> None:
        self._full = (used or 0) >= most
        if self._full:
            raise Unreachable(
                f"the stream takes {used or 0:,} bytes of Redis, and maxbytes is {most:,}",
                code="redis",
            )


def why(exc: Exception, location: Location) -> str:
    """Return a cause in a few words, without a secret: Redis never echoes a value."""
    name = type(exc).__name__
    text = str(exc).partition("\n")[0][:120]
    first = text.split(" ", 1)[0]
    if "NoPermission" in name:  # its text names the user
        return f"Redis answers NOPERM{_HINTS['NOPERM']}"
    if text.startswith("DB index is out of range"):
        return "Redis has no database of that number"
    if first.isupper() and first.isalpha():  # OOM, READONLY, NOAUTH, MISCONF, WRONGTYPE
        return f"Redis answers {first}{_HINTS.get(first, '')}"
    if "timeout" in name.lower() or "timed out" in text.lower():
        return "Redis gave no answer in time"
    if "AuthenticationError" in name:
        return "Redis refuses user and password"
    if "OutOfMemory" in name:
        return f"Redis answers OOM{_HINTS['OOM']}"
    if "ReadOnly" in name:
        return f"Redis answers READONLY{_HINTS['READONLY']}"
    unknown = _UNKNOWN.search(text)
    if unknown:
        return f"redis-py knows no parameter {unknown[1]} of a URL"
    if "Connection" in name:
        return f"no connection to Redis at {location}"
    return f"Redis failed with {name}"


# What Python says of a keyword argument that a function does not have.
_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")

_HINTS = {
    "OOM": ": it is over its maxmemory",
    "READONLY": ": it is a replica; connect to the master",
    "NOAUTH": ": it wants a password",
    "NOPERM": ": the user may not do this; see its ACL",
    "WRONGTYPE": ": the key is no stream",
    "MISCONF": ": it cannot save to its disk",
}
