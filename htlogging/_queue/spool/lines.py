"""The lines that a spool's queue writes: the file's trouble, and events that are lost."""

from __future__ import annotations

from contextlib import suppress

from htlogging._stats import figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._queue.spool.ledger import Ledger
    from htlogging._queue.spool.maintenance import Maintenance
    from htlogging._report import Report


def report_trouble(maintenance: Maintenance, report: Report) -> None:
    """Report that the file cannot be used, and what maintenance has to say."""
    writes, reads = maintenance.no_writes, maintenance.no_reads
    trouble, writes.trouble = writes.trouble, ""
    if trouble:
        report.unspooled(trouble)
    trouble, reads.trouble = reads.trouble, ""
    if trouble:
        report.spool_unread(trouble)
    while maintenance.lines:
        with suppress(KeyError):
            kind, line = maintenance.lines.popitem()
            report.spool(kind, line)


def report_lost(ledger: Ledger, report: Report) -> None:
    """Report and count events that the file does not have any more."""
    lost, gone = ledger.take_lost()
    if gone:
        line = f"{gone} events are not in the spool any more: a command took them out"
        report.spool("gone", f"{line}, or the file was damaged")
    if lost:
        figures.failed("spool", lost)
        report.lost("failed", lost, "the spool was damaged")
