"""
The errors, one class for each decision a caller can take.

::

    HtLoggingError
    ├── InvalidEvent        the event cannot be sent as it is: correct the call
    │   ├── EventTooLarge   it is over `max_event_size`: send less in it
    │   └── InvalidField    a field cannot be bound: correct that call
    ├── InvalidSetting      the configuration cannot work: correct it
    └── DeliveryError       the server refused, or could not be reached

`InvalidEvent` and `InvalidSetting` are `ValueError` and `AssertionError` too, and
`EventTooLarge` is a `RuntimeError` too: code written against events-sdk-python
catches these. `InvalidField` is a `TypeError` too, as for a wrong argument of any call. No
message contains a value of an event or a write key.
"""

from __future__ import annotations

__all__ = [
    "DeliveryError",
    "EventTooLarge",
    "HtLoggingError",
    "InvalidEvent",
    "InvalidField",
    "InvalidSetting",
]


class HtLoggingError(Exception):
    """The root of all errors that this package raises."""


class InvalidEvent(HtLoggingError, ValueError, AssertionError):
    """An event lacks a field, or a field has a wrong type; it was not accepted."""


class EventTooLarge(InvalidEvent, RuntimeError):
    """
    An event is larger than `max_event_size`; it was not accepted.

    Args:
        size: UTF-8 bytes of its compact JSON; `None` if encoding was stopped because
            the limit was certain to be exceeded.
        limit: The `max_event_size` in force, bytes.
    """

    def __init__(self, size: int | None, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        size = (
            "would be far larger than allowed"
            if self.size is None
            else f"has {self.size:,} bytes"
        )
        return (
            f"the event's JSON {size}; max_event_size is {self.limit:,} bytes: "
            "send less in it, or split it into several events"
        )


class InvalidField(InvalidEvent, TypeError):
    """`bind`, `bound` or `scope` was given a field that no event can have."""


class InvalidSetting(HtLoggingError, ValueError, AssertionError):
    """A setting is missing, unknown, of a wrong type or out of range."""


class DeliveryError(HtLoggingError):
    """
    Events were given up: the server refused them or could not be reached.

    Args:
        status: The HTTP status, or `None` when there was no answer.
        code: A word for the cause: the `code` of the server's answer if it has one,
            else the status as text, or for example `network` or `shutdown`.
        message: What the server said or what went wrong: one sentence, shortened.
        tries: How many times the events were sent.
    """

    def __init__(
        self, status: int | None, code: str, message: str, tries: int = 1
    ) -> None:
        super().__init__(status, code, message, tries)
        self.status = status
        self.code = code
        self.message = message
        self.tries = tries

    def __str__(self) -> str:
        answer = "no answer" if self.status is None else f"HTTP {self.status}"
        return f"{self.message} ({answer}, {self.code}, tries: {self.tries})"
