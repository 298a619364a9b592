"""The resume position: how far a file was sent, saved beside it for the next run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from contextlib import suppress

from htlogging._cli.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._cli.send.reader import Line


_COUNTS = ("lines", "delivered", "invalid", "refused")
_MOST = 2**60  # of a count: no file has more lines

# Bytes of a state file that are read; it has some 200.
_LONGEST = 10_000


class State:
    """
    How far a file was sent, and how many lines were delivered, invalid and refused.

    Args:
        path: The file to save it in; `None` to save nothing.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.lines = 0
        self.delivered = 0
        self.invalid = 0
        self.refused = 0
        self.digest = hashlib.sha256()  # of the digests of these lines

    def add(self, line: Line) -> None:
        """Move the position past a line."""
        self.lines = line.number
        self.digest.update(line.digest)

    def save(self) -> None:
        """
        Save the position, as a whole or not at all.

        Raises:
            Failed: It cannot be saved.
        """
        if self.path is None:
            return
        found = {
            "version": 1,
            "lines": self.lines,
            "sha256": self.digest.hexdigest(),
            "delivered": self.delivered,
            "invalid": self.invalid,
            "refused": self.refused,
        }
        try:
            _replace(self.path, json.dumps(found).encode() + b"\n")
        except OSError as exc:
            raise self._unsaved(exc) from None

    def begin(self, source: str) -> None:
        """
        Save that nothing is sent yet, over an earlier position or nothing.

        Args:
            source: The input file, which is never overwritten.

        Raises:
            Failed: It cannot be saved, or there is a file that `send` has not written.
        """
        if self.path is None:
            return
        with suppress(OSError):
            if os.path.samefile(self.path, source):
                raise Failed(f"{self.path}: this is the input; name another file")
        try:
            if _read(self.path):  # an empty file is what `mktemp` makes
                self.load()
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise self._unsaved(exc) from None
        self.save()

    def _unsaved(self, exc: OSError) -> Failed:
        return Failed(f"{self.path}: cannot save the resume position: {_why(exc)}")

    def load(self) -> dict[str, Any] | None:
        """
        Return the saved position; `None` if there is none.

        Raises:
            Failed: It cannot be read.
        """
        assert self.path is not None
        try:
            said = _read(self.path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Failed(f"{self.path}: {_why(exc)}") from None
        found = None
        with suppress(ValueError, RecursionError):
            found = json.loads(said)
        if not _is_state(found):
            raise Failed(
                f"{self.path}: not written by `send`; name another with --state"
            )
        return found


def _why(exc: OSError) -> str | None:
    return "it is a link" if exc.errno == errno.ELOOP else exc.strerror


def _is_state(found: Any) -> bool:
    """Return whether it is what `save` writes."""
    return (
        isinstance(found, dict)
        and found.keys() == {"version", "sha256", *_COUNTS}
        and found["version"] == 1
        and all(
            type(found[name]) is int and 0 <= found[name] < _MOST for name in _COUNTS
        )
        and sum(found[name] for name in _COUNTS[1:]) <= found["lines"]
        and isinstance(found["sha256"], str)
    )


def _read(path: str) -> bytes:
    """Return the beginning of a plain file; a link is not followed, a pipe not read."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        return file.read(_LONGEST)


def _replace(path: str, text: bytes) -> None:
    """Write a file as a whole or not at all; only its owner may read it."""
    # A new file under a name that cannot be guessed. A link of that name, by which another
    # file would be overwritten, is an error.
    draft = f"{path}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(draft, flags, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
