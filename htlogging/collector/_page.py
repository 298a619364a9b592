"""
The page at `/`, and the JSON API below `/_/` that it uses.

Only a browser on the page itself and programs of this machine get an answer: see `_guard`.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from secrets import token_urlsafe
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from htlogging.collector import _guard
from htlogging.collector._faults import FAULTS, InvalidFault
from htlogging.collector._log import sources_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from htlogging.collector._faults import Faults
    from htlogging.collector._log import Entry, Log
    from htlogging.collector._messages import Arrival


class Answer(NamedTuple):
    """A status, headers, and the body in parts; without an end for a stream."""

    status: int
    headers: dict[str, str]
    parts: Iterable[bytes]


# Seconds between the comments that keep a stream open.
_HEARTBEAT = 15.0
# The most events that `/_/events` returns without a limit.
_LIMIT = 1_000

# Digits of a number in a request; int() refuses very long ones.
_MAX_DIGITS = 18

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Page:
    """
    The page of one collector.

    Args:
        log: The requests.
        faults: Those that the page can switch on.
        opened: Called with each accepted request for the page itself.
    """

    def __init__(
        self, log: Log, faults: Faults, opened: Callable[[Arrival], None]
    ) -> None:
        self._log = log
        self._opened = opened
        self._faults = faults
        self._html = ""

    def is_for(self, method: str, path: str) -> bool:
        """Return whether a request belongs to the page, not to the wire."""
        place = path.partition("?")[0]
        return place.startswith("/_/") or (place == "/" and method in ("GET", "HEAD"))

    def answer(self, arrival: Arrival) -> Answer:
        """Return the answer to a request that `is_for` the page."""
        why = _guard.why_refused(arrival.headers, same_origin=True)
        if why is not None:
            return _error(HTTPStatus.FORBIDDEN, why)
        url = urlsplit(arrival.path)
        if url.path == "/":
            self._opened(arrival)
            return self._page()
        name = url.path.removeprefix("/_/")
        asked = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if arrival.method in ("GET", "HEAD") and name != "reset":
            return self._get(name, asked, arrival)
        if arrival.method == "POST" and name in ("reset", "faults"):
            # Without a body there is nothing to read, so a plain `curl -X POST` will do.
            unread = arrival.raw and not _guard.is_json(arrival.headers)
            if unread or _guard.is_simple(arrival.headers):
                return _error(HTTPStatus.FORBIDDEN, "Content-Type is not JSON")
            return self._post(name, arrival.raw)
        methods = {"reset": "POST", "faults": "GET, HEAD, POST"}
        allowed = methods.get(name, "GET, HEAD")
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, f"the method must be {allowed}"
        return _json({"error": body}, status, Allow=allowed)

    def _page(self) -> Answer:
        # Read on first use: tests that do not open the page need not wait for it.
        if not self._html:
            self._html = Path(__file__).with_name("page.html").read_text("utf-8")
        nonce = token_urlsafe(18)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
        )
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": policy,
            **_SAFE,
        }
        return Answer(200, headers, [self._html.replace("NONCE", nonce).encode()])

    def _get(self, name: str, asked: dict[str, str], arrival: Arrival) -> Answer:
        if name in ("events", "good", "bad"):
            return _json(self._events(name, asked))
        if name == "requests":
            return _json([entry.summary() for entry in self._log.entries()])
        if name == "counts":
            return _json(self._log.counts())
        if name == "faults":
            return _json({**self._faults.setting(), "known": list(FAULTS)})
        if name == "stream":
            last = arrival.headers.get("Last-Event-ID") or asked.get("after", "")
            return Answer(
                200,
                {"Content-Type": "text/event-stream; charset=utf-8", **_SAFE},
                self._stream(last),
            )
        if name == "export":
            return self._export()
        if name == "source" and (number := _whole(asked.get("id", ""))) is not None:
            source = self._log.source(number)
            if source is not None:
                headers = {"Content-Type": "application/json", **_SAFE}
                return Answer(200, headers, [source.encode()])
            return _error(HTTPStatus.NOT_FOUND, "that event is not kept any more")
        return _error(HTTPStatus.NOT_FOUND, "there is no such path")

    def _post(self, name: str, raw: bytes) -> Answer:
        if name == "reset":
            self._log.clear()
            return _json(self._log.counts())
        try:
            self._faults.choose(json.loads(raw or b"{}"))
        except (ValueError, RecursionError) as exc:
            why = exc if isinstance(exc, InvalidFault) else "the body is not JSON"
            return _error(HTTPStatus.BAD_REQUEST, str(why))
        return _json(self._faults.setting())

    def _events(self, name: str, asked: dict[str, str]) -> list[dict[str, Any]]:
        """Return events, the oldest first; the newest ones where there is a limit."""
        found = [
            event
            for entry in self._log.entries()
            for event in entry.events()
            if _is_asked(event, name, asked)
        ]
        limit = _whole(asked.get("limit", ""))
        return found[-(_LIMIT if limit is None else limit) or len(found) :]

    def _export(self) -> Answer:
        lines = [
            source + "\n"
            for entry in self._log.entries()
            if entry.request.taken
            for source in sources_of(entry.request)
        ]
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Disposition": 'attachment; filename="events.ndjson"',
            **_SAFE,
        }
        return Answer(200, headers, ["".join(lines).encode()])

    def _stream(self, last: str) -> Iterator[bytes]:
        """
        Yield server-sent events (HTML, 9.2): each is a request with its events.

        Args:
            last: The last id that the page has seen, `RUN-NUMBER`, or nothing.
        """
        run, _, number = last.partition("-")
        after = (_whole(number) or 0) if run == self._log.run else 0
        run = self._log.run
        if after == 0:
            yield _message("reset", f"{run}-0", {"run": run})
        yield b": open\n\n"
        while True:
            entries = self._log.wait(run, after, _HEARTBEAT)
            if entries is None:
                return
            if self._log.run != run:
                run, after = self._log.run, 0
                yield _message("reset", f"{run}-0", {"run": run})
                continue
            if not entries:
                yield b": still here\n\n"
            for entry in entries:
                after = entry.number
                yield _message("request", f"{run}-{after}", _shown(entry))


def _whole(text: str) -> int | None:
    """Return a whole number; `None` if it is none, or has more digits than any of ours."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _shown(entry: Entry) -> dict[str, Any]:
    return {"request": entry.summary(), "events": list(entry.events())}


def _is_asked(event: dict[str, Any], name: str, asked: dict[str, str]) -> bool:
    """Return whether an event is what a query asks for."""
    bad = bool(event["problems"]) or not event["taken"]
    if (name == "good" and bad) or (name == "bad" and not bad):
        return False
    own = event["event"]
    if "type" in asked and own.get("type") != asked["type"]:
        return False
    if "user" in asked and asked["user"] not in (
        own.get("userId"),
        own.get("anonymousId"),
    ):
        return False
    text = asked.get("text")
    return not text or text.lower() in json.dumps(own, ensure_ascii=False).lower()


def _message(kind: str, number: str, data: dict[str, Any]) -> bytes:
    # ASCII, so that no kind of line break in an event can end a field.
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode()


def _json(value: object, status: int = 200, **more: str) -> Answer:
    headers = {"Content-Type": "application/json", **_SAFE, **more}
    return Answer(status, headers, [json.dumps(value).encode()])


def _error(status: int, why: str) -> Answer:
    return _json({"error": why}, status)
