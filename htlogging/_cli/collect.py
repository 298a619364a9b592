"""`python -m htlogging collect`: receive events, print them, and show the page."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from htlogging._cli.options import add_verbose, seconds
from htlogging._cli.terminal import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from htlogging.collector import Collector, Request, Tokens

# The width of a terminal that does not tell its width.
_COLUMNS = 80
_MAX_PORT = 65_535
_MAX_LIFE = 86_400  # seconds of a token: a day


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
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
    add_verbose(parser)
    parser.add_argument(
        "--oauth-key",
        metavar="FILE",
        help="give out OAuth tokens at /token to the client with this RSA key (PEM, "
        "private or public), and refuse batches with an unknown token",
    )
    parser.add_argument(
        "--token-life",
        metavar="SECONDS",
        type=seconds(_MAX_LIFE),
        default=3600,
        help="how long such a token lives (default: %(default)s)",
    )
    add_open(parser)
    console.add_example(
        parser,
        "python -m htlogging collect --open",
        "python -m htlogging collect --port 9000 --json > events.ndjson",
    )


def add_open(parser: argparse.ArgumentParser) -> None:
    """Add the option that shows the page in a browser."""
    parser.add_argument(
        "--open", action="store_true", help="show the page in the web browser"
    )


def show_page(url: str) -> None:
    """Show the page in the user's web browser, if there is one."""
    import webbrowser

    # On a thread: a browser in the terminal returns when it is closed.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def run(arguments: argparse.Namespace) -> int:
    """Receive events until Ctrl+C; return the exit status."""
    from htlogging.collector import Collector

    try:
        tokens = _tokens(arguments.oauth_key, arguments.token_life)
    except (OSError, ValueError, ImportError) as exc:
        print(f"--oauth-key {arguments.oauth_key}: {_fault(exc)}", file=sys.stderr)
        return 1
    printer = Printer(
        sys.stderr if arguments.json else sys.stdout,
        json=arguments.json,
        verbose=arguments.verbose,
    )
    collector = Collector(
        arguments.port,
        arguments.write_key,
        keep=0,
        on_request=printer.show,
        tokens=tokens,
    )
    try:
        # Like Ctrl+C, also when a shell has set it to be ignored in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _receive(collector, printer, arguments)
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


def _receive(
    collector: Collector, printer: Printer, arguments: argparse.Namespace
) -> None:
    """Receive events until the reader of stdout is gone; Ctrl+C raises."""
    with collector:
        key = "anything" if arguments.write_key is None else "<the one given>"
        printer.note(
            f"Listening on {collector.url}; set "
            f"HTEVENTS_HOST={collector.url} HTEVENTS_WRITE_KEY={key}"
        )
        if arguments.open:
            show_page(collector.url)
        printer.gone.wait()


def _tokens(path: str | None, life: float) -> Tokens | None:
    if path is None:
        return None
    from htlogging.collector import Tokens

    with open(path, encoding="ascii") as file:
        return Tokens(file.read(), life=life)


def _fault(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    if isinstance(exc, ImportError):
        return "checking it needs cryptography: pip install 'htlogging[oauth]'"
    if isinstance(exc, UnicodeError):
        return "it is no PEM"
    return str(exc)


class Printer:
    """
    Prints what a collector receives; a line is out before its request is answered.

    Args:
        notes: Where the lines go.
        json: Whether events go to stdout, as JSON, instead.
        verbose: Whether to show an event's context and anonymous id, too.
    """

    def __init__(
        self, notes: TextIO, *, json: bool = False, verbose: bool = False
    ) -> None:
        from htlogging._cli.terminal.request_lines import Lines

        # A name in another alphabet must not end the program if stdout is ASCII.
        notes.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
        self._json = json
        self._notes = notes
        colour = self._notes.isatty() and not os.environ.get("NO_COLOR")
        self._lines = Lines(
            self._width, colour=colour, events=not json, verbose=verbose
        )
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
                self.note("! an event is nested too deep to print")
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
