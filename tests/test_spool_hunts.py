"""A short form of a hunt in tests/soak: signals beside a spool in use."""

import os
import sys

import pytest
from soak.spool_interruptions import hunt

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")


@pytest.mark.skipif(
    "coverage" in sys.modules, reason="coverage's lock is not re-entrant"
)
@pytest.mark.usefixtures("apart")
class TestInterruptions:
    # Raised in a callback of the garbage collector, it cannot be caught.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_in_track(self, tmp_path):
        """An exception at any bytecode of `track` loses nothing but, perhaps, itself."""
        assert "interruptions" in hunt(tmp_path, 3)
