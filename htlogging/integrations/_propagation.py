"""The fields that are bound where a job is enqueued, as a text that travels with it."""

from __future__ import annotations

import json

from htlogging._event import bindable
from htlogging._event.bindings import ScopeBlock, current
from htlogging._process.clock import clock
from htlogging._process.lines import say
from htlogging._report import QUIET
from htlogging.exceptions import InvalidEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The header, label or option that carries it.
NAME = "htevents"

# The most UTF-8 bytes: a broker keeps it with every message.
MAX_BYTES = 16_384

# Fields that belong to one event, not to the job.
_ONCE = ("ht_message_id", "ht_timestamp")

_MAX_DEPTH = 16  # nested levels of a value


class Lines:
    """
    Lines about jobs: one of a kind at once, later ones once a minute with their count.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = clock.monotonic) -> None:
        self._clock = clock
        # Line -> when it was written last, and how many jobs no line has counted since. A
        # thread that comes between may lose a count.
        self._told: dict[str, tuple[float, int]] = {}

    def write(self, line: str) -> None:
        """Write a line, or count it."""
        now = self._clock()
        last, untold = self._told.get(line, (-QUIET, 0))
        if now - last < QUIET:
            self._told[line] = last, untold + 1
            return
        self._told[line] = now, 0
        say("%s%s", line, f" ({untold + 1} jobs)" if untold else "")


# One for the process; a forked child keeps it.
_lines = Lines()


def packed() -> str | None:
    """Return the bound fields as JSON; `None` if there are none."""
    fields = {k: v for k, v in current().items() if k not in _ONCE and v is not None}
    if not fields:
        return None
    text = _json(fields)
    if text is None or len(text) > MAX_BYTES:
        _lines.write(
            "what is bound here does not travel with the job: it has more than "
            f"{MAX_BYTES:,} bytes; bind less"
        )
        return None
    return text


def job(text: object) -> ScopeBlock:
    """
    Return a scope for a job.

    Args:
        text: What `packed` returned where the job was enqueued; anything else counts as
            nothing.
    """
    fields: Any = {}
    if isinstance(text, str):
        try:
            fields = bindable.check(json.loads(text))
        except (ValueError, AttributeError, RecursionError):
            # Not ours, or of another version: the job itself must run.
            _lines.write("a job's bound fields cannot be read, and are left out")
            fields = {}
    return ScopeBlock(fields)


def eager() -> ScopeBlock:
    """Return a scope for a job that runs where it is enqueued."""
    return ScopeBlock({k: v for k, v in current().items() if k not in _ONCE})


def _json(fields: dict[str, Any]) -> str | None:
    try:
        return json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    # Late: needed only for unusual values.
    from htlogging._event import coercion

    try:
        return json.dumps(coercion.plain(fields, MAX_BYTES, _MAX_DEPTH))
    except InvalidEvent:
        return None
