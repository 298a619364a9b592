"""
A request → lines for a terminal.

An event comes from outside, and a terminal obeys control characters. So the lines contain
none, except those of the colours.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import datetime

from htlogging._event.builder import BODY
from htlogging.collector._messages import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from htlogging.collector._messages import Request

# SGR parameters (ECMA-48, 8.3.117) by the kind of a piece of a line.
_COLOURS = {
    "time": "2",
    "track": "32",
    "identify": "36",
    "page": "34",
    "screen": "34",
    "group": "35",
    "alias": "33",
    "name": "1",
    "problem": "31",
}
_TYPE_WIDTH = len("identify")

_Piece = tuple[str, str]  # a text, and a key of _COLOURS or another word


class Lines:
    """
    Makes the lines for one output.

    Args:
        width: Called for each line; returns its most columns, or `None` for any length.
        colour: Whether to colour them.
        events: Whether to show events, or only what is wrong with them.
        verbose: Whether to show an event's anonymous id and context, too.
    """

    def __init__(
        self,
        width: Callable[[], int | None],
        *,
        colour: bool,
        events: bool = True,
        verbose: bool = False,
    ) -> None:
        self._width = width
        self._colour = colour
        self._events = events
        self._verbose = verbose

    def of(self, request: Request, now: datetime) -> Iterator[str]:
        """
        Yield the lines about a request: its events, its problems, its refusal.

        Args:
            request: As the collector hands it out.
            now: The local time to show.
        """
        clock = now.strftime("%H:%M:%S.") + f"{now.microsecond // 1000:03}"
        if request.taken:
            for event in request.events:
                if self._events:
                    yield self._line(_event(event, clock))
                    if self._verbose:
                        yield from (self._line(piece) for piece in _more(event))
                about = (p for p in request.problems if p.event is event)
                yield from (self._line(_problem(p.text)) for p in about)
        elif request.status != 200:  # noqa: PLR2004
            yield self._line(_refused(request, clock))
        about_all = "request: " if request.taken else ""
        for problem in request.problems:
            if problem.event is None or not request.taken:
                yield self._line(_problem(about_all + problem.text))

    def _line(self, pieces: Iterable[_Piece]) -> str:
        kept = [(clean(text), name) for text, name in pieces if text]
        width = self._width()
        if width is not None:
            kept = _clip(kept, width)
        return "  ".join(
            f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"
            if self._colour and name in _COLOURS
            else text
            for text, name in kept
        )


def _event(event: dict[str, Any], clock: str) -> Iterator[_Piece]:
    kind = as_text(event.get("type"))
    yield clock, "time"
    yield kind.ljust(_TYPE_WIDTH), kind
    yield who(event), ""
    names = (event.get(name) for name in ("category", "event", "name", "groupId"))
    yield " / ".join(as_text(name) for name in names if name is not None), "name"
    fields = event.get(BODY.get(kind) or "properties")
    if fields:
        yield as_text(fields), ""


def _more(event: dict[str, Any]) -> Iterator[tuple[_Piece]]:
    """Yield lines with what else tells who it was and where."""
    for name in ("anonymousId", "context"):
        if event.get(name):
            yield ((f"           {name} {as_text(event[name])}", "time"),)


def who(event: dict[str, Any]) -> str:
    """Return the event's user; an anonymous id begins with `~`."""
    user = event.get("userId")
    if event.get("type") == "alias":
        return f"{as_text(event.get('previousId'))} -> {as_text(user)}"
    if user is not None:
        return as_text(user)
    anonymous = event.get("anonymousId")
    return "-" if anonymous is None else f"~{as_text(anonymous)}"


def _problem(text: str) -> Iterator[_Piece]:
    # Indented to the width of the time, so that the lines of events stand out.
    yield f"           ! {text}", "problem"


def _refused(request: Request, clock: str) -> Iterator[_Piece]:
    yield clock, "time"
    yield f"refused {request.status} {reason(request.status or 0)}", "problem"
    yield f"{request.method} {request.path}", ""


def as_text(value: object) -> str:
    """Return a str as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:  # pragma: no cover  (depends on the interpreter)
        return "(nested too deeply to show)"


def clean(text: str) -> str:
    """Escape what is not printable: control characters, bidi marks, surrogates."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _clip(pieces: list[_Piece], width: int) -> list[_Piece]:
    """Cut a line to this many columns; its pieces are two spaces apart."""
    kept: list[_Piece] = []
    for text, name in pieces:
        width -= 2 if kept else 0
        cut = fit(text, width)
        if cut:
            kept.append((cut, name))
        if cut != text:
            break
        width -= columns(text)
    return kept


def fit(text: str, width: int) -> str:
    """Return a text cut to this many columns, with an ellipsis at its end."""
    if columns(text) <= width:
        return text
    left, end = width - 1, 0  # one column is for the ellipsis
    while end < len(text) and (left := left - columns(text[end])) >= 0:
        end += 1
    return text[:end] + "…" if width > 0 else ""


def columns(text: str) -> int:
    """Return about how many columns a terminal uses for a text (UAX 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c)
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def ascii_json(line: str) -> str:
    """
    Return JSON in ASCII, every number as it was written.

    In JSON, characters outside ASCII are only in strings, where an escape means the same.
    White space between tokens becomes spaces.
    """
    return re.sub(r"[^ -~]", _escape, line)


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char in "\t\n\r":
        return " "
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))
