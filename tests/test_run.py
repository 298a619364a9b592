"""`python -m htlogging run COMMAND`: its events go to a collector of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import script_runner
from script_runner import HANG

TRACK = "from htlogging import htevents; htevents.track('ada', 'Order completed')"


def run(*command, **environ):
    """Run a command; return the exit status, stdout and stderr."""
    return script_runner.command("run", *command, **environ)


@pytest.mark.once
class TestRun:
    def test_shows_events(self):
        """The command's events are shown on stderr, whatever the environment says."""
        environ = {
            "HTEVENTS_HOST": "https://events.example.com",
            "HTEVENTS_WRITE_KEY": "REAL-KEY",
            "HTEVENTS_SEND": "0",
        }
        status, out, err = run("--", sys.executable, "-c", TRACK, **environ)
        assert (status, out) == (0, "")
        assert "track     ada  Order completed" in err
        assert "1 event taken in, 0 with problems; 0 requests refused" in err

    def test_leaves_the_spool_alone(self, tmp_path):
        """What waits in the user's spool for the real service stays there."""
        path = str(tmp_path / "events.spool")
        refused = {"HTEVENTS_HOST": "http://127.0.0.1:1", "HTEVENTS_WRITE_KEY": "K"}
        later = "; htevents.shutdown_timeout = 0.1; htevents.max_retries = 0; "
        code = TRACK.replace("; ", later).replace("completed", "waiting")
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **refused, "HTEVENTS_SPOOL": path},
            capture_output=True,
            timeout=HANG,
            check=True,
        )
        status, _, err = run(sys.executable, "-c", TRACK, HTEVENTS_SPOOL=path)
        assert status == 0
        assert "Order waiting" not in err
        assert "1 event taken in" in err

    @pytest.mark.parametrize(
        ("command", "status"),
        [
            ((sys.executable, "-c", "raise SystemExit(3)"), 3),
            ((sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"), 137),
        ],
    )
    def test_status(self, command, status):
        """The exit status is the command's."""
        assert run(*command)[0] == status

    @pytest.mark.parametrize(
        ("command", "status"),
        [(("no-such-command",), 127), ((os.devnull,), 126), ((), 2)],
    )
    def test_no_command(self, command, status):
        """What cannot be run has the exit status that a shell has for it."""
        assert script_runner.here("run", *command).status == status
