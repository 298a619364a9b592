"""Message ids: UUIDs as text (RFC 9562)."""

from __future__ import annotations

import math
import os
import time

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

# Ids drawn ahead, at most. To draw, the system's generator lets go of the interpreter's
# lock. One by one, that had each of eight threads that log wait for the seven others at
# every event. And a thread that waits for the lock (the sending one) starts its 5 ms of
# patience anew whenever it sees the lock change hands, so that draws closer than that
# starve it: these last for 10 ms of a caller that does nothing else.
_AHEAD = 2_048

# Seconds for which they are used.
_FRESH = 0.1

# Hexadecimal digits that an id has to itself: 80 bits. It shares the 42 others with all
# that were drawn with it: half the time of cutting each into its five groups.
_OWN = 20


class _Supply:
    """Ids drawn ahead."""

    def __init__(self) -> None:
        # When they were drawn (seconds since the epoch), where each one's own digits
        # begin, all these digits, and what goes between. Replaced as a whole. Threads
        # take from the list's end, and one that finds it empty draws anew.
        self.drawn: tuple[float, list[int], str, str] = (-math.inf, [], "", "")

    def after_fork_in_child(self) -> None:
        """Leave them to the parent."""
        self.drawn[1].clear()


_supply = _Supply()
fork.register(_supply)


def new_id() -> str:
    """
    Return a random UUID (version 4).

    Drawn from the system's generator by this process, at most a tenth of a second ago, and
    not ahead at all where events are further apart than that: unique across forks (after
    `fork.notice`), and across copies of a frozen process whose clock goes on meanwhile.
    """
    made, starts, digits, middle = _supply.drawn
    now = time.time()
    if 0.0 <= now - made < _FRESH:
        try:
            n = starts.pop()
        except IndexError:
            return _draw(now, min(len(digits) // _OWN * 2, _AHEAD))
        return f"{digits[n : n + 8]}{middle}{digits[n + 8 : n + _OWN]}"
    return _draw(now, 1)


# What gives the ids instead, in tests.
_source: Callable[[], str] | None = None


def take_from(source: Callable[[], str] | None) -> None:
    """Take ids from there, in tests; `None`: from the system's generator again."""
    global _source  # noqa: PLW0603
    _source = source
    _supply.drawn = (-math.inf, [], "", "")


def _draw(now: float, count: int) -> str:
    """Draw so many, and return one of them."""
    if _source is not None:
        return _source()
    middle = uuid_text(os.urandom(16).hex(), 4)[8:24]
    digits = os.urandom(count * _OWN // 2).hex()
    _supply.drawn = (now, list(range(_OWN, len(digits), _OWN)), digits, middle)
    return f"{digits[:8]}{middle}{digits[8:_OWN]}"


def uuid_text(h: str, version: int) -> str:
    """Return the UUID of a version that has these 32 hexadecimal digits, or most."""
    return f"{h[:8]}-{h[8:12]}-{version}{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"
