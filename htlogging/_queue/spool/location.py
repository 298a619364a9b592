"""Where a spool may be, and making its files so that no other user can read them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from htlogging._process.interruption import Ignored, is_passing
from htlogging._queue.spool.schema import APPLICATION_ID
from htlogging.exceptions import InvalidSetting

# What stands beside the file: SQLite's log, the log's index, a journal, which SQLite would
# take for the rest of a transaction and write over the file, and our locks.
BESIDE = ("-wal", "-shm", "-journal", "-lock")

# Where `PRAGMA application_id` is in a file (sqlite.org/fileformat.html, 1.3).
_MARK_AT = 68


class BelongsToAnotherUser(InvalidSetting):
    """A file of the spool belongs to another user."""


def check(path: str) -> None:
    """
    Refuse what cannot be right on any machine: a folder that everyone may write to.

    Raises:
        InvalidSetting: It is one, or this system has no POSIX locks.
    """
    if os.name != "posix":  # pragma: no cover  (Windows)
        raise InvalidSetting(
            "spool needs POSIX file locks, which this system does not have; remove it"
        )
    for folder in _folders(path):
        _check_shared(folder)


def _folders(path: str) -> set[str]:
    real = os.path.realpath(path)
    return {os.path.dirname(os.path.abspath(path)), os.path.dirname(real)}


def _check_shared(folder: str) -> None:
    try:
        mode = os.stat(folder).st_mode
    except OSError as exc:
        if is_passing(exc):
            raise
        return
    if stat.S_ISDIR(mode) and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise InvalidSetting(
            "spool must not be in a folder that everyone may write to (no sticky bit): "
            "anyone could replace the file; choose a folder of your own, such as one in "
            "/var/lib or in the user's home"
        )


def check_link(path: str) -> None:
    """
    Refuse a link of another user, who could change where it leads: the file's, or a folder's.

    Raises:
        InvalidSetting: One is such a link.
    """
    while path != os.path.dirname(path):
        with Ignored(OSError):
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
                raise InvalidSetting(
                    "spool is a link of another user, or below one; choose another path"
                )
        path = os.path.dirname(path)


def make_folder(path: str) -> None:
    """
    Make the folder of a file for this user alone, where there is none.

    Raises:
        OSError: It cannot be made.
    """
    missing = []
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def check_owner(path: str) -> None:
    """
    Refuse what others could read, change or replace.

    Args:
        path: Without links: one that stands there now came later.

    Raises:
        InvalidSetting: The path, or one beside it, is no file, or another user's, or
            has a second name; or the folder is one that everyone may write to.
    """
    _check_shared(os.path.dirname(path))
    for suffix in ("", *BESIDE):
        try:
            found = os.lstat(path + suffix)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if is_passing(exc):
                raise
            raise InvalidSetting(exc.strerror) from None
        if not stat.S_ISREG(found.st_mode):
            raise InvalidSetting(
                f"spool{suffix} must be a file, or a path that does not exist yet"
            )
        if found.st_uid != os.geteuid():
            raise BelongsToAnotherUser(
                f"spool{suffix} belongs to another user; choose another path"
            )
        if found.st_nlink > 1:
            # SQLite's log has its name from the path: with two paths there would be
            # two logs for one file (sqlite.org/howtocorrupt.html, 2.5).
            raise InvalidSetting(
                f"spool{suffix} has a second name (a hard link); remove it"
            )


def check_beside(path: str) -> None:
    """
    Refuse a log beside a file that is neither its owner's nor root's: SQLite would use it.

    It is for commands that only read the file, which may be another user's.

    Raises:
        InvalidSetting: One is no file, or belongs to another user than the file and root.
        OSError: There is no file.
    """
    owners = {os.stat(path).st_uid, 0}
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            found = os.lstat(path + suffix)
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners:
                raise InvalidSetting(f"PATH{suffix} beside it is another user's file")


def is_anothers_beside(path: str) -> bool:
    """Return whether a log beside a file is another user's than its own, ours or root's."""
    with Ignored(OSError):
        owners = {os.stat(path).st_uid, os.geteuid(), 0}
        for suffix in ("-wal", "-shm", "-journal"):
            with Ignored(FileNotFoundError):
                if os.lstat(path + suffix).st_uid not in owners:
                    return True
    return False


def is_shared(path: str) -> bool:
    """Return whether others may write to a file's folder, but not replace it: as /tmp."""
    mode = os.stat(os.path.dirname(path)).st_mode
    return bool(mode & stat.S_ISVTX and mode & (stat.S_IWOTH | stat.S_IWGRP))


def make(path: str) -> None:
    """Make the file and SQLite's beside it, for their owner alone, where not there."""
    with suppress(FileNotFoundError):
        # A spool has none, in WAL mode; SQLite must not take one up.
        os.unlink(f"{path}-journal")
    # In a shared folder an empty one keeps its place: to SQLite it is as none, and
    # no other user can put another there.
    journal = ("-journal",) if is_shared(path) else ()
    for suffix in ("", "-wal", "-shm", *journal):
        with suppress(FileExistsError):
            # Not by SQLite: it would make the file by the umask, for all to read, and
            # open what another user had put beside it. Opened only when new: closing
            # it would free the locks that this process's connections have.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(path + suffix, flags, 0o600))
    if os.lstat(path).st_mode & 0o077:
        # Made by hand, perhaps. What SQLite makes beside it gets the mode of the file.
        os.chmod(path, 0o600)


def is_emptied(path: str) -> bool:
    """Return whether there is no file, or an empty one."""
    return size(path) == 0


def has_log(path: str) -> bool:
    """Return whether something is in SQLite's log."""
    return size(f"{path}-wal") > 0


def size(path: str) -> int:
    """Return the bytes of a file; 0: there is none."""
    with Ignored(OSError):
        return os.lstat(path).st_size
    return 0


def is_marked(path: str) -> bool:
    """Return whether the file's beginning says that it is a spool."""
    head = b""
    with Ignored(OSError), open(path, "rb") as file:
        head = file.read(_MARK_AT + 4)
    return head[_MARK_AT:] == APPLICATION_ID.to_bytes(4, "big")
