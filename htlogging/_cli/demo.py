"""
`python -m htlogging demo`: run an application against a collector.

Each is a process of its own. Nothing leaves the machine; no account and no key is needed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from datetime import datetime
from email.message import Message
from pathlib import Path

from htlogging._cli.terminal.request_lines import Lines
from htlogging.collector._messages import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from typing_extensions import Self

    _Process = subprocess.Popen[str]

_APP = ("-m", "htlogging._cli.demo_app")
_COLLECTOR = ("-m", "htlogging", "collect", "--json", "--port", "0")

# The first line of `collect`; Python may print more if the environment says so.
_ADDRESS = re.compile(r"Listening on (http://[0-9.]+:[0-9]+);")

# Seconds for the whole demo. It takes one or two; the rest is for a busy machine.
_DEADLINE = 60.0
# Seconds that a child gets to end before it is killed.
_GRACE = 5.0

_GOODBYE = f"""
The same application against Hightouch, with a write key of yours:

    HTEVENTS_WRITE_KEY=... python -m htlogging._cli.demo_app

Its source: {Path(__file__).with_name("demo_app.py")}"""


class _Failed(Exception):
    """The demo failed; the text says why."""


def run(deadline: float = _DEADLINE, app: Sequence[str] = _APP) -> int:
    """
    Run the demo, on the main thread.

    Args:
        deadline: Seconds for the whole demo.
        app: Arguments to Python that run the application.

    Returns:
        The exit status: 0 when each event accepted has arrived exactly once, else 1.
    """
    # A name in another alphabet must not end the demo if stdout is ASCII.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    watchdog = _Watchdog(deadline)
    before = {
        number: signal.signal(number, lambda *_: watchdog.end("interrupted"))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with watchdog:
            _run_both(app, watchdog)
        _say(_GOODBYE)
    except _Failed as exc:
        print(f"FAILED: {watchdog.reason or exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `demo | head`: the reader is gone. The interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


class _Watchdog:
    """
    Kills the children when time is up, or when a signal says so.

    That ends their pipes, and so every wait of the demo. No exception is raised in the
    middle of other code, so a child that was just started is not left behind.

    Args:
        seconds: Time from `__enter__` on.
    """

    def __init__(self, seconds: float) -> None:
        # Guards _children and reason: the main thread adds, the timer's thread kills.
        # Re-entrant: a signal handler runs on the main thread at any moment.
        self._lock = threading.RLock()
        self._children: list[_Process] = []
        self.reason: str | None = None
        late = f"it did not end within {seconds:g} s"
        self._timer = threading.Timer(seconds, self.end, [late])

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()

    def watch(self, child: _Process) -> None:
        """Kill this child too, at the end, or now if the end has come."""
        with self._lock:
            self._children.append(child)
            if self.reason is not None:
                child.kill()

    def end(self, reason: str) -> None:
        """Kill all children, and keep the reason."""
        with self._lock:
            self.reason = self.reason or reason
            for child in self._children:
                child.kill()


def _run_both(app: Sequence[str], watchdog: _Watchdog) -> None:
    with _child(_COLLECTOR, _environment(), subprocess.STDOUT) as collector:
        watchdog.watch(collector)
        url = _address(collector)
        _say(f"A collector listens on {url}; the application starts.\n")
        with _child(app, _environment(url), None) as shop:
            watchdog.watch(shop)
            # When the application has ended, the collector is told to end and closes its
            # pipe. It prints before it answers, so the pipe has everything by then.
            threading.Thread(target=_end_after, args=(shop, collector)).start()
            events = list(_shown(_lines(collector)))
            _compare(_counters(shop), events)


def _environment(url: str | None = None) -> dict[str, str]:
    """
    Return the environment for a child, without the user's key, host and proxy.

    Args:
        url: Where the application sends its events.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("HTEVENTS_")
        and not name.upper().endswith("_PROXY")
    }
    # On Windows and macOS proxies may also be set in the system.
    env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1"
    if url is not None:
        env["HTEVENTS_HOST"] = url
        env["HTEVENTS_WRITE_KEY"] = "demo"
    return env


@contextmanager
def _child(
    arguments: Sequence[str], env: dict[str, str], stderr: int | None
) -> Iterator[_Process]:
    """Run Python as a child, which is ended whatever happens."""
    with subprocess.Popen(  # noqa: S603  (our own modules, by this interpreter)
        [sys.executable, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        errors="replace",
    ) as child:
        try:
            yield child
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE)
            child.kill()


def _end_after(app: _Process, collector: _Process) -> None:
    """End the collector when the application ends; run by a thread of its own."""
    app.wait()
    collector.terminate()


def _lines(child: _Process) -> Iterator[str]:
    assert child.stdout is not None
    for line in child.stdout:
        yield line.rstrip("\n")


def _address(collector: _Process) -> str:
    """Wait for the collector's first line, and return the address in it."""
    said = []
    for line in _lines(collector):
        found = _ADDRESS.search(line)
        if found is not None:
            return found[1]
        said.append(line)
    raise _Failed("\n".join(["the collector did not start", *said]))


def _shown(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Print the collector's lines, and yield the events in them."""
    terminal = sys.stdout.isatty()
    pretty = Lines(
        lambda: (
            os.get_terminal_size(sys.stdout.fileno()).columns or None
            if terminal
            else None
        ),
        colour=terminal and not os.environ.get("NO_COLOR"),
    )
    for line in lines:
        if not line.startswith("{"):
            _say(line)  # what is wrong with an event, or the sums at the end
            continue
        try:
            event = json.loads(line)
        except ValueError:
            raise _Failed("the collector stopped in the middle of an event") from None
        taken = Request("POST", "/v1/batch", Message(), b"", 0.0, 1, events=[event])
        taken.taken = True
        for text in pretty.of(taken, datetime.now().astimezone()):
            _say(text)
        yield event


def _counters(app: _Process) -> dict[str, int]:
    """Return the counters that the application printed last."""
    status = app.wait()
    said = list(_lines(app))
    if status:
        raise _Failed(f"the application ended with status {status}")
    try:
        counters: dict[str, int] = json.loads(said[-1])
    except (IndexError, ValueError):
        raise _Failed("the application did not print its counters") from None
    return counters


def _compare(counters: dict[str, int], events: list[dict[str, Any]]) -> None:
    """Print that all accepted events arrived, or raise `_Failed`."""
    accepted = counters["accepted"]
    _say(
        f"\nThe application ended without a flush: {accepted} events accepted, "
        f"{counters['queued']} of them queued when it did."
    )
    lost = counters["rejected"] + counters["dropped"]
    distinct = len({event["messageId"] for event in events})
    if (lost, distinct, len(events)) != (0, accepted, accepted):
        raise _Failed(
            f"{accepted} events accepted, {lost} refused, {distinct} arrived, "
            f"{len(events) - distinct} of them again"
        )
    _say(f"OK: all {accepted} arrived, each exactly once.")


def _say(text: str) -> None:
    print(text, flush=True)
