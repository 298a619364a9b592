"""Type checkers catch mistakes in calls, and find none in good ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CALLS = ROOT / "tests" / "typing" / "calls.py"
LINES = CALLS.read_text("utf-8").splitlines()
WRONG = {n for n, line in enumerate(LINES, 1) if line.endswith("  # wrong")}
HANG = 300  # seconds: the guard, not a measurement


def run(*command):
    """Run a checker to its end."""
    return subprocess.run(
        list(map(str, command)),
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG,
    )


def told(lines):
    """Return the text of lines, for a readable difference."""
    return {n: LINES[n - 1].strip() for n in sorted(lines)}


class TestCalls:
    def test_there_are_many(self):
        """The file has sixty calls and more, right and wrong."""
        assert len(WRONG) > 30
        assert sum("(" in line and line[0] not in "d @" for line in LINES if line) > 60

    @pytest.mark.slow
    def test_mypy(self, tmp_path):
        """Mypy judges each of them rightly."""
        if find_spec("mypy") is None:
            pytest.skip("mypy is not installed")
        options = ["--strict", "--python-version=3.10", f"--cache-dir={tmp_path}"]
        done = run(sys.executable, "-m", "mypy", "--config-file=", *options, CALLS)
        assert done.returncode in (0, 1), done.stderr
        found = re.findall(r"calls\.py:(\d+): error", done.stdout)
        assert told(map(int, set(found))) == told(WRONG), done.stdout

    @pytest.mark.slow
    def test_pyright(self):
        """So does pyright."""
        beside = Path(sys.executable).with_name("pyright")
        pyright = str(beside) if beside.exists() else shutil.which("pyright")
        if pyright is None or run(pyright, "--version").returncode:
            pytest.skip("pyright is not installed, or cannot get its node package")
        done = run(pyright, "--outputjson", "--pythonpath", sys.executable, CALLS)
        found = json.loads(done.stdout)["generalDiagnostics"]
        errors = [one for one in found if one["severity"] == "error"]
        lines = {one["range"]["start"]["line"] + 1 for one in errors}
        assert told(lines) == told(WRONG), json.dumps(errors, indent=1)
