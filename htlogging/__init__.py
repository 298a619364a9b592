"""
Customer events as structured log records, delivered to Hightouch.

There are three ways in: a handler for `logging.config.dictConfig`, the facade `htevents`,
and a client of its own. docs/quickstart.md shows them.
"""

from __future__ import annotations

from htlogging._handler import HtEventsHandler
from htlogging._version import __version__
from htlogging.context import bind, bound, clear, get, scope, unbind
from htlogging.exceptions import (
    DeliveryError,
    EventTooLarge,
    HtLoggingError,
    InvalidEvent,
    InvalidField,
    InvalidSetting,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging import collector, htevents, metrics, types  # noqa: F401  (attributes)
    from htlogging._formatter import HtEventsFormatter
    from htlogging._health import Health, health

__all__ = [
    "DeliveryError",
    "EventTooLarge",
    "Health",
    "HtEventsFormatter",
    "HtEventsHandler",
    "HtLoggingError",
    "InvalidEvent",
    "InvalidField",
    "InvalidSetting",
    "__version__",
    "bind",
    "bound",
    "clear",
    "get",
    "health",
    "htevents",
    "metrics",
    "scope",
    "unbind",
]


# The public modules, imported when they are first used.
_MODULES = ("collector", "htevents", "integrations", "metrics", "testing", "types")


# Type checkers do not see this: for them a name that does not exist is an error.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # PEP 562: python-json-logger is imported when the formatter is used, the facade
        # when it is called.
        if name == "HtEventsFormatter":
            from htlogging._formatter import HtEventsFormatter

            return HtEventsFormatter
        if name in ("Health", "health"):
            from htlogging import _health

            return getattr(_health, name)
        if name in _MODULES:
            # Without `importlib`, which would be one more module to import.
            import sys

            __import__(f"{__name__}.{name}")
            return sys.modules[f"{__name__}.{name}"]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
