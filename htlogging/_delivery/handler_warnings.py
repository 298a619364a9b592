"""What is odd about where a handler's events go, and where they come from: a line each."""

from __future__ import annotations

from htlogging._loggers.hierarchy import reached_twice
from htlogging._loggers.placement import oddities
from htlogging._report.process import unencrypted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from htlogging._report.report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Stats


def report_host(settings: Settings) -> None:
    """Report a host to which the write key goes unencrypted."""
    if settings.is_unencrypted():
        unencrypted(settings.host)


def report_duplicate(
    handler: logging.Handler,
    is_like: Callable[[logging.Handler], bool],
    report: Report,
) -> None:
    """Report a handler whose records another one sends to the same place, too."""
    logger = reached_twice(handler, is_like)
    if logger is not None:
        report.duplicate(logger)


def report_loggers(handler: logging.Handler, stats: Stats, report: Report) -> None:
    """Report loggers that have dropped what was meant as an event."""
    is_reached = bool(stats.accepted or stats.rejected or stats.dropped)
    for line in oddities(handler, is_reached=is_reached):
        report.odd_logger(line)
