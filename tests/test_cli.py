"""`python -m htlogging` as people run it: real processes, their output and exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone

import pytest
import requests
import script_runner
from script_runner import HANG

from htlogging._cli.terminal.request_lines import Lines
from htlogging.collector import Collector

NOW = "2024-03-12T09:30:00.123+00:00"


def event(**fields):
    """Return a valid event with these fields."""
    return {
        "type": "track",
        "event": "Order completed",
        "userId": "user123",
        "context": {"library": {"name": "test", "version": "1"}},
        "timestamp": NOW,
        "messageId": "m1",
        **fields,
    }


def post(url, body, key="KEY"):
    """Send a body, and return the answer's status."""
    data = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"Content-Type": "application/json"}
    return requests.post(
        f"{url}/v1/batch", data=data, headers=headers, auth=(key, ""), timeout=HANG
    ).status_code


def batch(*events):
    """Return a request with these events."""
    return {"batch": list(events), "sentAt": NOW}


class Process:
    """`collect` on a free port; its output is read line by line."""

    def __init__(self, *arguments, stdout=subprocess.PIPE, **environ):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "htlogging", "collect", "--port", "0", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environ},
        )

    def line(self, stream="stdout"):
        """Return the next line of an output."""
        return getattr(self.popen, stream).readline().decode().rstrip("\r\n")

    def end(self, number=signal.SIGINT):
        """Send a signal; return the rest of both outputs, and the exit status."""
        self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=HANG)
        return (out or b"").decode(), err.decode(), self.popen.returncode


@contextmanager
def collecting(*arguments, **options):
    """Yield a process that is gone at the end, whatever happens."""
    process = Process(*arguments, **options)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.communicate(timeout=HANG)


def url_of(first_line):
    """Return the address in the line that begins the output."""
    return first_line.split("HTEVENTS_HOST=")[1].split()[0]


pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


