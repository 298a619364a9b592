"""
A `with` block that is also a decorator for functions, coroutines and generators.

A generator is suspended between its steps, and its caller continues in the same context.
So a block does not only begin and end: it is resumed before each step and paused after it.
"""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from types import TracebackType
    from typing import Any, TypeVar

    from typing_extensions import Self

    F = TypeVar("F", bound=Callable[..., Any])


class Block:
    """
    The base class; `resume`, `pause` and `end` say what a block does.

    One block serves one `with` at a time. As a decorator it uses a new copy of itself for
    each call, so recursion, threads and tasks are safe.
    """

    _active = False

    def fresh(self) -> Self:
        """Return a block that does the same and has not begun."""
        raise NotImplementedError

    def resume(self) -> None:
        """Begin, or continue after `pause`; call it in the `try` that ends by `pause`."""

    def pause(self) -> None:
        """Restore what was there before `resume`; nothing, if that was not called."""

    def end(self) -> None:
        """
        End for good, after the last `pause`.

        Restore what was there, if that was cut short: a signal handler may raise
        anywhere, and must not leave the fields of one task to the next.
        """

    async def end_async(self) -> None:
        """Do what `end` does, without blocking the event loop."""
        self.end()

    def __enter__(self) -> None:
        if self._active:
            raise TypeError(
                f"this {type(self).__name__} block is in use already: make one for "
                "each `with`"
            )
        try:
            self._active = True
            self.resume()
        except BaseException:
            self._active = False
            self.pause()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._active = False
            self.pause()
        finally:
            self.end()

    def __call__(self, function: F) -> F:
        """
        Decorate a function, coroutine function, generator or async generator.

        Raises:
            TypeError: It is none of these; decorate a class's methods.
        """
        # For a class: a call only makes an object, and runs none of the methods.
        not_these = (type, staticmethod, classmethod)
        if isinstance(function, not_these) or not callable(function):
            kind = "class" if isinstance(function, type) else type(function).__name__
            raise TypeError(
                f"this decorates functions, coroutines and generators, not a {kind}; "
                "it goes below @staticmethod and @classmethod, and on each method"
            )
        # Late: an application that decorates coroutines has imported it anyway.
        import inspect

        # An object's `__call__`, where it has one, says what the call returns.
        given: Any = function
        call = given if hasattr(given, "__code__") else given.__call__
        wrapper: Any = self._function
        for is_one, wrap in (
            (inspect.isasyncgenfunction, self._async_generator),
            (inspect.iscoroutinefunction, self._coroutine),
            (inspect.isgeneratorfunction, self._generator),
        ):
            if is_one(given) or is_one(call):
                wrapper = wrap
                break
        decorated: Any = functools.update_wrapper(wrapper(given), given)
        return decorated  # type: ignore[no-any-return]

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.fresh():
                return function(*args, **kwargs)

        return wrapper

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            block = self.fresh()
            closed = False
            try:
                block.resume()
                return await function(*args, **kwargs)
            except (
                GeneratorExit
            ):  # closed before its end: nothing can be awaited any more
                closed = True
                raise
            finally:
                block.pause()
                if closed:
                    block.end()
                else:
                    await block.end_async()

        return wrapper

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Itself a generator function: frameworks ask `inspect` what it is.
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            block = self.fresh()
            generator = function(*args, **kwargs)
            try:
                return (yield from _steps(block, generator))
            finally:
                block.end()

        return wrapper

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            block = self.fresh()
            generator = function(*args, **kwargs)
            step = first_step(generator)
            try:
                while True:
                    try:
                        block.resume()
                        item = await step
                    except StopAsyncIteration:
                        return
                    finally:
                        block.pause()
                    try:
                        step = generator.asend((yield item))
                    except GeneratorExit:
                        try:
                            block.resume()
                            await generator.aclose()
                        finally:
                            block.pause()
                        raise
                    except BaseException as exc:  # noqa: BLE001  (thrown in: for it)
                        step = generator.athrow(exc)
            finally:
                await block.end_async()

        return wrapper


def first_step(generator: AsyncIterator[Any]) -> Any:
    """
    Return an async generator's first step.

    Without the event loop's hooks: at its end the loop closes all generators that it
    knows, at the same time. It knows the wrapper, which closes this one in the block.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _steps(
    block: Block, generator: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Run a generator; the block is active while the generator's own code runs."""
    value, error = None, None
    while True:
        try:
            block.resume()
            item = generator.send(value) if error is None else generator.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            block.pause()
        value, error = None, None
        try:
            value = yield item
        except GeneratorExit:
            try:
                block.resume()
                generator.close()
            finally:
                block.pause()
            raise
        except BaseException as exc:  # noqa: BLE001  (thrown in: for the generator)
            error = exc
