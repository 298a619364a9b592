"""What a line says of a record that makes no event: what is wrong, and where it is from."""

from __future__ import annotations

from htlogging.exceptions import DeliveryError, HtLoggingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging


def what_is_wrong(error: BaseException | None) -> str:
    """Return what is wrong with a record, without a value from it."""
    # Our own texts contain no value; a server's may quote an event.
    if isinstance(error, HtLoggingError) and not isinstance(error, DeliveryError):
        return str(error)
    if error is None:
        return "it makes no event"
    # An error of a filter or of a formatter's hook: its text may contain anything.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    at = ""
    if trace is not None:
        at = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return f"a filter, a formatter or a value raised {type(error).__name__}{at}"


def where(record: logging.LogRecord) -> str:
    """Return where a record was logged, for a line."""
    return f"{record.name!r} at {record.pathname}:{record.lineno}"
