"""Where a spool may be, and making its file so that nobody else can read it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from htlogging.exceptions import InvalidSetting


def check(path: str) -> None:
    """
    Refuse a place where others could read, change or replace the file.

    Raises:
        InvalidSetting: The folder is missing, or others may write to it and its sticky
            bit is not set; or the path is somebody else's file, or a link to one.
    """
    if os.name != "posix":  # pragma: no cover
        raise InvalidSetting("spool needs POSIX (locks of files); leave it out here")
    folder = os.path.dirname(path) or "."
    try:
        mode = os.stat(folder).st_mode
    except OSError as exc:
        raise InvalidSetting(
            f"spool must be in a folder that is there: {exc.strerror}; make it first"
        ) from None
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise InvalidSetting(
            "spool must not be in a folder that all may write to (no sticky bit): "
            "anybody could replace the file; take one of your own"
        )
    check_owner(path)


def check_owner(path: str) -> None:
    """Refuse what is no file, or somebody else's; raises as `check` does."""
    with suppress(FileNotFoundError):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidSetting("spool must be a file, or a path where none is yet")
        if found.st_uid != os.geteuid():
            link = " is a link to a file that" if os.path.islink(path) else ""
            raise InvalidSetting(
                f"spool{link} belongs to another user; take a path of your own"
            )


def make(path: str) -> None:
    """Make the file, for its owner alone, unless it is there."""
    with suppress(FileExistsError):
        # Not by SQLite: it would make it by the umask, for all to read. Its -wal and
        # -shm get the mode of the file. Opened only when new: closing it would free the
        # locks that this process's connections have.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))
