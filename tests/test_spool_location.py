"""Where a spool may be, and who may read what is made there."""

import logging
import logging.config
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from htlogging import HtEventsHandler
from htlogging._queue.spool import location, salvage
from htlogging._queue.spool.admin import SpoolError, SpoolView
from htlogging.exceptions import InvalidSetting

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs root, to be another user",
)

# A user of no files.
NOBODY = 65_534


def refuse(path, check=location.check_owner):
    """Return the message for a place that is refused."""
    with pytest.raises(InvalidSetting) as caught:
        check(str(path))
    return str(caught.value)


class TestCheck:
    def test_place_of_ones_own(self, tmp_path):
        """A folder of one's own will do, whether the file is there or not."""
        location.check(str(tmp_path / "spool"))
        (tmp_path / "spool").touch()
        location.check(str(tmp_path / "spool"))

    @pytest.mark.parametrize("name", ["missing/spool", "file/spool"])
    def test_what_depends_on_the_machine(self, tmp_path, name):
        """A folder that is missing, or none, is no mistake of the code's."""
        (tmp_path / "file").touch()
        location.check(str(tmp_path / name))

    def test_make_folder(self, tmp_path):
        """It is made for this user alone, with those above it."""
        location.make_folder(str(tmp_path / "one" / "two" / "spool"))
        for folder in ("one", "one/two"):
            assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700

    @pytest.mark.parametrize(("mode", "passes"), [(0o777, False), (0o1777, True)])
    def test_folder_for_all(self, tmp_path, mode, passes):
        """Where all may write, the sticky bit must keep them from replacing the file."""
        tmp_path.chmod(mode)
        if passes:
            location.check(str(tmp_path / "spool"))
        else:
            assert "no sticky bit" in refuse(tmp_path / "spool", location.check)
            assert "no sticky bit" in refuse(tmp_path / "spool")

    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-lock"])
    def test_no_file(self, tmp_path, suffix):
        """A folder is no spool, nor is what SQLite and we keep beside it."""
        (tmp_path / f"spool{suffix}").mkdir()
        assert refuse(tmp_path / "spool").startswith(f"spool{suffix} must be a file")

    @pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", "-lock"])
    def test_link_beside_it(self, tmp_path, suffix):
        """What stands beside the file is no link: it would be written through."""
        (tmp_path / f"spool{suffix}").symlink_to(tmp_path / "elsewhere")
        assert "must be a file" in refuse(tmp_path / "spool")

    def test_hard_link(self, tmp_path):
        """A file with two names would have two logs, and two lock files."""
        (tmp_path / "one").touch()
        os.link(tmp_path / "one", tmp_path / "spool")
        assert "has a second name" in refuse(tmp_path / "spool")

    def test_link_of_ones_own(self, tmp_path):
        """One's own link is followed, and the place where it leads is checked."""
        (tmp_path / "data").mkdir()
        (tmp_path / "spool").symlink_to(tmp_path / "data" / "spool")
        location.check(str(tmp_path / "spool"))
        (tmp_path / "data").chmod(0o777)
        assert "no sticky bit" in refuse(tmp_path / "spool", location.check)

    @needs_root
    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-lock"])
    def test_somebody_elses_file(self, tmp_path, suffix):
        """He could read it, or has the locks."""
        (tmp_path / f"spool{suffix}").touch()
        os.chown(tmp_path / f"spool{suffix}", NOBODY, NOBODY)
        assert "belongs to another user" in refuse(tmp_path / "spool")

    @needs_root
    def test_link_to_somebody_elses_file(self, tmp_path):
        """A link is judged by what it leads to."""
        (tmp_path / "file").touch()
        os.chown(tmp_path / "file", NOBODY, NOBODY)
        (tmp_path / "spool").symlink_to(tmp_path / "file")
        real = os.path.realpath(tmp_path / "spool")
        assert "belongs to another user" in refuse(real)

    @needs_root
    def test_somebody_elses_link(self, tmp_path):
        """He says where it leads: to a file of ours that is none of his business."""
        (tmp_path / "spool").symlink_to(tmp_path / "file")
        os.chown(tmp_path / "spool", NOBODY, NOBODY, follow_symlinks=False)
        refused = refuse(tmp_path / "spool", location.check_link)
        assert "link of another user" in refused

    @needs_root
    def test_below_somebody_elses_link(self, tmp_path):
        """So is one of a folder, however far above."""
        (tmp_path / "data" / "more").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "data")
        location.check_link(str(tmp_path / "link" / "more" / "spool"))
        os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
        refused = refuse(tmp_path / "link" / "more" / "spool", location.check_link)
        assert "below one" in refused

    @needs_root
    def test_log_that_comes_late(self):
        """A log of another user's, put there after the look, is not written to the file."""
        script = """
            import ctypes, os, sys  # all that this user may not read later
            from htlogging._queue.spool import connections
            os.setgid(65534); os.setuid(65534)
            try:
                connections.close(connections.connect(sys.argv[1]))
            except connections.SpoolUnavailable as exc:
                print(exc)
        """
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o1777)
            ours, theirs = f"{folder}/spool", f"{folder}/theirs"
            for path, rows in ((ours, 1), (theirs, 1), (theirs, 50)):
                writer = sqlite3.connect(path)
                writer.execute("PRAGMA journal_mode = WAL")
                writer.execute("CREATE TABLE IF NOT EXISTS t (x)")
                writer.executemany("INSERT INTO t VALUES (?)", [(b"evil",)] * rows)
                writer.commit()
                if rows > 1:
                    shutil.copy(f"{theirs}-wal", f"{ours}-wal")
                writer.close()
            os.chown(ours, NOBODY, NOBODY)
            os.chown(f"{ours}-wal", NOBODY - 1, NOBODY - 1)
            os.chmod(f"{ours}-wal", 0o666)
            before = Path(ours).read_bytes()
            command = [sys.executable, "-c", textwrap.dedent(script), ours]
            said = subprocess.check_output(command, text=True, timeout=60)
            assert said == "another user has put a file beside it\n"
            assert Path(ours).read_bytes() == before

    @needs_root
    def test_folder_that_cannot_be_looked_into(self, tmp_path):
        """What cannot be looked at is refused, as no crash."""
        script = """
            import os, sys
            from htlogging import InvalidSetting
            from htlogging._queue.spool import location
            os.setgid(65534); os.setuid(65534)
            try:
                location.check_owner(sys.argv[1])
            except InvalidSetting as exc:
                print(exc)
        """
        tmp_path.chmod(0o700)
        command = [sys.executable, "-c", textwrap.dedent(script)]
        ended = subprocess.run(
            [*command, tmp_path / "spool"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert ended.stdout == "Permission denied\n"


class TestMake:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_for_its_owner_alone(self, tmp_path, umask):
        """Every file is 0600 from its first moment on, whatever the umask."""
        path = tmp_path / "spool"
        before = os.umask(umask)
        try:
            location.make(str(path))
        finally:
            os.umask(before)
        made = sorted(tmp_path.iterdir())
        assert [p.name for p in made] == ["spool", "spool-shm", "spool-wal"]
        assert {stat.S_IMODE(p.stat().st_mode) for p in made} == {0o600}

    def test_what_is_there_stays(self, tmp_path):
        """A file that is there is left as it is; only others lose their rights."""
        path = tmp_path / "spool"
        path.write_bytes(b"kept")
        path.chmod(0o644)
        location.make(str(path))
        assert path.read_bytes() == b"kept"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_all_files_of_a_spool_in_use(self, tmp_path, collector):
        """With umask 0 too, no file of a spool in use is open to others."""
        before = os.umask(0)
        try:
            handler = HtEventsHandler(
                write_key="K", host=collector.url, spool=tmp_path / "spool"
            )
            assert handler.queue.put(b'{"type":"track"}')
            assert handler.flush(30)
            found = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
            handler.close()
        finally:
            os.umask(before)
        names = ("spool", "spool-lock", "spool-shm", "spool-wal")
        assert found == dict.fromkeys(names, 0o600)


class TestHandler:
    def test_refused_at_construction(self, tmp_path):
        """A place that will not do anywhere is an `InvalidSetting` where it is set."""
        tmp_path.chmod(0o777)
        with pytest.raises(InvalidSetting, match="no sticky bit"):
            HtEventsHandler(
                write_key="K", host="http://localhost", spool=tmp_path / "spool"
            )

    def check(self, path, collector, caplog, reason):
        """Assert that events go by memory, with one line that says why."""
        config = {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "ht": {
                    "()": "htlogging.HtEventsHandler",
                    "write_key": "K",
                    "host": collector.url,
                    "spool": str(path),
                }
            },
            "loggers": {"spooled": {"handlers": ["ht"], "level": "INFO"}},
        }
        logging.config.dictConfig(config)
        logger = logging.getLogger("spooled")
        (handler,) = logger.handlers
        try:
            for n in range(3):
                logger.info("e%d", n, extra={"ht_user_id": "u"})
            assert handler.flush(30)
            assert handler.stats.delivered == 3
            assert handler.stats.unspooled == 3
        finally:
            handler.close()
            logger.handlers.clear()
        lines = [line for line in caplog.messages if "spool" in line]
        assert len(lines) == 1
        assert reason in lines[0]

    @pytest.mark.parametrize("suffix", ["", "-wal", "-lock"])
    def test_folder_in_its_place(self, tmp_path, collector, caplog, suffix):
        """What depends on the machine stops no caller, `dictConfig` least of all."""
        (tmp_path / f"spool{suffix}").mkdir()
        reason = f"spool{suffix} must be a file"
        self.check(tmp_path / "spool", collector, caplog, reason)

    def test_below_a_file(self, tmp_path, collector, caplog):
        """Nor does a folder that cannot be made."""
        (tmp_path / "file").touch()
        self.check(tmp_path / "file" / "spool", collector, caplog, "Not a directory")

    @needs_root
    def test_of_another_user(self, tmp_path, collector, caplog):
        """Nor a file of another user, with root's, say, left from a first start."""
        (tmp_path / "spool").touch()
        os.chown(tmp_path / "spool", NOBODY, NOBODY)
        reason = "belongs to another user"
        self.check(tmp_path / "spool", collector, caplog, reason)

    @needs_root
    def test_journal_in_a_shared_folder(self, tmp_path, collector, caplog):
        """Another user's PATH-journal is never taken for the rest of a transaction."""
        tmp_path.chmod(0o1777)
        path = tmp_path / "spool"
        handler = HtEventsHandler(write_key="K", host=collector.url, spool=path)
        handler.queue.put(b'{"type":"track","event":"mine"}')
        assert (tmp_path / "spool-journal").stat().st_size == 0
        assert handler.flush(30)
        handler.close()
        # Gone, for the moment, by who is allowed to.
        (tmp_path / "spool-journal").unlink()
        before = path.read_bytes()
        (tmp_path / "spool-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") * 64)
        os.chown(tmp_path / "spool-journal", NOBODY, NOBODY)
        self.check(path, collector, caplog, "belongs to another user")
        assert path.read_bytes() == before

    @needs_root
    def test_journal_where_a_command_looks(self, tmp_path):
        """Nor by a command that only looks: to SQLite that would be no reason."""
        path = tmp_path / "spool"
        handler = HtEventsHandler(write_key="K", host="http://127.0.0.1:9", spool=path)
        handler.queue.put(b"{}")
        handler.queue.close()
        SpoolView(str(path)).close()
        before = path.read_bytes()
        (tmp_path / "spool-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") * 64)
        os.chown(tmp_path / "spool-journal", NOBODY, NOBODY)
        os.chown(path, NOBODY - 1, NOBODY - 1)
        with pytest.raises(
            SpoolError, match="PATH-journal beside it is another user's file"
        ):
            SpoolView(str(path))
        assert path.read_bytes() == before
        os.chown(path, NOBODY, NOBODY)
        location.check_beside(str(path))  # the owner's own

    def test_new_file_of_a_damaged_one(self, tmp_path, monkeypatch):
        """A link that another user puts where the new file will be is not followed."""
        path, victim = tmp_path / "spool", tmp_path / "victim"
        new, log, unlink = f"{path}.new", f"{path}.new-shm", os.unlink
        path.write_bytes(b"damaged")
        victim.touch()

        def race(name):
            if name == log:
                os.symlink(victim, new)
            unlink(name)

        monkeypatch.setattr(os, "unlink", race)
        with pytest.raises(InvalidSetting, match="must be a file"):
            salvage.salvage(str(path), ())
        assert victim.read_bytes() == b""
        assert path.read_bytes() == b"damaged"

    def test_not_looked_at_when_nothing_is_sent(self, tmp_path):
        """With `send=False` the production's settings work anywhere."""
        handler = HtEventsHandler(send=False, spool=tmp_path / "missing" / "spool")
        assert handler.flush()
        handler.close()
