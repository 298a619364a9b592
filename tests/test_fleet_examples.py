"""The files of examples/fleet are what systemd and Kubernetes take."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from htlogging._cli.main import main

FLEET = Path(__file__).parent.parent / "examples/fleet"


def options_of(command):
    """Return the options of a command line of `relay`."""
    words = command if isinstance(command, list) else shlex.split(command)
    assert words[1:4] == ["-m", "htlogging", "relay"]
    return [word for word in words[4:] if word.startswith("--")]


def known(capsys):
    """Return what `relay run --help` shows."""
    with pytest.raises(SystemExit):
        main(["relay", "run", "--help"])
    return capsys.readouterr().out


class TestSystemd:
    def test_command(self, capsys):
        """The unit's command line is one that there is."""
        parser = RawConfigParser(strict=False)
        parser.optionxform = str
        parser.read_string((FLEET / "htlogging-relay.service").read_text())
        shown = known(capsys)
        found = options_of(parser["Service"]["ExecStart"])
        assert found
        assert all(option in shown for option in found)

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd")
    def test_verify(self):
        """Systemd finds nothing wrong with the unit but what is not on this machine."""
        done = subprocess.run(
            ["systemd-analyze", "verify", str(FLEET / "htlogging-relay.service")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = [
            line
            for line in done.stderr.splitlines()
            if "htlogging-relay.service" in line and "not executable" not in line
        ]
        assert lines == []


class TestKubernetes:
    def test_manifest(self, capsys):
        """The manifest's command line is one that there is, and it keeps no secret."""
        yaml = pytest.importorskip("yaml")
        found = yaml.safe_load((FLEET / "relay.yaml").read_text())
        (container,) = found["spec"]["template"]["spec"]["containers"]
        shown = known(capsys)
        assert all(option in shown for option in options_of(container["command"]))
        assert all("valueFrom" in variable for variable in container["env"])
        grace = found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > 10  # shutdown_timeout
