"""The last check before a request: in tests, only loopback may be sent to."""

from __future__ import annotations

from htlogging._delivery.exchange import Unreachable
from htlogging._process import capturing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._delivery.exchange import Answer, Transport
    from htlogging._settings import Settings


class LoopbackOnly:
    """
    A `Transport` that is closed while a test holds events back.

    Events that were queued before, or are in a spool, wait as in an outage.

    Args:
        transport: The transport behind it.
        settings: The destination.
    """

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport = transport
        self._settings = settings
        self.open = transport.open
        self.body = transport.body
        self.close = transport.close

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        if capturing.holds(self._settings):
            raise Unreachable("a test is running, which sends to loopback alone")
        return self._transport.post(body, compress=compress, timeout=timeout)