class TestCollect:
    def test_a_session(self):
        """The address, a line for each event, problems, refusals and the sum."""
        with collecting() as process:
            first = process.line()
            url = url_of(first)
            assert first == (
                f"Listening on {url}; set HTEVENTS_HOST={url} "
                "HTEVENTS_WRITE_KEY=anything"
            )
            properties = {"product_id": "123", "revenue": 29.95}
            post(url, batch(event(properties=properties)))
            clock, _, rest = process.line().partition("  ")
            assert datetime.strptime(clock, "%H:%M:%S.%f")  # noqa: DTZ007
            assert rest == (
                "track     user123  Order completed  "
                '{"product_id":"123","revenue":29.95}'
            )
            post(url, batch(event(userId=None)))
            assert process.line().endswith("  track     -  Order completed")
            assert process.line().strip() == "! track needs userId or anonymousId"
            post(url, b'{"sentAt":"yesterday","batch":[]}')
            assert process.line().strip() == "! request: the batch is empty"
            assert process.line().strip().startswith("! request: sentAt must be")
            post(url, b"[]")
            assert process.line().endswith("  refused 400 Bad Request  POST /v1/batch")
            refusal = "! invalid_request: the body is not a JSON object"
            assert process.line().strip() == refusal
            counts = requests.get(f"{url}/_/counts", timeout=HANG).json()
            assert (counts["requests"], counts["events"], counts["bad"]) == (4, 2, 1)
            assert process.end() == (
                "2 events taken in, 1 with problems; 1 request refused\n",
                "",
                0,
            )

    def test_sigterm(self):
        """SIGTERM ends it as Ctrl+C does, open connections or not."""
        with collecting() as process, requests.Session() as session:
            session.get(url_of(process.line()), timeout=HANG)
            out, err, status = process.end(signal.SIGTERM)
            assert out.startswith("0 events taken in")
            assert (err, status) == ("", 0)

    @pytest.mark.once
    def test_json(self):
        """With --json stdout has events alone, one a line, as they were sent."""
        with collecting("--json") as process:
            url = url_of(process.line("stderr"))
            sent = event(properties={"text": "é\x7f\x9b\u2028😀\n\x1b[31m"})
            pretty = json.dumps(batch(sent, event()), indent=2, ensure_ascii=False)
            post(url, pretty.replace('"m1"', '"m1", "n": 1.50e400').encode())
            line = process.line()
            assert line.isascii()
            assert line.isprintable()
            assert '"n": 1.50e400' in line or '"n":1.50e400' in line
            assert json.loads(line.replace("1.50e400", "1")) == {**sent, "n": 1}
            assert json.loads(process.line())["event"] == "Order completed"
            post(url, batch(event(messageId=None)))
            assert json.loads(process.line()) == event(messageId=None)
            assert process.line("stderr").strip().startswith("! messageId must be")
            post(url, b"{")
            assert "refused 400" in process.line("stderr")
            out, err, status = process.end()
            assert (out, status) == ("", 0)
            assert err.endswith(
                "3 events taken in, 1 with problems; 1 request refused\n"
            )

    @pytest.mark.once
    def test_single_event_as_json(self):
        """An event of its own endpoint is printed with its type, without the key."""
        with collecting("--json") as process:
            url = url_of(process.line("stderr"))
            body = {"userId": "u", "writeKey": "SECRET", "sentAt": NOW}
            requests.post(f"{url}/v1/identify", json=body, timeout=HANG)
            assert json.loads(process.line()) == {"type": "identify", "userId": "u"}

    @pytest.mark.once
    def test_write_key(self):
        """Another key is refused, and no key is ever printed."""
        with collecting("--write-key", "SECRET") as process:
            first = process.line()
            url = url_of(first)
            assert first.endswith("HTEVENTS_WRITE_KEY=<the one given>")
            assert post(url, batch(event()), key="SECRET") == 200
            assert post(url, batch(event()), key="SECRET2") == 401
            out, err, status = process.end()
            assert "refused 401" in out
            assert (err, status) == ("", 0)
            assert "SECRET" not in first + out

    @pytest.mark.parametrize("arguments", [(), ("--json",)])
    @pytest.mark.once
    def test_terminal_escapes(self, arguments):
        """No control character of an event reaches the output, wherever it was."""
        nasty = "\x1b[2J\x07\x9b31m\r\n\u202ex"
        wrong = event(event=nasty, userId=nasty, properties={nasty: nasty})
        with collecting(*arguments) as process:
            url = url_of(process.line("stderr" if arguments else "stdout"))
            post(url, batch(wrong, event(type=nasty)))
            requests.post(f"{url}/%1b/\x9b31m", data=b"", timeout=HANG)
            out, err, status = process.end()
        assert status == 0
        assert not [c for c in out + err if c != "\n" and not c.isprintable()]

    @pytest.mark.once
    def test_ascii_output(self):
        """A name that the output's encoding lacks is escaped."""
        with collecting(PYTHONIOENCODING="ascii") as process:
            url = url_of(process.line())
            post(url, batch(event(event="Größe")))
            assert "Gr\\xf6\\xdfe" in process.line()

    def test_port_in_use(self):
        """A port that another has: one line, and exit status 1."""
        with Collector() as other:
            port = other.url.rpartition(":")[2]
            ended = script_runner.here("collect", "--port", port)
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.startswith(f"cannot listen on port {port}: ")
        assert ended.err.count("\n") == 1

    @pytest.mark.once
    def test_reader_that_goes(self):
        """When its output has no reader any more, it ends by itself, with status 0."""
        with collecting() as process:
            url = url_of(process.line())
            process.popen.stdout.close()
            with suppress(requests.ConnectionError):  # it may end before it answers
                post(url, batch(event()))
            assert process.popen.wait(HANG) == 0
            assert process.popen.stderr.read() == b""

    @pytest.mark.parametrize("arguments", [(), ("--json",)])
    @pytest.mark.once
    def test_deep_nesting(self, arguments, tmp_path):
        """An event at the edge of what can be parsed is answered, and shown somehow."""
        path = tmp_path / "out"
        with (
            path.open("wb") as out,
            collecting(*arguments, stdout=out) as process,
        ):
            port = self.port(process, path, arguments)
            for depth in (*range(800, 1_000, 5), *range(1_000, 5_400, 400)):
                inner = '{"a":' * depth + "1" + "}" * depth
                body = f'{{"batch":[{{"type":"track","properties":{inner}}}]}}'
                assert post(port, body.encode()) in (200, 400)
            assert process.end()[2] == 0
        assert b"Traceback" not in path.read_bytes()

    def port(self, process, path, arguments):
        """Return the address, also where stdout is a file."""
        if arguments:
            return url_of(process.line("stderr"))
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline:
            # Opened anew: a descriptor shared with the process would move its place.
            if (first := path.read_bytes()).endswith(b"\n"):
                return url_of(first.decode())
        raise TimeoutError


