"""Policy: an answer → what becomes of the events; a failed try → how long to wait."""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds. Full jitter: any wait from none to the bound, so that many processes that
# failed together do not come back together. Ten retries take 76 s on average.
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0

# Seconds for which a Retry-After is honoured, as Hightouch's Kotlin SDK does. It is never
# less than our own wait: a server that says 0 while it fails would be hammered.
RETRY_AFTER_MOST = 300.0


class Verdict(Enum):
    """What becomes of the events after one answer."""

    DELIVERED = "delivered"
    RETRY = "retry"
    SPLIT = "split"
    UNCOMPRESSED = "again, uncompressed"
    GIVE_UP = "give up"


class Unreachable(Exception):
    """
    There was no answer to a batch.

    Args:
        reason: Why, without an address or a secret.
        stale: Whether it was a kept connection that the server had closed meanwhile,
            which says nothing about the server.
        retry_after: Seconds that whoever refused asks to wait, or `None`.
        code: A word for the cause.
        status: The status of whoever refused, or `None`.
        final: Whether another try is of no use.
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
    What the server said.

    Args:
        status: HTTP status.
        retry_after: Seconds that it asks to wait, or `None`.
        code: Its word for the fault, or the status as text.
        message: Its sentence about the fault, shortened, without the write key.
    """

    __slots__ = ("code", "message", "retry_after", "status")

    def __init__(
        self, status: int, retry_after: float | None, code: str, message: str
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        self.code = code
        self.message = message


def judge(status: int, events: int, *, compressed: bool) -> Verdict:
    """
    Decide by the status alone: answers' bodies are undocumented.

    Args:
        status: The answer's.
        events: How many the request held, >= 1.
        compressed: Whether its body was gzipped.
    """
    if 200 <= status < 300:  # noqa: PLR2004
        return Verdict.DELIVERED
    if status in (408, 429) or status >= 500:  # noqa: PLR2004
        return Verdict.RETRY
    if status in (400, 413) and events > 1:
        return Verdict.SPLIT
    if status == 415 and compressed:  # noqa: PLR2004
        return Verdict.UNCOMPRESSED
    return Verdict.GIVE_UP


def wait(tries: int, retry_after: float | None, uniform: Callable[[], float]) -> float:
    """
    Return the seconds to wait before the next try.

    Args:
        tries: How many there were, >= 1.
        retry_after: Seconds that the server asked for, if it did: any float.
        uniform: A random number of [0, 1).
    """
    bound = min(BACKOFF_FIRST * 2.0 ** min(tries - 1, 30), BACKOFF_MOST)
    own = bound * uniform()
    # Also false for NaN, which is neither more nor less than anything.
    if retry_after is not None and retry_after > own:
        return min(retry_after, RETRY_AFTER_MOST)
    return own
