"""
Dramatiq.

::

    from htlogging.integrations.dramatiq import HtEventsMiddleware

    broker.add_middleware(HtEventsMiddleware())
"""

from __future__ import annotations

import threading

from dramatiq.middleware import Middleware

from htlogging.integrations import _propagation
from htlogging.integrations._delivery import deliver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._event.bindings import ScopeBlock

__all__ = ["HtEventsMiddleware"]


class HtEventsMiddleware(Middleware):
    """
    Give each message a scope, with what was bound where it was enqueued.

    Later messages of a pipeline get the same fields; retries keep them. Events are
    delivered when the worker ends.
    """

    def __init__(self) -> None:
        # A worker's thread processes one message after another.
        self._running = threading.local()

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:  # noqa: ARG002
        """Add the bound fields to the message."""
        text = _propagation.packed()
        options = message.options
        while text is not None and options is not None:
            options.setdefault(_propagation.NAME, text)
            options = (options.get("pipe_target") or {}).get("options")

    def before_process_message(self, broker: Any, message: Any) -> None:  # noqa: ARG002
        """Begin the scope."""
        block = _propagation.job(message.options.get(_propagation.NAME))
        self._running.block = block
        block.resume()

    def after_process_message(
        self,
        broker: Any,  # noqa: ARG002
        message: Any,  # noqa: ARG002
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """End the scope."""
        block: ScopeBlock | None = self._running.__dict__.pop("block", None)
        if block is not None:
            block.pause()
            block.end()

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """End the scope."""
        self.after_process_message(broker, message)

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:  # noqa: ARG002
        """Deliver waiting events."""
        deliver()
