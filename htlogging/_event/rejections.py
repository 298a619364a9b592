"""The invalid events of a handler: each is counted once, and reported."""

from __future__ import annotations

import sys

from htlogging._process.lines import what_is_wrong, where
from htlogging._stats import figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging

    from htlogging._report import Report
    from htlogging._stats import Counters
    from htlogging.exceptions import InvalidEvent


class Rejections:
    """
    Counts and reports the invalid events of one handler.

    Args:
        counters: The handler's.
        report: The handler's.
    """

    def __init__(self, counters: Counters, report: Report) -> None:
        self._counters = counters
        self._report = report
        # Records that `hand_over` has counted and `handleError` has not returned for.
        self._counted: list[logging.LogRecord] = []

    def count(self, error: BaseException | None) -> None:
        """Count an event that is invalid; `error` says why."""
        self._counters.add("rejected")
        figures.rejected(error)

    def hand_over(self, record: logging.LogRecord, handler: logging.Handler) -> None:
        """Count an invalid event and hand its record to `handleError`, in an `except`."""
        self.count(sys.exc_info()[1])
        self._counted.append(record)
        try:
            handler.handleError(record)
        except RecursionError:  # pragma: no cover  (depends on the stack left)
            pass  # too little stack even for the line; the event is counted
        finally:
            self._counted.remove(record)

    def report_record(self, record: logging.LogRecord) -> None:
        """Report a record, in an `except`; count it if that has not been done."""
        error = sys.exc_info()[1]
        if not any(counted is record for counted in self._counted):
            self.count(error)
        self._report.rejected(what_is_wrong(error), where(record))

    def report_call(self, error: InvalidEvent, where: str) -> None:
        """Report an invalid event of a call; it has been counted."""
        self._report.rejected(str(error), where)
