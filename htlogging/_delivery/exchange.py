"""What the sender has of a server: a transport, and its answer or that there was none."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Transport(Protocol):
        """The way to the server, for one thread."""

        def open(self) -> None:
            """Prepare, so that the first `post` takes less time."""

        def body(self, events: Sequence[bytes]) -> bytes:
            """Return the body of one try to send events."""

        def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
            """Send a body once, or raise `Unreachable`."""

        def close(self) -> None:
            """Close the connection; the next `post` opens a new one."""


class Unreachable(Exception):
    """
    There was no answer to a batch.

    Args:
        reason: Why, without an address or a secret.
        stale: Whether a kept connection had been closed by the server meanwhile, which
            says nothing about the server.
        retry_after: Seconds that the refusing side asks to wait, or `None`.
        code: A word for the cause.
        status: The status of the refusal, or `None`.
        final: Whether another try is useless.
    """

    def __init__(  # noqa: PLR0913
        self,
        reason: str,
        *,
        stale: bool = False,
        retry_after: float | None = None,
        code: str = "network",
        status: int | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stale = stale
        self.retry_after = retry_after
        self.code = code
        self.status = status
        self.final = final

    def again(self) -> Unreachable:
        """Return the same for another thread to raise, without this one's traceback."""
        return Unreachable(
            self.reason,
            stale=self.stale,
            retry_after=self.retry_after,
            code=self.code,
            status=self.status,
            final=self.final,
        )


class Answer:
    """
    A server's answer.

    Args:
        status: The HTTP status.
        retry_after: Seconds that the server asks to wait, or `None`.
        code: The server's word for the fault; by default the status as text.
        message: The server's sentence about the fault, shortened, without the write key.
        date: The server's clock, seconds since 1970, or `None`.
    """

    __slots__ = ("code", "date", "message", "retry_after", "status")

    def __init__(
        self,
        status: int,
        *,
        retry_after: float | None = None,
        code: str = "",
        message: str = "",
        date: float | None = None,
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        self.code = code or str(status)
        self.message = message
        self.date = date
