"""Short forms of the hunts in tests/soak: signals, and forks, beside a spool in use."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")

SOAK = Path(__file__).parent / "soak"
HANG = 120


def load(name):
    """Return a script of tests/soak as a module."""
    spec = importlib.util.spec_from_file_location(name, SOAK / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    "coverage" in sys.modules, reason="coverage's lock is not re-entrant"
)
@pytest.mark.usefixtures("apart")
class TestInterruptions:
    # Raised in a callback of the garbage collector, it cannot be caught.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_in_track(self, tmp_path):
        """An exception at any bytecode of `track` loses nothing but, perhaps, itself."""
        assert "interruptions" in load("spool_interruptions").hunt(tmp_path, 3)


class TestForks:
    @pytest.mark.slow
    def test_while_threads_track(self):
        """Forks beside five busy threads harm neither the file nor the children."""
        script = SOAK / "forks.py"
        command = [sys.executable, "-W", "ignore", str(script), "5"]
        ended = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=HANG
        )
        assert ended.returncode == 0, ended.stderr
        assert "forks" in ended.stdout
        assert "lost" not in ended.stderr
