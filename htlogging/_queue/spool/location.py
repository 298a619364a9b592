"""Where a spool may be, and making its files so that nobody else can read them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from htlogging.exceptions import InvalidSetting

# What stands beside the file: SQLite's log, its index, and our locks.
BESIDE = ("-wal", "-shm", "-lock")


def check(path: str) -> None:
    """
    Refuse a place where others could read, change or replace the file.

    Raises:
        InvalidSetting: The folder is missing, or all may write to it and its sticky
            bit is not set; or the path is somebody else's file, or somebody else's
            link, or a link to somebody else's file; or the file has a second name.
    """
    if os.name != "posix":  # pragma: no cover  (Windows)
        raise InvalidSetting(
            "spool needs POSIX file locks, which this system does not have; remove it"
        )
    with suppress(OSError):  # the folder's check says it
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
            raise InvalidSetting("spool is a link of another user; choose another path")
    real = os.path.realpath(path)
    for folder in {os.path.dirname(os.path.abspath(path)), os.path.dirname(real)}:
        _check_folder(folder)
    check_owner(real)


def _check_folder(folder: str) -> None:
    try:
        mode = os.stat(folder).st_mode
    except OSError as exc:
        raise InvalidSetting(
            f"spool must be in a folder that exists: {exc.strerror}; make it first"
        ) from None
    if not stat.S_ISDIR(mode):
        raise InvalidSetting("spool must be in a folder, not below a file")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise InvalidSetting(
            "spool must not be in a folder that all may write to (no sticky bit): "
            "anybody could replace the file; take one of your own"
        )


def check_owner(path: str) -> None:
    """
    Refuse what is no file, or somebody else's; raises as `check` does.

    Args:
        path: Without links: one that stands there now came later.
    """
    for suffix in ("", *BESIDE):
        try:
            found = os.lstat(path + suffix)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise InvalidSetting(f"spool cannot be used: {exc.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise InvalidSetting(
                f"spool{suffix} must be a file, or a path that does not exist yet"
            )
        if found.st_uid != os.geteuid():
            raise InvalidSetting(
                f"spool{suffix} belongs to another user; choose another path"
            )
        if found.st_nlink > 1:
            # SQLite's log has its name from the path: with two paths there would be
            # two logs for one file (sqlite.org/howtocorrupt.html, 2.5).
            raise InvalidSetting(
                f"spool{suffix} has a second name (a hard link); remove it"
            )


def make(path: str) -> None:
    """Make the file and SQLite's beside it, for their owner alone, where not there."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileExistsError):
            # Not by SQLite: it would make the file by the umask, for all to read, and
            # open what somebody else had laid in wait beside it. Opened only when new:
            # closing it would free the locks that this process's connections have.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(path + suffix, flags, 0o600))
    if os.lstat(path).st_mode & 0o077:
        # Made by hand, perhaps. What SQLite makes beside it gets the mode of the file.
        os.chmod(path, 0o600)
