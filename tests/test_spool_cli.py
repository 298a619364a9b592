"""`python -m htlogging spool`: real spools, a real collector."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import contextmanager

import pytest
from script_runner import HANG, here, on_terminal
from spool_files import row_of

from htlogging._cli.main import main
from htlogging.collector import Reply

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="spools need POSIX"),
]

# Leaves three dead letters (HTTP 401) and five events that wait; then dies, or lives on
# until its stdin ends.
FILL = """
import os, sys
from htlogging.collector import Collector
from htlogging.htevents import Client

path, life = sys.argv[1:]
with Collector() as collector:
    collector.always(401)
    client = Client("KEY", host=collector.url, spool=path)
    for n in range(3):
        who = f"user{n}"
        traits = {"email": f"{who}@example.com", "text": "\\u202e\\x1b[31m\\x9bx"}
        client.identify(who, traits, message_id=f"dead{n}")
    assert client.flush(30)
    collector.always(503)
    for n in range(5):
        who = f"user{n}"
        client.track(
            who, "Order completed", {"email": f"{who}@example.com"},
            message_id=f"waiting{n}",
        )
    client.flush(0)
    print("ready", flush=True)
    if life == "lives":
        sys.stdin.read()
    os._exit(0)
"""


def spool(*arguments, host=None):
    """Run a command to its end."""
    key = None if host is None else "KEY"
    return here("spool", *arguments, HTEVENTS_HOST=host, HTEVENTS_WRITE_KEY=key)


def output(*arguments, host=None):
    """Run a command that goes well; return what it prints."""
    ended = spool(*arguments, host=host)
    assert (ended.status, ended.err) == (0, "")
    return ended.out


@contextmanager
def filling(path, life="dies"):
    """Yield the process that fills a spool, once it has."""
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, path, life],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=HANG)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return a folder with a spool whose process is dead."""
    folder = tmp_path_factory.mktemp("filled")
    with filling(folder / "events.db") as process:
        process.wait(HANG)
    return folder


