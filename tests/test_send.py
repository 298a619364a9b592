"""`python -m htlogging send`: real files, a real collector."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import subprocess
import sys
import time
import tracemalloc
from datetime import datetime

import pytest
from script_runner import here, on_terminal
from test_data import DATA, FILES, LIMIT, calls_of, expected, size

import htlogging
from htlogging import HtEventsFormatter, InvalidEvent
from htlogging._cli.event_lines import event_of, has_id, id_of, parse
from htlogging.collector import Reply

HANG = 120  # seconds: the guard, not a measurement

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
]

TIME = "2024-03-12T09:30:00.123+00:00"


def environ(collector):
    """Return the environment of a process that sends to a collector."""
    return {
        **os.environ,
        "PYTHONIOENCODING": "utf-8",
        "HTEVENTS_HOST": collector.url,
        "HTEVENTS_WRITE_KEY": "KEY",
    }


def send(collector, *arguments, stdin=b""):
    """Run it to its end."""
    return here(
        *("send", *arguments),
        stdin=stdin,
        HTEVENTS_HOST=collector.url,
        HTEVENTS_WRITE_KEY="KEY",
    )


def start(collector, *arguments):
    """Start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "htlogging", "send", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ(collector),
    )


def line(**fields):
    """Return a line with these fields of a track event."""
    given = {"type": "track", "user_id": "u", "event": "E", **fields}
    return json.dumps({k: v for k, v in given.items() if v is not ...}) + "\n"


def write(path, *lines):
    """Write lines, and return the path."""
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


@pytest.fixture
def file(tmp_path):
    """Return a file of five events without message ids, two of them equal."""
    return write(
        tmp_path / "events.ndjson",
        *(line(properties={"n": n}, timestamp=TIME) for n in (0, 1, 1, 2, 3)),
    )


def numbers(collector):
    """Return the property `n` of each event that came in."""
    return [event["properties"]["n"] for event in collector.events]


def ids(collector):
    """Return the message ids that came in, in order."""
    return [event["messageId"] for event in collector.events]


def state_of(path):
    """Return what the state file says."""
    return json.loads(path.with_name(path.name + ".sent").read_text())


