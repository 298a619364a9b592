"""A call's event without a record: the way if only our handler would see the record."""

from __future__ import annotations

import time
from os import getpid

from htlogging._event import builder
from htlogging._event.encoder import encode
from htlogging._process import fork
from htlogging._scopes.bindings import current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def make(given: Sequence[Any], limit: int) -> tuple[dict[str, Any], bytes]:
    """
    Make an event, as a handler makes it of a record.

    Args:
        given: What the call gave, in the order of `builder.make`.
        limit: The handler's `max_event_size`.

    Returns:
        The event, and its JSON.

    Raises:
        InvalidEvent: The fields do not make an event.
    """
    if getpid() != fork.pid:
        fork.detect()
    bound = current()
    if bound:
        fields = builder.fields_of(*given)
        event = builder.build(fields, bound, None, time.time())
    else:
        event = builder.make({}, time.time(), given)
    return event, encode(event, limit, built=True)