@pytest.fixture
def path(filled, tmp_path):
    """Return a spool whose process is dead, of the test's own."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return tmp_path / "events.db"


def listed(path, *which):
    """Return what `list --json` tells of each event."""
    lines = output("list", path, "--json", *which).splitlines()
    return [json.loads(line) for line in lines]


def ids(path, *which):
    """Return the message ids in a spool."""
    return [found["event"]["messageId"] for found in listed(path, *which)]


WAITING = [f"waiting{n}" for n in range(5)]
DEAD = [f"dead{n}" for n in range(3)]


def sent(collector):
    """Return the message ids that came in, in order."""
    return [event["messageId"] for event in collector.events]


class TestStatus:
    def test_json(self, path):
        """How much there is, of whom, since when, and why letters are dead."""
        found = json.loads(output("status", path, "--json"))
        waiting, dead = found["waiting"], found["dead"]
        assert found["schema"] == 2
        assert found["files"]["PATH"] > 0
        assert (waiting["events"], dead["events"]) == (5, 3)
        assert waiting["orphaned"]["events"] == 5
        assert waiting["orphaned"]["bytes"] == waiting["bytes"] > 1000
        assert waiting["living"] == {
            "events": 0,
            "bytes": 0,
            "oldest": None,
            "newest": None,
        }
        assert waiting["oldest"] <= waiting["newest"]
        (reason,) = dead["reasons"]
        assert (reason["status"], reason["code"], reason["events"]) == (401, "401", 3)
        assert reason["latest"] >= dead["oldest"]
        assert reason["message"] == "Unauthorized"

    def test_table(self, path):
        """The same for people."""
        lines = output("status", path).splitlines()
        assert lines[0].startswith(f"{path}: schema version 2; bytes: file ")
        assert re.fullmatch(r"waiting +5  [\d,]+ bytes, \S+Z to \S+Z", lines[1])
        assert re.fullmatch(r"  of living processes +0", lines[2])
        assert re.match(r"  orphaned +5  ", lines[3])
        assert re.match(r"dead letters +3  ", lines[4])
        assert re.fullmatch(r"  HTTP 401 +3  latest \S+Z  Unauthorized", lines[5])

    def test_living_process(self, tmp_path):
        """Events of a process that lives are told apart; it is not disturbed."""
        path = tmp_path / "events.db"
        with filling(path, "lives"):
            found = json.loads(output("status", path, "--json"))["waiting"]
            assert (found["living"]["events"], found["orphaned"]["events"]) == (5, 0)
            assert {row["kind"] for row in listed(path, "--waiting")} == {"waiting"}
        found = json.loads(output("status", path, "--json"))["waiting"]
        assert (found["living"]["events"], found["orphaned"]["events"]) == (0, 5)

    def test_while_another_writes(self, path):
        """It reads while another process is in the middle of a write."""
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM dead")
        assert json.loads(output("status", path, "--json"))["dead"]["events"] == 3
        assert len(listed(path)) == 8
        other.execute("ROLLBACK")
        other.close()

    def test_without_lock_file(self, path):
        """Without PATH-lock no owner lives; the command makes none."""
        lock = path.with_name("events.db-lock")
        lock.unlink()
        assert json.loads(output("status", path, "--json"))["waiting"]["orphaned"]
        assert not lock.exists()


class TestErrors:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("status",),
            ("list",),
            ("show", "1"),
            ("replay",),
            ("drop", "--all", "--yes"),
            ("forget", "--user", "x"),
        ],
    )
    def test_no_file(self, tmp_path, arguments):
        """A file that is not there is told of in a line, and not made."""
        action, *others = arguments
        ended = spool(action, tmp_path / "none.db", *others, host="http://127.0.0.1:9")
        assert (ended.status, ended.out) == (1, "")
        assert ended.err == f"error: {tmp_path}/none.db: no such file\n"
        assert list(tmp_path.iterdir()) == []

    def test_other_files(self, tmp_path):
        """Neither text nor another program's database is taken for a spool."""
        text, database = tmp_path / "text", tmp_path / "database"
        text.write_text("no database " * 100)
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE dead (id)")
        connection.close()
        for path, why in (
            (text, "file is not a database"),
            (database, "not a spool but a database of another program"),
        ):
            ended = spool("status", path)
            assert ended.status == 1
            assert ended.err == f"error: {path}: {why}\n"

    def test_later_version(self, path):
        """A file of a later version is left alone."""
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        ended = spool("list", path)
        assert ended.status == 1
        assert "written by a later version of htlogging" in ended.err

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")
    def test_file_of_another_user(self, path):
        """Only a spool's owner changes it; others may look, if they can read it."""
        os.chown(path, 12345, -1)
        ended = spool("drop", path, "--all", "--yes")
        assert ended.status == 1
        assert ended.err == f"error: {path}: the file belongs to another user\n"
        assert len(listed(path)) == 8

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["drop"], "say what to drop"),
            (["drop", "--all"], "this drops 8 events for good; add --yes"),
            (["drop", "--dead"], "this drops 3 events for good; add --yes"),
            (["drop", "--id", "1"], "this drops 1 event for good; add --yes"),
            (["drop", "--all", "--dead"], "not allowed with"),
            (["forget"], "say whom to forget"),
            (["forget", "--user", ""], "say whom to forget"),
            (["list", "--limit", "-1"], "a limit is a whole number"),
            (["replay", "--only-status", "x"], "a status is a number such as 401"),
        ],
    )
    def test_usage(self, path, arguments, text):
        """A command line that makes no sense: exit status 2, nothing done."""
        ended = spool(arguments[0], path, *arguments[1:])
        assert (ended.status, ended.out) == (2, "")
        assert text in ended.err
        assert len(listed(path)) == 8


