"""The last look before a request: in tests, only loopback is sent to."""

from __future__ import annotations

from htlogging._delivery.retry import Unreachable
from htlogging._process import capturing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._delivery.retry import Answer
    from htlogging._delivery.sender import Transport
    from htlogging._settings import Settings


class Gate:
    """
    A transport that is closed while a test holds back what would leave the machine.

    What was queued before that, or lies in a spool, waits as in an outage.

    Args:
        transport: The way to the server.
        settings: Where that is.
    """

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport = transport
        self._settings = settings
        self.open = transport.open
        self.close = transport.close

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        """Send a body once, or raise `Unreachable`."""
        if capturing.holds(self._settings):
            raise Unreachable("a test is running, and only loopback is sent to")
        return self._transport.post(body, compress=compress, timeout=timeout)
