"""An exception that is raised from outside inside a call leaves everything sound."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Seconds of each hunt. For minutes of them: tests/soak/interruptions.py.
SECONDS = os.environ.get("HTLOGGING_HUNT_SECONDS", "0.5")

HUNT = Path(__file__).parent / "soak" / "interruptions.py"

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="there is no such timer on Windows"
)


class TestInterruptions:
    @pytest.mark.parametrize("way", ["memory", "spool"])
    @pytest.mark.parametrize(
        "call", ["track", "logging", "flush", "close", "stats", "join"]
    )
    def test_at_random_moments(self, tmp_path, call, way):
        """What was accepted arrives by itself, once; what was raised comes out."""
        hunt(tmp_path, call, way, "signal")

    @pytest.mark.parametrize("way", ["memory", "spool"])
    @pytest.mark.parametrize("call", ["track", "flush"])
    def test_by_another_thread(self, tmp_path, call, way):
        """The same of what a thread sets in another one that is in a call."""
        hunt(tmp_path, call, way, "thread")


def hunt(tmp_path, call, way, by):
    """Interrupt calls for a while; nothing may be found."""
    command = [sys.executable, HUNT, "--seconds", SECONDS, "--call", call, "--by", by]
    if call not in {"track", "logging"}:
        # Seconds. What a hunt measures is how long a track takes.
        command += ["--longest", "0.0001"]
    if way == "spool":
        command += ["--spool", tmp_path / "spool"]
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