class TestDamaged:
    """Values of another type, such as a damaged file may hold."""

    VALUES = ("NULL", "'\x1b[31m'", "x'ff'", "9e999", "1e12")
    COLUMNS = ("at", "failed_at", "status", "code", "message", "tries")

    def test_no_traceback(self, path, capsys):
        """The commands show what is there."""
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE dead RENAME TO old")
            connection.execute(
                "CREATE TABLE dead (id INTEGER PRIMARY KEY, at, failed_at, status, code,"
                " message, tries, event, crc, body)"
            )
        connection.close()
        for column, value in itertools.product(self.COLUMNS, self.VALUES):
            with sqlite3.connect(path) as connection:
                connection.execute("REPLACE INTO dead SELECT * FROM old")
                connection.execute(f"UPDATE dead SET {column} = {value}")
            connection.close()
            for command in (
                ["status", path],
                ["status", path, "--json"],
                ["list", path],
                ["list", path, "--json"],
                ["show", path, "1"],
            ):
                assert main(["spool", *map(str, command)]) == 0
                assert "\x1b" not in capsys.readouterr().out

    def test_a_time_that_is_none(self, path, capsys):
        """It is a dash, or null."""
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE events SET at = 9e999")
        connection.close()
        assert main(["spool", "list", str(path), "--waiting", "--json"]) == 0
        for line in capsys.readouterr().out.splitlines():
            assert json.loads(line)["at"] is None
        assert main(["spool", "list", str(path), "--waiting"]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[1] == "-"
        assert main(["spool", "status", str(path)]) == 0
        assert "bytes, - to -" in capsys.readouterr().out


class TestList:
    def test_json(self, path):
        """All there is about each event, and the event itself, in ASCII."""
        text = output("list", path, "--json")
        assert text.isascii()
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["event"]["messageId"] for row in rows] == WAITING + DEAD
        waiting, dead = rows[0], rows[-1]
        assert waiting["kind"] == "orphaned"
        assert waiting.keys() == {"id", "kind", "at", "bytes", "event"}
        assert dead["kind"] == "dead"
        assert (dead["status"], dead["code"], dead["tries"]) == (401, "401", 1)
        assert dead["event"]["traits"]["text"] == "\u202e\x1b[31m\x9bx"

    def test_table(self, path):
        """A headline for each kind, a line for each event."""
        lines = output("list", path).splitlines()
        assert len(lines) == 10
        assert re.split(r"  +", lines[0]) == (
            "ID,TIME (UTC),TYPE,WHO,EVENT,BYTES,STATE".split(",")
        )
        found = re.split(r"  +", lines[1])
        assert re.fullmatch(r"\d+\.\d+", found[0])
        assert found[2:5] == ["track", "user0", "Order completed"]
        assert found[-1] == "orphaned"
        assert lines[6].split()[-2:] == ["STATUS", "REASON"]
        found = re.split(r"  +", lines[7])
        assert (found[0], found[2], found[3]) == ("1", "identify", "user0")
        assert found[-2:] == ["401", "Unauthorized"]

    def test_terminal(self, path):
        """On a terminal lines are cut to its width."""
        import fcntl
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
        subprocess.run(
            [sys.executable, "-m", "htlogging", "spool", "list", path],
            stdout=theirs,
            timeout=HANG,
            check=True,
        )
        os.close(theirs)
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            lines = terminal.read(65_536).decode().splitlines()
        assert len(lines) == 10
        assert max(map(len, lines)) == 60
        assert lines[1].endswith("…")

    def test_which(self, path):
        """--waiting and --dead choose, --limit bounds."""
        assert ids(path, "--waiting") == WAITING
        assert ids(path, "--dead") == DEAD
        assert ids(path, "--limit", "6") == [*WAITING, "dead0"]
        assert ids(path, "--limit", "0") == []

    def test_reader_that_goes(self, path):
        """`list | head` is no error."""
        reading, writing = os.pipe()
        os.close(reading)
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "htlogging", "spool", "list", path],
                stdout=writing,
                stderr=subprocess.PIPE,
                timeout=HANG,
                check=False,
            )
        finally:
            os.close(writing)
        assert (ended.returncode, ended.stderr) == (0, b"")


class TestShow:
    @pytest.mark.parametrize("kind", ["--waiting", "--dead"])
    def test_one_event(self, path, kind):
        """The event as a whole, safe for a terminal; with --json nothing else."""
        row = listed(path, kind)[1]
        text = output("show", path, row["id"])
        assert not [c for c in text if c != "\n" and not c.isprintable()]
        head, _, body = text.partition("{\n")
        assert json.loads("{" + body.replace("\\x9b", "")) is not None
        assert head.startswith(f"accepted   {row['at']}\n")
        assert ("HTTP 401" in head) == (kind == "--dead")
        line = output("show", path, row["id"], "--json")
        assert line.isascii()
        assert json.loads(line) == row["event"]

    @pytest.mark.parametrize("number", ["99", "1.1", "x", "9" * 19, "1." + "9" * 19])
    def test_no_such_event(self, path, number):
        """An id that is not there: one line."""
        ended = spool("show", path, number)
        assert ended.status == 1
        assert ended.err == f"error: {path}: there is no event {number}\n"


