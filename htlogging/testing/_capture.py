"""`capture`, and what it and the pytest plugin do to the process meanwhile."""

from __future__ import annotations

import itertools
import sys
from contextlib import ExitStack, contextmanager

from htlogging._event import message_id
from htlogging._process import capturing
from htlogging._process.block import Block
from htlogging.testing._events import Events, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Capture(Block):
    """The block of `capture`. A generator that it decorates has it between its steps, too."""

    _stack: ExitStack | None = None

    def fresh(self) -> Capture:
        """Return a block with a list of its own."""
        return Capture()

    def resume(self) -> None:
        """Begin; do nothing at a later step."""
        if self._stack is not None:
            return
        self.events = Events()
        rule = capturing.Rule(hold=True)
        with ExitStack() as stack:
            stack.callback(capturing.end, rule)
            capturing.begin(rule)
            watch(self.events, stack)
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


def capture() -> Capture:
    """
    Keep the events of a `with` block, from every handler, client and thread.

    Meanwhile nothing leaves the machine. A handler whose host is loopback (a collector)
    sends; the events of all others are kept here. No write key is needed. Message ids are
    numbered in order. It decorates functions, coroutines and generators, too.
    """
    return Capture()


# How many blocks of `numbered` are active; used by the test's thread.
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
