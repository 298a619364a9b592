"""`python -m htlogging send`: see `run`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", metavar="FILE")


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """Send."""
    return 0
