"""
A transport for a caller's thread, which must not wait for a name server.

The system's name resolution cannot be interrupted, and takes 20 s or more where no name
server answers. So another thread does it first, and the caller waits no longer than it may.
"""

from __future__ import annotations

import math
import socket
import threading
from contextlib import suppress

from htlogging._delivery import environment
from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.waits import Waiter
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._delivery.exchange import Answer, Transport
    from htlogging._settings import Settings

# Seconds for which a resolved name is expected to be resolved quickly again.
KNOWN_SECONDS = 60.0


class Resolved:
    """
    A `Transport` whose host's name is resolved in time, or that raises `Unreachable`.

    Behind a proxy it is the proxy's name: the proxy resolves the host's.

    Args:
        transport: The caller's.
        settings: Where it sends.
    """

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport = transport
        self._url, self._proxies = settings.host, settings.proxies
        self._is_http = settings.redis_url is None
        self._known_until = -math.inf
        self.body = transport.body
        self.open = transport.open
        self.close = transport.close

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        began = clock.monotonic()
        if self._is_http and began > self._known_until:
            with suppress(Exception):  # `post` says what is wrong
                self.open()  # an import here is no fault of the name server
            began = clock.monotonic()
            self._resolve(timeout)
        left = max(timeout - (clock.monotonic() - began), 0.001)
        return self._transport.post(body, compress=compress, timeout=left)

    def _resolve(self, timeout: float) -> None:
        waiter = Waiter()

        def resolve() -> None:
            with suppress(Exception):  # `post` says what is wrong
                counts = [
                    len(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
                    for name in environment.names(self._url, self._proxies)
                ]
                environment.addresses[self._url] = max(counts)
            waiter.notify()

        try:
            threading.Thread(
                target=resolve, name="htlogging-resolver", daemon=True
            ).start()
        except RuntimeError:
            return  # no thread can be started: at the interpreter's end, for example
        if not waiter.wait(timeout):
            raise Unreachable("the host's name was not resolved in time")
        self._known_until = clock.monotonic() + KNOWN_SECONDS
