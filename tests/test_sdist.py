"""The sdist: all that its tests and its readers need."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [".ci", ".github", "examples", "htlogging", "tests"]
FILES = [
    ".importlinter",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
]
BUILD = "import build_backend as b, sys; print(b.build_sdist(sys.argv[1]))"


@pytest.fixture
def source(tmp_path):
    """Return a copy of the project, so that building leaves nothing in it."""
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    return source


class TestSdist:
    @pytest.mark.slow
    def test_has_every_file_of_the_project(self, source, tmp_path):
        """Tests with their helpers, examples and CHANGELOG.md are in the sdist."""
        wanted = {
            path.relative_to(source).as_posix()
            for path in source.rglob("*")
            if path.is_file()
        }
        subprocess.run(
            [sys.executable, "-c", BUILD, str(tmp_path)],
            cwd=source,
            env={"PYTHONPATH": ".ci", "PATH": "/usr/bin:/bin"},
            check=True,
            timeout=300,
        )
        (built,) = tmp_path.glob("htlogging-*.tar.gz")
        with tarfile.open(built) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        assert wanted - names == set()
