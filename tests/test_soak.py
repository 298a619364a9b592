"""
The hunts of tests/soak: a short form, and minutes of each with `-m soak`.

Other short forms are in `test_interruptions.py`, `test_spool_hunts.py` and `test_chaos.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parent / "soak"

# Seconds that a hunt may take longer than it is told to.
HANG = 300

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, forks, a spool")


def hunt(script, *arguments, seconds):
    """Run a hunt to its end; it says what it has found."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SOAK / script, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        timeout=seconds + HANG,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def lengths(short, long):
    """Have a test run for a short time, and for a long one with the marker `soak`."""
    slow = pytest.param(short, marks=pytest.mark.slow)
    return pytest.mark.parametrize(
        "length", [slow, pytest.param(long, marks=pytest.mark.soak)]
    )


@pytest.mark.soak
class TestInterruptions:
    @pytest.mark.parametrize("way", ["memory", "spool"])
    @pytest.mark.parametrize("call", ["track", "logging", "flush", "close"])
    def test_exceptions_of_a_signal_handler(self, tmp_path, call, way):
        """What was accepted arrives by itself, once; what was raised comes out."""
        spool = ["--spool", tmp_path / "spool"] if way == "spool" else []
        arguments = ["--call", call, "--seconds", 60, *spool]
        hunt("interruptions.py", *arguments, seconds=60)

    def test_in_a_spool(self):
        """Nothing is lost but, perhaps, the event that was cut short."""
        hunt("spool_interruptions.py", 60, seconds=60)


class TestForks:
    @lengths(5, 600)
    @pytest.mark.parametrize("way", ["memory", "spool"])
    def test_beside_threads_that_track(self, way, length):
        """No child hangs, no file is damaged, nothing accepted is lost."""
        hunt("forks.py", length, way, seconds=length)


class TestDamage:
    @lengths(12, 200)
    def test_bytes_flipped_cut_or_taken(self, length):
        """Nothing invalid is sent, what is lost is told; `length` is of rounds."""
        hunt("damage.py", length, seconds=length)


@pytest.mark.soak
class TestChaos:
    def test_killed_at_any_moment(self):
        """Every event whose call returned arrives; thousands of processes are killed."""
        hunt("chaos.py", "--rounds", 5_000, seconds=5_000)
