"""The policy: what becomes of the events, and how long to wait."""

import pytest

from htlogging._delivery.exchange import Answer, Unreachable
from htlogging._delivery.retry import (
    BACKOFF_FIRST,
    BACKOFF_MOST,
    RETRY_AFTER_MOST,
    Verdict,
    judge,
    wait,
)

MOST = 0.999999


class TestJudge:
    @pytest.mark.parametrize(
        ("status", "alone", "together"),
        [
            (200, "DELIVERED", "DELIVERED"),
            (201, "DELIVERED", "DELIVERED"),
            (202, "DELIVERED", "DELIVERED"),
            (204, "DELIVERED", "DELIVERED"),
            (299, "DELIVERED", "DELIVERED"),
            (101, "GIVE_UP", "GIVE_UP"),
            (300, "GIVE_UP", "GIVE_UP"),
            (302, "GIVE_UP", "GIVE_UP"),
            (304, "GIVE_UP", "GIVE_UP"),
            (399, "GIVE_UP", "GIVE_UP"),
            (400, "GIVE_UP", "SPLIT"),
            (401, "GIVE_UP", "GIVE_UP"),
            (402, "GIVE_UP", "GIVE_UP"),
            (403, "GIVE_UP", "GIVE_UP"),
            (404, "GIVE_UP", "GIVE_UP"),
            (407, "GIVE_UP", "GIVE_UP"),
            (408, "RETRY", "RETRY"),
            (410, "GIVE_UP", "GIVE_UP"),
            (413, "GIVE_UP", "SPLIT"),
            (422, "GIVE_UP", "GIVE_UP"),
            (425, "GIVE_UP", "GIVE_UP"),
            (429, "RETRY", "RETRY"),
            (499, "GIVE_UP", "GIVE_UP"),
            (500, "RETRY", "RETRY"),
            (501, "RETRY", "RETRY"),
            (503, "RETRY", "RETRY"),
            (599, "RETRY", "RETRY"),
            (999, "RETRY", "RETRY"),  # http.client lets it pass
        ],
    )
    @pytest.mark.parametrize("compressed", [True, False])
    def test_status(self, status, alone, together, compressed):
        """The status decides; only a bad or too large request is split."""
        assert judge(status, 1, compressed=compressed) is Verdict[alone]
        assert judge(status, 2, compressed=compressed) is Verdict[together]

    @pytest.mark.parametrize("events", [1, 2])
    def test_unsupported_media_type(self, events):
        """415 for a compressed body means: uncompressed; for another, no."""
        assert judge(415, events, compressed=True) is Verdict.UNCOMPRESSED
        assert judge(415, events, compressed=False) is Verdict.GIVE_UP


class TestWait:
    @pytest.mark.parametrize(
        ("tries", "most"),
        [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (8, 30), (10**9, 30)],
    )
    def test_backoff(self, tries, most):
        """The bound doubles from try to try up to 30 s; the wait is from 0 to it."""
        assert wait(tries, None, lambda: 0.0) == 0
        assert wait(tries, None, lambda: MOST) == pytest.approx(most, rel=1e-5)
        assert wait(tries, None, lambda: 0.5) == most / 2

    def test_bounds(self):
        """The first and the greatest bound are those that are documented."""
        assert (BACKOFF_FIRST, BACKOFF_MOST, RETRY_AFTER_MOST) == (0.5, 30.0, 300.0)

    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [(7.0, 7), (300.0, 300), (301.0, 300), (1e300, 300), (float("inf"), 300)],
    )
    def test_retry_after(self, asked, seconds):
        """What the server asks for goes before a shorter backoff, up to 300 s."""
        assert wait(1, asked, lambda: MOST) == seconds

    @pytest.mark.parametrize(
        "asked", [0.0, 0.1, -1.0, -1e300, float("-inf"), float("nan")]
    )
    def test_never_less_than_our_own(self, asked):
        """A server that asks for no wait, or for nonsense, gets our own backoff."""
        assert wait(1, asked, lambda: 0.5) == 0.25
        assert wait(9, asked, lambda: 0.5) == 15
        assert wait(9, 7.0, lambda: 0.5) == 15


class TestAnswer:
    def test_holds_what_was_said(self):
        """An answer has a status, a wait, a code and a message."""
        answer = Answer(429, retry_after=7.0, code="slow", message="Slow down.")
        assert (answer.status, answer.retry_after) == (429, 7.0)
        assert (answer.code, answer.message) == ("slow", "Slow down.")


class TestUnreachable:
    def test_reason(self):
        """The reason is what it shows; a connection is new unless said otherwise."""
        error = Unreachable("away")
        assert (str(error), error.reason, error.stale) == ("away", "away", False)
        assert Unreachable("away", stale=True).stale
