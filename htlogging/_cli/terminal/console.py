"""What the commands share: their errors, notes and progress on a terminal."""

from __future__ import annotations

import os
import sys
import time

from htlogging._cli.errors import Failed, Misused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable
    from typing import TextIO

# The exit status after Ctrl+C, as in a shell: 128 + SIGINT.
INTERRUPTED = 130

# Seconds between two drawings of a progress bar.
_REDRAW = 0.1

_BAR = 24  # characters


def add_example(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Show command lines at the end of a command's `--help`, as they are typed."""
    import argparse

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    title = "example:" if len(lines) == 1 else "examples:"
    parser.epilog = "\n  ".join((title, *lines))


def run(
    command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace
) -> int:
    """Run a command, and return its exit status; an error is a line on stderr."""
    # A name in another alphabet must not end the program if stdout is ASCII.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `spool list | head`: the reader is gone, which is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Failed as exc:
        say(f"error: {exc}")
        return 2 if isinstance(exc, Misused) else 1
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    return status


def out(text: str) -> None:
    """Print a line of the command's result, on stdout."""
    from htlogging._cli.terminal.request_lines import clean

    sys.stdout.write(clean(text) + "\n")


def say(text: str) -> None:
    """Print a line about progress or an error, on stderr."""
    from htlogging._cli.terminal.request_lines import clean

    # So that the lines keep their order when stdout and stderr go to the same place.
    sys.stdout.flush()
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def many(count: int, noun: str) -> str:
    """Return a number with its noun: `1 event`, `2 events`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def iso(seconds: object) -> str | None:
    """
    Return a time in seconds since the epoch as ISO 8601, in UTC.

    `None`: it is no time, as in a damaged file, or beyond the year 9999.
    """
    from datetime import datetime, timezone

    if not isinstance(seconds, (int, float)):
        return None
    try:
        when = datetime.fromtimestamp(int(seconds), timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def reason(status: int | None, code: str, message: str) -> str:
    """Return why an event was refused; its status is shown beside it."""
    return message if code in (str(status), "") else f"{code}: {message}"


def row(cells: Iterable[tuple[str, int]], width: int | None) -> str:
    """
    Return a line of a table.

    Args:
        cells: The text and the width in columns of each cell. A negative width aligns
            to the right; 0 means the text's own width.
        width: The most columns of the line; `None` for any length.
    """
    from htlogging._cli.terminal.request_lines import clean, columns, fit

    parts = []
    for text, size in cells:
        cell = fit(clean(text), abs(size)) if size else clean(text)
        blank = " " * (abs(size) - columns(cell))
        parts.append(blank + cell if size < 0 else cell + blank)
    line = "  ".join(parts).rstrip()
    return line if width is None else fit(line, width)


def terminal_width() -> int | None:
    """Return the columns of stdout; `None` if it is not a terminal."""
    if not sys.stdout.isatty():
        return None
    return os.get_terminal_size(sys.stdout.fileno()).columns or None


class Progress:
    """
    A progress bar on stderr, if that is a terminal; else nothing.

    Args:
        total: What `update` counts up to; `None` if that is unknown.
        stream: Where the bar is drawn.
    """

    def __init__(self, total: int | None, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._drawn = False
        self._next = 0.0

    def update(self, done: int, text: str) -> None:
        """Draw the bar, unless it was drawn a moment ago."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + _REDRAW
            self._drawn = True
            self._stream.write(f"\r\x1b[K{self._bar(done)}{text}")
            self._stream.flush()

    def _bar(self, done: int) -> str:
        if not self._total:
            return ""
        share = min(done / self._total, 1.0)
        full = int(share * _BAR)
        return f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}  "

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self.clear()
        say(text)

    def clear(self) -> None:
        """Remove the bar."""
        if self._drawn:
            self._drawn = False
            self._next = 0.0
            self._stream.write("\r\x1b[K")
            self._stream.flush()
