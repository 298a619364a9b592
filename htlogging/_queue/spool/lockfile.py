"""
The file beside the spool whose locks tell who lives.

An *owner* is one queue of one process. It is a number, and a byte of `PATH-lock` that
is locked for as long as the process lives: the system frees it at any death, `kill -9`
included.

The file's content says that the spool's tables were made: without it an empty or
unreadable file could be taken for a new one, or for another program's. It also says how
many events each owner accepted, and how many of them are settled: so what is lost with a
damaged spool can be counted.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import zlib
from contextlib import suppress

from htlogging._process.clock import clock
from htlogging._process.interruption import Ignored, is_passing
from htlogging._queue.spool.schema import VERSION

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows: no spool there)
    fcntl = None  # type: ignore[assignment]

# The byte that is held while the spool is opened, and the one that a replay holds; the
# others are owners'.
_OPENING = 0
REPLAY = 1
FIRST_OWNER = 16

_FLAGS = ("O_RDWR", "O_CREAT", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")

_MADE = b"htlogging spool %d\n" % VERSION

# Where the counts are: an owner has a place by its number. Owner, accepted, settled, and
# the checksum of these.
_COUNTS_AT = 64
_PLACES = 4_096
_COUNT = struct.Struct("<qqqI")


class LockFile:
    """
    One process's locks in a `PATH-lock`; used by one thread at a time.

    They are POSIX locks: the process's, and gone from the file as soon as it closes any
    descriptor of it. So ours stays open while the process lives.

    Args:
        path: Of the lock file itself.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._identity = (0, 0)
        self.held: set[int] = set()  # owners whose byte this process has locked

    def lock(self, owner: int) -> bool:
        """Lock an owner's byte, unless another process has it."""
        if not _lock(self.ready(), owner):
            return False
        self.held.add(owner)
        return True

    def unlock(self, owner: int) -> None:
        """Unlock an owner's byte."""
        self.held.discard(owner)
        if self._fd is not None and self.is_intact():
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, owner)

    def begin_opening(self, seconds: float) -> None:
        """
        Keep other processes from opening the spool: it may have to be made.

        Raises:
            OSError: Another process was still opening it after this time.
        """
        fd = self.ready()
        deadline = clock.monotonic() + seconds
        while not _lock(fd, _OPENING):
            if clock.monotonic() > deadline:
                raise TimeoutError(0, "another process is opening it")
            threading.Event().wait(0.005)

    def end_opening(self) -> None:
        """Let other processes open it."""
        if self._fd is not None:
            with Ignored(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _OPENING)

    def is_made(self) -> bool:
        """Return whether a spool's tables were once made beside this file."""
        return os.pread(self.ready(), len(_MADE), 0) == _MADE

    def note_made(self) -> None:
        """Write down that the tables were made."""
        if not self.is_made():
            os.pwrite(self.ready(), _MADE, 0)

    def note(self, owner: int, accepted: int, settled: int) -> None:
        """Write down an owner's counts: 0.8 us, into the system's memory."""
        with Ignored(OSError, TypeError):  # a full disk, or not open
            os.pwrite(self._fd, _packed(owner, accepted, settled), _place(owner))  # type: ignore[arg-type]

    def noted(self, owner: int) -> tuple[int, int] | None:
        """Return how many events an owner accepted, and settled; `None`: not known."""
        found = _unpacked(os.pread(self.ready(), _COUNT.size, _place(owner)))
        return None if found is None or found[0] != owner else found[1:]

    def is_free(self, owner: int) -> bool:
        """
        Return whether no counts are in an owner's place.

        Its own may be there, of a process that had drawn the same number in the same
        second. They are all that is known of its events if the file has lost them.
        """
        data = os.pread(self.ready(), _COUNT.size, _place(owner))
        return _unpacked(data) is None

    def all_noted(self) -> list[int]:
        """Return the owners that there are counts of."""
        data = os.pread(self.ready(), _PLACES * _COUNT.size, _COUNTS_AT)
        pieces = (
            data[at : at + _COUNT.size] for at in range(0, len(data), _COUNT.size)
        )
        return [found[0] for found in map(_unpacked, pieces) if found is not None]

    def forget(self, owner: int) -> None:
        """Forget an owner's counts."""
        with Ignored(OSError):
            if self.noted(owner) is not None:
                os.pwrite(self.ready(), bytes(_COUNT.size), _place(owner))

    def is_intact(self) -> bool:
        """Return whether the descriptor is ours still: all may have been closed."""
        try:
            found = os.fstat(self._fd)  # type: ignore[arg-type]
        except (OSError, TypeError) as exc:
            if is_passing(exc):
                raise
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def ready(self) -> int:
        """
        Return the descriptor; opened again if the file is another one now.

        It may have been deleted, or the descriptor closed by a daemon in the making;
        the locks are taken anew then.

        Raises:
            OSError: It cannot be opened, or is no file of this user's.
        """
        if self._fd is not None:
            intact = self.is_intact()
            if intact and identity(self._path) == self._identity:
                return self._fd
            found = self._open()
            if intact:
                os.close(self._fd)
        else:
            found = self._open()
        self._fd = found
        for owner in self.held:
            _lock(self._fd, owner)
        return self._fd

    def _open(self) -> int:
        flags = 0
        for name in _FLAGS:
            flags |= getattr(os, name)
        fd = os.open(self._path, flags, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(fd)
            raise PermissionError(0, "its lock file is not a file of this user")
        self._identity = found.st_dev, found.st_ino
        return fd

    def after_fork_in_child(self) -> None:
        """Forget the locks: they do not cross a fork."""
        # Nor is the inherited descriptor closed: who makes a daemon may have closed it,
        # and its number may be another file's.
        self._fd = None
        self.held = set()


def _place(owner: int) -> int:
    return _COUNTS_AT + owner % _PLACES * _COUNT.size


def _packed(owner: int, accepted: int, settled: int) -> bytes:
    check = zlib.crc32(b"%d %d %d" % (owner, accepted, settled))
    return _COUNT.pack(owner, accepted, settled, check)


def _unpacked(data: bytes) -> tuple[int, int, int] | None:
    """Return an owner's counts; `None`: there are none, or they are damaged."""
    if len(data) < _COUNT.size or not any(data):
        return None
    owner, accepted, settled, _ = _COUNT.unpack(data)
    sound = data == _packed(owner, accepted, settled)
    return (owner, accepted, settled) if sound else None


def _lock(fd: int, byte: int) -> bool:
    with suppress(BlockingIOError, PermissionError):  # POSIX allows either
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        return True
    return False


def identity(path: str) -> tuple[int, int] | None:
    """Return what identifies a file; `None`: there is none."""
    with Ignored(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None
