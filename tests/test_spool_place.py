"""Where a spool may be, and who may read what is made there."""

import os
import stat
import subprocess
import sys
import textwrap

import pytest

from htlogging import HtEventsHandler
from htlogging._queue.spool import location
from htlogging.exceptions import InvalidSetting

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="needs root, to be another user",
)

# A user of no files.
NOBODY = 65_534


def refuse(path):
    """Return the message for a place that is refused."""
    with pytest.raises(InvalidSetting) as caught:
        location.check(str(path))
    return str(caught.value)


class TestCheck:
    def test_place_of_ones_own(self, tmp_path):
        """A folder of one's own will do, whether the file is there or not."""
        location.check(str(tmp_path / "spool"))
        (tmp_path / "spool").touch()
        location.check(str(tmp_path / "spool"))

    def test_missing_folder(self, tmp_path):
        """A folder is not made: its mode is for the operator to choose."""
        assert "make it first" in refuse(tmp_path / "missing" / "spool")

    def test_below_a_file(self, tmp_path):
        """What is below a file is in no folder."""
        (tmp_path / "file").touch()
        assert "not below a file" in refuse(tmp_path / "file" / "spool")

    @pytest.mark.parametrize(("mode", "passes"), [(0o777, False), (0o1777, True)])
    def test_folder_for_all(self, tmp_path, mode, passes):
        """Where all may write, the sticky bit must keep them from replacing the file."""
        tmp_path.chmod(mode)
        if passes:
            location.check(str(tmp_path / "spool"))
        else:
            assert "no sticky bit" in refuse(tmp_path / "spool")

    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-lock"])
    def test_no_file(self, tmp_path, suffix):
        """A folder is no spool, nor is what SQLite and we keep beside it."""
        (tmp_path / f"spool{suffix}").mkdir()
        assert refuse(tmp_path / "spool").startswith(f"spool{suffix} must be a file")

    @pytest.mark.parametrize("suffix", ["-wal", "-shm", "-lock"])
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
        assert "no sticky bit" in refuse(tmp_path / "spool")

    @needs_root
    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-lock"])
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
        assert "belongs to another user" in refuse(tmp_path / "spool")

    @needs_root
    def test_somebody_elses_link(self, tmp_path):
        """He says where it leads: to a file of ours that is none of his business."""
        (tmp_path / "spool").symlink_to(tmp_path / "file")
        os.chown(tmp_path / "spool", NOBODY, NOBODY, follow_symlinks=False)
        assert "a link of another user" in refuse(tmp_path / "spool")

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
        assert ended.stdout == "spool cannot be used: Permission denied\n"


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
        """A place that will not do is an `InvalidSetting` where it is set."""
        with pytest.raises(InvalidSetting, match="make it first"):
            HtEventsHandler(write_key="K", spool=tmp_path / "missing" / "spool")

    def test_not_looked_at_when_nothing_is_sent(self, tmp_path):
        """With `send=False` the production's settings work anywhere."""
        handler = HtEventsHandler(send=False, spool=tmp_path / "missing" / "spool")
        assert handler.flush()
        handler.close()
