"""
Events in tests: they are kept instead of sent, and nothing leaves the machine.

`capture` is for unittest, Django's test runner and scripts. With pytest you need not call
it: the plugin comes with the package, and the fixture `ht_events` is the same list.
"""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import ExitStack, contextmanager

from htlogging._event import message_id
from htlogging._process import capturing
from htlogging._process.block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, SupportsIndex

__all__ = ["Events", "capture"]

# Types of events that have no name.
_NAMELESS = ("identify", "group", "alias")

# The most events that a failure's message shows.
_SHOWN = 20


# The lists that are kept at the moment, the innermost last.
_open: tuple[Events, ...] = ()


class Events(list["dict[str, Any]"]):
    """
    Events as they would be sent, in the order in which they were accepted.

    It is a list of dicts: compare it with one; `unittest.mock.ANY` stands for any value.
    """

    def __init__(self, events: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(events)
        # The ids, as objects, of events that a test has looked at, or that were sent to a
        # server of the test's own.
        self._seen: set[int] = set()
        # A look at an event of this list is one at the same event of these, too.
        self._outer: tuple[Events, ...] = ()
        # The same event in two lists: its JSON is one object. Event → JSON → event.
        self._sources: dict[int, bytes] = {}
        self._made: dict[int, int] = {}

    def named(self, name: str) -> Events:
        """
        Return the events of that name, in order.

        Args:
            name: The name of a track event, a page or a screen; or `identify`, `group` or
                `alias`.
        """
        found = [event for event in list.__iter__(self) if _name(event) == name]
        self._mark(found)
        return Events(found)

    def one(self, name: str, /, **properties: Any) -> dict[str, Any]:
        """
        Return the only event of that name that has these properties.

        Args:
            name: As in `named`.
            properties: Values that its `properties` or `traits` must have.

        Raises:
            AssertionError: There is none, or more than one. The message shows the events.
        """
        __tracebackhide__ = True  # pytest shows the test's line, not ours
        found = [e for e in self.named(name) if _has(e, properties)]
        if len(found) == 1:
            return found[0]
        wanted = f"event {name!r}"
        if properties:
            wanted += f" with {_short(properties)}"
        number = f"are {len(found)} events like that" if found else "is none"
        raise AssertionError(f"expected one {wanted}, there {number}\n{self._shown()}")

    def unseen(self) -> Events:
        """Return the events that no test has looked at; they still count as unseen."""
        return Events(e for e in list.__iter__(self) if id(e) not in self._seen)

    def take(self, event: bytes, held: bool) -> None:  # noqa: FBT001
        """Add an event; one that was sent to a server of the test's own counts as seen."""
        made = json.loads(event)
        self._sources[id(made)] = event
        self._made[id(event)] = id(made)
        if not held:
            self._seen.add(id(made))
        self.append(made)

    def watch(self, stack: ExitStack) -> None:
        """Keep events until the stack is closed."""
        global _open  # noqa: PLW0603
        self._outer = _open
        _open = (*_open, self)
        stack.callback(_close, self)
        capturing.observe(self.take)
        stack.callback(capturing.ignore, self.take)

    def _look(self) -> None:
        self._mark(list.__iter__(self))

    def _mark(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self._seen.add(id(event))
            source = id(self._sources.get(id(event)))
            for outer in self._outer:
                if source in outer._made:  # noqa: SLF001
                    outer._seen.add(outer._made[source])  # noqa: SLF001

    def _shown(self) -> str:
        if not list.__len__(self):
            return "there were no events at all"
        lines = [describe(event) for event in list.__iter__(self)]
        rest = len(lines) - _SHOWN
        more = [f"and {rest} more"] if rest > 0 else []
        return "\n".join(["there were:", *lines[:_SHOWN], *more])

    # Reading events marks them as seen.

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._look()
        return super().__iter__()

    def __len__(self) -> int:
        self._look()
        return super().__len__()

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        self._look()
        return super().__getitem__(index)

    def __contains__(self, event: object) -> bool:
        self._look()
        return super().__contains__(event)

    def __eq__(self, other: object) -> bool:
        self._look()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


class _Capture(Block):
    """The block of `capture`. A generator that it decorates has it between its steps, too."""

    _stack: ExitStack | None = None

    def fresh(self) -> _Capture:
        """Return a block with a list of its own."""
        return _Capture()

    def resume(self) -> None:
        """Begin; do nothing at a later step."""
        if self._stack is not None:
            return
        self.events = Events()
        rule = capturing.Rule(hold=True)
        with ExitStack() as stack:
            stack.callback(capturing.end, rule)
            capturing.begin(rule)
            self.events.watch(stack)
            stack.enter_context(numbered())
            self._stack = stack.pop_all()

    def end(self) -> None:
        """Let events go again."""
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    def __enter__(self) -> Events:  # type: ignore[override]
        super().__enter__()
        return self.events


def capture() -> _Capture:
    """
    Keep the events of a `with` block, from every handler, client and thread.

    Meanwhile nothing leaves the machine. A handler whose host is loopback (a collector)
    sends; the events of all others are kept here. No write key is needed. Message ids are
    numbered in order. It decorates functions, coroutines and generators, too.
    """
    return _Capture()


def _close(events: Events) -> None:
    global _open  # noqa: PLW0603
    _open = tuple(other for other in _open if other is not events)


# How many blocks of `numbered` are active.
_depth = 0


@contextmanager
def numbered() -> Iterator[None]:
    """Number message ids from 1 and need no write key, until the block ends."""
    global _depth  # noqa: PLW0603
    _depth += 1
    if _depth == 1:
        numbers = itertools.count(1)
        message_id.take_from(lambda: _id(next(numbers)))
        capturing.need_key(needed=False)
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            message_id.take_from(None)
            capturing.need_key(needed=True)
            _forget_keyless()


def _id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _forget_keyless() -> None:
    """Make the facade read its settings again, if its client was made without a key."""
    module: Any = sys.modules.get("htlogging.htevents._default_client")
    if module is not None:
        module.facade.forget_keyless()


def describe(event: dict[str, Any]) -> str:
    """Return an event in one line: its type, name, user, and properties or traits."""
    who = event.get("userId") or event.get("anonymousId")
    name = event.get("event") or event.get("name")
    head = [event.get("type"), repr(name) if name else "", f"of {who!r}"]
    body = event.get("properties") or event.get("traits") or {}
    return f"  {' '.join(str(part) for part in head if part)} {_short(body)}"


def differences(events: list[Any], wanted: list[Any]) -> list[str]:
    """Return lines that say how events differ from those that a test expects."""
    lines = []
    for number, (event, other) in enumerate(itertools.zip_longest(events, wanted), 1):
        if event is None:
            lines.append(f"event {number} is missing: {_shortly(other)}")
        elif other is None:
            lines.append(f"event {number} is one too many: {_shortly(event)}")
        elif not event == other:  # noqa: SIM201  (ANY has no word on `!=`)
            lines.append(f"event {number}: {_shortly(event)}")
            lines += [f"  {line}" for line in _unlike(event, other, "")]
    return lines


def _unlike(value: Any, other: Any, path: str) -> Iterator[str]:
    if not (isinstance(value, dict) and isinstance(other, dict)):
        if not value == other:  # noqa: SIM201
            yield f"{path or 'it'} is {value!r}, not {other!r}"
        return
    for key in {**other, **value}:
        at = f"{path}.{key}" if path else str(key)
        if key not in value:
            yield f"{at} is missing: {other[key]!r}"
        elif key not in other:
            yield f"{at} is not expected: {value[key]!r}"
        else:
            yield from _unlike(value[key], other[key], at)


def _shortly(event: Any) -> str:
    return describe(event).strip() if isinstance(event, dict) else repr(event)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"  # noqa: PLR2004


def _name(event: dict[str, Any]) -> Any:
    kind = event.get("type")
    if kind in _NAMELESS:
        return kind
    return event.get("event") if kind == "track" else event.get("name")


def _has(event: dict[str, Any], properties: dict[str, Any]) -> bool:
    body = event.get("properties") or event.get("traits") or {}
    return all(key in body and body[key] == properties[key] for key in properties)
