"""`python -m htlogging run COMMAND`: run a command against a collector of its own."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress

from htlogging._cli.collect import Printer, add_open, show_page
from htlogging._cli.errors import Misused
from htlogging._cli.options import add_verbose
from htlogging._cli.terminal import console

# The exit statuses of shells for a command that is not found or cannot be run.
_NOT_FOUND = 127
_NOT_RUNNABLE = 126


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_open(parser)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="when the command has ended, keep the page until Ctrl+C",
    )
    add_verbose(parser)
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="the command and its arguments",
    )
    console.add_example(
        parser,
        "python -m htlogging run python app.py",
        "python -m htlogging run --open -- flask run",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from htlogging.collector import Collector

    command = arguments.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise Misused("name the command to run: python -m htlogging run python app.py")
    # The command's own output stays as it is; ours goes to stderr.
    printer = Printer(sys.stderr, verbose=arguments.verbose)
    with Collector(keep=0, on_request=printer.show) as collector:
        printer.note(f"Events of this command go to {collector.url}/ (a page)")
        if arguments.open:
            show_page(collector.url)
        status = _run(command, collector.url, printer)
        printer.note(printer.summary())
        if arguments.keep:
            printer.note(f"The page stays at {collector.url}/ until Ctrl+C")
            with suppress(KeyboardInterrupt):
                printer.gone.wait()
    return status


def _run(command: list[str], url: str, printer: Printer) -> int:
    try:
        child = subprocess.Popen(command, env=_environment(url))  # noqa: S603  (the user's)
    except OSError as exc:
        printer.note(f"cannot run {command[0]!r}: {exc.strerror or exc}")
        return _NOT_FOUND if isinstance(exc, FileNotFoundError) else _NOT_RUNNABLE
    # The terminal sends Ctrl+C to the command, too; we wait until the command ends.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    # The exit status of a shell for a command that a signal ended.
    return status if status >= 0 else 128 - status


def _environment(url: str) -> dict[str, str]:
    """Return the environment, with the collector instead of the real service."""
    env = dict(os.environ)
    # HTEVENTS_SEND would keep the events from the collector, too. With HTEVENTS_SPOOL,
    # events that wait in the file for the real service would go to the collector, and be
    # lost.
    for name in ("HTEVENTS_SEND", "HTEVENTS_SPOOL"):
        env.pop(name, None)
    env["HTEVENTS_HOST"] = url
    env["HTEVENTS_WRITE_KEY"] = "run"
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(filter(None, (env.get(name), "127.0.0.1")))
    return env
