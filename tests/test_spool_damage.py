"""A spool that goes bad: nothing invalid is sent, what is lost is told, and it goes on."""

import importlib.util
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
from script_runner import HANG
from spool_files import row_of

from htlogging._queue.spool import statements
from htlogging.collector import Reply
from htlogging.htevents import Client

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")

HUNT = Path(__file__).parent / "soak" / "damage.py"


@pytest.fixture
def hunt():
    """Return the hunt of tests/soak, a module."""
    spec = importlib.util.spec_from_file_location("damage", HUNT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LEAVE = """
    import os, signal, sys
    from htlogging.htevents import Client
    client = Client("K", host=sys.argv[2], spool=sys.argv[1], upload_interval=60)
    for n in range(300):
        client.track("u", f"e{n}", {"pad": "x" * 400})
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left(tmp_path, collector):
    """Return a spool in which 300 events wait, of a process that was killed."""
    path = tmp_path / "events.spool"
    collector.always(Reply(503))
    command = [sys.executable, "-c", textwrap.dedent(LEAVE), path, collector.url]
    subprocess.run(list(map(str, command)), check=False, timeout=HANG)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (300,)
    collector.requests.clear()
    collector.always(Reply(200))
    return path


def told(caplog):
    """Return the lines of the package's own log, those for debugging aside."""
    return [
        r.getMessage()
        for r in caplog.records
        if r.name == "htlogging" and r.levelname != "DEBUG"
    ]


def deliver(path, collector, count=5):
    """Accept some events more, and deliver all; return the client's counters."""
    client = Client("K", host=collector.url, spool=path)
    for n in range(count):
        client.track("u", f"new{n}")
    assert client.flush(HANG)
    client.flush(HANG)
    stats = client.stats
    client.join()
    assert stats.accepted == stats.delivered + stats.failed
    return stats


def lost(caplog):
    """Return how many events are lost at least, by the line about it."""
    (line,) = [line for line in told(caplog) if "are lost" in line and "least" in line]
    return int(line.split()[2])


def names(collector):
    """Return the names of what arrived."""
    return {event["event"] for event in collector.events}


class TestRounds:
    @pytest.mark.parametrize("seed", [6, 27, 33, 76])
    def test_at_random(self, hunt, tmp_path, seed):
        """Bytes flipped, cut or taken away; each of these once lost something silently."""
        hunt.check_round(tmp_path, random.Random(seed))


class TestRow:
    def test_one_bit(self, left, collector, caplog):
        """A damaged row is set aside and told; all others arrive."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute(
                "UPDATE events SET body = CAST(replace(body, 'xxx', 'xxy') AS BLOB)"
                " WHERE id % 100 = 7"
            )
            connection.commit()
        stats = deliver(left, collector)
        assert stats.failed == 3
        assert stats.delivered + stats.failed == 305
        assert len(names(collector)) == stats.delivered
        assert "failed: the spool was damaged" in caplog.text
        assert "xxx" not in caplog.text

    def test_text_that_is_none(self, left, collector, caplog):
        """A row whose type and bytes changed costs itself; no line quotes it."""
        with closing(sqlite3.connect(left)) as connection:
            (first,) = connection.execute("SELECT min(id) FROM events").fetchone()
            query = (
                "UPDATE events SET body = CAST(x'ff6162636465' AS TEXT) WHERE id = ?"
            )
            connection.execute(query, (first,))
            connection.commit()
        stats = deliver(left, collector)
        assert (stats.delivered, stats.failed) == (304, 1)
        assert "abcde" not in caplog.text


class TestFile:
    def kept(self, path):
        """Return the damaged files that were kept beside it."""
        return sorted(path.parent.glob("events.spool.damaged-*"))

    def test_cut(self, left, collector, caplog):
        """What can be read is delivered, what cannot is counted, the file is kept."""
        with left.open("r+b") as file:
            file.truncate(left.stat().st_size // 2)
        stats = deliver(left, collector)
        old = len([name for name in names(collector) if name.startswith("e")])
        assert {f"new{n}" for n in range(5)} <= names(collector)
        assert stats.failed == 0
        assert self.kept(left)
        assert "the spool was damaged" in caplog.text
        assert 300 - old - 32 < lost(caplog) <= 300 - old

    @pytest.mark.parametrize("how", ["emptied", "deleted"])
    def test_all_gone(self, left, collector, caplog, how):
        """An empty file where a spool was is no new one."""
        if how == "emptied":
            left.write_bytes(b"")
        else:
            left.unlink()
        deliver(left, collector)
        assert names(collector) == {f"new{n}" for n in range(5)}
        assert "was deleted or emptied" in caplog.text
        assert 300 - 32 < lost(caplog) <= 300

    def test_no_database_any_more(self, left, collector, caplog):
        """A spool whose beginning is destroyed is kept aside; a new one is made."""
        with left.open("r+b") as file:
            file.write(b"\xff" * 100)
        stats = deliver(left, collector)
        assert stats.delivered == 5
        assert self.kept(left)
        assert "file is not a database" in caplog.text
        assert 300 - 32 < lost(caplog) <= 300

    def test_once(self, left, collector, caplog):
        """What was told is not told again."""
        left.unlink()
        deliver(left, collector)
        caplog.clear()
        deliver(left, collector)
        assert not told(caplog)

    def test_nothing_is_lost_without_damage(self, left, collector, caplog):
        """All arrives, and no line says anything."""
        stats = deliver(left, collector)
        assert stats.delivered == 305
        deliver(left, collector)
        assert not told(caplog)

    def test_a_command_takes_nothing_from_what_is_lost(self, left, collector, caplog):
        """What `spool drop` took out is not lost."""
        from htlogging._queue.spool.admin import SpoolView
        from htlogging._queue.spool.erasure import drop_waiting

        view = SpoolView(str(left), change=True)
        assert drop_waiting(view) == 300
        view.close()
        deliver(left, collector)
        assert not told(caplog)


class TestHeader:
    def test_no_mark(self, left, collector, caplog):
        """What SQLite can still read is read, also where the header says otherwise."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("PRAGMA application_id = 1")
        stats = deliver(left, collector)
        assert len(names(collector)) == 305
        assert stats.failed == 0
        why = "it is a database of another program"
        assert f"the spool was damaged ({why}): 300 waiting events" in caplog.text
        assert "are lost" not in caplog.text

    def test_another_schema_format(self, left, collector, caplog):
        """So is one that SQLite takes for a later SQLite's; a new file is made."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        data = bytearray(left.read_bytes())
        data[47] ^= 32
        left.write_bytes(data)
        deliver(left, collector)
        assert "unsupported file format" in caplog.text
        caplog.clear()
        assert deliver(left, collector).unspooled == 0
        assert not told(caplog)


class TestSchema:
    @pytest.mark.parametrize("word", [b"events (", b"CREATE TABLE dead", b"clock (\n"])
    def test_one_bit(self, left, collector, caplog, word):
        """A schema that is not UTF-8 any more raises nothing into the application."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        data = bytearray(left.read_bytes())
        data[data.rindex(word) + len(word) - 2] |= 128
        left.write_bytes(data)
        assert deliver(left, collector).delivered >= 5
        assert {f"new{n}" for n in range(5)} <= names(collector)
        assert "the spool was damaged" in caplog.text

    def test_a_tree_that_leads_back(self):
        """Reading ends where ids do not grow: what is damaged may have no end."""
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE TABLE tree (id, at, crc, body)")
            rows = [(2, 1.0, 0, b""), (2, 1.0, 0, b""), (1, 1.0, 0, b"")]
            connection.executemany("INSERT INTO tree VALUES (?, ?, ?, ?)", rows)
            # A view, because a table has each id once.
            connection.execute("CREATE VIEW events AS SELECT * FROM tree")
            with pytest.raises(sqlite3.DatabaseError, match="malformed"):
                list(statements.rows(connection))
            with pytest.raises(sqlite3.DatabaseError, match="malformed"):
                statements.page(connection, 0, 9)

    def test_a_rule_that_is_not_ours(self, left, collector, caplog):
        """A table that refuses every row, a later version's perhaps, hangs no caller."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute(
                "CREATE TRIGGER rule BEFORE INSERT ON events"
                " BEGIN SELECT raise(ABORT, 'no'); END"
            )
        stats = deliver(left, collector)
        assert (stats.delivered, stats.unspooled) == (305, 5)
        assert "the spool cannot be used" in caplog.text

    def test_more_columns(self, left, collector):
        """A damaged file whose tables have more columns is read all the same."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("ALTER TABLE events ADD COLUMN more")
            connection.execute("ALTER TABLE dead ADD COLUMN more")
            connection.execute("PRAGMA application_id = 1")
        assert deliver(left, collector).delivered == 305
        assert len(names(collector)) == 305

    @pytest.mark.parametrize("value", ["NULL", "'text'", "1e300", "-9e999", "7"])
    def test_a_clock_that_is_no_time(self, left, collector, caplog, value):
        """It is as if nothing was noted: events are sent."""
        boot = Path("/proc/sys/kernel/random/boot_id")
        if not boot.exists():
            pytest.skip("no boot id on this system")
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("DROP TABLE clock")
            connection.execute(
                "CREATE TABLE clock (id INTEGER PRIMARY KEY, boot, started)"
            )
            query = f"INSERT INTO clock VALUES (1, ?, {value})"
            connection.execute(query, (boot.read_text().strip(),))
            connection.commit()
        client = Client("K", host=collector.url, spool=left, spool_max_age=3_600)
        client.track("u", "new")
        assert client.flush(HANG)
        client.join()
        assert len(names(collector)) == 301
        assert not told(caplog)

    def test_dead_letters_without_a_time(self, left):
        """They make room as others do."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("DROP TABLE dead")
            connection.execute("CREATE TABLE dead (id INTEGER PRIMARY KEY, failed_at)")
            query = "INSERT INTO dead VALUES (NULL, ?)"
            connection.executemany(query, [("text",), (None,), (float("inf"),), (1.0,)])
            assert statements.drop_dead(connection, 9, before=5.0) == 1
            assert statements.drop_dead(connection, 9) == 3


class TestCutShort:
    def test_between_the_renames(self, left, collector, monkeypatch):
        """When the damaged file has another name already, the new one is found."""
        with closing(sqlite3.connect(left)) as connection:
            connection.execute("PRAGMA application_id = 1")
        rename = os.rename

        def cut(source, target):
            if str(source).endswith(".new"):
                monkeypatch.setattr(os, "rename", rename)
                raise MemoryError
            rename(source, target)

        monkeypatch.setattr(os, "rename", cut)
        deliver(left, collector)
        deliver(left, collector)
        assert os.rename is rename
        assert len(names(collector)) == 305
        assert not list(left.parent.glob("*.new*"))

    def test_before(self, left, collector):
        """An unfinished copy of the events does not stay."""
        for suffix in ("", "-wal"):
            left.with_name(f"{left.name}.new{suffix}").write_bytes(b"half of it")
        assert deliver(left, collector).delivered == 305
        assert not list(left.parent.glob("*.new*"))


class TestLettersAreChecked:
    def test_replay(self, tmp_path, collector):
        """A dead letter that differs from what was accepted is not sent either."""
        from htlogging._cli.spool.replay import replay
        from htlogging._queue.spool.admin import SpoolView
        from htlogging._settings import Settings

        path = tmp_path / "events.spool"
        collector.always(Reply(401))
        client = Client("K", host=collector.url, spool=path)
        for n in range(3):
            client.track("u", f"e{n}")
        client.join()
        collector.requests.clear()
        collector.always(Reply(200))
        with closing(sqlite3.connect(path)) as connection:
            body = row_of(1, 1, b'{"type":"track","event":"forged"}')[3]
            connection.execute("UPDATE dead SET body = ? WHERE id = 2", (body,))
            connection.commit()
        view = SpoolView(str(path), change=True)
        settings = Settings({"write_key": "K", "host": collector.url})
        found = replay(view, settings, statuses=(), waiting=False)
        view.close()
        assert found.delivered == 2
        assert names(collector) == {"e0", "e2"}
