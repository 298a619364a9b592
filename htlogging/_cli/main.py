"""`python -m htlogging COMMAND`: a table of commands, and `collect`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from htlogging._cli import docs
from htlogging._cli.send import command as send
from htlogging._cli.spool import command as spool
from htlogging._cli.terminal import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TextIO

    from htlogging.collector import Request


# The width of a terminal that does not tell its width.
_COLUMNS = 80
_MAX_PORT = 65_535


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    Args:
        argv: The command and its arguments; by default those of the process.

    Returns:
        The process's exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m htlogging",
        description="Customer events as structured log records: the commands.",
    )
    console.add_example(
        parser, "python -m htlogging demo", "python -m htlogging send --help"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (summary, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(run=run)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


def _collect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=_port,
        default=8765,
        help="the port on 127.0.0.1; 0 picks a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--write-key", metavar="KEY", help="refuse requests with any other key"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one event per line, as it was sent"
    )
    console.add_example(
        parser,
        "python -m htlogging collect",
        "python -m htlogging collect --port 9000 --json > events.ndjson",
    )


def _collect(arguments: argparse.Namespace) -> int:
    from htlogging.collector import Collector

    printer = _Printer(json=arguments.json)
    collector = Collector(
        arguments.port, arguments.write_key, keep=0, on_request=printer.show
    )
    try:
        # Like Ctrl+C, also when a shell has set it to be ignored in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with collector:
            key = "anything" if arguments.write_key is None else "<the one given>"
            printer.note(
                f"Listening on {collector.url}; set "
                f"HTEVENTS_HOST={collector.url} HTEVENTS_WRITE_KEY={key}"
            )
            printer.gone.wait()
    except KeyboardInterrupt:
        # A second signal ends it at once: stdout may block, and the summary with it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except OSError as exc:
        reason = exc.strerror or exc
        print(f"cannot listen on port {arguments.port}: {reason}", file=sys.stderr)
        return 1
    printer.note(printer.summary())
    return 0


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    console.add_example(parser, "python -m htlogging demo")


def _demo(arguments: argparse.Namespace) -> int:  # noqa: ARG001  (it has none)
    from htlogging._cli import demo

    return demo.run()


class _Printer:
    """
    Prints what `collect` receives; a line is out before its request is answered.

    Args:
        json: Whether to print events as JSON on stdout, and all else on stderr.
    """

    def __init__(self, *, json: bool) -> None:
        from htlogging._cli.terminal.request_lines import Lines

        # A name in another alphabet must not end the program if stdout is ASCII.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        self._json = json
        self._notes = sys.stderr if json else sys.stdout
        colour = self._notes.isatty() and not os.environ.get("NO_COLOR")
        self._lines = Lines(self._width, colour=colour, events=not json)
        # Guards the counts, and keeps a request's lines together. The connections' threads
        # take it; the main thread does not, because one of them may block in a write.
        self._lock = threading.Lock()
        self._events = self._doubtful = self._refused = 0
        self.gone = threading.Event()  # the reader of stdout is gone

    def show(self, request: Request) -> None:
        """Print a request; called on its connection's thread."""
        with self._lock:
            self._count(request)
            self._print(request)

    def note(self, text: str) -> None:
        """Print a line that is not about a request."""
        self._put([text], self._notes)

    def summary(self) -> str:
        """Return a line that says how much came in."""
        return (
            f"{console.many(self._events, 'event')} taken in, {self._doubtful:,} with "
            f"problems; {console.many(self._refused, 'request')} refused"
        )

    def _count(self, request: Request) -> None:
        if request.taken:
            self._events += len(request.events)
            marked = {id(p.event) for p in request.problems if p.event is not None}
            self._doubtful += len(marked)
        elif request.status != 200:  # noqa: PLR2004
            self._refused += 1

    def _print(self, request: Request) -> None:
        from datetime import datetime

        if self._json and request.taken:
            try:
                self._put(_json_lines(request), sys.stdout)
            except RecursionError:  # pragma: no cover  (depends on the interpreter)
                self.note("! an event is nested too deeply to print")
        self._put(self._lines.of(request, datetime.now().astimezone()), self._notes)

    def _put(self, lines: Iterable[str], file: TextIO) -> None:
        try:
            for line in lines:
                print(line, file=file)
            file.flush()
        except BrokenPipeError:
            # `collect | head`: from now on, what is printed is thrown away.
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
            self.gone.set()

    def _width(self) -> int | None:
        # Asked again for each line: the window may have been resized.
        if not self._notes.isatty():
            return None
        return os.get_terminal_size(self._notes.fileno()).columns or _COLUMNS


def _json_lines(request: Request) -> list[str]:
    """Return the request's events as JSON, with numbers as they were sent."""
    from htlogging._cli.terminal.request_lines import ascii_json
    from htlogging.collector._protocol import endpoint, sources

    kind = endpoint(request.path) or "batch"
    lines = sources(kind, request.body)[: len(request.events)]
    return [ascii_json(line) for line in lines]


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 0 to {_MAX_PORT}")


# Name → what it does, its arguments, and what runs it. Heavy imports are inside.
_COMMANDS: dict[
    str,
    tuple[
        str,
        Callable[[argparse.ArgumentParser], None],
        Callable[[argparse.Namespace], int],
    ],
] = {
    "collect": (
        "Receive events on this machine as Hightouch would, and print them.",
        _collect_arguments,
        _collect,
    ),
    "demo": (
        "Run a small application against a collector, and show what arrives.",
        _demo_arguments,
        _demo,
    ),
    "docs": (
        "Show the manual: its list of pages, a page, or the lines that have a word.",
        docs.add_arguments,
        lambda arguments: console.run(docs.run, arguments),
    ),
    "send": (
        "Send events from a file, one JSON object per line.",
        send.add_arguments,
        lambda arguments: console.run(send.run, arguments),
    ),
    "spool": (
        "Show, send again or remove what is in a spool's file.",
        spool.add_arguments,
        lambda arguments: console.run(spool.run, arguments),
    ),
}
