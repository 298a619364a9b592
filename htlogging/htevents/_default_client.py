"""The client behind the facade's functions: made by the first call, of the settings then."""

from __future__ import annotations

import logging

from htlogging._delivery import pipeline  # noqa: F401  (not later: see below)
from htlogging._event.origin import LOGGER
from htlogging._handler import HtEventsHandler, pipeline_of
from htlogging._process import fork
from htlogging._process.lines import no_effect
from htlogging._settings import DEFAULTS, check_names
from htlogging.exceptions import InvalidSetting
from htlogging.htevents._routing import nearest_handlers
from htlogging.htevents.client import Client

# `pipeline` is imported with the facade, though the first handler would do it: the facade
# makes its handler with the first call, and by then the environment of a running process
# may have been replaced.

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Facade:
    """
    The state of the module `htlogging.htevents`, besides its settings.

    Its methods may be called from any thread.
    """

    def __init__(self) -> None:
        # The module's attributes: the settings, and `default_client`.
        self._module: dict[str, Any] = {}
        # Those that it has by itself. Any other is a misspelt setting.
        self._names: frozenset[str] = frozenset()
        # The handler that was made for it; it is removed when the next one is made.
        self.handler: HtEventsHandler | None = None
        # The client that was finished first when a new one was needed; this one is used.
        self._slot: dict[str, _DefaultClient] = {}
        # Settings that were changed after the client had read them; those that were
        # reported.
        self.late: set[str] = set()
        self._told: set[str] = set()

    def serve(self, module: dict[str, Any]) -> None:
        """Take the attributes of the module, once it is complete."""
        self._module = module
        self._names = frozenset(module)

    def client(self) -> Client:
        """
        Return the client; make it if there is none.

        Raises:
            InvalidSetting: A setting is missing, unknown, of a wrong type or out of range.
        """
        if self._module["default_client"] is None or self.late:
            fork.do_whole(self._make_client)
            self._report_late()
        client_now: Client = self._module["default_client"]
        return client_now

    def _make_client(self) -> None:
        if self._module["default_client"] is not None:
            return
        # Meanwhile a signal handler, or a `__del__` that the garbage collector runs, may
        # call the facade too; or a thread that did not wait. The client that is finished
        # first is used; `setdefault` is a single step.
        slot, fresh = self._slot, _DefaultClient(self)
        client = slot.setdefault("client", fresh)
        # Before it is seen: if this is cut short, the next call repeats it.
        client.begin()
        self._module["default_client"] = client
        if client is not fresh:
            fresh.drop()

    def given(self) -> list[str]:
        """Return the names of the settings that were given: they are not the default."""
        return [n for n in DEFAULTS if self._module[n] is not DEFAULTS[n]]

    def unknown(self) -> list[str]:
        """Return the attributes that were set and are no settings."""
        # Names with two underscores are Python's own: a warning leaves a
        # __warningregistry__.
        return [n for n in list(self._module) if n not in self._names and n[:2] != "__"]

    def make_handler(self) -> HtEventsHandler:
        """Return a handler with the settings that were given."""
        # One that still has its default was not given: the environment may set it.
        given = {name: self._module[name] for name in self.given()}
        given.setdefault("write_key", None)
        try:
            return HtEventsHandler(**given)
        except InvalidSetting as exc:
            # Crash reporters show the local variables of each frame: none may be a secret.
            del given
            raise exc.with_traceback(None) from None

    def start_anew(self) -> None:
        """Forget the client, whatever `default_client` is now."""
        self._slot = {}
        self.late.clear()
        self._told.clear()

    def forget_keyless(self) -> None:
        """Start anew if a test made the client without a key; for `htlogging.testing`."""
        made = self.handler
        if made is not None and pipeline_of(made).settings.lacks_key():
            self._module["default_client"] = None
            self._slot = {}
            self.replace_handler(None)

    def replace_handler(self, handler: HtEventsHandler | None) -> None:
        """Put a handler on the logger in place of the one that was made before."""
        logger = logging.getLogger(LOGGER)
        before = self.handler
        if handler is not None:
            logger.addHandler(handler)
        if before is not None and before is not handler:
            logger.removeHandler(before)
            pipeline_of(before).stop_when_sent()
        self.handler = handler

    def _report_late(self) -> None:
        """Report settings that were changed after the client had read them."""
        names = sorted(self.late - self._told)
        self._told.update(names)
        self.late.clear()
        if names:
            no_effect(
                f"no effect: {_listed(names)} was set after the first call; set it before, "
                "or have the settings read again by htevents.default_client = None (events "
                f"go to {self._module['default_client'].host})"
            )


class _DefaultClient(Client):
    """
    The client of the logger `htevents`. Nothing is changed before `begin`.

    Args:
        facade: Whose settings it has.
    """

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        # Without this, a misspelt setting would be an attribute that is never read.
        check_names(facade.unknown())
        self._fresh: HtEventsHandler | None = None
        self._attach(logging.getLogger(LOGGER), logging.root, self._make)

    def _make(self) -> HtEventsHandler:
        self._fresh = self._facade.make_handler()
        return self._fresh

    def _reached(self) -> tuple[list[HtEventsHandler], bool]:
        # Without the earlier client's handler, which is removed when this one begins.
        made = self._facade.handler
        before = None if made is self._fresh else made
        return nearest_handlers(self.logger, self._top, before)

    def begin(self) -> None:
        """Take over the logger; do nothing if that has happened."""
        self._facade.replace_handler(self._fresh)
        self._facade.late.clear()
        names = [] if self._fresh is not None else self._facade.given()
        if names:
            no_effect(
                f"no effect: {_listed(names)}; the logger {LOGGER} has a handler, and its "
                f"settings are used: events go to {self._handlers[0].host}"
            )

    def drop(self) -> None:
        """Close what was made, because another client was finished first."""
        if self._fresh is not None:
            pipeline_of(self._fresh).stop_when_sent()


def _listed(names: list[str]) -> str:
    return ", ".join(f"htevents.{name}" for name in names)


# That of `htlogging.htevents`.
facade = Facade()
