"""Policy: what an answer means for the events, and how long to wait before a retry."""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds. Full jitter: a random wait from 0 to the limit, so that many processes that failed
# together do not retry together. Ten retries take 76 s on average.
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0

# The longest Retry-After that is honoured, in seconds; Hightouch's Kotlin SDK has the same.
# A wait is never shorter than our own: a failing server that says 0 must not be flooded.
RETRY_AFTER_MOST = 300.0


class Verdict(Enum):
    """What happens to the events after an answer."""

    DELIVERED = "delivered"
    RETRY = "retry"
    SPLIT = "split"
    UNCOMPRESSED = "again, uncompressed"
    GIVE_UP = "give up"
    PART = "a part was delivered"
    PARK = "others first"


def judge(status: int, events: int, *, compressed: bool) -> Verdict:
    """
    Decide by the status alone: the bodies of answers are undocumented.

    Args:
        status: The answer's status.
        events: How many events the request had, >= 1.
        compressed: Whether the request's body was gzipped.
    """
    if is_success(status):
        return Verdict.DELIVERED
    if may_pass(status):
        return Verdict.RETRY
    if is_of_one_event(status) and events > 1:
        return Verdict.SPLIT
    if status == 415 and compressed:  # noqa: PLR2004
        return Verdict.UNCOMPRESSED
    return Verdict.GIVE_UP


def is_success(status: int) -> bool:
    """Return whether it is a 2xx."""
    return 200 <= status < 300  # noqa: PLR2004


def may_pass(status: int) -> bool:
    """Return whether the server may answer otherwise later: 408, 429 and 5xx."""
    return status in (408, 429) or status >= 500  # noqa: PLR2004


def may_be_of_one_event(status: int) -> bool:
    """Return whether one of the events may be what the server fails at: 408 and 5xx."""
    return status == 408 or status >= 500  # noqa: PLR2004


def is_of_one_event(status: int) -> bool:
    """Return whether a refusal may be about one of the events: 400 and 413."""
    return status in (400, 413)


def wait(tries: int, retry_after: float | None, uniform: Callable[[], float]) -> float:
    """
    Return the seconds to wait before the next try.

    Args:
        tries: How many tries there were, >= 1.
        retry_after: Seconds that the server asked for, if any: any float.
        uniform: Returns a random number of [0, 1).
    """
    bound = min(BACKOFF_FIRST * 2.0 ** min(tries - 1, 30), BACKOFF_MOST)
    own = bound * uniform()
    # False for NaN, too, which is neither more nor less than any number.
    if retry_after is not None and retry_after > own:
        return min(retry_after, RETRY_AFTER_MOST)
    return own


def whole_tries(max_retries: int) -> int:
    """
    Return after how many faults in a row a batch is tried in parts.

    It may be one event that the server fails at. The parts count as tries of the batch,
    so the last ones must be left for its halves.
    """
    return 3 if max_retries > 3 else max(max_retries - 1, 1)  # noqa: PLR2004


def part_of(count: int, number: int) -> tuple[int, int]:
    """
    Return the first event of a part, and the one after its last.

    Args:
        count: Events of the whole.
        number: 1 is the whole, 2 and 3 its halves, 4 to 7 their halves, and so on.
    """
    first, end = 0, count
    for half in bin(number)[3:]:
        middle = first + (end - first) // 2
        first, end = (middle, end) if half == "1" else (first, middle)
    return first, end
