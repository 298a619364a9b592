"""`python -m htlogging send`: deliver events from a file."""

from __future__ import annotations

import argparse
import math
from contextlib import closing

from htlogging._cli.drain import send_all
from htlogging._cli.errors import Failed, Misused
from htlogging._cli.options import add_target, target
from htlogging._cli.send.line_queue import LineQueue
from htlogging._cli.send.resume import State
from htlogging._cli.terminal.console import add_example, many, out, say
from htlogging._event.encoder import prefer_orjson
from htlogging._settings import MAX_BODY_BYTES, MAX_BODY_EVENTS

# Appended to the input's name when there is no `--state`.
_SUFFIX = ".sent"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a file with one JSON object per line; .gz means gzip, - means stdin",
    )
    add_target(parser)
    parser.add_argument(
        "--max-event-size",
        type=int,
        metavar="BYTES",
        help="refuse a larger event (default: 32768)",
    )
    parser.add_argument(
        "--rate", type=_rate, metavar="N", help="send at most N events per second"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check every line and send nothing"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="start after the lines that an earlier run sent",
    )
    parser.add_argument(
        "--state",
        metavar="PATH",
        help=f"the file that holds the resume position (default: FILE{_SUFFIX})",
    )
    add_example(
        parser,
        "python -m htlogging send orders.ndjson --dry-run",
        "python -m htlogging send orders.ndjson --resume",
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError("a rate is a number above 0")
    return rate


def run(arguments: argparse.Namespace) -> int:
    """Send the lines, and print how many were sent."""
    from htlogging._cli.send.reader import Input, Occurrences

    if arguments.file == "-" and arguments.resume and not arguments.state:
        raise Misused("stdin has no file beside it: --resume needs --state")
    prefer_orjson()
    settings = target(
        arguments, send=not arguments.dry_run, max_event_size=arguments.max_event_size
    )
    with closing(Input(arguments.file)) as source, closing(Occurrences()) as seen:
        state = State(None if arguments.dry_run else _state_path(arguments))
        lines = LineQueue(source, seen, state, settings, rate=arguments.rate)
        try:
            _begin(arguments, lines)
            if arguments.dry_run:
                while lines.claim(MAX_BODY_EVENTS, MAX_BODY_BYTES):
                    pass
            else:
                send_all(settings, lines, lines.progress.note, lines.request_limit)
        except KeyboardInterrupt:
            lines.progress.clear()
            say(f"{many(state.delivered, 'event')} sent{_hint(state)}")
            raise
        finally:
            lines.progress.clear()
    return _end(arguments, lines)


def _state_path(arguments: argparse.Namespace) -> str | None:
    if arguments.state is not None or arguments.file == "-":
        path: str | None = arguments.state
        return path
    return f"{arguments.file}{_SUFFIX}"


def _begin(arguments: argparse.Namespace, lines: LineQueue) -> None:
    """Skip what was sent before, or save that nothing is sent yet."""
    state = lines.state
    if arguments.resume and state.path is not None:
        lines.skip()
    elif not arguments.dry_run:
        try:
            state.begin(arguments.file)
        except Failed as exc:
            if arguments.state is not None:
                raise
            lines.progress.note(f"{exc}; sending goes on without it")
            state.path = None


def _hint(state: State) -> str:
    return "; --resume goes on from there" if state.path else ""


def _end(arguments: argparse.Namespace, lines: LineQueue) -> int:
    state = lines.state
    invalid = state.invalid + lines.unfinished
    if lines.stopped is not None:
        say(f"stopped: {lines.stopped}{_hint(state)}")
    if lines.broken is not None:
        say(f"error: {lines.broken}")
    if arguments.dry_run:
        text = f"{many(lines.valid, 'event')} can be sent"
    else:
        text = f"{many(state.delivered, 'event')} sent"
        text += f", {lines.before:,} of them before" if lines.before else ""
    if state.refused:
        text += f"; {state.refused:,} refused"
    if invalid:
        text += f"; {many(invalid, 'line')} invalid"
    out(text)
    well = lines.stopped is None and lines.broken is None
    return 0 if well and not invalid and not state.refused else 1
