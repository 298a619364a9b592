"""
The file beside the spool whose locks tell who lives.

An *owner* is one queue of one process. It is a number, and a byte of `PATH-lock` that
is locked for as long as the process lives: the system frees it at any death, `kill -9`
included.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows: no spool there)
    fcntl = None  # type: ignore[assignment]

# The byte that is held while the spool is opened; the others are owners'.
_OPENING = 0

_FLAGS = ("O_RDWR", "O_CREAT", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")


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

    def take(self, owner: int) -> bool:
        """Lock an owner's byte, unless another process has it."""
        if not _lock(self.ready(), owner):
            return False
        self.held.add(owner)
        return True

    def free(self, owner: int) -> None:
        """Unlock an owner's byte."""
        self.held.discard(owner)
        fcntl.lockf(self.ready(), fcntl.LOCK_UN, 1, owner)

    @contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """
        Keep other processes from opening the spool: it may have to be made.

        Raises:
            OSError: Another one did not let go in so many seconds.
        """
        fd = self.ready()
        deadline = time.monotonic() + seconds
        while not _lock(fd, _OPENING):
            if time.monotonic() > deadline:
                raise TimeoutError(0, "another process is opening it")
            threading.Event().wait(0.005)
        try:
            yield
        finally:
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, _OPENING)

    def ready(self) -> int:
        """
        Return the descriptor; opened again if the file is another one now.

        It may have been deleted, or the descriptor closed by a daemon in the making;
        the locks are taken anew then.
        """
        named = _identity_of(lambda: os.lstat(self._path))
        if self._fd is not None:
            ours = _identity_of(lambda: os.fstat(self._fd or 0))
            if ours == named == self._identity:
                return self._fd
            if ours == self._identity:
                os.close(self._fd)
        self._fd = self._open()
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
            raise PermissionError(0, "its lock file belongs to another user")
        self._identity = found.st_dev, found.st_ino
        return fd

    def after_fork_in_child(self) -> None:
        """Have no locks: they do not cross a fork."""
        # Nor is the inherited descriptor closed: who makes a daemon may have closed it,
        # and its number may be another file's.
        self._fd = None
        self.held = set()


def _lock(fd: int, byte: int) -> bool:
    with suppress(BlockingIOError, PermissionError):  # POSIX allows either
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        return True
    return False


def identity(path: str) -> tuple[int, int] | None:
    """Return what a file is the same by; `None`: there is none."""
    return _identity_of(lambda: os.lstat(path))


def _identity_of(look: object) -> tuple[int, int] | None:
    try:
        found = look()  # type: ignore[operator]
    except OSError:
        return None
    return found.st_dev, found.st_ino
