"""The collector: which requests it accepts, what it keeps, what it answers."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import Context
from dataclasses import replace
from http import HTTPStatus

from htlogging._process import fork
from htlogging.collector import _guard
from htlogging.collector._evaluation import evaluate, request_of
from htlogging.collector._faults import Faults
from htlogging.collector._log import Log
from htlogging.collector._messages import (
    Problem,
    Reply,
    Request,
    as_reply,
    is_success,
    merge,
)
from htlogging.collector._page import Page
from htlogging.collector._server import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import Self

    from htlogging.collector._messages import Arrival
    from htlogging.collector._token import Tokens

_COUNTED = ("requests", "events", "problems")

# Seconds that `stop` waits for threads that run the application's code.
_STOP_TIMEOUT = 1.0


class Collector:
    """
    A server on 127.0.0.1, started by `start` or a `with` block.

    Its threads are daemons: a collector that is not stopped does not keep the process
    running. In a forked child it is as if it had not been started.

    Args:
        port: Where to listen; 0 picks a free port. `stop` and `start` keep the port.
        write_key: The only key that is accepted; `None` accepts any.
        keep: How many requests to remember, on the page too; `None` for all (the page
            has the last ones); 0 for none but those of the page.
        on_request: Called with each request before it is answered, on the connection's
            thread. With several connections, calls may overlap.
        tokens: An OAuth token endpoint at `/token`; requests to it are not among
            `requests`, and are not answered by `script` and `always`.
    """

    def __init__(
        self,
        port: int = 0,
        write_key: str | None = None,
        *,
        keep: int | None = None,
        on_request: Callable[[Request], None] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._port = port
        self._tokens = tokens
        self._write_key = write_key
        self._on_request = on_request
        self._server: Server | None = None
        self._log = Log(keep or None)
        self._faults = Faults()
        self._page = Page(self._log, self._faults, self._opened)
        # Guards all below; notified when a request has been kept. The connections'
        # threads and the user's come here; no I/O and no foreign code while held.
        # A forked child replaces it: the thread that held it was not copied.
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque(maxlen=keep)
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._script: deque[Reply] = deque()
        self._always: Reply | Callable[[Request], Reply | int | None] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> Self:
        """
        Listen; do nothing if it listens already.

        Raises:
            OSError: The port cannot be used.
            RuntimeError: No thread can be started. It does not listen then.
        """
        if self._server is None:
            server = Server(self._port, self._scripted, self._receive, self._page)
            self._log.open()
            self._server = server
            self._port = server.server_port
            fork.register(self)
            # Accepts until `stop`; at exit it dies in the middle of whatever it does.
            thread = threading.Thread(
                target=server.serve, name="htlogging-collector", daemon=True
            )
            try:
                # With an empty context: what is bound where it starts is not the server's.
                Context().run(thread.start)
            except BaseException:
                self._server = None
                self._log.close()
                server.server_close()
                raise
        return self

    def stop(self) -> None:
        """
        Close the port and break all connections; what came in stays available.

        It does not wait for clients. It does nothing if it does not listen.
        """
        server, self._server = self._server, None
        if server is not None:
            self._log.close()
            server.stop(_STOP_TIMEOUT)

    def after_fork_in_child(self) -> None:  # pragma: no cover  (tested in a child)
        """Close the child's copies of the parent's sockets; on the child's only thread."""
        self._changed = threading.Condition()
        self._log.open()
        server, self._server = self._server, None
        if server is not None:
            server.abandon()

    @property
    def url(self) -> str:
        """
        The `host` for a client: scheme, address and port.

        Raises:
            RuntimeError: It has not been started with a port of its own.
        """
        if not self._port:
            raise RuntimeError("the collector has no port before it is started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[Request]:
        """All requests since the start or `clear`, in the order in which they were read."""
        with self._changed:
            return list(self._requests)

    @property
    def events(self) -> list[dict[str, Any]]:
        """
        The accepted events, in the order of their requests.

        An event that was sent twice, as after `drop="after"`, is in it twice.
        """
        return [event for r in self.requests if r.taken for event in r.events]

    @property
    def problems(self) -> list[Problem]:
        """What was wrong with requests and events, refused ones included."""
        return [problem for r in self.requests for problem in r.problems]

    def wait_for(self, count: int, timeout: float = 10) -> bool:
        """
        Wait until this many events have been accepted since the start or `clear`.

        Args:
            count: Events; one that was sent twice counts twice.
            timeout: Seconds.

        Returns:
            Whether they came in time.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._counts["events"] >= count, timeout
            )

    def wait_for_requests(self, count: int, timeout: float = 10) -> bool:
        """
        Wait until this many requests have been read; they may not be answered yet.

        Args:
            count: Requests since the start or `clear`, refused and broken ones included.
            timeout: Seconds.

        Returns:
            Whether they came in time.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._counts["requests"] >= count, timeout
            )

    def clear(self) -> None:
        """Forget what came in; keep the script and `always`."""
        with self._changed:
            self._requests.clear()
            self._counts = dict.fromkeys(_COUNTED, 0)
        self._log.clear()

    def script(self, *replies: Reply | int) -> None:
        """
        Answer the next POST requests with these, one each; then answer as usual.

        They are added to those still waiting. An int is a status.
        """
        with self._changed:
            self._script.extend(as_reply(reply) for reply in replies)

    def always(
        self, reply: Reply | int | Callable[[Request], Reply | int | None] | None
    ) -> None:
        """
        Answer with this each POST request for which the script has no answer.

        Args:
            reply: A `Reply` or a status; or a function; or `None` to answer as usual
                again. The function gets the request, with the status that it would
                have, and returns a `Reply`, a status, or `None` for the usual answer.
                It is called on the connections' threads. If it raises, the answer is
                a 500, and there is a `Problem`.
        """
        with self._changed:
            self._always = as_reply(reply) if isinstance(reply, int) else reply

    def _is_for_token(self, path: str) -> bool:
        end = path.partition("?")[0].rstrip("/").endswith("/token")
        return self._tokens is not None and end

    def _scripted(self, path: str) -> Reply | None:
        if self._is_for_token(path):
            return None
        with self._changed:
            return self._script.popleft() if self._script else None

    def _receive(self, arrival: Arrival, scripted: Reply | None) -> Reply:
        """Keep a request, and return its answer."""
        request = request_of(arrival)
        allowed = _guard.why_refused(request.headers, same_origin=False) is None
        if self._tokens is not None and allowed and self._is_for_token(arrival.path):
            return self._tokens.receive(arrival)
        if scripted is not None and scripted.drop == "before":
            return self._keep(request, scripted)
        natural = evaluate(
            request, self._write_key, self._tokens, complete=arrival.complete
        )
        request.status = natural.status
        if request.method == "OPTIONS" and natural.status == HTTPStatus.NO_CONTENT:
            return natural  # a browser asks whether it may: no request of the SDK's
        if scripted is None and request.method == "POST":
            scripted = self._decide(request) or self._faults.reply()
        reply = merge(natural, scripted)
        if allowed:
            headers = {**_guard.cors(request.headers), **reply.headers}
            reply = replace(reply, headers=headers)
        return self._keep(request, reply)

    def _opened(self, arrival: Arrival) -> None:
        """Keep a request for the page, which a script may make to see who is there."""
        request = request_of(arrival)
        request.status = 200
        self._keep(request, Reply(200))

    def _decide(self, request: Request) -> Reply | None:
        decide = self._always
        if not callable(decide):
            return decide
        try:
            reply = decide(request)
        except Exception as exc:  # noqa: BLE001
            # A test's code on the collector's thread: unreported, the test would hang.
            request.problems.append(Problem(f"always() raised {exc!r}"))
            return Reply(500)
        return None if reply is None else as_reply(reply)

    def _keep(self, request: Request, reply: Reply) -> Reply:
        broken = reply.drop in ("before", "middle", "after")
        well = request.method == "POST" and request.status == HTTPStatus.OK
        lost = reply.drop == "before" or not is_success(reply.status)
        request.taken = well and not lost
        request.status = None if broken else reply.status
        with self._changed:
            self._requests.append(request)
            self._counts["requests"] += 1
            self._counts["events"] += len(request.events) if request.taken else 0
            self._counts["problems"] += len(request.problems)
            self._changed.notify_all()
        if request.method == "POST" or request.problems:
            self._log.add(request)
        if self._on_request is not None:
            self._on_request(request)
        return reply
