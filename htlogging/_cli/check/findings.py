"""What a check has found: printed as it comes, and counted."""

from __future__ import annotations

import re

from htlogging._cli.terminal.console import many, out

# Columns of a fact's name.
_NAME = 18

# What a line of the log is about: a place in a file, without the folder, or a logger.
_PLACE = re.compile(r" at (?:\S*[/\\])?([^/\\\s]+:\d+)")
_LOGGER = re.compile(r"the logger ('[^']+')")


class Findings:
    """Prints findings, and keeps the problems for the end."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self._title = ""  # of the section, until its first line is printed

    def section(self, title: str) -> None:
        """Begin a section; its title is printed with its first line."""
        self._title = title

    def _line(self, text: str) -> None:
        title, self._title = self._title, ""
        if title:
            out("")
            out(title)
        out(text)

    def fact(self, name: str, value: object, origin: str = "") -> None:
        """Print a name and its value, and where that is from."""
        text = f"  {name:<{_NAME}}  {value}"
        self._line(f"{text:<60}  {origin}" if origin else text)

    def ok(self, text: str) -> None:
        """Print what is well."""
        self._line(f"  ok       {text}")

    def note(self, text: str) -> None:
        """Print what is worth knowing, and may be meant."""
        self._line(f"  note     {text}")

    def problem(self, text: str, cure: str) -> None:
        """
        Print what is wrong, once.

        Args:
            text: What, and to what.
            cure: What to do, an imperative sentence.
        """
        if (text, cure) not in self.problems:
            self.problems.append((text, cure))
            self._line(f"  PROBLEM  {text}")
            self._line(f"           → {cure}")

    def covers(self, line: str) -> bool:
        """Return whether a problem is what a line of the log is about."""
        place = _PLACE.search(line)
        logger = None if place else _LOGGER.search(line)
        about = place or logger
        return any(
            line.startswith(text) or (about is not None and about[1] in text)
            for text, _ in self.problems
        )

    def end(self) -> int:
        """Print the sum; return the exit status."""
        if not self.problems:
            out("")
            out("All well.")
            return 0
        count = len(self.problems)
        out("")
        out(f"{many(count, 'problem')}:")
        for number, (text, cure) in enumerate(self.problems, 1):
            out(f"  {number}. {text}")
            out(f"     → {cure}")
        out("")
        out("More: python -m htlogging docs nothing-arrives")
        return 1
