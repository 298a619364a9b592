"""`python -m htlogging demo`: the main job, on this machine alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from script_runner import HANG, on_terminal

from htlogging._cli import demo as demo_command
from htlogging._cli import demo_app
from htlogging._cli.main import main
from htlogging.collector import Collector

# .ci/check runs the demo itself on each Python.
pytestmark = pytest.mark.once

TYPES = ("identify", "track", "page", "screen", "group", "alias")

# One that tells its process id, and ends only when it is made to.
ENDLESS = """
import os, sys, threading
print("pid", os.getpid(), file=sys.stderr, flush=True)
threading.Event().wait()
"""


def demo(cwd, *, launch=("-m", "htlogging", "demo"), **environ):
    """Run the demo in a folder to its end."""
    return subprocess.run(
        [sys.executable, *launch],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
        check=False,
    )


def refusing_port():
    """Return the number of a port on which no server listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def counters(**counts):
    """Return the code of an application that says so, and sends nothing."""
    said = {"accepted": 0, "queued": 0, "rejected": 0, "dropped": 0, **counts}
    return ("-c", f"print({json.dumps(said)!r})")


class TestDemo:
    def test_shows_that_all_arrives(self, tmp_path):
        """In an empty folder, without an account: all six types, twice, each once."""
        done = demo(tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        shown = Counter(line.split()[1] for line in done.stdout.splitlines()[2:16])
        assert set(shown) == set(TYPES)
        assert min(shown.values()) >= 2
        assert "OK: all 14 arrived, each exactly once." in done.stdout
        assert list(tmp_path.iterdir()) == []

    def test_ends_by_telling_the_way_to_the_real_service(self, tmp_path):
        """The last lines are a command for the same application, and its source."""
        *_, command, _, source = demo(tmp_path).stdout.splitlines()
        assert command.strip() == (
            "HTEVENTS_WRITE_KEY=... python -m htlogging._cli.demo_app"
        )
        # The installed package's, which need not be the one that is tested here.
        shown = Path(source.partition(": ")[2])
        assert shown.read_text() == Path(demo_app.__file__).read_text()

    def test_nothing_leaves_the_machine(self, tmp_path):
        """A host and a key in the environment get none of its events."""
        with Collector() as elsewhere:
            done = demo(
                tmp_path, HTEVENTS_HOST=elsewhere.url, HTEVENTS_WRITE_KEY="theirs"
            )
        assert done.returncode == 0
        assert elsewhere.requests == []

    @pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
    def test_a_proxy_is_passed_by(self, tmp_path, name):
        """Proxies of the environment are for others than the loopback interface."""
        proxy = f"http://127.0.0.1:{refusing_port()}"
        done = demo(tmp_path, **{name: proxy, "NO_PROXY": "", "no_proxy": ""})
        assert done.returncode == 0

    def test_output_in_ascii(self, tmp_path):
        """Where stdout is ASCII, names in another alphabet are written as escapes."""
        done = demo(tmp_path, PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert "Zo\\xeb" in done.stdout

    def test_is_a_command(self, capfd):
        """It is in the table of commands, and its status is the command's."""
        assert main(["demo"]) == 0
        assert "exactly once" in capfd.readouterr().out

    @pytest.mark.skipif(os.name != "posix", reason="terminals are another matter")
    def test_colours_on_a_terminal(self, tmp_path):
        """On a terminal the lines are coloured; its width is known."""
        ended = on_terminal(
            *("-m", "htlogging", "demo"), stream="stdout", cwd=tmp_path, NO_COLOR=None
        )
        assert ended.status == 0
        assert "\x1b[32mtrack" in ended.out


class TestOutcome:
    """The exit status, and the line that says why it is not 0."""

    def test_an_event_that_does_not_arrive(self, capfd):
        """What was accepted and is not there makes it fail."""
        assert demo_command.run(app=counters(accepted=3)) == 1
        err = capfd.readouterr().err
        assert err == (
            "FAILED: 3 events accepted, 0 refused, 0 arrived, 0 of them again\n"
        )

    def test_an_event_that_arrives_twice(self, capfd):
        """The same event a second time makes up for none that is missing."""
        code = """
import json
from htlogging.htevents import Client
client = Client()
for name in "AA":
    client.track("user123", name, message_id=name)
print(json.dumps(client.stats))
"""
        assert demo_command.run(app=("-c", code)) == 1
        assert "2 events accepted, 0 refused, 1 arrived, 1 of them again" in (
            capfd.readouterr().err
        )

    @pytest.mark.parametrize("name", ["rejected", "dropped"])
    def test_an_event_that_was_refused(self, capfd, name):
        """An event that the handler did not accept makes it fail as well."""
        assert demo_command.run(app=counters(**{name: 1})) == 1
        assert "0 events accepted, 1 refused" in capfd.readouterr().err

    def test_an_application_that_fails(self, capfd):
        """Its status is told."""
        assert demo_command.run(app=("-c", "raise SystemExit(3)")) == 1
        assert "the application ended with status 3" in capfd.readouterr().err

    @pytest.mark.parametrize("code", ["pass", "print('all is well')"])
    def test_an_application_that_does_not_tell(self, capfd, code):
        """Without its counters there is nothing to compare with."""
        assert demo_command.run(app=("-c", code)) == 1
        assert "did not print its counters" in capfd.readouterr().err

    def test_a_collector_that_does_not_start(self, capfd, tmp_path, monkeypatch):
        """What it said instead of its address is told."""
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\n"
            "if 'collect' in sys.orig_argv:\n"
            "    print('no loopback here', flush=True)\n"
            "    os._exit(1)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert demo_command.run() == 1
        assert capfd.readouterr().err == (
            "FAILED: the collector did not start\nno loopback here\n"
        )

    def test_a_collector_that_is_killed(self):
        """A line that ends within an event is a failure, not an event."""
        with pytest.raises(demo_command._Failed, match="stopped in the middle"):
            list(demo_command._shown(iter(['{"type": "tr'])))


class TestEnd:
    """No child is left behind."""

    @pytest.mark.parametrize("seconds", [0, 1])
    def test_has_a_deadline(self, capfd, seconds):
        """When time is up, at the very start or later, the children are killed."""
        assert demo_command.run(seconds, app=("-c", ENDLESS)) == 1
        said = capfd.readouterr().err.splitlines()
        assert said.pop() == f"FAILED: it did not end within {seconds} s"
        for line in said:
            assert is_gone(int(line.split()[1]))

    @pytest.mark.skipif(os.name != "posix", reason="signals are another matter")
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_signals_end_the_children_too(self, capfd, name):
        """Ctrl+C, and the polite end from outside, reach the application as well."""
        code = f"{ENDLESS.rsplit('threading', 1)[0]}import signal\n"
        code += f"os.kill(os.getppid(), signal.{name})\nthreading.Event().wait()"
        assert demo_command.run(app=("-c", code)) == 1
        pid, said = capfd.readouterr().err.splitlines()
        assert said == "FAILED: interrupted"
        assert is_gone(int(pid.split()[1]))

    @pytest.mark.skipif(os.name != "posix", reason="signals are another matter")
    def test_an_interrupted_command_leaves_nothing(self, tmp_path):
        """After Ctrl+C neither the application nor the collector runs any more."""
        code = f"from htlogging._cli import demo; demo.run(app=('-c', {ENDLESS!r}))"
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as process:
            url = process.stdout.readline().split()[4].rstrip(";")
            pid = int(process.stderr.readline().split()[1])
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HANG)
        assert is_gone(pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), HANG)

    @pytest.mark.skipif(os.name != "posix", reason="pipes are another matter")
    def test_nobody_reads_on(self, tmp_path):
        """`demo | head` ends without a traceback, and not as if all were well."""
        reader, writer = os.pipe()
        os.close(reader)
        with subprocess.Popen(
            [sys.executable, "-m", "htlogging", "demo"],
            cwd=tmp_path,
            stdout=writer,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(writer)
            _, said = process.communicate(timeout=HANG)
        assert (process.returncode, said) == (1, b"")


class TestApplication:
    """The demo's application by itself."""

    LAUNCH = ("-m", "htlogging._cli.demo_app")

    @pytest.fixture
    def events(self, tmp_path, collector):
        """Return what arrives when it is told to send there."""
        done = demo(
            tmp_path,
            launch=self.LAUNCH,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="KEY",
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["accepted"] == 14
        assert {request.write_key for request in collector.requests} == {"KEY"}
        assert collector.problems == []
        return collector.events

    def test_goes_where_the_environment_says(self, events):
        """With a key and a host it sends there, each event once."""
        assert len(events) == len({event["messageId"] for event in events}) == 14

    def test_both_ways_make_all_types(self, events):
        """Plain logging and the facade emit the same kinds of events."""
        web, app = (
            Counter(
                e["type"] for e in events if ids & {e["userId"], e.get("anonymousId")}
            )
            for ids in ({"ada", "visitor-7f3a"}, {"17850", "device-22c1"})
        )
        assert web == app
        assert set(app) == set(TYPES)

    def test_bound_fields_stay_with_their_request(self, events):
        """Each request's events carry its own fields, though both run at once."""
        for event in events:
            theirs = event.get("anonymousId") == "visitor-7f3a"
            assert ("campaign" in event.get("properties", {})) == theirs

    def test_needs_a_key(self, tmp_path):
        """Without a key it says what to set, and its status is 2."""
        done = demo(tmp_path, launch=self.LAUNCH, HTEVENTS_WRITE_KEY="")
        assert (done.returncode, done.stdout) == (2, "")
        assert "HTEVENTS_WRITE_KEY" in done.stderr
        assert "Traceback" not in done.stderr


def is_gone(pid):
    """Return whether no process has this number: it has ended and been waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
