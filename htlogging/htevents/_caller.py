"""Who has called the facade, and what is done about a mistake in the call."""

from __future__ import annotations

import sys

from htlogging._handler import pipeline_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from types import FrameType
    from typing import Any

    from htlogging._handler import HtEventsHandler
    from htlogging.exceptions import InvalidEvent


def refuse(
    error: InvalidEvent, handler: HtEventsHandler, logger: logging.Logger
) -> tuple[bool, dict[str, Any]]:
    """Raise an invalid event's error, or report it, as the setting `on_invalid` says."""
    pipeline = pipeline_of(handler)
    if pipeline.settings.on_invalid == "raise":
        raise error
    file, line, _ = caller()
    pipeline.rejections.report_call(error, f"{logger.name!r} at {file}:{line}")
    return False, {}


def caller() -> tuple[str, int, str | None]:
    """Return who called the facade; `Logger.findCaller` knows only calls of a `Logger`."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith("htlogging.htevents"):
            return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back
    return "(unknown file)", 0, None
