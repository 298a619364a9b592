"""`python -m htlogging COMMAND`: the table of commands."""

from __future__ import annotations

import argparse
import sys

from htlogging._cli import collect, docs, run, track
from htlogging._cli.check import command as check
from htlogging._cli.relay import command as relay
from htlogging._cli.send import command as send
from htlogging._cli.spool import command as spool
from htlogging._cli.terminal import console
from htlogging._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (summary, add_arguments, action) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(run=action)
    words = sys.argv[1:] if argv is None else [*argv]
    if words[:1] == ["relay"] and not {*relay.ACTIONS, "-h", "--help"} & {*words[1:2]}:
        words.insert(1, "run")  # `relay URL` is its main job
    arguments = parser.parse_args(words)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 0
    return int(arguments.run(arguments))


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    console.add_example(parser, "python -m htlogging demo")


def _demo(arguments: argparse.Namespace) -> int:  # noqa: ARG001  (it has none)
    from htlogging._cli import demo

    return demo.run()


# Name → what it does, its arguments, and what runs it. Heavy imports are inside.
_COMMANDS: dict[
    str,
    tuple[
        str,
        Callable[[argparse.ArgumentParser], None],
        Callable[[argparse.Namespace], int],
    ],
] = {
    "check": (
        "Find out why events do not arrive: settings, loggers, the way to the server.",
        check.add_arguments,
        lambda arguments: console.run(check.run, arguments),
    ),
    "collect": (
        "Receive events on this machine as Hightouch would, and print them.",
        collect.add_arguments,
        collect.run,
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
    "relay": (
        "Send what applications put into a Redis stream, and look after it.",
        relay.add_arguments,
        lambda arguments: console.run(relay.run, arguments),
    ),
    "run": (
        "Run a command whose events go to a collector of its own, and show them.",
        run.add_arguments,
        lambda arguments: console.run(run.run, arguments),
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
    "track": (
        "Send one event, from a shell or cron.",
        track.add_arguments,
        lambda arguments: console.run(track.run, arguments),
    ),
}
