"""Packages from npm, for the tests in a browser."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def installed(folder, package):
    """Install a package there; return its folder, or skip the test."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run(
        [npm, "install", *quiet, package],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install {package}: {done.stderr[-200:]}")
    return folder / "node_modules" / package