class TestSend:
    def test_plain_json(self, collector, tmp_path):
        """The facade's names make the events that the facade makes."""
        common = {"timestamp": "2024-03-12T10:30:00+01:00", "message_id": "m"}
        path = write(
            tmp_path / "f",
            line(properties={"price": 1.5}, anonymous_id="a", **common),
            json.dumps({"type": "identify", "user_id": 5, "traits": {"x": "é"}}) + "\n",
            json.dumps({"type": "page", "user_id": "u", "category": "C", "name": "N"})
            + "\n",
            json.dumps({"type": "group", "user_id": "u", "group_id": 7}) + "\n",
            json.dumps({"type": "alias", "user_id": "u", "previous_id": "p"}) + "\n",
            line(context={"ip": "1.2.3.4"}, integrations={"All": False}),
        )
        assert send(collector, path) == (0, "6 events sent\n", "")
        assert collector.problems == []
        library = {"name": "htlogging", "version": htlogging.__version__}
        first, identify, page, group, alias, last = collector.events
        assert first == {
            "type": "track",
            "event": "E",
            "userId": "u",
            "anonymousId": "a",
            "properties": {"price": 1.5},
            "context": {"library": library},
            "integrations": {},
            "timestamp": "2024-03-12T10:30:00.000+01:00",
            "messageId": "m",
        }
        assert (identify["userId"], identify["traits"]) == ("5", {"x": "é"})
        assert (page["category"], page["name"]) == ("C", "N")
        assert group["groupId"] == "7"
        assert (alias["previousId"], alias["userId"]) == ("p", "u")
        assert last["context"] == {"ip": "1.2.3.4", "library": library}
        assert last["integrations"] == {"All": False}

    def test_formatters_output(self, collector, tmp_path):
        """What `HtEventsFormatter` wrote goes as it is, whatever version wrote it."""
        path = tmp_path / "f"
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(HtEventsFormatter())
        log = logging.Logger("events")  # noqa: LOG001  (not kept)
        log.addHandler(handler)
        for n in range(10):
            log.info("Größe", extra={"ht_user_id": "u", "n": n, "x": 10**400})
        handler.close()
        text = path.read_text("utf-8").replace(htlogging.__version__, "0.0.0")
        path.write_text(text, "utf-8")
        assert send(collector, path).status == 0
        (request,) = collector.requests
        batch = ",".join(text.splitlines()).encode()
        assert request.body.startswith(b'{"batch":[' + batch + b"]")
        assert collector.problems == []

    def test_without_ids(self, file, collector):
        """Ids follow from the lines: the same every time, for equal lines different."""
        assert send(collector, file) == (0, "5 events sent\n", "")
        first = ids(collector)
        assert len(set(first)) == 5
        collector.clear()
        assert send(collector, file).status == 0
        assert ids(collector) == first
        # Mended: another line before them, other white space around them.
        text = file.read_text().replace("\n", " \r\n")
        write(file, line(properties={"n": 9}), text)
        collector.clear()
        assert send(collector, file).status == 0
        assert ids(collector)[1:] == first

    def test_invalid_lines(self, collector, tmp_path):
        """Each is told of by number and reason, without its values; the others go."""
        path = write(
            tmp_path / "f",
            "\ufeff" + line(properties={"n": 1}),
            "SECRET\n",
            "\n",
            line(properties={"n": "SECRET" * 10_000}),
            line(user_id=...),
            line(user_id=True),
            line(event=""),
            line(properties={"n": 2}),
        )
        with path.open("ab") as file:
            file.write(b'{"SECRET": "\xff"}\n')
            file.write(b'{"a":' * 100_000 + b"\n")
            file.write(b" " * 5_000_000 + b"SECRET\n")
            file.write(line(properties={"n": 3}).encode())
        status, out, err = send(collector, path)
        assert (status, out) == (1, "3 events sent; 8 lines invalid\n")
        told = err.splitlines()
        assert told[0] == "line 2: it is not JSON: Expecting value at column 1"
        assert told[1].startswith("line 4: ")
        assert "max_event_size is 32,768" in told[1]
        assert told[2] == "line 5: track needs user_id or anonymous_id"
        assert told[3].startswith("line 6: user_id must be a str that is not empty")
        assert told[4].startswith("line 7: event is empty")
        assert told[5] == "line 9: it is not UTF-8 text"
        assert told[6] == "line 10: it is nested too deeply"
        assert told[7] == "line 11: it is far too long: more than 4 MiB"
        assert "SECRET" not in err
        assert numbers(collector) == [1, 2, 3]

    def test_dry_run(self, collector, tmp_path):
        """All lines are checked, nothing is sent or written, no key is needed."""
        path = write(tmp_path / "f", line(), "x\n", line(), line())
        status, out, err = here("send", path, "--dry-run", HTEVENTS_WRITE_KEY="")
        assert (status, out) == (1, "3 events can be sent; 1 line invalid\n")
        assert err == "line 2: it is not JSON: Expecting value at column 1\n"
        write(path, line())
        ended = send(collector, path, "--dry-run")
        assert ended == (0, "1 event can be sent\n", "")
        assert list(tmp_path.iterdir()) == [path]
        assert collector.requests == []

    def test_empty_file(self, collector, tmp_path):
        """Nothing to send is sent well."""
        path = write(tmp_path / "f")
        assert send(collector, path) == (0, "0 events sent\n", "")
        assert collector.requests == []

    def test_stdin(self, file, collector):
        """`-` is stdin; it leaves no state, unless asked to."""
        ended = send(collector, "-", stdin=file.read_bytes())
        assert ended == (0, "5 events sent\n", "")
        assert numbers(collector) == [0, 1, 1, 2, 3]
        assert list(file.parent.iterdir()) == [file]
        state = file.with_name("state")
        for _ in range(2):
            ended = send(
                *(collector, "-", "--state", state, "--resume"),
                stdin=file.read_bytes(),
            )
            assert ended.status == 0
        assert len(collector.events) == 10

    def test_gzip(self, file, collector):
        """A name that ends in .gz is read as such."""
        packed = file.with_name("events.ndjson.gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        assert send(collector, packed).status == 0
        assert numbers(collector) == [0, 1, 1, 2, 3]

    def test_cut_gzip(self, collector, tmp_path):
        """What can be read of a damaged file is sent; then it says where it broke."""
        path = tmp_path / "f.gz"
        lines = [line(properties={"n": os.urandom(99).hex()}) for n in range(999)]
        data = gzip.compress("".join(lines).encode())
        path.write_bytes(data[: len(data) // 2])
        status, out, err = send(collector, path)
        count = len(collector.events)
        assert 0 < count < 999
        assert (status, out) == (1, f"{count} events sent\n")
        assert err.startswith(f"error: {path}: after line {count}: ")

    def test_refused_event(self, file, collector):
        """An event that the server refuses costs itself alone, and is told of."""
        collector.always(
            lambda request: Reply(400) if b'"n":2' in request.body else None
        )
        status, out, err = send(collector, file)
        assert (status, out) == (1, "4 events sent; 1 refused\n")
        assert err == ("line 4: refused: Bad Request (HTTP 400, 400, tries: 1)\n")
        assert sorted(numbers(collector)) == [0, 1, 1, 3]
        assert state_of(file)["lines"] == 5

    def test_refused_key(self, file, collector):
        """A refusal of them all ends it: the rest would be refused, too."""
        collector.always(401)
        status, out, err = send(collector, file)
        assert (status, out) == (1, "0 events sent\n")
        assert err == (
            "stopped: Unauthorized (HTTP 401, 401, tries: 1); "
            "--resume goes on from there\n"
        )
        assert len(collector.requests) == 1
        collector.always(None)
        assert send(collector, file, "--resume").status == 0
        assert numbers(collector) == [0, 1, 1, 2, 3]

    def test_outage(self, file, collector):
        """An outage that outlasts the retries ends it."""
        collector.always(Reply(503, retry_after=0))
        status, out, err = send(collector, file, "--max-retries", "2")
        assert (status, out) == (1, "0 events sent\n")
        assert err.count("no success yet (HTTP 503") == 3
        assert "stopped: " in err
        assert len(collector.requests) == 3

    def test_rate(self, collector, tmp_path):
        """At most that many events a second, a request for each second."""
        path = write(tmp_path / "f", *(line(properties={"n": n}) for n in range(50)))
        began = time.monotonic()
        assert send(collector, path, "--rate", "20.5").status == 0
        assert [len(request.events) for request in collector.requests] == [20, 20, 10]
        assert time.monotonic() - began >= 40 / 20.5

    def test_large_events(self, collector, tmp_path):
        """--max-event-size is the setting of that name."""
        path = write(tmp_path / "f", line(properties={"x": "x" * 2_000}))
        ended = send(collector, path, "--max-event-size", "1000")
        assert ended[:2] == (1, "0 events sent; 1 line invalid\n")
        ended = send(collector, path, "--max-event-size", "1")
        assert ended[2].startswith("error: max_event_size must be 256 to")

    @pytest.mark.parametrize(
        ("arguments", "status", "text"),
        [
            (["/none/events"], 1, "error: /none/events: No such file or directory"),
            (["/"], 1, "error: /: Is a directory"),
            (["-", "--resume"], 2, "--resume needs --state"),
            (["f", "--rate", "0"], 2, "a rate is a number above 0"),
            (["f", "--rate", "x"], 2, "a rate is a number above 0"),
            ([], 2, "required: FILE"),
        ],
    )
    def test_mistakes(self, collector, arguments, status, text):
        """Errors are a line, and exit status 1; 2 for the command line's."""
        ended = send(collector, *arguments, stdin=b"")
        assert ended[:2] == (status, "")
        assert text in ended[2]

    def test_no_key(self, file):
        """Without a write key: a line that says where to put it."""
        assert here("send", file, HTEVENTS_WRITE_KEY="") == (
            1,
            "",
            "error: no write key: set HTEVENTS_WRITE_KEY, or give --write-key\n",
        )

    def test_interrupted(self, file, collector):
        """Ctrl+C: a line about how far it is, and the status of a shell."""
        collector.always(Reply(503, retry_after=300))
        process = start(collector, file)
        assert collector.wait_for_requests(1, HANG)
        assert process.stderr.readline().startswith(b"no success yet")
        process.send_signal(2)
        out, err = process.communicate(timeout=HANG)
        assert (process.returncode, out) == (130, b"")
        assert err == b"0 events sent; --resume goes on from there\ninterrupted\n"

    def test_progress(self, file, collector):
        """On a terminal there is a bar, taken away at the end."""
        write(file, *(line(properties={"n": n}) for n in range(5_000)))
        arguments = ("-m", "htlogging", "send", file, "--rate", "5000")
        ended = on_terminal(*arguments, **environ(collector))
        drawn = ended.err
        assert (ended.status, ended.out) == (0, "5,000 events sent\n")
        assert "\r\x1b[K[........................]   0%  0 events" in drawn
        assert drawn.endswith("\r\x1b[K")


class TestMemory:
    def test_a_million_values(self, collector, tmp_path):
        """A line of many small values, too large for an event, is not read."""
        many = "{}," * 900_000
        path = write(tmp_path / "f", f'{{"properties":[{many}1]}}\n', line())
        tracemalloc.start()
        try:
            status, out, err = send(collector, path, "--max-event-size", 470_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (status, out) == (1, "1 event sent; 1 line invalid\n")
        assert "far larger than allowed" in err
        assert peak < 30e6


class TestResume:
    def test_killed_half_way(self, collector, tmp_path):
        """Killed and resumed, each event arrives once."""
        lines = [line(properties={"n": n % 999}) for n in range(6_000)]
        path = write(tmp_path / "f", *lines)
        collector.script(Reply(), Reply(503, retry_after=300))
        process = start(collector, path)
        assert collector.wait_for_requests(2, HANG)
        process.kill()
        process.communicate(timeout=HANG)
        half = len(collector.events)
        assert 0 < half == state_of(path)["lines"] < 6_000
        assert send(collector, path, "--resume") == (
            0,
            f"6,000 events sent, {half:,} of them before\n",
            "",
        )
        assert numbers(collector) == [n % 999 for n in range(6_000)]
        assert len(set(ids(collector))) == 6_000

    def test_all_was_sent(self, file, collector):
        """When all was sent there is nothing to do; a file that grew has more."""
        assert send(collector, file).status == 0
        ended = send(collector, file, "--resume")
        assert ended == (0, "5 events sent, 5 of them before\n", "")
        with file.open("a") as more:
            more.write(line(properties={"n": 1}, timestamp=TIME))
        ended = send(collector, file, "--resume")
        assert ended == (0, "6 events sent, 5 of them before\n", "")
        assert numbers(collector) == [0, 1, 1, 2, 3, 1]
        assert len(set(ids(collector))) == 6

    def test_last_line_still_being_written(self, collector, tmp_path):
        """A last line that is not complete yet is looked at again."""
        whole = line(properties={"n": 1})
        path = write(tmp_path / "f", line(properties={"n": 0}), whole[:20])
        status, out, err = send(collector, path)
        assert (status, out) == (1, "1 event sent; 1 line invalid\n")
        assert err.startswith("line 2: it is not JSON")
        # Complete, but for its line break.
        write(path, line(properties={"n": 0}), whole.rstrip())
        ended = send(collector, path, "--resume")
        assert ended == (0, "2 events sent, 1 of them before\n", "")
        write(path, line(properties={"n": 0}), whole, line(properties={"n": 2}))
        ended = send(collector, path, "--resume")
        assert ended == (0, "3 events sent, 2 of them before\n", "")
        assert numbers(collector) == [0, 1, 2]

    def test_invalid_lines_stay_so(self, collector, tmp_path):
        """Lines that were invalid are counted in the end, though not told of again."""
        path = write(tmp_path / "f", line(), "x\n", "\n", line())
        assert send(collector, path).status == 1
        ended = send(collector, path, "--resume")
        text = "2 events sent, 2 of them before; 1 line invalid\n"
        assert ended == (1, text, "")

    @pytest.mark.parametrize("change", ["other", "shorter"])
    def test_changed_file(self, file, collector, change):
        """A file that does not begin with what was sent is told of; nothing is sent."""
        assert send(collector, file).status == 0
        collector.clear()
        text = file.read_text()
        write(file, text.replace("0", "7") if change == "other" else text[:200])
        before = state_of(file)
        status, out, err = send(collector, file, "--resume")
        assert (status, out) == (1, "")
        assert err == (
            f"error: {file}: its first 5 lines differ from those that were sent; "
            "run without --resume to send all lines\n"
        )
        assert collector.requests == []
        assert state_of(file) == before

    def test_nothing_to_resume(self, file, collector):
        """Without a state it begins at the first line, and says so."""
        status, out, err = send(collector, file, "--resume")
        assert (status, out) == (0, "5 events sent\n")
        assert err == "no earlier run was found: sending from the first line\n"

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"version": 2}', '{"version": 1}']
    )
    def test_no_state(self, file, collector, text):
        """A file that is no state is not taken for one, nor replaced."""
        state = write(file.with_name("state"), text)
        ended = send(collector, file, "--resume", "--state", state)
        assert ended == (
            1,
            "",
            f"error: {state}: not written by `send`; name another with --state\n",
        )
        assert state.read_text() == text

    def test_state_that_cannot_be_written(self, file, collector):
        """Without a place for the state it sends; with --state it says so instead."""
        (file.parent / "events.ndjson.sent").mkdir()
        status, out, err = send(collector, file)
        assert (status, out) == (0, "5 events sent\n")
        assert "cannot save the resume position: Is a directory; sending goes on" in err
        ended = send(collector, file, "--state", file.parent)
        assert ended[:2] == (1, "")
        ended = send(collector, file, "--resume")
        assert ended[:2] == (1, "")
        assert len(list(file.parent.iterdir())) == 2


@pytest.mark.skipif(not DATA.is_dir(), reason="the data are not beside the repository")
class TestStateFile:
    """A file is overwritten only if it is a state; whoever made it as a trap fails."""

    FOREIGN = "my only copy\n"

    def refused(self, collector, file, state, *more):
        """Send with a state that must not be touched; return what was said."""
        status, _, err = send(collector, file, "--state", state, *more)
        assert status == 1
        assert "Traceback" not in err
        assert collector.requests == []
        return err

    @pytest.mark.parametrize("more", [(), ("--resume",)])
    def test_a_foreign_file(self, file, collector, tmp_path, more):
        """A file that `send` has not written stays as it is."""
        state = tmp_path / "notes.txt"
        state.write_text(self.FOREIGN)
        said = self.refused(collector, file, state, *more)
        assert "not written by `send`" in said
        assert state.read_text() == self.FOREIGN

    def test_a_foreign_file_beside(self, file, collector):
        """The file beside the input that is not ours stays, and sending goes on."""
        beside = file.with_name(file.name + ".sent")
        beside.write_text(self.FOREIGN)
        status, _, err = send(collector, file)
        assert (status, "sending goes on" in err) == (0, True)
        assert beside.read_text() == self.FOREIGN

    def test_the_input(self, file, collector, tmp_path):
        """The input is not its own state, by whatever name."""
        before = file.read_bytes()
        other = tmp_path / "hard"
        other.hardlink_to(file)
        for name in (file, other):
            assert "this is the input" in self.refused(collector, file, name)
        assert file.read_bytes() == before

    def test_a_link(self, file, collector, tmp_path):
        """A link is not followed."""
        victim = tmp_path / "victim"
        victim.write_text(self.FOREIGN)
        link = tmp_path / "link"
        link.symlink_to(victim)
        assert "it is a link" in self.refused(collector, file, link)
        assert victim.read_text() == self.FOREIGN

    @pytest.mark.parametrize("kind", ["fifo", "folder"])
    def test_no_file(self, file, collector, tmp_path, kind):
        """What is no plain file is refused at once."""
        state = tmp_path / "state"
        state.mkdir() if kind == "folder" else os.mkfifo(state)
        self.refused(collector, file, state)

    @pytest.mark.parametrize(
        "text",
        [
            b"[" * 100_000,
            b"\xff\xfe",
            b"null",
            b'{"version": 1}',
            b'{"version":1,"lines":true,"sha256":"","delivered":0,"invalid":0,"refused":0}',
            b'{"version":1,"lines":-1,"sha256":"","delivered":0,"invalid":0,"refused":0}',
            b'{"version":1,"lines":1e3,"sha256":"","delivered":0,"invalid":0,"refused":0}',
            b'{"version":1,"lines":9999999999999999999999,"sha256":"","delivered":0,"invalid":0,"refused":0}',
            b'{"version":1,"lines":1,"sha256":7,"delivered":0,"invalid":0,"refused":0}',
            b'{"version":1,"lines":1,"sha256":"","delivered":"x","invalid":0,"refused":0}',
            b'{"version":1,"lines":1,"sha256":"","delivered":1,"invalid":1,"refused":0}',
            b'{"version":1,"lines":1,"sha256":"","delivered":1,"invalid":0,"refused":0,"x":0}',
        ],
    )
    def test_malformed(self, file, collector, tmp_path, text):
        """A state that was tampered with is one line, and no traceback."""
        state = tmp_path / "state"
        state.write_bytes(text)
        self.refused(collector, file, state, "--resume")
        assert state.read_bytes() == text

    def test_is_private(self, file, collector, tmp_path):
        """The state is its owner's alone; an empty file, as mktemp makes it, will do."""
        state = tmp_path / "state"
        state.touch(0o644)
        assert send(collector, file, "--state", state).status == 0
        assert state.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.glob("state*")] == ["state"]


class TestRealEvents:
    def write(self, path):
        """Write all events of all files as plain JSON; return them by line."""
        found = []
        with path.open("w", encoding="utf-8") as file:
            for name in FILES:
                for n, (kind, given) in enumerate(calls_of(name)):
                    plain = {**given, "type": kind}
                    plain["timestamp"] = given["timestamp"].isoformat()
                    if n % 2:
                        # Every other one has an id that follows from the line.
                        del plain["message_id"]
                    text = json.dumps(plain, ensure_ascii=False)
                    file.write(text + "\n")
                    found.append((kind, given))
        return found

    @pytest.mark.slow
    def test_killed_and_resumed(self, collector, tmp_path):
        """Each event within the limit arrives once, as given; ids never change, gzipped or not."""
        path = tmp_path / "events.ndjson"
        calls = self.write(path)
        events = (expected(kind, given) for kind, given in calls)
        good = [event for event in events if size(event) <= LIMIT]
        collector.script(*[Reply()] * 12, Reply(503, retry_after=300))
        process = start(collector, path)
        assert collector.wait_for_requests(13, HANG)
        process.kill()
        process.communicate(timeout=HANG)
        half = len(collector.events)
        assert 0 < half < len(good)
        status, out, err = send(collector, path, "--resume")
        large = len(calls) - len(good)
        text = f"{len(good):,} events sent, {half:,} of them before"
        assert (status, out) == (1, f"{text}; {large} lines invalid\n")
        assert large == sum(row[2] for row in FILES.values())
        assert all("max_event_size is 32,768" in line for line in err.splitlines())
        first = ids(collector)
        assert len(set(first)) == len(first) == len(good)
        for event, right in zip(collector.events, good, strict=True):
            bare = {k: v for k, v in event.items() if k != "context"}
            if len(bare["messageId"]) == 36:
                right = {**right, "messageId": bare["messageId"]}  # noqa: PLW2901
            assert bare == right
        assert collector.problems == []
        collector.clear()
        packed = tmp_path / "events.ndjson.gz"
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
        assert send(collector, packed).status == 1
        assert ids(collector) == first


def made(limit=32_768, **fields):
    """Return the event that a line with these fields makes."""
    text = line(**fields).strip().encode()
    made = event_of(text, parse(text), message_id="id", created=0.0, limit=limit)
    return json.loads(made)


class TestLines:
    @pytest.mark.parametrize(
        ("text", "timestamp"),
        [
            ("2024-03-12", "2024-03-12T00:00:00.000+00:00"),
            ("2024-03-12T09:30", "2024-03-12T09:30:00.000+00:00"),
            ("2024-03-12 09:30:01", "2024-03-12T09:30:01.000+00:00"),
            ("2024-03-12T09:30:01Z", "2024-03-12T09:30:01.000+00:00"),
            ("2024-03-12T09:30:01.5z", "2024-03-12T09:30:01.500+00:00"),
            ("2024-03-12T09:30:01,123456789Z", "2024-03-12T09:30:01.123+00:00"),
            ("2024-03-12T09:30:01+01", "2024-03-12T09:30:01.000+01:00"),
            ("2024-03-12T09:30:01-0130", "2024-03-12T09:30:01.000-01:30"),
            ("2024-03-12T09:30:01.999+05:30", "2024-03-12T09:30:01.999+05:30"),
            (None, "1970-01-01T00:00:00.000+00:00"),  # the moment of reading
        ],
    )
    def test_timestamps(self, text, timestamp):
        """ISO 8601 in its usual forms; without an offset it is UTC, always."""
        assert made(timestamp=text)["timestamp"] == timestamp

    def test_naive_now(self):
        """A time without an offset is UTC even when it is the local time of now."""
        now = datetime.now().isoformat(timespec="milliseconds")  # noqa: DTZ005
        assert made(timestamp=now)["timestamp"] == f"{now}+00:00"

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"timestamp": 1710235800}, "timestamp must be ISO 8601"),
            ({"timestamp": "yesterday"}, "timestamp must be ISO 8601"),
            ({"timestamp": "2024-02-30"}, "does not exist"),
            ({"timestamp": "2024-02-03T25:00:00Z"}, "does not exist"),
            ({"timestamp": "2024-02-03T01:00:00+99:00"}, "does not exist"),
            ({"type": ...}, "type must be one of these"),
            ({"type": "trakc"}, "type must be one of these"),
            ({"type": ["track"]}, "type must be one of these"),
            ({"propertes": {}}, "no such field: propertes"),
            ({"userId": "u"}, "user_id is given under two names"),
            ({"group_id": "g"}, "group_id does not go with track"),
            ({"event": ...}, "event is empty"),
            ({"traits": {"a": 1}}, "traits does not go with track"),
            ({"properties": [1]}, "properties must be a dict, not list"),
            ({"message_id": ""}, "message_id must be a str that is not empty"),
            ({"type": "alias", "event": None}, "alias needs previous_id"),
        ],
    )
    def test_mistakes(self, fields, text):
        """What would be lost or wrong at the warehouse is told, by the field's name."""
        with pytest.raises(InvalidEvent, match=text) as caught:
            made(**fields)
        assert "ht_" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (b"[]", "not a JSON object"),
            (b'{"a": NaN}', "NaN is not a JSON value"),
            (b"{" + b'"a":1' * 2 + b"}", "it is not JSON: Expecting"),
            (b'{"a": "\xff"}', "not UTF-8"),
        ],
    )
    def test_no_json(self, text, why):
        """Only JSON by RFC 8259 is taken."""
        with pytest.raises(InvalidEvent, match=why):
            parse(text)

    WIRE = (
        b'{"type": "track", "event":"E","userId":"u","context":{"library":{"name":'
        b'"x","version":"1"}},"timestamp":"2024-03-12T09:30:00Z","messageId":"m"'
    )

    def wire(self, end, limit=32_768):
        """Return what becomes of an event as sent, with more fields at its end."""
        text = self.WIRE + end + b"}"
        given = parse(text)
        return text, event_of(text, given, message_id="id", created=0.0, limit=limit)

    @pytest.mark.parametrize(
        "end", [b"", b',"more":1', b',"n":1.50e400', '  ,"t": "\u00e9"'.encode()]
    )
    def test_as_sent(self, end):
        """A valid event in the receiver's names is passed on byte by byte."""
        text, event = self.wire(end)
        assert event == text

    def test_half_a_character(self):
        """An escape of half a character is none of a valid event: it is replaced."""
        _, event = self.wire(b',"t":"a\\ud83d"')
        assert json.loads(event)["t"] == "a\ufffd"
        _, event = self.wire(b',"t":"\\ud83d\\ude00"')
        assert json.loads(event)["t"] == "\U0001f600"

    def test_white_space(self):
        """An event that is too large for its white space alone is written compactly."""
        text, event = self.wire(b" " * 1_000, limit=256)
        assert len(event) < 256 < len(text)
        assert json.loads(event) == json.loads(text)

    def test_receivers_names_incomplete(self):
        """An event in the receiver's names gets what it lacks."""
        event = made(user_id=..., userId=7, properties={"a": 1}, originalTimestamp=TIME)
        assert (event["userId"], event["messageId"]) == ("7", "id")
        assert event["timestamp"] == TIME
        assert event["context"]["library"]["name"] == "htlogging"

    def test_ids(self):
        """A line's id is a UUID that never changes from version to version."""
        assert id_of(b"digest", 1) == "6bf84927-e0b5-8779-8ec8-5528a2130969"
        assert id_of(b"digest", 2) != id_of(b"digest", 1)
        assert has_id({"messageId": "m"})
        assert has_id({"message_id": 5})
        assert not has_id({"messageId": None})


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self):
        """Say so."""
        return True


