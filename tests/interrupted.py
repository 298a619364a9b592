"""Exceptions that are raised inside calls, at each moment, one after another."""

from __future__ import annotations

import sys


class TimeLimit(Exception):
    """An application's own, as Celery's SoftTimeLimitExceeded is."""


def raise_in(number, *places):
    """
    Raise `TimeLimit` before a line of these places; return how to end that.

    Args:
        number: Of the lines that run there; 1 is the first.
        places: Functions, and classes with all their methods.
    """
    before, codes = sys.gettrace(), set().union(*map(_codes, places))

    def trace(frame, event, _):
        nonlocal number
        if frame.f_code not in codes:
            return None
        if event == "line":
            number -= 1
            if number == 0:
                sys.settrace(before)
                raise TimeLimit
        return trace

    sys.settrace(trace)
    return lambda: sys.settrace(before)


def _codes(place):
    parts = vars(place).values() if isinstance(place, type) else [place]
    return {part.__code__ for part in parts if hasattr(part, "__code__")}