@pytest.mark.once
class TestPage:
    def test_has_all_requests(self):
        """The page of `collect` has the requests that came, not the last one alone."""
        with collecting() as process:
            url = url_of(process.line())
            for number in range(3):
                post(url, batch(event(messageId=str(number))))
            found = requests.get(f"{url}/_/events", timeout=HANG).json()
            page = requests.get(url, timeout=HANG)
            assert [one["event"]["messageId"] for one in found] == ["0", "1", "2"]
            assert page.headers["Content-Type"].startswith("text/html")
            process.popen.send_signal(signal.SIGINT)
            process.popen.wait(HANG)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["collect", "--port", "65536"], "a port is a number from 0 to 65535"),
            (["collect", "--port", "x"], "a port is a number from 0 to 65535"),
        ],
    )
    def test_mistakes(self, arguments, text):
        """A mistake on the command line is explained; exit status 2."""
        ended = script_runner.here(*arguments)
        assert ended.status == 2
        assert text in ended.err

    def test_bare(self):
        """Without a command it shows the help, which is no mistake."""
        ended = script_runner.here()
        assert (ended.status, ended.err) == (0, "")
        assert "collect" in ended.out


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.once
class TestTerminal:
    def read(self, **environ):
        """Return what a terminal of 60 columns is sent about a long event."""
        import fcntl
        import pty
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
        environ = {"NO_COLOR": "", **environ}
        with collecting(stdout=theirs, **environ) as process:
            os.close(theirs)
            with os.fdopen(ours, "rb", buffering=0) as terminal:
                text = b""
                while not text.endswith(b"anything\r\n"):
                    text = text + terminal.read(4096)
                url = url_of(text.decode())
                post(url, batch(event(properties={"x": "日本語" * 20}), event(type=5)))
                text = b""
                while text.count(b"\n") < 3:
                    text += terminal.read(4096)
                process.popen.send_signal(signal.SIGINT)
                while b"refused" not in text:
                    text += terminal.read(4096)
                process.popen.wait(HANG)
        return text.decode().split("\r\n")

    def test_colours_and_clipping(self):
        """Lines are coloured, and cut to the terminal's width by columns."""
        event_line, other, problem, *_ = self.read()
        assert "\x1b[32mtrack   \x1b[0m" in event_line
        assert event_line.endswith('{"x":"日…')
        assert "5" in other
        assert problem.startswith("\x1b[31m")

    def test_no_color(self):
        """NO_COLOR turns the colours off, the clipping stays."""
        event_line, *others = self.read(NO_COLOR="1")
        assert "\x1b" not in event_line + "".join(others)
        assert event_line.endswith('{"x":"日…')


class TestLines:
    @pytest.mark.parametrize(
        ("fields", "line"),
        [
            ({"type": "identify", "traits": {"a": 1}}, 'identify  u  {"a":1}'),
            (
                {"type": "page", "category": "Docs", "name": "A"},
                "page      u  Docs / A",
            ),
            ({"type": "screen", "name": None}, "screen    u"),
            ({"type": "group", "groupId": "g"}, "group     u  g"),
            ({"type": "alias", "previousId": "p"}, "alias     p -> u"),
            ({"type": "track", "event": "E", "userId": 5}, "track     5  E"),
            ({"userId": None, "anonymousId": "a"}, "null      ~a"),
        ],
    )
    def test_types(self, fields, line):
        """Each type shows who, what, and its own fields."""
        assert self.lines([{"userId": "u", **fields}], None)[0] == (
            f"09:30:00.123  {line}"
        )

    @pytest.mark.parametrize(
        ("width", "line"),
        [
            (0, ""),
            (1, "…"),
            (12, "09:30:00.123"),
            (14, "09:30:00.123"),
            (15, "09:30:00.123  …"),
            (27, "09:30:00.123  track     u"),
            (28, "09:30:00.123  track     u  …"),
            (29, "09:30:00.123  track     u  …"),  # two columns each
            (30, "09:30:00.123  track     u  日…"),
            (33, "09:30:00.123  track     u  日本e\u0301…"),  # a mark takes none
        ],
    )
    def test_width(self, width, line):
        """A line is cut with an ellipsis, in the columns it takes."""
        sent = {"type": "track", "userId": "u", "event": "日本" + "e\u0301" * 9}
        assert self.lines([sent], width)[0] == line

    def lines(self, events, width):
        """Return the lines about events that were received."""
        now = datetime(2024, 3, 12, 9, 30, 0, 123_456, timezone.utc)
        with Collector() as collector:
            post(collector.url, batch(*events))
            (request,) = collector.requests
        return list(Lines(lambda: width, colour=False).of(request, now))
