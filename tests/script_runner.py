"""Scripts and commands in processes of their own, for tests of what a process as a whole does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from htlogging._cli.main import main

# Seconds after which a script, or whatever else is waited for, is taken to hang.
HANG = 60


class Ended(NamedTuple):
    """A script or a command that came to its end."""

    status: int
    out: str
    err: str


def run(tmp_path, script, *arguments, **environ):
    """
    Run a script to its end.

    Args:
        tmp_path: Where to put it.
        script: Its text; common indentation is taken off.
        arguments: Of its `sys.argv`.
        environ: Variables beside the environment's; `None` takes one out.
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    return python(path, *arguments, **{"PYTHONWARNINGS": "error", **environ})


def command(*arguments, **environ):
    """
    Run a command of ours, `python -m htlogging`, to its end.

    Args:
        arguments: Of the command line.
        environ: As in `run`.
    """
    return python("-m", "htlogging", *arguments, **environ)


def python(*arguments, cwd=None, **environ):
    """
    Run Python to its end.

    Args:
        arguments: Of its command line.
        cwd: The folder where it runs.
        environ: As in `run`.
    """
    ended = subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False,
        cwd=cwd,
        env=_environment(environ),
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def on_terminal(*arguments, stream="stderr", cwd=None, **environ):
    """
    Run Python to its end, one of its streams being a terminal; POSIX.

    Args:
        arguments: Of its command line.
        stream: `stdout` or `stderr`; the other one is a pipe.
        cwd: The folder where it runs.
        environ: As in `run`.
    """
    ours, theirs = os.openpty()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: theirs}
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=_environment(environ),
        **streams,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:
            pass  # how Linux tells that the other side is closed
        finally:
            os.close(ours)
        texts = process.communicate(timeout=HANG)
    out, err = (shown if text is None else text for text in texts)
    return Ended(process.returncode, out.decode(), err.decode())


def here(*arguments, stdin=b"", **environ):
    """
    Run a command of ours in this process, which takes a tenth of the time of another one.

    For what the command says and does. Signals, terminals, readers that go away and the
    lines of other loggers need a process of their own.

    Args:
        arguments: Of the command line.
        stdin: What can be read there.
        environ: As in `run`.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with (
        mock.patch.dict(os.environ, _environment(environ), clear=True),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exc:  # argparse's
            status = exc.code
        texts = [_text_of(stream) for stream in (out, err)]
    return Ended(status, *texts)


def _text_of(stream):
    stream.flush()
    return stream.buffer.getvalue().decode("utf-8")


def _environment(changes):
    merged = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def until(reached, seconds=HANG):
    """Return what the call returns, as soon as that is true; the seconds are a guard."""
    end, waiting = time.monotonic() + seconds, threading.Event()
    while not (found := reached()):
        assert time.monotonic() < end
        waiting.wait(0.02)
    return found
