"""Message ids: UUIDs as text (RFC 9562)."""

from __future__ import annotations

import math
import os
import time

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A random digit → the one that marks the variant (RFC 9562, 4.1).
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

# The most ids that are generated ahead. The system's generator releases the interpreter's
# lock. With one id at a time, each of eight logging threads waited for the seven others at
# every event. Besides, a thread that waits for the lock, such as the sender, starts its 5 ms
# anew each time that the lock changes hands, so more frequent calls starve it. This many ids
# last for 10 ms of a caller that does nothing else.
_AHEAD = 2_048

# Seconds for which they may be used.
_FRESH = 0.1

# Hexadecimal digits that only this id has: 80 bits. The 42 other bits are the same for all
# ids that were generated together, which halves the time of making each one's five groups.
_OWN = 20


class _Supply:
    """Ids that were generated ahead."""

    def __init__(self) -> None:
        # When they were generated (seconds since the epoch), where each one's own digits
        # begin, all these digits, and the part between. Replaced as a whole. Threads take
        # from the end of the list; one that finds it empty generates new ids.
        self.drawn: tuple[float, list[int], str, str] = (-math.inf, [], "", "")

    def after_fork_in_child(self) -> None:
        """Forget the parent's ids, in a forked child."""
        self.drawn[1].clear()


# One for all threads; a forked child empties it.
_supply = _Supply()
fork.register(_supply)


def new_id() -> str:
    """
    Return a random UUID (version 4).

    It comes from the system's generator, from this process, at most a tenth of a second
    ago. If events are further apart than that, none is generated ahead. So it is unique
    across forks (after `fork.detect`), and across copies of a frozen process whose clock
    keeps running.
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
    """Generate this many ids, and return one of them."""
    if _source is not None:
        return _source()
    middle = uuid_text(os.urandom(16).hex(), 4)[8:24]
    digits = os.urandom(count * _OWN // 2).hex()
    _supply.drawn = (now, list(range(_OWN, len(digits), _OWN)), digits, middle)
    return f"{digits[:8]}{middle}{digits[8:_OWN]}"


def uuid_text(h: str, version: int) -> str:
    """Return a UUID of this version from 32 hexadecimal digits; it replaces some of them."""
    return f"{h[:8]}-{h[8:12]}-{version}{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"
