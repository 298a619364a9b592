"""Why an event was refused, without what the event holds."""

from __future__ import annotations

import json

from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# Characters of a value that is looked for; a shorter one is in any sentence.
_SHORTEST = 3

_REMOVED = "[...]"


def scrubbed(failure: DeliveryError, events: Iterable[bytes]) -> DeliveryError:
    """
    Return the reason that is kept with a dead letter.

    The server's sentence may quote an event of the batch, and stands on every one of
    them: what is a value in any of these is taken out.
    """
    message = failure.message
    if failure.status is not None:
        for event in events:
            for value in sorted(set(_values(_parsed(event))), key=len, reverse=True):
                if value in message:
                    message = message.replace(value, _REMOVED)
    return DeliveryError(failure.status, failure.code, message, failure.tries)


def _parsed(event: bytes) -> Any:
    try:
        return json.loads(event)
    except (ValueError, RecursionError):
        return None


def _values(value: Any) -> Iterator[str]:
    """Yield the texts and numbers in a value."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, (str, int, float)) and not isinstance(found, bool):
            text = str(found)
            if len(text) >= _SHORTEST:
                yield text
