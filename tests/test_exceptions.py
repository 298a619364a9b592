from __future__ import annotations

import copy
import pickle

import pytest

from htlogging import exceptions
from htlogging.exceptions import (
    DeliveryError,
    EventTooLarge,
    HtLoggingError,
    InvalidEvent,
    InvalidSetting,
)

ERRORS = [
    InvalidEvent("what"),
    EventTooLarge(40_000, 32_768),
    EventTooLarge(None, 32_768),
    InvalidSetting("what"),
    DeliveryError(503, "503", "Service Unavailable", 11),
    DeliveryError(None, "network", "no route"),
]


class TestTree:
    def test_what_code_for_the_sdk_catches(self):
        """Invalid events and settings are AssertionErrors, large ones RuntimeErrors."""
        assert issubclass(InvalidEvent, (ValueError, AssertionError))
        for error in (InvalidEvent, InvalidSetting):
            assert issubclass(error, ValueError)
            assert issubclass(error, AssertionError)
        assert issubclass(EventTooLarge, InvalidEvent)
        assert issubclass(EventTooLarge, RuntimeError)
        assert not issubclass(DeliveryError, (ValueError, AssertionError))

    def test_one_root(self):
        """All that is promised is there, and derives from the root."""
        for name in exceptions.__all__:
            assert issubclass(getattr(exceptions, name), HtLoggingError)


class TestCopies:
    @pytest.mark.parametrize("error", ERRORS, ids=repr)
    def test_cross_processes_whole(self, error):
        """Pickled or copied, an error keeps its attributes and its text."""
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is type(error)
            assert vars(twin) == vars(error)
            assert str(twin) == str(error)


class TestEventTooLarge:
    def test_says_how_large(self):
        """Size and limit, and what to do."""
        error = EventTooLarge(40_000, 32_768)
        assert (error.size, error.limit) == (40_000, 32_768)
        assert "40,000 bytes" in str(error)
        assert "max_event_size is 32,768" in str(error)

    def test_size_not_known(self):
        """Encoding may stop before the end: then the size is not known."""
        assert EventTooLarge(None, 32_768).size is None
        assert "far larger" in str(EventTooLarge(None, 32_768))


class TestDeliveryError:
    def test_answer(self):
        """Status, code, message and tries are attributes."""
        error = DeliveryError(503, "503", "Service Unavailable", 11)
        assert (error.status, error.code, error.message, error.tries) == (
            503,
            "503",
            "Service Unavailable",
            11,
        )
        assert str(error) == "Service Unavailable (HTTP 503, 503, tries: 11)"

    def test_no_answer(self):
        """Without an answer there is no status."""
        assert str(DeliveryError(None, "network", "no route")) == (
            "no route (no answer, network, tries: 1)"
        )
