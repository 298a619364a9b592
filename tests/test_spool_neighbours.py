"""A spool beside what others do: forks in the middle of SQLite, servers that quote users."""

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import closing

import pytest
from script_runner import HANG, here
from spool_files import row_of, sql

from htlogging._queue.scrubbing import scrubbed
from htlogging._queue.spool import connections
from htlogging._queue.spool.connection_pair import ConnectionPair
from htlogging._queue.spool.erasure import User
from htlogging._queue.spool.schema import SpoolUnavailable
from htlogging.collector import Reply
from htlogging.exceptions import DeliveryError
from htlogging.htevents import Client

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")


class TestProbe:
    @pytest.fixture
    def forked(self, monkeypatch):
        """Have this process be as a child that has not used SQLite yet."""
        monkeypatch.setattr(connections, "_state", connections._UNPROBED)
        monkeypatch.setattr(connections, "_PROBE", 0.05)

    @pytest.mark.usefixtures("forked")
    def test_answers(self, tmp_path):
        """A child whose SQLite answers uses it."""
        pair = ConnectionPair(str(tmp_path / "spool"))
        assert pair.read(sql, "SELECT 1") == [(1,)]
        assert connections._state == connections._NONE
        pair.reopen()

    @pytest.mark.usefixtures("forked")
    def test_hangs(self, tmp_path, monkeypatch):
        """One that waits for ever is not used, and nothing waits for it again."""
        over, connect = threading.Event(), connections._connect

        def hang(path, *, read_only):
            over.wait(HANG)
            return connect(path, read_only=read_only)

        monkeypatch.setattr(connections, "_connect", hang)
        pair = ConnectionPair(str(tmp_path / "spool"))
        try:
            for _ in range(2):
                with pytest.raises(
                    SpoolUnavailable, match="another thread used SQLite"
                ):
                    pair.read(sql, "SELECT 1")
        finally:
            over.set()

    def test_beside_the_applications_own(self, tmp_path, collector):
        """Children of a process whose threads use SQLite all the time do not hang."""
        script = """
            import os, signal, sqlite3, sys, threading
            from htlogging.htevents import Client
            client = Client("K", host=sys.argv[2], spool=sys.argv[1])
            client.track("u", "first")
            stop = threading.Event()
            def load():
                while not stop.is_set():
                    other = sqlite3.connect(":memory:")
                    other.execute("CREATE TABLE t (x)")
                    other.executemany("INSERT INTO t VALUES (?)", [("x" * 50,)] * 50)
                    other.close()
            for _ in range(3):
                threading.Thread(target=load).start()
            sys.setswitchinterval(1e-5)
            statuses = []
            for n in range(8):
                pid = os.fork()
                if not pid:
                    signal.alarm(30)
                    client.track("u", f"c{n}")
                    os._exit(0 if client.flush(20) else 3)
                statuses.append(os.waitpid(pid, 0)[1])
            stop.set()
            client.join()
            print(statuses)
        """
        ended = subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)),
                *(tmp_path / "spool", collector.url),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANG * 3,
        )
        assert ended.stdout == f"{[0] * 8}\n", ended.stderr
        names = {event["event"] for event in collector.events}
        assert names == {"first", *(f"c{n}" for n in range(8))}


class TestPause:
    def test_a_fork_between_the_look_and_the_lock(self, tmp_path):
        """Threads that open the file at the same time make one pair, whatever pauses."""
        script = """
            import os, sys, threading
            from htlogging._queue.spool import connections, registry, statements
            file = registry.shared(sys.argv[1])
            number = file.new_owner() << 27
            # Every thread finds it closed, and comes to open it one after another.
            file.reopen()
            start = threading.Barrier(6)
            def use(n):
                start.wait()
                if n % 2:
                    file.read(statements.next_owner, 0)
                else:
                    file.write(statements.insert, number + n + 1, b"x")
            threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(connections.count())
            pid = os.fork()
            if not pid:
                os._exit(connections.count() + len(connections._lost))
            print(os.waitpid(pid, 0)[1])
        """
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), tmp_path / "spool"],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        assert ended.stdout == "2\n0\n", ended.stderr


