"""`logging.basicConfig` beside our handler on the root logger, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HANG = 60  # seconds: the guard, not a measurement


def run(script):
    """Return what a script writes to stderr, our own lines aside; it sends nothing."""
    script = f"import logging\nlogging.getLogger('htlogging').setLevel(60)\n{script}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "HTEVENTS_SEND": "0"},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=True,
    )
    return done.stderr.splitlines()


class TestBasicConfig:
    OURS = """
import htlogging
ours = htlogging.HtEventsHandler()
logging.root.addHandler(ours)
handlers = logging.root.handlers
"""
    LOG = """
log = logging.getLogger("shop")
log.info("Ordinary")
log.info("Order completed", extra={"ht_user_id": "u"})
"""

    def test_beside_ours(self):
        """It configures as without us; our handler stays, and has its events."""
        script = """
logging.basicConfig(level="INFO", format="%(name)s: %(message)s")
assert logging.root.handlers is handlers and type(handlers) is list
assert len(handlers) == 2 and handlers[0] is ours
"""
        lines = run(self.OURS + script + self.LOG)
        assert lines == ["shop: Ordinary", "shop: Order completed"]

    def test_as_without_us(self):
        """Twice is once; another handler is a configuration; nothing else changes."""
        script = """
logging.basicConfig(level="INFO", format="%(message)s")
logging.basicConfig(level="DEBUG", format="second %(message)s")
assert len(handlers) == 2 and logging.root.level == logging.INFO
assert logging.basicConfig.__name__ == "basicConfig"
"""
        assert run(self.OURS + script + self.LOG) == ["Ordinary", "Order completed"]

    def test_beside_another(self):
        """A handler that prints is a configuration."""
        script = """
logging.root.addHandler(logging.NullHandler())
logging.basicConfig(level="INFO")
assert len(handlers) == 2 and logging.root.level == logging.WARNING
"""
        assert run(self.OURS + script + self.LOG) == []

    def test_force(self):
        """It takes all handlers off, ours too, as the standard library says."""
        script = """
logging.basicConfig(level="INFO", format="%(message)s", force=True)
assert ours not in handlers and len(handlers) == 1
"""
        assert run(self.OURS + script + self.LOG) == ["Ordinary", "Order completed"]

    def test_a_mistake(self):
        """What it raises comes out, and our handler stays."""
        script = """
try:
    logging.basicConfig(colour="red")
except ValueError as exc:
    assert "colour" in str(exc)
else:
    raise AssertionError
assert logging.root.handlers is handlers and ours in handlers
"""
        assert run(self.OURS + script) == []

    @pytest.mark.parametrize("first", [True, False])
    def test_a_handler_that_it_is_given(self, first):
        """Ours may be among its `handlers`, first or later."""
        given = "logging.basicConfig(level='INFO', handlers=[ours])"
        ours = "import htlogging; ours = htlogging.HtEventsHandler()"
        prints = "logging.basicConfig(level='INFO', format='%(message)s')"
        script = [ours, *((given, prints) if first else (prints, given))]
        lines = run("\n".join(script) + self.LOG)
        assert lines == ["Ordinary", "Order completed"]
