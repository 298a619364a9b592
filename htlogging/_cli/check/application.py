"""Load an application without letting an event of it leave."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from contextlib import contextmanager

from htlogging._cli.errors import Misused
from htlogging._process import capturing
from htlogging.exceptions import HtLoggingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from htlogging._cli.check.findings import Findings

# Folders whose modules are not the application's own.
_OTHERS = ("site-packages", "dist-packages")

# The most files that are read for mistakes.
_MOST_FILES = 2_000


class Lines(logging.Handler):
    """Keeps the lines of the log `htlogging`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage().removesuffix(" [htlogging]"))


@contextmanager
def held_back() -> Iterator[list[str]]:
    """Hold all events back; return the list of what the log `htlogging` says."""
    rule, lines = capturing.Rule(hold=True, everywhere=True), Lines()
    log = logging.getLogger("htlogging")
    capturing.begin(rule)
    log.addHandler(lines)
    try:
        yield lines.lines
    finally:
        log.removeHandler(lines)
        capturing.end(rule)


def load(
    app: str | None, django: str | None, findings: Findings
) -> dict[str, dict[str, Any]]:
    """
    Import the application.

    Returns:
        The files of its own modules, with what the modules' names are.
    """
    before = set(sys.modules)
    # As `python -m` and servers do.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        if django is not None:
            _load_django(django)
        elif app is not None:
            _load(app)
    except Misused:
        raise
    except HtLoggingError as exc:
        findings.problem(str(exc), f"correct this where {app or django} sets it")
    except (Exception, SystemExit) as exc:  # noqa: BLE001
        # Whatever the application raises is what it would raise in production.
        findings.problem(
            f"{app or django} cannot be imported: {type(exc).__name__}: {exc}",
            "run it by itself, from the folder where it is started",
        )
    else:
        if app or django:
            findings.ok(f"{app or django} is loaded; none of its events leave")
        else:
            findings.note(
                "only the environment is checked: --app or --django adds the code"
            )
    return _files(before)


def _load(app: str) -> None:
    name, _, attribute = app.partition(":")
    if not name or name.endswith(".py"):
        raise Misused(f"--app is MODULE:NAME, as for a server, not {app!r}")
    module = importlib.import_module(name)
    found: object = module
    for part in filter(None, attribute.removesuffix("()").split(".")):
        if not hasattr(found, part):
            raise Misused(f"the module {name} has no {attribute!r}")
        found = getattr(found, part)
    if attribute.endswith("()") and callable(found):
        found()


def _load_django(settings: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        django = importlib.import_module("django")
    except ImportError:
        raise Misused("--django needs the package django in this environment") from None
    django.setup()
    # The views: they are imported with the first request.
    resolver = importlib.import_module("django.urls").get_resolver()
    if getattr(importlib.import_module("django.conf").settings, "ROOT_URLCONF", None):
        _ = resolver.url_patterns


def _files(before: set[str]) -> dict[str, dict[str, Any]]:
    """Return the modules that were imported since, and are the application's."""
    found: dict[str, dict[str, Any]] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in before or not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = os.path.realpath(file)
        if _is_own(path):
            found[path] = vars(module)
    return dict(sorted(found.items())[:_MOST_FILES])


def _is_own(path: str) -> bool:
    parts = path.split(os.sep)
    if any(name in parts for name in _OTHERS):
        return False
    ours = os.path.realpath(os.path.dirname(logging.__file__))
    here = os.path.realpath(
        os.path.dirname(importlib.import_module("htlogging").__file__ or "")
    )
    return not path.startswith((os.path.dirname(ours) + os.sep, here + os.sep))