class TestReasons:
    EVENT = json.dumps(
        {"userId": "user1", "traits": {"email": "a@b.example", "n": [12345]}}
    ).encode()

    @pytest.mark.parametrize(
        ("message", "kept"),
        [
            ("no user user1", "no user [...]"),
            ("a@b.example is taken by 12345", "[...] is taken by [...]"),
            ("Unauthorized", "Unauthorized"),
        ],
    )
    def test_scrubbed(self, message, kept):
        """What an event of the batch holds is not in the reason of any of them."""
        failure = DeliveryError(400, "bad", message, 2)
        found = scrubbed(failure, [b"no JSON", self.EVENT])
        assert (found.message, found.status, found.tries) == (kept, 400, 2)

    def test_of_our_own(self):
        """Our own sentences quote nothing, and stay."""
        failure = DeliveryError(None, "spool", "too old", 2)
        assert scrubbed(failure, [b'{"x":"too old"}']).message == "too old"


def spool(*arguments):
    """Run a command on a spool."""
    words = map(os.fsdecode, arguments)
    return here("spool", *words, HTEVENTS_WRITE_KEY="K")


class TestForget:
    @pytest.fixture
    def path(self, tmp_path, collector):
        """Return a spool with two dead letters; the server named the one's user."""
        message = b'{"code":"bad","message":"user1@example.com of acme is wrong"}'
        collector.always(Reply(400, body=message))
        found = tmp_path / "events.db"
        client = Client("K", host=collector.url, spool=found, upload_size=1)
        client.track("user1", "A", {"email": "user1@example.com"})
        client.flush(HANG)
        client.track("user2", "B")
        client.join()
        return found

    def bytes_of(self, path):
        """Return all that is in the spool's files."""
        return b"".join(found.read_bytes() for found in path.parent.glob("events.db*"))

    def test_what_the_server_said_of_others(self, path):
        """No byte is left of it, on the others' dead letters either."""
        assert b"user1@example.com" in self.bytes_of(path)
        assert spool("forget", path, "--user", "user1").status == 0
        assert b"user1" not in self.bytes_of(path)
        assert b"acme" not in self.bytes_of(path)
        assert b"user2" in self.bytes_of(path)

    def test_damaged_files_beside_it(self, path):
        """They may hold more: the command says so, and does not say that it is done."""
        kept = path.parent / "events.db.damaged-20260101T000000Z"
        kept.write_bytes(b"user1")
        ended = spool("forget", path, "--user", "user1")
        assert ended.status == 1
        assert kept.name in ended.err
        kept.unlink()
        assert spool("forget", path, "--user", "user1").status == 0

    def test_damaged_rows(self, path):
        """Rows that cannot be read may be the user's, and go."""
        with closing(sqlite3.connect(path)) as connection:
            query = "INSERT INTO damaged VALUES (NULL, 0, 7, CAST('user1..' AS BLOB))"
            connection.execute(query)
            row = row_of(77, 1, b"user1, no JSON")
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)
            connection.commit()
        assert spool("forget", path, "--user", "user1").status == 0
        assert b"user1" not in self.bytes_of(path)

    @pytest.mark.parametrize(
        "event",
        [
            {"userId": 17},
            {"userId": 17.0},
            {"userId": ["17", "18"]},
            {"userId": {"id": 17}},
            {"previousId": [["17"]]},
        ],
    )
    def test_ids_that_a_formatter_made(self, event):
        """A number, or what is in a list, matches as its text."""
        body = json.dumps(event).encode()
        assert User(["17"], []).owns(body)
        assert not User(["1"], []).owns(body)

    @pytest.mark.parametrize(
        ("body", "user"),
        [
            (b'{"userId":1.10}', "1.10"),
            (b'{"userId":1.10}', "1.1"),
            (b'{"userId":1E3}', "1E3"),
            (b'{"userId":1E3}', "1000"),
            (b'{"userId":%s}' % (b"9" * 5_000), "9" * 5_000),
            (b'{"userId":"user1","userId":"b"}', "user1"),
            (b'{"userId":{"user1":true}}', "user1"),
            (b'{"userId":"us\\u0065r1"}', "user1"),
            (b'{"userId":true}', "true"),
            (b'{"userId":"caf\xef\xbf\xbd"}', "caf\udce9"),
            (b'["user1"]', "user1"),
            (b'{"userId":"user1"', "user1"),
            (b'{"userId":' + b"[" * 100_000, "user1"),
        ],
    )
    def test_ids_as_they_are_written(self, body, user):
        """What the file has matches, byte by byte, and what it means."""
        assert User([user], []).owns(body)

    def test_numbers_that_are_others(self):
        """Floats do not make one id of two."""
        body = b'{"userId":12345678901234567891}'
        assert not User(["12345678901234567168"], []).owns(body)
        assert User(["12345678901234567891"], []).owns(body)

    @pytest.mark.parametrize(
        "event",
        [
            {"userId": "x", "properties": {"by": "user1"}},
            {"userId": "x", "groupId": "user1"},
            {"userId": "x", "traits": [{"user1": 1}]},
        ],
    )
    def test_mentioned_by_others(self, path, event):
        """Others' events that mention the id stay, are named, and the status is 1."""
        with closing(sqlite3.connect(path)) as connection:
            row = row_of(77, 1, json.dumps(event).encode())
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)
            connection.commit()
        ended = spool("forget", path, "--user", "user1")
        assert ended.status == 1
        assert "mention the id" in ended.err
        assert "see 77.1 (" in ended.err
        assert b"user1@example.com" not in self.bytes_of(path)
        spool("drop", path, "--id", "77.1", "--yes")
        assert spool("forget", path, "--user", "user1").status == 0
        assert b"user1" not in self.bytes_of(path)

    def test_numbers_mention_no_one(self, path):
        """A number that is an id by chance is none."""
        with closing(sqlite3.connect(path)) as connection:
            row = row_of(77, 1, b'{"userId":"x","properties":{"quantity":17}}')
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)
            connection.commit()
        assert spool("forget", path, "--user", "17").status == 0

    def test_codes(self, path):
        """A server's code that has the id in it goes, too; others stay."""
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE dead SET code = 'no_user1' WHERE id = 2")
            connection.commit()
        assert spool("forget", path, "--user", "user1").status == 0
        assert b"user1" not in self.bytes_of(path)
        assert "HTTP 400" in spool("status", path).out

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE events SET crc = crc + 1",
            "UPDATE events SET id = -id",
            "UPDATE events SET id = id & 7",
            "UPDATE dead SET crc = 0, body = CAST('user1' AS BLOB)",
            "UPDATE dead SET id = -id",
        ],
    )
    def test_damaged_rows_that_were_not_set_aside(self, path, change):
        """A row whose checksum or id is wrong may be the user's, and goes."""
        with closing(sqlite3.connect(path)) as connection:
            row = row_of(77, 1, b'{"userId":"user1"}')
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row)
            connection.execute(change)
            connection.commit()
        assert spool("forget", path, "--user", "user1").status == 0
        assert b"user1" not in self.bytes_of(path)

    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
    def test_unfinished_copies(self, path, suffix):
        """What a process left that died amid a repair goes."""
        path.with_name(f"{path.name}.new{suffix}").write_bytes(b"user1")
        assert spool("forget", path, "--user", "user1").status == 0
        assert b"user1" not in self.bytes_of(path)

    def test_nothing_is_copied_elsewhere(self, path):
        """Rewriting the file uses no temporary one."""
        from htlogging._queue.spool.admin import SpoolView

        view = SpoolView(str(path), change=True)
        assert view.connection.execute("PRAGMA temp_store").fetchone() == (2,)
        view.close()


class TestPaths:
    @pytest.mark.parametrize("there", [False, True])
    @pytest.mark.parametrize(
        "arguments",
        [
            ["status"],
            ["list"],
            ["show", "1"],
            ["drop", "--all", "--yes"],
            ["forget", "--user", "a"],
        ],
    )
    def test_no_utf_8(self, tmp_path, there, arguments):
        """A path of any bytes has a message, not a traceback."""
        path = os.fsencode(tmp_path) + b"/\xff\xfe.db"
        if there:
            try:
                with open(path, "wb") as file:
                    file.write(b"no database" * 100)
            except OSError:
                pytest.skip("this file system takes no such name")
        ended = spool(arguments[0], path, *arguments[1:])
        assert ended.status == 1
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
        assert "Traceback" not in ended.err
