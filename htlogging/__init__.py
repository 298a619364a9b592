"""Customer events as structured log records, delivered to Hightouch."""

from htlogging._version import __version__

__all__ = ["__version__"]
