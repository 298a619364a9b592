"""Message ids: UUIDs as text (RFC 9562)."""

from __future__ import annotations

import os
import time

from htlogging import _fork

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

# Ids drawn ahead. Drawn one by one, each would have the system's generator let go of the
# interpreter's lock: of eight threads that log, each waited for the seven others at every
# event. One call in so many draws, and takes 40 us.
_AHEAD = 256


class _Supply:
    """Ids drawn ahead, and when: seconds since the epoch."""

    def __init__(self) -> None:
        # Replaced as a whole. Threads take from the list's end, and one that finds it
        # empty draws anew.
        self.drawn: tuple[float, list[str]] = (0.0, [])

    def after_fork_in_child(self) -> None:
        """Leave them to the parent."""
        self.drawn[1].clear()


_supply = _Supply()
_fork.register(_supply)


def new_id() -> str:
    """
    Return a random UUID (version 4).

    Drawn from the system's generator by this process, a second ago at most: unique across
    forks (after `_fork.notice`), and across copies of a frozen process, whose clock has
    gone on.
    """
    made, ids = _supply.drawn
    if 0.0 <= time.time() - made < 1.0:
        try:
            return ids.pop()
        except IndexError:
            pass
    return _draw()


def _draw() -> str:
    # 80 bits of each are its own, the 42 in the middle are of all that are drawn with it:
    # half the time of cutting each into its five groups.
    middle = uuid_text(os.urandom(16).hex(), 4)[8:24]
    digits = os.urandom(10 * _AHEAD).hex()
    starts = range(0, len(digits), 20)
    ids = [f"{digits[n : n + 8]}{middle}{digits[n + 8 : n + 20]}" for n in starts]
    last = ids.pop()
    _supply.drawn = (time.time(), ids)
    return last


def uuid_text(h: str, version: int) -> str:
    """Return the UUID of a version that has these 32 hexadecimal digits, or most."""
    return f"{h[:8]}-{h[8:12]}-{version}{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"
