"""What `spool forget` and `relay forget` share: whose events, and what is said of it."""

from __future__ import annotations

from htlogging._cli.errors import Misused
from htlogging._cli.terminal.console import many, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from htlogging._queue.spool.erasure import User


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say whose events are removed."""
    for name, whose in (("--user", "a user"), ("--anonymous", "an anonymous")):
        command.add_argument(
            name,
            action="append",
            default=[],
            metavar="ID",
            help=f"{whose} id; may be given more than once",
        )
    command.add_argument(
        "--dry-run", action="store_true", help="print how many, and remove nothing"
    )


def user_of(arguments: argparse.Namespace) -> User:
    """
    Return whose events are to be removed.

    Raises:
        Misused: The options name no one, or an id is empty.
    """
    from htlogging._queue.spool.erasure import User

    ids = [*arguments.user, *arguments.anonymous]
    if not ids or not all(ids):  # an empty one is a shell's variable that is not set
        raise Misused("say whom to forget: --user ID or --anonymous ID")
    return User(arguments.user, arguments.anonymous)


def report(waiting: int, dead: int, still: str, *, dry_run: bool) -> None:
    """
    Print how many events were removed.

    Args:
        waiting: Waiting events.
        dead: Dead letters.
        still: The line about events that may still be sent.
        dry_run: Whether they were only counted.
    """
    would = "would be " if dry_run else ""
    out(
        f"{many(waiting, 'waiting event')} and {many(dead, 'dead letter')} "
        f"{would}removed"
    )
    if not dry_run:
        out(still)
