"""
Has `logging.basicConfig` configure a root logger that has only handlers of ours.

It does nothing if the root logger has a handler. One of ours prints nothing, so it is no
sign that the application has configured logging: its lines would vanish. `basicConfig` is
wrapped when this module is imported; nothing else about it changes.
"""

from __future__ import annotations

import functools
import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _SeemsEmpty(list[logging.Handler]):
    """Handlers, for who iterates; no handler, for who asks how many there are."""

    def __len__(self) -> int:
        return 0


def _configuring(configure: Callable[..., None]) -> Callable[..., None]:
    """Wrap `basicConfig`."""

    @functools.wraps(configure)
    def basicConfig(**settings: Any) -> None:  # noqa: N802
        # Its own lock: nothing else changes the handlers meanwhile. It is re-entrant.
        with logging._lock:  # type: ignore[attr-defined]  # noqa: SLF001
            handlers = logging.root.handlers
            if not handlers or not all(
                hasattr(handler, "makes_events") for handler in handlers
            ):
                configure(**settings)
                return
            # Not taken off: another thread may log an event at this moment.
            seems_empty = _SeemsEmpty(handlers)
            logging.root.handlers = seems_empty
            try:
                configure(**settings)
            finally:
                handlers[:] = iter(seems_empty)
                logging.root.handlers = handlers

    return basicConfig


logging.basicConfig = _configuring(logging.basicConfig)
