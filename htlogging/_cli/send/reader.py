"""The lines of a file, plain or gzipped, or of stdin."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib

from htlogging._cli.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

# Bytes. The longest line that is read into memory: the largest possible event, with each
# character written as an escape.
MAX_LINE = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class Line:
    """
    A line.

    Args:
        number: Counted from 1.
        text: Without white space around it; `None` if it is longer than `MAX_LINE`.
        digest: SHA-256 of the whole line.
        ended: Whether it has a line break; the last line may have none yet.
    """

    __slots__ = ("digest", "ended", "number", "text")

    def __init__(
        self, number: int, text: bytes | None, digest: bytes, *, ended: bool
    ) -> None:
        self.number = number
        self.text = text
        self.digest = digest
        self.ended = ended


class Input:
    """
    A file that is read once.

    Args:
        path: `-` means stdin; a name that ends in `.gz` means gzip.

    Raises:
        Failed: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.total: int | None = None
        if path == "-":
            self._raw: IO[bytes] = sys.stdin.buffer
        else:
            try:
                self._raw = open(path, "rb")  # noqa: SIM115
                self.total = os.fstat(self._raw.fileno()).st_size or None
            except OSError as exc:
                raise Failed(f"{path}: {exc.strerror}") from None
        packed = path.endswith(".gz")
        self._file: IO[bytes] | gzip.GzipFile = (
            gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        )

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def position(self) -> int:
        """Return how many bytes of the file on disk have been read."""
        return self._raw.tell() if self.total is not None else 0

    def lines(self) -> Iterator[Line]:
        """
        Yield each line.

        Raises:
            Failed: The rest of the file cannot be read.
        """
        number = 0
        try:
            while piece := self._file.readline(MAX_LINE):
                number += 1
                if number == 1:
                    piece = piece.removeprefix(_BOM)
                yield self._line(number, piece)
        except (OSError, EOFError, zlib.error) as exc:
            raise Failed(f"{self.path}: after line {number}: {exc}") from None

    def _line(self, number: int, piece: bytes) -> Line:
        if piece.endswith(b"\n") or len(piece) < MAX_LINE:
            text = piece.strip()
            digest = hashlib.sha256(text).digest()
            return Line(number, text, digest, ended=piece.endswith(b"\n"))
        whole = hashlib.sha256(piece)
        while not piece.endswith(b"\n") and (piece := self._file.readline(MAX_LINE)):
            whole.update(piece.rstrip(b"\r\n"))
        return Line(number, None, whole.digest(), ended=piece.endswith(b"\n"))


class Occurrences:
    """
    Counts equal lines, exactly and in bounded memory.

    When there are many counts, SQLite keeps them in a temporary file.
    """

    def __init__(self) -> None:
        import sqlite3

        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA cache_size = -32768").fetchall()
        self._database.execute("PRAGMA journal_mode = OFF").fetchall()
        self._database.execute("PRAGMA synchronous = OFF").fetchall()
        self._database.execute(
            "CREATE TABLE seen (line BLOB PRIMARY KEY, count INTEGER) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def count(self, digest: bytes) -> int:
        """Count a line, and return how many equal lines there are so far, with it."""
        # In two statements: the SQLite of some systems has no RETURNING yet.
        self._database.execute(
            "INSERT INTO seen VALUES (?, 1)"
            " ON CONFLICT (line) DO UPDATE SET count = count + 1",
            (digest,),
        )
        ((count,),) = self._database.execute(
            "SELECT count FROM seen WHERE line = ?", (digest,)
        )
        return int(count)

    def close(self) -> None:
        """Forget all counts."""
        self._database.close()