class TestDrop:
    @pytest.mark.parametrize(
        ("arguments", "left"),
        [
            (["--dead"], WAITING),
            (["--waiting"], DEAD),
            (["--all"], []),
            (["--id", "1", "--id", "3"], [*WAITING, "dead1"]),
        ],
    )
    def test_what_was_chosen(self, path, arguments, left):
        """With --yes it is gone, and only that."""
        text = output("drop", path, *arguments, "--yes")
        count = 8 - len(left)
        assert text.startswith(f"{count} events dropped\n")
        assert ("may still be sent" in text) == ("waiting0" not in left)
        assert ids(path) == left

    def test_waiting_event_by_id(self, path):
        """A waiting event has an id, too."""
        row = listed(path)[2]
        text = output("drop", path, "--id", row["id"], "--yes")
        assert text.startswith("1 event dropped\n")
        assert ids(path, "--waiting") == [i for i in WAITING if i != "waiting2"]

    def test_unknown_id(self, path):
        """All of the ids, or none."""
        ended = spool("drop", path, "--id", "1", "--id", "99", "--yes")
        assert ended.status == 1
        assert ended.err == "error: there is no event 99; nothing was dropped\n"
        assert len(listed(path)) == 8


class TestLivingProcess:
    # Has five events claimed and three more waiting when it says so; goes on when told.
    GO_ON = """
import os, sys
from htlogging.collector import Collector
from htlogging.htevents import Client

with Collector() as collector:
    collector.always(503)
    client = Client(
        "KEY", host=collector.url, spool=sys.argv[1], upload_size=5, upload_interval=60
    )
    for n in range(5):
        client.track("user1", "E", message_id=f"claimed{n}")
    assert collector.wait_for_requests(1, 30)
    for n in range(3):
        client.track("user1", "E", message_id=f"waiting{n}")
    print("ready", flush=True)
    sys.stdin.readline()
    collector.always(None)
    client.track("user1", "E", message_id="later")
    assert client.flush(60)
    stats = client.stats
    assert stats.accepted == stats.delivered == 6, stats
    print(*(event["messageId"] for event in collector.events))
"""

    @pytest.mark.parametrize(
        "arguments", [("drop", "--waiting", "--yes"), ("forget", "--user", "user1")]
    )
    def test_goes_on(self, tmp_path, arguments):
        """It sends what it had claimed, not what was taken out; later events, too."""
        path = tmp_path / "events.db"
        process = subprocess.Popen(
            [sys.executable, "-c", self.GO_ON, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdout.readline() == b"ready\n"
            action, *others = arguments
            assert "may still be sent" in output(action, path, *others)
            assert listed(path) == []
            out, _ = process.communicate(b"\n", timeout=HANG)
        finally:
            process.kill()
            process.wait(HANG)
        # In any order: after some answers of 503 the batch is tried in parts.
        found = sorted(out.decode().split())
        assert found == [*(f"claimed{n}" for n in range(5)), "later"]
        assert process.returncode == 0


def letter(n, body):
    """Return an event's number, checksum and body, as a dead letter has them."""
    event, _, crc, body = row_of(77, n, body)
    return event, crc, body


class TestReplay:
    def test_dead_letters(self, path, collector):
        """They arrive under their ids, and are gone from the spool."""
        text = output("replay", path, host=collector.url)
        assert text == "3 of 3 events delivered\n"
        assert sent(collector) == DEAD
        assert collector.problems == []
        assert ids(path) == WAITING

    def test_waiting(self, path, collector):
        """--waiting sends, first, events whose process died."""
        text = output("replay", path, "--waiting", host=collector.url)
        assert text == "8 of 8 events delivered\n"
        assert sent(collector) == WAITING + DEAD
        assert ids(path) == []

    def test_living_process_keeps_its_events(self, tmp_path, collector):
        """Events of a process that lives are its own to send."""
        path = tmp_path / "events.db"
        with filling(path, "lives"):
            text = output("replay", path, "--waiting", host=collector.url)
            assert text == "3 of 3 events delivered\n"
            assert sent(collector) == DEAD

    def test_nothing_to_do(self, path, collector):
        """An empty list is sent well; no request is made, options win over all."""
        text = output(
            *("replay", path, "--only-status", "403", "--only-status", "none"),
            *("--write-key", "KEY", "--host", collector.url),
        )
        assert text == "0 of 0 events delivered\n"
        assert collector.requests == []

    def test_only_status(self, path, collector):
        """Only letters that were refused with one of these statuses go."""
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE dead SET status = 403 WHERE id = 2")
            connection.execute("UPDATE dead SET status = NULL WHERE id = 3")
        connection.close()
        output("replay", path, "--only-status", "403", host=collector.url)
        assert sent(collector) == ["dead1"]
        output("replay", path, "--only-status", "none", host=collector.url)
        assert sent(collector) == ["dead1", "dead2"]
        assert ids(path, "--dead") == ["dead0"]

    def test_key_refused(self, path, collector):
        """Refused again they have the new reason; what was not tried is as it was."""
        collector.always(403)
        ended = spool("replay", path, "--waiting", host=collector.url)
        assert ended.status == 1
        assert ended.out == (
            "0 of 8 events delivered; 5 refused (`spool list --dead` says why); "
            "3 left as they were\n"
        )
        assert "stopped: Forbidden (HTTP 403" in ended.err
        assert [(row["status"], row["tries"]) for row in listed(path)] == [
            *[(401, 1)] * 3,
            *[(403, 1)] * 5,
        ]
        ended = spool("replay", path, host=collector.url)
        assert ended.status == 1
        assert [(row["status"], row["tries"]) for row in listed(path)] == [
            *[(403, 2)] * 3,
            *[(403, 2)] * 5,
        ]

    def test_one_bad_event(self, path, collector):
        """An event that is refused for itself costs itself alone."""
        collector.always(
            lambda request: Reply(400) if "dead1" in request.body.decode() else None
        )
        ended = spool("replay", path, host=collector.url)
        assert ended.status == 1
        assert ended.out.startswith("2 of 3 events delivered; 1 refused")
        assert sorted(sent(collector)) == ["dead0", "dead2"]
        (row,) = listed(path, "--dead")
        assert (row["event"]["messageId"], row["status"]) == ("dead1", 400)

    def test_refused_on_the_way(self, path, collector):
        """What is refused of the waiting events becomes a dead letter, tried once."""
        collector.always(
            lambda request: Reply(
                400 if "waiting1" in request.body.decode() else None,
                body=b'{"code":"invalid_event","message":"no"}',
            )
        )
        ended = spool("replay", path, "--waiting", host=collector.url)
        assert ended.out.startswith("7 of 8 events delivered; 1 refused")
        assert sum(b"waiting1" in r.body for r in collector.requests) == 3  # halves
        (row,) = listed(path)
        assert (row["event"]["messageId"], row["code"]) == ("waiting1", "invalid_event")
        line = output("list", path).splitlines()[1]
        assert line.endswith("  400     invalid_event: no")
        line = output("status", path).splitlines()[-1]
        assert line.endswith("  invalid_event: no")

    def test_large_letters(self, path, collector):
        """A request holds what fits into it, and the next one the rest."""
        body = '{"type":"track","event":"E","userId":"u","messageId":"%d","n":"%s"}'
        with sqlite3.connect(path) as connection:
            connection.executemany(
                "INSERT INTO dead VALUES (NULL, 0, 0, 400, '', '', 1, ?, ?, ?)",
                [letter(n, (body % (n, "x" * 30_000)).encode()) for n in range(40)],
            )
        connection.close()
        text = output("replay", path, "--only-status", "400", host=collector.url)
        assert text == "40 of 40 events delivered\n"
        assert sent(collector) == [str(n) for n in range(40)]
        assert len(collector.requests) == 3
        assert all(len(request.body) <= 475_000 for request in collector.requests)

    def test_outage(self, path, collector):
        """When the server cannot be reached all stays as it was; exit status 1."""
        collector.always(Reply(503, retry_after=0))
        ended = spool("replay", path, "--max-retries", "2", host=collector.url)
        assert ended.status == 1
        assert ended.out == "0 of 3 events delivered; 3 left as they were\n"
        assert ended.err.count("no success yet (HTTP 503") == 3
        assert len(collector.requests) == 3
        assert [row["status"] for row in listed(path, "--dead")] == [401] * 3

    def test_killed_half_way(self, path, collector):
        """Killed in the middle and run again: each is delivered, once."""
        # In requests of half the letters: the first is refused as too large.
        collector.script(413, Reply(), Reply(503, retry_after=300))
        process = subprocess.Popen(
            [sys.executable, "-m", "htlogging", "spool", "replay", path],
            env={
                **os.environ,
                "HTEVENTS_HOST": collector.url,
                "HTEVENTS_WRITE_KEY": "KEY",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert collector.wait_for_requests(3, HANG)
        process.kill()
        process.wait(HANG)
        assert ids(path, "--dead") == ["dead1", "dead2"]
        assert output("replay", path, host=collector.url).startswith("2 of 2")
        assert sent(collector) == DEAD

    def test_one_at_a_time(self, path, collector):
        """A second replay says that another is under way."""
        collector.script(Reply(503, retry_after=300))
        process = subprocess.Popen(
            [sys.executable, "-m", "htlogging", "spool", "replay", path],
            env={
                **os.environ,
                "HTEVENTS_HOST": collector.url,
                "HTEVENTS_WRITE_KEY": "KEY",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert collector.wait_for_requests(1, HANG)
            ended = spool("replay", path, host=collector.url)
        finally:
            process.kill()
            process.wait(HANG)
        assert ended.status == 1
        assert ended.err == "error: another replay of this spool is running\n"

    def test_no_key(self, path):
        """Without a write key: a line that says where to put it."""
        ended = spool("replay", path)
        assert ended.status == 1
        assert ended.err == (
            "error: no write key: set HTEVENTS_WRITE_KEY, or give --write-key\n"
        )

    def test_wrong_host(self, path):
        """A setting that cannot work: a line."""
        ended = spool("replay", path, "--host", "nowhere", "--write-key", "K")
        assert ended.status == 1
        assert ended.err.startswith("error: host must be a URL")
        assert ended.err.count("\n") == 1

    def test_progress(self, path, collector):
        """On a terminal there is a bar, taken away at the end."""
        ended = on_terminal(
            *("-m", "htlogging", "spool", "replay", path, "--waiting"),
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="KEY",
        )
        drawn = ended.err
        assert (ended.status, ended.out) == (0, "8 of 8 events delivered\n")
        assert "[###############.........]  62%  5 of 8 events" in drawn
        assert drawn.endswith("\r\x1b[K")


def traces(path, *texts):
    """Return which texts are in any byte of the spool's files."""
    found = set()
    for suffix in ("", "-wal", "-shm", "-journal", "-lock"):
        file = path.with_name(path.name + suffix)
        data = file.read_bytes() if file.exists() else b""
        found |= {text for text in texts if text.encode() in data}
    return found


class TestForget:
    TEXTS = ("user1", "user1@example.com", "user2", "user2@example.com")

    def test_no_byte_is_left(self, path):
        """Neither id nor e-mail is in any byte of the files; others' events stay."""
        assert traces(path, *self.TEXTS) == set(self.TEXTS)
        text = output("forget", path, "--user", "user1")
        assert text == (
            "1 waiting event and 1 dead letter removed\n"
            "Events that a running process is sending, or holds in memory, "
            "may still be sent.\n"
        )
        assert traces(path, *self.TEXTS) == {"user2", "user2@example.com"}
        assert ids(path) == [i for i in WAITING + DEAD if not i.endswith("1")]

    def test_beside_a_living_process(self, tmp_path):
        """So it is while a process has the file open, which goes on with it."""
        path = tmp_path / "events.db"
        with filling(path, "lives"):
            assert traces(path, *self.TEXTS) == set(self.TEXTS)
            output("forget", path, "--user", "user1", "--user", "user2")
            assert traces(path, *self.TEXTS) == set()
            assert len(listed(path)) == 4

    def test_what_was_delivered_before(self, path, collector):
        """Remains of the user's events that had left the file are overwritten too."""
        output("replay", path, "--waiting", host=collector.url)
        text = output("forget", path, "--user", "user1")
        assert text.startswith("0 waiting events and 0 dead letters removed\n")
        assert traces(path, *self.TEXTS) - {"user2", "user2@example.com"} == set()

    def test_many_events(self, tmp_path):
        """In a large file, many events of a user between others', of which none goes."""
        path = tmp_path / "events.db"
        with filling(path, "dies") as process:
            process.wait(HANG)
        body = '{{"type":"track","userId":"{}","anonymousId":null,"n":"{}"}}'
        with sqlite3.connect(path) as connection:
            connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                (
                    row_of(
                        77, n, body.format(f"many{n % 2}", f"{n % 2}" * 900).encode()
                    )
                    for n in range(3_000)
                ),
            )
        connection.close()
        assert traces(path, "many1") == {"many1"}
        text = output("forget", path, "--user", "many1")
        assert text.startswith("1,500 waiting events and 0 dead letters removed\n")
        assert traces(path, "many1", "1" * 100) == set()
        assert len(listed(path, "--waiting")) == 1_505

    @pytest.mark.parametrize(
        ("event", "user", "anonymous"),
        [
            ({"userId": "a"}, True, False),
            ({"userId": None, "anonymousId": "a"}, False, True),
            ({"userId": "b", "previousId": "a"}, True, True),
            ({"userId": "aa"}, False, False),
            ({"userId": "A"}, False, False),
            ({"userId": "b", "properties": {"userId": "a"}}, False, False),
            ({"userId": "b", "groupId": "a"}, False, False),
        ],
    )
    def test_whose_it_is(self, event, user, anonymous):
        """The ids match as whole strings; a previous id may be of either kind."""
        from htlogging._queue.spool.erasure import User

        body = json.dumps(event).encode()
        assert User(["a"], []).owns(body) is user
        assert User([], ["a"]).owns(body) is anonymous

    def test_dry_run(self, path):
        """--dry-run says how many, and changes nothing."""
        text = output("forget", path, "--user", "user1", "--dry-run")
        assert text == "1 waiting event and 1 dead letter would be removed\n"
        assert len(listed(path)) == 8

    def test_reader_in_the_way(self, path):
        """While another reads an old state, the log cannot be emptied: it says so."""
        from htlogging._queue.spool import admin
        from htlogging._queue.spool.erasure import User, forget

        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM dead").fetchone()
        view = admin.SpoolView(str(path), change=True, busy=0.0)
        try:
            with pytest.raises(admin.SpoolError, match="run this again"):
                forget(view, User(["user1"], []), dry_run=False)
            other.execute("COMMIT")
            forget(view, User(["user1"], []), dry_run=False)
        finally:
            view.close()
            other.close()
        assert traces(path, "user1@example.com") == set()

    def test_reader_that_ends(self, path):
        """It waits for one who uses the log, some time."""
        from htlogging._queue.spool.admin import SpoolView
        from htlogging._queue.spool.erasure import User, forget

        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM dead").fetchone()
        view = SpoolView(str(path), change=True)
        # As it is with one who copies the log: SQLite itself does not wait for that.
        view.connection.execute("PRAGMA busy_timeout = 0").fetchall()
        tries = []

        def traced(statement):
            if "wal_checkpoint" in statement:
                tries.append(statement)
                if len(tries) == 2:
                    other.execute("COMMIT")

        view.connection.set_trace_callback(traced)
        assert forget(view, User(["user1"], []), dry_run=False) == (1, 1)
        view.close()
        other.close()
        assert len(tries) == 2
        assert traces(path, "user1@example.com") == set()

    def test_writer_in_the_way(self, path):
        """So it does while another keeps writing."""
        from htlogging._queue.spool import admin
        from htlogging._queue.spool.erasure import User, forget

        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        view = admin.SpoolView(str(path), change=True, busy=0.0)
        try:
            with pytest.raises(
                admin.SpoolError, match=r"\(database is locked\); run this again"
            ):
                forget(view, User(["nobody"], []), dry_run=False)
        finally:
            view.close()
            other.close()
