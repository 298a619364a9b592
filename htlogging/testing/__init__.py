"""
Events in tests: they are kept instead of sent, and nothing leaves the machine.

`capture` is for unittest, Django's test runner and scripts. With pytest you need not call
it: the plugin comes with the package, and the fixture `ht_events` is the same list.
"""

from __future__ import annotations

from htlogging.testing._capture import capture
from htlogging.testing._events import Events

__all__ = ["Events", "capture"]
