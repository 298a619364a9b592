"""The end of handlers."""

from __future__ import annotations

import pytest

from htlogging._process import shutdown
from htlogging._stats import Stats


class Pipeline:
    """Notes that it sends."""

    is_sending = False

    def start_flush(self):
        """Note that it sends before the first handler is closed."""
        self.is_sending = True


class Closing:
    """A handler whose close takes all its time, as with a dead server."""

    stats = Stats.none()

    def __init__(self, seconds, others=()):
        self.seconds = seconds
        self.others = others
        self.until = 0.0
        self.pipeline = Pipeline()
        shutdown.register(self, self.pipeline)

    def close(self):
        """Close others meanwhile."""
        assert self.pipeline.is_sending
        self.until = shutdown.deadline(self.seconds)
        shutdown.close_all(self.others)


class TestUnit:
    def test_close_all(self):
        """The time of all handlers begins with the first one: they take as long as one."""
        handlers = [Closing(1000.0), Closing(1000.0), Closing(3000.0)]
        shutdown.close_all(handlers)
        first, second, third = (handler.until for handler in handlers)
        assert first == second
        assert third - first == pytest.approx(2000.0)

    def test_one_inside_another(self):
        """An `on_error` that joins while all are closed gets no more time."""
        inner = Closing(1000.0)
        outer = Closing(1000.0, [inner])
        shutdown.close_all([outer])
        assert inner.until == outer.until

    def test_later(self):
        """What is closed by itself, later, has its own time."""
        early, late = Closing(1000.0), Closing(1000.0)
        shutdown.close_all([early])
        late.pipeline.start_flush()
        late.close()
        assert late.until > early.until
