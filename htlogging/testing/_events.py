"""The list of a test's events: which there were, and which of them the test has looked at."""

from __future__ import annotations

import itertools
import json

from htlogging._process import capturing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import ExitStack
    from typing import Any, SupportsIndex

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

    __module__ = "htlogging.testing"  # where it is promised, for pickle and help()

    def __init__(self, events: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(events)
        # The ids, as objects, of events that a test has looked at, or that were sent to a
        # server of the test's own.
        self._seen: set[int] = set()
        # The lists that were kept before this one: a test that looks at an event here has
        # looked at it there, too.
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

    def _take(self, event: bytes, held: bool) -> None:  # noqa: FBT001
        made = json.loads(event)
        self._sources[id(made)] = event
        self._made[id(event)] = id(made)
        if not held:  # sent to a server of the test's own, which shows it
            self._seen.add(id(made))
        self.append(made)

    def _watch(self, stack: ExitStack) -> None:
        global _open  # noqa: PLW0603
        self._outer = _open
        _open = (*_open, self)
        stack.callback(_close, self)
        capturing.observe(self._take)
        stack.callback(capturing.ignore, self._take)

    def _unseen(self) -> Events:
        return Events(e for e in list.__iter__(self) if id(e) not in self._seen)

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


# Not methods: a test has no use for them, and a method without an underscore is promised.


def watch(events: Events, stack: ExitStack) -> None:
    """Add the events that handlers accept from now on, until the stack is closed."""
    events._watch(stack)  # noqa: SLF001


def unseen(events: Events) -> Events:
    """Return the events that no test has looked at; they still count as unseen."""
    return events._unseen()  # noqa: SLF001


def _close(events: Events) -> None:
    global _open  # noqa: PLW0603
    _open = tuple(other for other in _open if other is not events)


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
