"""
taskiq.

::

    from htlogging.integrations.taskiq import HtEventsMiddleware

    broker = ListQueueBroker(...).with_middlewares(HtEventsMiddleware())
"""

from __future__ import annotations

from contextvars import ContextVar

from taskiq import TaskiqMiddleware

from htlogging.integrations import _propagation
from htlogging.integrations._delivery import deliver_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskiq import TaskiqMessage, TaskiqResult

    from htlogging._event.bindings import ScopeBlock

__all__ = ["HtEventsMiddleware"]

# The scopes of the tasks that run in this context, the innermost last: a broker in memory
# may run a task where it is sent.
_running: ContextVar[tuple[ScopeBlock, ...]] = ContextVar(
    "htlogging_taskiq", default=()
)


class HtEventsMiddleware(TaskiqMiddleware):
    """
    Give each task a scope, with what was bound where it was sent.

    Events are delivered when the broker shuts down, in a worker or in a sender.
    """

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Add the bound fields to the message."""
        # A retry keeps the labels that the task came with, and nothing of the failed try.
        if "_retries" in message.labels:
            return message
        text = _propagation.packed()
        if text is not None:
            message.labels[_propagation.NAME] = text
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Begin the scope."""
        block = _propagation.job(message.labels.get(_propagation.NAME))
        _running.set((*_running.get(), block))
        block.resume()
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:  # noqa: ARG002
        """End the scope."""
        running = _running.get()
        if not running:  # another middleware's `pre_execute` has raised
            return
        *others, block = running
        _running.set(tuple(others))
        block.pause()
        block.end()

    async def shutdown(self) -> None:
        """Deliver waiting events."""
        await deliver_async()
