"""The errors that end a command with one line and an exit status."""

from __future__ import annotations


class Failed(Exception):
    """A command cannot do what it was asked to; the message is one clear line."""


class Misused(Failed):
    """The command line is wrong: exit status 2."""
