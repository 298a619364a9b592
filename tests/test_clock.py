"""Timeouts as callers give them."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from htlogging._process.clock import timeout_seconds
from htlogging.htevents import Client


class TestUnit:
    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            (None, math.inf),
            (2, 2.0),
            (0.5, 0.5),
            (-1, -1.0),
            (Decimal("1.5"), 1.5),
            (Fraction(1, 2), 0.5),
            (math.inf, math.inf),
            (10**400, math.inf),
            (-(10**400), 0.0),
            (math.nan, 0.0),
        ],
    )
    def test_number(self, given, seconds):
        """Any number is a timeout; one that is not a number of seconds waits for nothing."""
        assert timeout_seconds(given) == seconds

    @pytest.mark.parametrize("given", ["1", b"1", [], timedelta(seconds=1)])
    def test_no_number(self, given):
        """Anything else is a mistake, and the error says what is expected."""
        with pytest.raises(TypeError, match="timeout must be seconds or None, not"):
            timeout_seconds(given)

    @pytest.mark.parametrize("given", [math.nan, 10**400, Decimal(60), math.inf])
    def test_flush(self, collector, given):
        """`flush` takes them all, and raises nothing."""
        client = Client("K", host=collector.url)
        assert client.flush(given)
        assert client.logger.handlers[0].flush(given)
