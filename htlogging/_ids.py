"""Message ids: UUIDs as text (RFC 9562)."""

from __future__ import annotations

import os
import time

from htlogging import _fork

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

# Ids drawn ahead, at most. Drawn one by one, each would have the system's generator let
# go of the interpreter's lock: of eight threads that log, each waited for the seven others
# at every event. So many take 40 us.
_AHEAD = 256

# Seconds for which they are used.
_FRESH = 0.1


class _Supply:
    """Ids drawn ahead."""

    def __init__(self) -> None:
        # When they were drawn (seconds since the epoch), they, and how many they were.
        # Replaced as a whole. Threads take from the list's end, and one that finds it
        # empty draws anew.
        self.drawn: tuple[float, list[str], int] = (0.0, [], 0)

    def after_fork_in_child(self) -> None:
        """Leave them to the parent."""
        self.drawn[1].clear()


_supply = _Supply()
_fork.register(_supply)


def new_id() -> str:
    """
    Return a random UUID (version 4).

    Drawn from the system's generator by this process, at most a tenth of a second ago, and
    not ahead at all where events are further apart than that: unique across forks (after
    `_fork.notice`), and across copies of a frozen process whose clock goes on meanwhile.
    """
    made, ids, _ = _supply.drawn
    now = time.time()
    if 0.0 <= now - made < _FRESH:
        try:
            return ids.pop()
        except IndexError:
            pass
    return _draw(now)


def _draw(now: float) -> str:
    made, _, count = _supply.drawn
    count = min(2 * count, _AHEAD) if 0.0 <= now - made < _FRESH else 1
    # 80 bits of each are its own, the 42 in the middle are of all that are drawn with it:
    # half the time of cutting each into its five groups.
    middle = uuid_text(os.urandom(16).hex(), 4)[8:24]
    digits = os.urandom(10 * count).hex()
    starts = range(0, len(digits), 20)
    ids = [f"{digits[n : n + 8]}{middle}{digits[n + 8 : n + 20]}" for n in starts]
    last = ids.pop()
    _supply.drawn = (now, ids, count)
    return last


def uuid_text(h: str, version: int) -> str:
    """Return the UUID of a version that has these 32 hexadecimal digits, or most."""
    return f"{h[:8]}-{h[8:12]}-{version}{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"
