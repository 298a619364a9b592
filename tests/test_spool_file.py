"""The spool's file: opened by several, locked by the living, and not always usable."""

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import closing

import pytest
from script_runner import HANG
from spool_files import add_rows, make_version_1, row_of, sql

from htlogging._queue.spool import connections, registry, schema, statements
from htlogging._queue.spool.database import SpoolFile
from htlogging._queue.spool.lockfile import LockFile
from htlogging._queue.spool.rows import ends_of, id_of, owner_of, runs
from htlogging._queue.spool.schema import APPLICATION_ID, VERSION, SpoolUnavailable
from htlogging.exceptions import DeliveryError, InvalidSetting

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")


@pytest.fixture
def path(tmp_path):
    """Return a path where no file is yet."""
    return str(tmp_path / "spool")


@pytest.fixture
def file(path):
    """Return this process's object for it."""
    found = registry.shared(path)
    yield found
    found.reopen()


@pytest.fixture
def elsewhere(tmp_path):
    """Return what runs a script in another process, and returns what it prints."""

    def run(script, *arguments):
        source = tmp_path / "script.py"
        source.write_text(textwrap.dedent(script))
        ended = subprocess.run(
            [sys.executable, source, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    return run


@pytest.fixture
def another():
    """Return what starts a process that goes on until its input ends."""
    started = []

    def start(script, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=HANG)


def events(path):
    """Return all rows of the file, as others see them."""
    connection = sqlite3.connect(path)
    try:
        query = "SELECT id, body FROM events ORDER BY id"
        return [(*owner_of(event), body) for event, body in connection.execute(query)]
    finally:
        connection.close()


def owned(file, *bodies):
    """Write events for a new owner; return its number."""
    owner = file.new_owner()
    for seq, body in enumerate(bodies, 1):
        file.write(statements.insert, id_of(owner, seq), body)
    return owner


class TestOpen:
    def test_made_on_first_use(self, path):
        """The object alone makes no file; the first statement does."""
        file = SpoolFile(path)
        assert not file.is_there()
        assert not file.is_gone()
        file.write(sql, "DELETE FROM events")
        assert file.is_there()
        file.reopen()
        assert file.is_there()

    def test_marked(self, file, path):
        """Who looks into it sees whose it is, and of which version."""
        file.write(sql, "DELETE FROM events")
        connection = sqlite3.connect(path)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        connection.close()
        assert (application, version, mode) == (APPLICATION_ID, VERSION, "wal")

    def test_empty_file(self, file, path):
        """An empty file becomes a spool: its maker may have been killed."""
        with open(path, "wb"):
            pass
        assert file.read(sql, "SELECT * FROM events") == []

    @pytest.mark.parametrize("verb", ["read", "write"])
    def test_garbage(self, file, path, verb):
        """What is no database is left as it is, and said so."""
        with open(path, "wb") as garbage:
            garbage.write(b"garbage" * 1000)
        with pytest.raises(SpoolUnavailable, match="not a database") as caught:
            getattr(file, verb)(sql, "SELECT 1")
        assert caught.value.broken
        with open(path, "rb") as garbage:
            assert garbage.read() == b"garbage" * 1000

    def test_another_programs_database(self, file, path):
        """No table is made in it."""
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        with pytest.raises(SpoolUnavailable, match="of another program"):
            file.write(sql, "SELECT 1")
        connection = sqlite3.connect(path)
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        connection.close()
        assert tables == [("theirs",)]

    def test_later_version(self, file, path):
        """What a later version wrote is for that version."""
        file.write(sql, "DELETE FROM events")
        file.reopen()
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.close()
        with pytest.raises(SpoolUnavailable, match="later version"):
            file.read(sql, "SELECT 1")

    def test_folder_is_missing(self, tmp_path):
        """It is made, for this user alone, and those above it."""
        file = SpoolFile(str(tmp_path / "missing" / "too" / "spool"))
        file.write(sql, "SELECT 1")
        file.reopen()
        for folder in (tmp_path / "missing", tmp_path / "missing" / "too"):
            assert folder.stat().st_mode & 0o777 == 0o700

    def test_folder_cannot_be_made(self, tmp_path):
        """What the system says is passed on, without the path."""
        (tmp_path / "file").touch()
        file = SpoolFile(str(tmp_path / "file" / "below" / "spool"))
        with pytest.raises(SpoolUnavailable) as caught:
            file.write(sql, "SELECT 1")
        assert caught.value.reason == "Not a directory"

    def test_link_that_came_later(self, path, tmp_path):
        """A link in the file's place is not followed."""
        (tmp_path / "other").touch()
        file = SpoolFile(path)
        os.symlink(tmp_path / "other", path)
        with pytest.raises(SpoolUnavailable, match="must be a file"):
            file.write(sql, "SELECT 1")

    def test_no_write_ahead_log(self):
        """A file system that cannot have SQLite's log is not used without it."""
        connection = sqlite3.connect(":memory:")
        connection.text_factory = bytes
        with pytest.raises(SpoolUnavailable, match="not support shared memory"):
            schema.set_up(connection)
        connection.close()

    def test_second_connection_fails(self, file, monkeypatch):
        """Of two connections none stays open when one cannot be."""
        made = []

        connect = connections.connect

        def once(path):
            if made:
                raise SpoolUnavailable("it was here a moment ago")
            made.append(connect(path))
            return made[0]

        monkeypatch.setattr(connections, "connect", once)
        with pytest.raises(SpoolUnavailable, match="a moment ago"):
            file.write(sql, "SELECT 1")
        assert not file.is_open()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            made[0].execute("SELECT 1")

    def test_one_object_for_a_file(self, path, tmp_path):
        """Links to a folder, or a file, lead to the same object: one set of locks."""
        file = registry.shared(path)
        file.write(sql, "DELETE FROM events")
        (tmp_path / "folder").symlink_to(tmp_path)
        assert registry.shared(str(tmp_path / "folder" / "spool")) is file
        assert registry.shared(path) is file
        file.reopen()

    def test_threads_at_once(self, path):
        """Threads that open it at the same moment all find it made."""
        file = SpoolFile(path)
        start, failed = threading.Barrier(8), []

        def use(n):
            start.wait(HANG)
            try:
                if n % 2:
                    file.read(sql, "SELECT * FROM events")
                else:
                    file.write(statements.insert, id_of(n + 1, 1), b"x")
            except SpoolUnavailable as exc:
                failed.append(exc)

        threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert not failed
        assert len(events(path)) == 4
        file.reopen()

    def test_processes_at_once(self, path, another):
        """So do processes."""
        script = """
            import sys
            from htlogging._queue.spool import statements
            from htlogging._queue.spool.database import SpoolFile
            file = SpoolFile(sys.argv[1])
            print("ready", flush=True)
            sys.stdin.readline()
            file.write(statements.insert, int(sys.argv[2]) << 27 | 1, b"x")
            print("done", flush=True)
        """
        processes = [another(script, path, n) for n in range(1, 7)]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout.readline() == "done\n"
        assert len(events(path)) == 6


class TestWrite:
    def test_on_disk_when_it_returns(self, file, path):
        """Others see it at once."""
        owner = owned(file, b"one")
        assert events(path) == [(owner, 1, b"one")]

    def test_locked_by_another(self, file, path, monkeypatch):
        """Another's transaction is waited for, but not for ever."""
        monkeypatch.setattr("htlogging._queue.spool.connections.BUSY", 0.01)
        file.write(sql, "DELETE FROM events")
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnavailable, match="locked") as caught:
            file.write(sql, "DELETE FROM events")
        assert not caught.value.broken
        connection.execute("ROLLBACK")
        connection.close()
        file.write(sql, "DELETE FROM events")

    @pytest.mark.parametrize("asked", [(False, True), (True, False)])
    def test_strictest_user_decides(self, file, asked):
        """One queue that asks for full safety has it, whoever came first."""
        for full in asked:
            file.require(full_sync=full, max_bytes=2**20)
            file.write(sql, "DELETE FROM events")
        assert file._pair[0].execute("PRAGMA synchronous").fetchone() == (2,)
        assert file._pair[0].execute("PRAGMA wal_autocheckpoint").fetchone() == (64,)

    def test_normal_safety(self, file):
        """Otherwise the disk is not waited for at each event."""
        file.require(full_sync=False, max_bytes=2**28)
        file.write(sql, "DELETE FROM events")
        assert file._pair[0].execute("PRAGMA synchronous").fetchone() == (1,)

    def test_transaction_is_all_or_nothing(self, file, path):
        """What fails in the middle leaves nothing behind."""
        owner = owned(file, b"one")

        def fail(connection):
            connection.execute("DELETE FROM events")
            connection.execute("no SQL")

        with pytest.raises(SpoolUnavailable, match="syntax error"):
            file.change(fail)
        assert events(path) == [(owner, 1, b"one")]

    def test_within_a_transaction(self, file, path):
        """A signal handler in the middle of one is told so, and harms nothing."""
        owner, passing = file.new_owner(), []

        def work(connection):
            add_rows(connection, [row_of(owner, 1, b"a")])
            assert file.is_writing_here()
            for verb in (file.write, file.change):
                with pytest.raises(SpoolUnavailable, match="written to") as caught:
                    verb(sql, "DELETE FROM events")
                passing.append(caught.value.passing)
            add_rows(connection, [row_of(owner, 2, b"b")])

        file.change(work)
        assert passing == [True, True]
        assert not file.is_writing_here()
        assert len(events(path)) == 2

    def test_one_that_was_cut_short(self, file, path):
        """What an exception left open is undone by whoever writes next."""
        owner = owned(file, b"one")
        file._pair[0].execute("BEGIN IMMEDIATE")
        file._pair[0].execute("DELETE FROM events")
        file.write(statements.insert, id_of(owner, 2), b"two")
        assert events(path) == [(owner, 1, b"one"), (owner, 2, b"two")]


class TestRows:
    @pytest.mark.parametrize(
        ("limits", "found"),
        [
            ({}, [1, 2, 3]),
            ({"max_count": 2}, [1, 2]),
            ({"max_bytes": 8}, [1, 2]),
            ({"max_bytes": 7}, [1]),
            ({"max_bytes": 1}, [1]),  # one too large comes alone
            ({"before": 0}, []),
        ],
    )
    def test_page(self, file, limits, found):
        """As many of the oldest as the limits let through."""
        owner = owned(file, b"one", b"two", b"333")
        ends = id_of(owner, 1), id_of(owner, 3)
        page = file.read(statements.page, *ends, **limits)
        assert page.ids == [id_of(owner, seq) for seq in found]
        assert page.events == [b"one", b"two", b"333"][: len(found)]
        assert not page.damaged
        assert page.is_all == (len(found) == 3)

    def test_page_ends_at_the_first_young_one(self, file):
        """A clock that went back does not make a younger one pass an elder one."""
        owner = file.new_owner()
        for seq, at in enumerate([10, 30, 10], 1):
            file.write(add_rows, [row_of(owner, seq, b"x", at)])
        ends = id_of(owner, 1), id_of(owner, 3)
        assert file.read(statements.page, *ends, before=20).ids == [id_of(owner, 1)]

    @pytest.mark.parametrize(
        "change",
        [
            "body = CAST('ono' AS BLOB)",
            "body = 7",
            "body = x''",
            "crc = crc + 1",
        ],
    )
    def test_row_that_is_not_what_was_written(self, file, change):
        """It costs itself alone, whatever became of it."""
        owner = owned(file, b"one", b"two", b"333")
        file.write(sql, f"UPDATE events SET {change} WHERE id = ?", id_of(owner, 2))
        ends = id_of(owner, 1), id_of(owner, 3)
        page = file.read(statements.page, *ends)
        assert page.events == [b"one", b"333"]
        assert page.damaged == [id_of(owner, 2)]

    def test_row_that_became_text(self, file):
        """The same bytes under another type are the same event."""
        owner = owned(file, b"one", b"\xff\xfe")
        file.write(sql, "UPDATE events SET body = CAST(body AS TEXT)")
        page = file.read(statements.page, id_of(owner, 1), id_of(owner, 2))
        assert page.events == [b"one", b"\xff\xfe"]

    def test_set_aside(self, file):
        """It stays in the file for a while, and is not sent."""
        owner = owned(file, b"one", b"two")
        file.change(statements.set_aside, [id_of(owner, 1)])
        assert events(file.path) == [(owner, 2, b"two")]
        assert file.read(sql, "SELECT body FROM damaged") == [(b"one",)]
        assert file.write(statements.drop_dead, 10) == 1

    def test_runs(self):
        """Ids without a gap are one range of a statement."""
        assert runs([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
        assert runs([]) == []

    def test_span(self, file):
        """An owner's first and last, if there are any."""
        owner = owned(file, b"one", b"two", b"333")
        assert file.read(statements.span, owner) == (1, 3)
        assert file.read(statements.span, owner + 1) is None

    def test_written_at(self, file):
        """The time of an event; later than any other when it is not there."""
        owner = owned(file, b"one")
        assert 0 < file.read(statements.written_at, id_of(owner, 1)) < 2**33
        assert file.read(statements.written_at, id_of(owner, 2)) == float("inf")

    def test_bury(self, file, path):
        """A dead letter has the event, and why it was refused."""
        owner = owned(file, b"one", b"two", b"333")
        failure = DeliveryError(400, "bad", "an event is wrong", 2)
        file.change(statements.bury, [id_of(owner, 1), id_of(owner, 2)], failure)
        assert events(path) == [(owner, 3, b"333")]
        letters = list(file.read(statements.letters))
        assert [letter.body for letter in letters] == [b"one", b"two"]
        assert all(letter.is_sound() for letter in letters)
        why = letters[0]
        assert (why.status, why.code, why.message, why.tries) == (
            400,
            b"bad",
            b"an event is wrong",
            2,
        )
        assert file.write(statements.drop_dead, 1) == 1
        assert file.read(sql, "SELECT body FROM dead") == [(b"two",)]
        assert file.write(statements.drop_dead, 10, before=0) == 0


class TestSize:
    def test_shrinks(self, file, path):
        """What is deleted is given back to the system, and the log emptied."""
        owned(file, *[b"x" * 1000] * 2_000)
        assert file.used_bytes() > 2_000_000
        file.write(sql, "DELETE FROM events")
        file.empty_log()
        assert file.used_bytes() < 200_000
        file.tidy(64)
        file.reopen()
        assert os.path.getsize(path) < 100_000
        assert not os.path.exists(f"{path}-wal")

    def test_a_little_at_a_time(self, file):
        """Callers wait for a megabyte, not for all."""
        owned(file, *[b"x" * 4_000] * 1_000)
        file.write(sql, "DELETE FROM events")
        file.tidy(1)
        ((left,),) = file.read(sql, "PRAGMA freelist_count")
        assert 500 < left < 1_000


class TestOwners:
    def test_living_ones_are_not_adopted(self, file, path, another):
        """While its process lives, an owner's events are its own; afterwards ours."""
        script = """
            import sys
            from htlogging._queue.spool import statements
            from htlogging._queue.spool import registry
            file = registry.shared(sys.argv[1])
            file.write(statements.insert, file.new_owner() << 27 | 1, b"theirs")
            print("ready", flush=True)
            sys.stdin.readline()
        """
        process = another(script, path)
        assert file.adopt(9) == []
        process.kill()
        process.wait(HANG)
        ((owner, first, last),) = file.adopt(9)
        assert (first, last) == (1, 1)
        assert file.claim_owner(owner)
        assert events(path) == [(owner, 1, b"theirs")]
        assert file.adopt(9) == []

    def test_adopted_ones_are_ours(self, file, path, elsewhere):
        """Others leave them alone from then on; an older one comes first."""
        file.write(add_rows, [row_of(77, 1, b"x"), row_of(50, 9, b"y")])
        assert file.adopt(1) == [(50, 9, 9)]
        assert file.adopt(9) == [(50, 9, 9), (77, 1, 1)]
        script = """
            import sys
            from htlogging._queue.spool import registry
            print(registry.shared(sys.argv[1]).adopt(9))
        """
        assert elsewhere(script, path) == "[]"
        file.drop_owners([50, 77])
        assert elsewhere(script, path) == "[(50, 9, 9), (77, 1, 1)]"

    def test_left_to_others_of_this_process(self, file):
        """What a queue leaves is adopted by the next that looks, once."""
        owner = owned(file, b"one")
        assert file.adopt(9) == []
        file.release_owners([owner])
        assert file.adopt(9) == [(owner, 1, 1)]
        assert file.claim_owner(owner)
        assert not file.claim_owner(owner)
        assert file.adopt(9) == []

    def test_a_number_with_events_is_not_taken(self, file, monkeypatch):
        """No process adds to the events that a dead one has left."""
        monkeypatch.setattr("secrets.randbits", lambda _: 0)
        monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
        one = file.new_owner()
        file.write(add_rows, [row_of(one + 1, 1, b"left")])
        assert file.new_owner() == one + 2
        assert file.adopt(9) == [(one + 1, 1, 1)]

    def test_a_number_with_counts_is_not_taken(self, file, monkeypatch):
        """What a process had accepted stays known, though the file has lost its events."""
        monkeypatch.setattr("secrets.randbits", lambda _: 0)
        monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
        one = file.new_owner()
        file.note(one + 1, 400, 0)
        assert file.new_owner() == one + 2
        assert file.count_lost() == 400

    def test_a_number_is_not_given_again(self, file, monkeypatch):
        """An answer for an event of a file that was deleted removes none of the new one."""
        monkeypatch.setattr("secrets.randbits", lambda _: 0)
        monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
        one = file.new_owner()
        os.unlink(file.path)
        file.leave_behind()
        assert file.new_owner() > one

    def test_clock_before_1970(self, file, monkeypatch):
        """A clock that was never set makes a number all the same."""
        monkeypatch.setattr("time.time", lambda: -5.0)
        assert file.new_owner() >= 16

    def test_one_destination_at_a_time(self, file):
        """Events of dead processes do not say where they must go: the path does."""

        class User:
            pass

        one, two = User(), User()
        file.register(one, "here")
        file.register(two, "here")
        with pytest.raises(InvalidSetting, match="its own path"):
            file.register(two, "there")
        file.unregister(one)
        file.unregister(two)
        file.register(two, "there")
        del two
        file.register(one, "here")
        assert file.is_used()


class TestLockFile:
    def test_deleted(self, tmp_path, elsewhere):
        """Its locks are taken anew in the file that has its name then."""
        path = tmp_path / "lock"
        lock = LockFile(str(path))
        assert lock.lock(7)
        path.unlink()
        lock.ready()
        assert lock.lock(8)
        script = """
            import sys
            from htlogging._queue.spool.lockfile import LockFile
            lock = LockFile(sys.argv[1])
            print(lock.lock(7), lock.lock(8), lock.lock(9))
        """
        assert elsewhere(script, path) == "False False True"

    @pytest.mark.parametrize("reused", [False, True])
    def test_closed_by_who_makes_a_daemon(self, tmp_path, reused):
        """A descriptor that was closed, and perhaps is another file's, is not used."""
        path = tmp_path / "lock"
        lock = LockFile(str(path))
        fd = lock.ready()
        other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
        if reused:
            os.dup2(other, fd)
        else:
            os.close(fd)
        assert lock.lock(7)
        if reused:
            assert lock.ready() != fd
            os.close(fd)
        os.close(other)

    def test_no_file(self, tmp_path):
        """A pipe in its place is refused, and not waited for."""
        os.mkfifo(tmp_path / "lock")
        with pytest.raises(PermissionError, match="not a file of this user"):
            LockFile(str(tmp_path / "lock")).lock(7)

    def test_opening_alone(self, tmp_path, elsewhere):
        """One process at a time opens the spool; others give up in the end."""
        path = tmp_path / "lock"
        script = """
            import sys
            from htlogging._queue.spool.lockfile import LockFile
            try:
                LockFile(sys.argv[1]).begin_opening(0.02)
                print("alone")
            except TimeoutError as exc:
                print(exc.strerror)
        """
        lock = LockFile(str(path))
        lock.begin_opening(0)
        assert elsewhere(script, path) == "another process is opening it"
        lock.end_opening()
        assert elsewhere(script, path) == "alone"


class TestGone:
    def test_deleted(self, file, path):
        """It is known that the file was deleted; opened again, it is a new one."""
        owned(file, b"one")
        assert not file.is_gone()
        os.unlink(path)
        assert file.is_gone()
        assert len(file.read(sql, "SELECT * FROM events")) == 1
        file.leave_behind()
        assert file.read(sql, "SELECT * FROM events") == []
        assert not file.is_gone()

    def test_replaced(self, file, path):
        """So it is when another has its name."""
        owned(file, b"one")
        os.rename(path, f"{path}.old")
        with open(path, "wb"):
            pass
        assert file.is_gone()


class TestFork:
    def test_no_connection_crosses(self, path, elsewhere):
        """Parent and child go on, each with connections and owners of its own."""
        script = """
            import os, sys, threading
            from htlogging._queue.spool import connections, registry, statements
            file = registry.shared(sys.argv[1])
            mine = file.new_owner()
            file.write(statements.insert, mine << 27 | 1, b"before")
            stop = threading.Event()
            def load():
                n = 0
                while not stop.is_set():
                    n += 1
                    file.write(statements.insert, 50 << 27 | n, b"load")
                    file.read(statements.page, 50 << 27 | 1, 50 << 27 | n)
                    file.tidy(1)
            threads = [threading.Thread(target=load)]
            for thread in threads:
                thread.start()
            for n in range(20):
                pid = os.fork()
                if pid == 0:
                    assert not file.is_open()
                    assert connections.count() == 0
                    assert file._lock.held == set()
                    assert mine not in [owner for owner, _, _ in file.adopt(9)]
                    file.write(statements.insert, file.new_owner() << 27 | 1, b"child")
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
            threads[0].join()
            query = "SELECT count(*) FROM events WHERE body = CAST('child' AS BLOB)"
            print(file.read(lambda c: c.execute(query).fetchone()[0]))
        """
        assert elsewhere(script, path) == "20"

    def test_fork_that_python_was_not_told_of(self, file):
        """SQLite's connections are kept, unused; the spool is not used any more."""
        owned(file, b"one")
        pair = file._pair
        file.after_fork_in_child()
        try:
            with pytest.raises(SpoolUnavailable, match="uWSGI"):
                file.read(sql, "SELECT 1")
            assert connections._lost == list(pair)
        finally:
            # This was no child.
            for connection in connections._lost:
                connection.close()
            connections._lost.clear()

    def test_descriptors_closed_under_it(self, path, elsewhere):
        """Who closes all descriptors takes nothing from the spool but a moment."""
        script = """
            import os, sys
            from htlogging._queue.spool import registry, statements
            file = registry.shared(sys.argv[1])
            owner = file.new_owner()
            file.write(statements.insert, owner << 27 | 1, b"one")
            os.closerange(3, 256)
            file._looked = 0  # more than a millisecond ago
            file.write(statements.insert, owner << 27 | 2, b"two")
            print(file.read(statements.last_of, owner), owner in file._lock.held)
        """
        assert elsewhere(script, path) == "2 True"

    def test_descriptors_that_are_other_files_now(self, path, tmp_path, elsewhere):
        """Nothing is written to a file that has got one of SQLite's numbers."""
        script = """
            import os, sys
            from htlogging._queue.spool import registry, statements
            from htlogging._queue.spool.schema import SpoolUnavailable
            file = registry.shared(sys.argv[1])
            owner = file.new_owner()
            file.write(statements.insert, owner << 27 | 1, b"one")
            os.closerange(3, 256)
            file._looked = 0  # more than a millisecond ago
            others = [os.open(f"{sys.argv[2]}-{n}", 66, 0o600) for n in range(10)]
            for n in (2, 3):
                try:
                    file.write(statements.insert, owner << 27 | n, b"two")
                except SpoolUnavailable as exc:
                    print(exc)
            file.reopen()
            del file
            print(sum(os.fstat(fd).st_size for fd in others))
        """
        lines = elsewhere(script, path, tmp_path / "other").splitlines()
        assert lines[-1] == "0"
        assert "descriptors were closed" in lines[0]
        assert events(path)[0][2] == b"one"


class TestUpgrade:
    def test_nothing_is_copied_elsewhere(self, path):
        """Events are sorted on the way, in memory and not in a temporary file."""
        make_version_1(path)
        with closing(connections.connect(str(path))) as connection:
            done = []
            connection.set_trace_callback(done.append)
            schema.set_up(connection)
        assert "BEGIN IMMEDIATE" in done
        assert "PRAGMA temp_store = MEMORY" in done[: done.index("BEGIN IMMEDIATE")]

    def test_from_version_1(self, file, path):
        """All that was there is there, in its order, under ids of its own."""
        made = [
            (9 << 40, 1, 1000.5, b'{"n":3}'),
            (8 << 40, 7, 1000.25, b'{"n":1}'),
            (8 << 40, 9, 1000.25, b'{"n":2}'),
            (8 << 40, 10, 1000.25, b'{"n":no JSON'),
        ]
        dead = [(5.5, 6.5, 400, "bad", "refused", 3, b'{"n":0}')]
        make_version_1(path, made, dead)
        assert [found for found, _, _ in file.adopt(9)] == [16, 17]
        rows = [
            *file.read(statements.rows, *ends_of(16)),
            *file.read(statements.rows, *ends_of(17)),
        ]
        assert [row.body for row in rows] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']
        assert all(row.is_sound() for row in rows)
        assert [row.at for row in rows] == [1000.25, 1000.25, 1000.5]
        (letter,) = file.read(lambda c: list(statements.letters(c)))
        assert letter.is_sound()
        assert (letter.body, letter.status, letter.tries) == (b'{"n":0}', 400, 3)
        assert file.read(sql, "SELECT body FROM damaged") == [(b'{"n":no JSON',)]
        file.reopen()
        assert len(file.adopt(9)) == 2

    def test_once_by_many(self, path, another):
        """Processes that find an old file at the same time take it over once."""
        made = [(7 << 40, n, 1.0, b'{"n":%d}' % n) for n in range(1, 2001)]
        make_version_1(path, made)
        script = """
            import sys
            from htlogging._queue.spool.database import SpoolFile
            from htlogging._queue.spool import statements
            file = SpoolFile(sys.argv[1])
            print("ready", flush=True)
            sys.stdin.readline()
            print(file.read(statements.count, "events"), flush=True)
        """
        processes = [another(script, path) for _ in range(3)]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.stdout.readline() for process in processes] == ["2000\n"] * 3
