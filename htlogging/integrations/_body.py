"""Bodies of responses that are made in parts, after the application has returned."""

from __future__ import annotations

from types import AsyncGeneratorType, GeneratorType

from htlogging._process.block import first_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
    from typing import Any

    from htlogging._event.bindings import ScopeBlock


class ScopedBody:
    """A response's body; its parts are made in the request's scope."""

    def __init__(self, body: Iterable[bytes], block: ScopeBlock) -> None:
        self._body = body
        self._parts: Iterator[bytes] | None = None
        self._block = block

    def __iter__(self) -> ScopedBody:
        return self

    def __next__(self) -> bytes:
        try:
            self._block.resume()
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)
        except StopIteration:
            # Not every caller closes; here nothing of the application's is left to run.
            body = self._body
            if type(body) is GeneratorType or not hasattr(body, "close"):
                self._block.end()
            raise
        finally:
            self._block.pause()

    def close(self) -> None:
        """Close the application's body; events that this causes belong to the request."""
        close = getattr(self._body, "close", None)
        try:
            self._block.resume()
            if close is not None:
                close()
        finally:
            self._block.pause()
            self._block.end()


class AsyncScopedBody:
    """
    The same for a body that is made in an event loop.

    A generator that a client cuts is closed in the scope, too. An event loop closes it as
    soon as nothing holds it, which may be after the response's `close`: the scope ends
    then.
    """

    def __init__(self, body: AsyncIterable[Any], block: ScopeBlock) -> None:
        self._body = body
        self._block = block
        self._begun = False

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        self._begun = True
        block, parts = self._block, self._body.__aiter__()
        step = first_step(parts)
        try:
            while True:
                try:
                    block.resume()
                    part = await step
                except StopAsyncIteration:
                    return
                finally:
                    block.pause()
                yield part
                step = parts.__anext__()
        finally:
            if isinstance(parts, AsyncGeneratorType):
                try:
                    block.resume()
                    await parts.aclose()
                finally:
                    block.pause()
            block.end()

    def close(self) -> None:
        """End the scope, unless a part of the body was asked for."""
        if not self._begun:
            self._block.end()
