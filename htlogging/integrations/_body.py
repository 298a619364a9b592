"""Bodies of responses that are made in parts, after the application has returned."""

from __future__ import annotations

from types import GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
    from typing import Any

    from htlogging._scopes.bindings import ScopeBlock


class ScopedBody:
    """A response's body; its parts are made in the request's scope."""

    def __init__(self, body: Iterable[bytes], block: ScopeBlock) -> None:
        self._body = body
        self._parts: Iterator[bytes] | None = None
        self._block = block

    def __iter__(self) -> ScopedBody:
        return self

    def __next__(self) -> bytes:
        self._block.resume()
        try:
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
        self._block.resume()
        try:
            if close is not None:
                close()
        finally:
            self._block.pause()
            self._block.end()


class AsyncScopedBody:
    """The same for a body that is made in an event loop; `close` ends the scope."""

    def __init__(self, body: AsyncIterable[Any], block: ScopeBlock) -> None:
        self._parts: AsyncIterator[Any] = body.__aiter__()
        self._block = block

    def __aiter__(self) -> AsyncScopedBody:
        return self

    async def __anext__(self) -> Any:
        self._block.resume()
        try:
            return await self._parts.__anext__()
        finally:
            self._block.pause()

    def close(self) -> None:
        """End the scope."""
        self._block.end()
