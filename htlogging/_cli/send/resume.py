"""The resume position: how far a file was sent, saved beside it for the next run."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress

from htlogging._command_error import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._cli.send.reader import Line


_NAMES = {"lines", "sha256", "delivered", "invalid", "refused"}


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
        draft = f"{self.path}.{os.getpid()}"
        try:
            with open(draft, "w", encoding="ascii") as file:
                file.write(json.dumps(found) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.path)
        except OSError as exc:
            with suppress(OSError):
                os.unlink(draft)
            raise Failed(
                f"{self.path}: cannot save the resume position: {exc.strerror}"
            ) from None

    def load(self) -> dict[str, Any] | None:
        """
        Return the saved position; `None` if there is none.

        Raises:
            Failed: It cannot be read.
        """
        assert self.path is not None
        try:
            with open(self.path, "rb") as file:
                found: dict[str, Any] | None = json.loads(file.read())
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Failed(f"{self.path}: {exc.strerror}") from None
        except ValueError:
            found = None
        if (
            not isinstance(found, dict)
            or found.get("version") != 1
            or not found.keys() >= _NAMES
        ):
            raise Failed(
                f"{self.path}: not written by `send`; name another with --state"
            )
        return found
