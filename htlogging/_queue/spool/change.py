"""A change of several values, for readers that take no lock."""

from __future__ import annotations


class Change:
    """
    A change that goes on: for that moment sums of the values do not hold.

    A change that is interrupted counts as going on until the next one: readers then try
    again, up to a limit.
    """

    __slots__ = ("count", "is_on")

    def __init__(self) -> None:
        self.count = 0
        self.is_on = False

    def __enter__(self) -> None:
        self.is_on = True
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.is_on = False