class TestProgress:
    def test_drawing(self):
        """It draws at once, then not again within a moment, and clears what it drew."""
        from htlogging._cli.terminal.console import Progress

        stream = Terminal()
        progress = Progress(10, stream)
        progress.update(5, "five")
        progress.update(6, "six")
        bar = "[############............]  50%  five"
        assert stream.getvalue() == f"\r\x1b[K{bar}"
        progress.clear()
        progress.clear()
        assert stream.getvalue() == f"\r\x1b[K{bar}\r\x1b[K"

    def test_blank_line_of_a_pipe(self):
        """A total of nothing is an unknown one."""
        from htlogging._cli.terminal.console import Progress

        stream = Terminal()
        Progress(0, stream).update(0, "none")
        assert stream.getvalue() == "\r\x1b[Knone"

    def test_unknown_total(self):
        """Where the total is not known there is no bar, only the text."""
        from htlogging._cli.terminal.console import Progress

        stream = Terminal()
        Progress(None, stream).update(5, "five")
        assert stream.getvalue() == "\r\x1b[Kfive"

    def test_no_terminal(self):
        """Elsewhere nothing is drawn."""
        from htlogging._cli.terminal.console import Progress

        stream = io.StringIO()
        Progress(10, stream).update(5, "five")
        assert stream.getvalue() == ""
