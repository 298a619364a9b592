"""The handler: a log record comes in, an event is delivered."""

from __future__ import annotations

import logging
import math
import sys
import time
import weakref
from logging.handlers import QueueHandler

from htlogging._event import builder, origin, passed_over, strays
from htlogging._event.encoder import encode
from htlogging._event.origin import LOGGER, ORIGIN, Origin
from htlogging._event.record import (
    checked,
    is_dedicated,
    is_explicit,
    is_ours,
    known_of,
    to_event,
)
from htlogging._metrics.figures import figures
from htlogging._process import (
    capturing,
    event_loop,
    fork,
    hosts,
    locks,
    logging_lock,
    shutdown,
)
from htlogging._process.clock import clock, timeout_seconds
from htlogging._process.suppression import is_sending, run_sending
from htlogging._report.lines import show_debug
from htlogging._report.mistakes import what_is_wrong, where
from htlogging._report.process import held_back, unencrypted
from htlogging._report.report import Report
from htlogging._scopes.bindings import current
from htlogging._settings import Settings, with_settings
from htlogging._stats import Counters, Stats
from htlogging.exceptions import DeliveryError, InvalidEvent, InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from typing_extensions import Unpack

    from htlogging._delivery.oauth import TokenSource
    from htlogging._delivery.worker import Worker
    from htlogging._queue.base import EventQueue
    from htlogging._settings import HandlerSettings


_FILTER = logging.Filterer.filter


class HtEventsHandler(QueueHandler):
    """
    Turn log records into Hightouch events and deliver them in the background.

    `emit` turns a record into an event and puts its bytes into a bounded queue. The first
    event starts a thread, which sends the events in batches. `flush` waits until they are
    delivered or given up. `close` waits for that and stops the thread; a later event opens
    the handler again. Invalid events go to `handleError`; nothing is raised in the
    application.

    On a logger of its own every record is an event. On a logger that carries other records
    too, such as the root logger, only records with an `ht_` field are events.

    A formatter is used if it is an `HtEventsFormatter`. `handler.lock` is not held while
    events are made and stored, so several threads can do that at the same time.

    Args:
        queue: Ignored. From Python 3.12 on `dictConfig` passes one to a handler that is
            named by "class". This handler's queue holds events, not records.
        settings: See docs/settings.md.

    Raises:
        InvalidSetting: A setting is missing, unknown, of a wrong type or out of range.
    """

    queue: EventQueue  # type: ignore[assignment]

    # Marks these handlers for other modules: they print nothing.
    makes_events = True

    # Whether a record that looks like an event, and is not, was reported.
    _has_warned = False

    def __init__(
        self, queue: object = None, **settings: Unpack[HandlerSettings]
    ) -> None:
        try:
            self._set_up(queue, settings)
        except InvalidSetting as exc:
            # Crash reporters show the local variables of each frame: none may be a secret.
            del queue, settings
            raise exc.with_traceback(None) from None
        self._begin()
        self.queue.register()
        super().__init__(self.queue)  # type: ignore[arg-type]
        if self._settings.debug:
            show_debug()
        fork.register(self)
        shutdown.register(self)
        hosts.keep_on_root()
        # dictConfig holds logging's lock, and its handlers are not in place yet: the
        # sending thread writes the line then.
        if self._settings.is_unencrypted() and not logging_lock.is_held():
            unencrypted(self._settings.host)

    def _set_up(self, queue: object, settings: HandlerSettings) -> None:
        """Check the settings before logging knows of the handler."""
        if isinstance(queue, str):
            raise InvalidSetting(
                "settings are given by name: write HtEventsHandler(write_key=...)"
            )
        self._settings = Settings(settings)
        if self._has_spool():
            with logging_lock.late_import():
                from htlogging._queue.spool import location
            location.check(self._settings.spool or "")
        # Kept here: handlers with the same credentials share it while one of them lives.
        self._tokens = self._token_source()

    def __repr__(self) -> str:
        if not hasattr(self, "_worker"):  # not complete, because a setting is wrong
            return f"<{type(self).__name__}>"
        counts = ", ".join(f"{n} {name}" for name, n in self.stats.items() if n)
        return (
            f"<{type(self).__name__} to {self._settings.host}: {counts or 'no events'}>"
        )

    @property
    def host(self) -> str:
        """The host that events are sent to."""
        return self._settings.host

    def _begin(self) -> None:
        """Start with nothing queued, nothing counted and no thread."""
        # Guards replacing _worker; no waiting while held. Re-entrant for signal
        # handlers. A forked child has its own.
        self._lock = locks.rlock()
        self._counters = Counters()
        # Records that `reject` has counted and `handleError` has not returned for.
        self._counted: list[logging.LogRecord] = []
        self._report = Report(host=self._settings.host)
        with logging_lock.late_import():
            from htlogging._delivery import pipeline
        settings, counters, report = self._settings, self._counters, self._report
        self.queue = pipeline.make_queue(
            settings, report, counters, in_file=self._has_spool()
        )
        self._delivery = pipeline.Delivery(settings, self.queue, counters, report)
        self._worker = self._hire()
        # Whether an event is sent on its caller's thread. A handler that is made in an
        # atexit hook may be too late for logging.shutdown.
        self._direct = self._settings.sync_mode or shutdown.is_exiting()
        # The state of `capturing` for which events are queued without further checks.
        self._free = -1 if self._direct or not self._settings.send else 0

    def _has_spool(self) -> bool:
        """Return whether events go to a file: not if a test holds them back."""
        settings = self._settings
        return (
            settings.spool is not None
            and settings.send
            and not capturing.holds(settings)
        )

    def _hire(self) -> Worker:
        """Make a worker; its thread starts with the first event."""
        # Weak: a thread that has nothing to send does not keep a handler that the
        # application has dropped.
        this = weakref.ref(self)

        def rested() -> None:
            handler = this()
            if handler is not None:
                handler._rested()  # noqa: SLF001

        def before() -> None:
            handler = this()
            if handler is not None:
                handler._look_around()  # noqa: SLF001

        from htlogging._delivery import pipeline  # `_begin` has imported it

        return pipeline.make_worker(
            self._settings, self._tokens, self._delivery, self.queue, (before, rested)
        )

    def _look_around(self) -> None:
        """Report what is odd about where events go, before the first request."""
        from htlogging._delivery.pipeline import reached_twice

        if self._settings.is_unencrypted():
            unencrypted(self._settings.host)
        twice = reached_twice(self, self._is_like)
        if twice is not None:
            self._report.twice(twice)
        self._look_at_loggers()

    def _look_at_loggers(self) -> None:
        """Report loggers that have dropped what was meant as an event."""
        if self._settings.send:
            from htlogging._delivery.pipeline import oddities

            stats = self.stats
            is_reached = bool(stats.accepted or stats.rejected or stats.dropped)
            for line in oddities(self, is_reached=is_reached):
                self._report.misplaced(line)

    def _is_like(self, other: logging.Handler) -> bool:
        """Return whether another handler sends to the same place with the same key."""
        if not isinstance(other, HtEventsHandler):
            return False
        mine, its = self._settings, other._settings  # noqa: SLF001
        return (mine.host, mine.write_key, True) == (its.host, its.write_key, its.send)

    def _token_source(self) -> TokenSource | None:
        if self._settings.oauth_client_id is None:
            return None
        # Late: few use OAuth, and it takes a while to import.
        with logging_lock.late_import():
            from htlogging._delivery import oauth
        return oauth.source(self._settings)

    def _rested(self) -> None:
        """Be let go: nothing is queued. On a sending thread."""
        if self._report.has_untold():
            return
        shutdown.let_go(self)
        if self.queue.backlog():
            shutdown.hold(self)  # it came just now

    def __del__(self) -> None:
        """End the threads: no code can log to this handler any more."""
        worker = getattr(self, "_worker", None)  # an invalid setting: there is none
        if worker is not None and worker.is_running():
            worker.retire()

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: events, counts and threads are the parent's."""
        self._worker.disown()
        self._begin()

    @property
    def stats(self) -> Stats:
        """The counters at this moment, as a `Stats`."""
        counts = self.queue.counts()
        return Stats(
            accepted=counts.accepted,
            delivered=counts.delivered,
            failed=counts.failed,
            queued=counts.queued,
            queued_bytes=counts.queued_bytes,
            **self._counters.snapshot(),
        )

    def handle(self, record: logging.LogRecord) -> bool:
        """
        Emit the record if it is an event and the handler's filters let it pass.

        Unlike the parent class's method, it does not take `handler.lock`.
        `logging.shutdown` holds that lock while it flushes, and sending threads log.
        """
        known = record.__dict__.get(ORIGIN)  # as `origin.find`, without a call
        if type(known) is not Origin:
            known = None
        if not self._is_event(record, known):
            self._pass_over(record, known)
            return False
        if known is None:
            known = known_of(record)
        # It may come again, for example when a logger above has this handler too.
        if not known.taken:
            known.taken = (self,)
        elif self in known.taken:
            return True
        else:
            known.taken += (self,)
        if not self.filters and type(self).filter is _FILTER:
            self.emit(record)
            return True
        return self._emit_filtered(record, known)

    def _emit_filtered(self, record: logging.LogRecord, known: Origin) -> bool:
        before = dict(record.__dict__)
        try:
            passed = self.filter(record)
        except Exception:  # noqa: BLE001
            # A filter is the application's code; its error must not reach the request.
            self.reject(record)
            return False
        if not passed:
            return False
        # From Python 3.12 on a filter may return another record to use instead.
        other: object = passed
        if isinstance(other, logging.LogRecord) and other is not record:
            origin.follow(record, other)
            record = other
        known.changed = origin.changes(before, record.__dict__)
        try:
            self.emit(record)
        finally:
            known.changed = None
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Make an event of the record and accept it; raise nothing."""
        call = origin.call_of(record)
        try:
            encoded = self.prepare(record)
        except InvalidEvent as exc:
            if call is None:
                self.reject(record)
            else:
                self.count_rejected(exc)
                call.error = exc
            return
        except Exception as exc:
            # From a formatter's hook, for example: not a mistake of the caller. Where no
            # code of the application's runs, a signal handler has raised it.
            if self._is_foreign(exc, record):
                raise
            self.reject(record)
            return
        # Not inside the `try`: an event that is queued must not be made again.
        self._accept(encoded, record, call)

    def _accept(
        self, encoded: bytes, record: logging.LogRecord, call: origin.Call | None
    ) -> None:
        try:
            queued = self.enqueue(encoded)
        except DeliveryError as exc:  # of sync_mode: counted and reported already
            if call is not None:
                call.error = exc
        except Exception as exc:
            if self._is_foreign(exc, record):
                raise
            self.reject(record)
        else:
            if call is not None:
                call.queued = queued

    def _is_foreign(self, exc: Exception, record: logging.LogRecord) -> bool:
        """
        Return whether an exception goes to the caller as it is.

        A call of the facade raises what a signal handler raises in it. Plain logging does
        what every handler of the standard library does: `handleError` has it.
        """
        if origin.call_of(record) is None or isinstance(
            exc, (RecursionError, MemoryError)
        ):
            return False
        return self.formatter is None

    def prepare(self, record: logging.LogRecord) -> bytes:
        """
        Return the record's event as UTF-8 JSON: a snapshot, encoded once.

        Raises:
            InvalidEvent: The record does not make an event.
            EventTooLarge: It makes one over `max_event_size`.
        """
        formatter = self.formatter  # another thread may remove it
        if formatter is None:
            event = to_event(record)
        else:
            # By name, so that the class is imported only by those who use it.
            make = getattr(formatter, "to_event", to_event)
            event = checked(make(record), f"{type(formatter).__name__}.to_event")
        call = origin.call_of(record)
        if call is not None:
            call.event = event
        body = event.get("properties") or event.get("traits")
        if body and not strays.plain.issuperset(body):
            for stray in strays.among(body):
                if stray in record.__dict__:
                    near = strays.near(stray)
                    self._report.unknown_field(stray, near, where(record))
        limit = self._settings.max_event_size
        return encode(event, limit, built=formatter is None)

    def make_event(self, given: Sequence[Any]) -> tuple[dict[str, Any], bytes]:
        """
        Make an event as `prepare` does, without a record.

        The facade uses it when only this handler would see a record.

        Args:
            given: What the call gave, in the order of `builder.make`.

        Returns:
            The event, and what `enqueue` takes.

        Raises:
            InvalidEvent: The fields do not make an event; it was counted.
        """
        fork.notice()
        bound = current()
        try:
            if bound:
                fields = builder.fields_of(*given)
                event = builder.build(fields, bound, None, time.time())
            else:
                event = builder.make({}, time.time(), *given)
            return event, encode(event, self._settings.max_event_size, built=True)
        except InvalidEvent as exc:
            self.count_rejected(exc)
            raise

    def enqueue(self, record: bytes) -> bool:  # type: ignore[override]
        """
        Accept an event.

        Args:
            record: What `prepare` returned.

        Returns:
            Whether it was accepted. If not, it was counted and reported as dropped.

        Raises:
            DeliveryError: With `sync_mode` only: it was not delivered.
        """
        if self._free != capturing.generation:
            done = self._check(record)
            if done is not None:
                return done
        waiting = self.queue.put(record) or self._overflow(record)
        # Read after `put`: a thread that replaces the worker looks at the queue later.
        wake_at, thread = self._worker.ear
        if waiting >= wake_at or not thread.locked():
            shutdown.hold(self)
            self._worker.wake()
        return waiting > 0

    def _check(self, event: bytes) -> bool | None:
        """Accept an event that is not to be queued; return `None` if it is."""
        generation = capturing.generation
        if generation:
            held = capturing.holds(self._settings)
            if capturing.is_watched():
                capturing.show(event, held=held or not self._settings.send)
                generation = -1  # the next event is shown, too
            if held:
                if capturing.inherited:
                    held_back(self._settings.host, capturing.VARIABLE)
                return True
        if not self._settings.send:
            return True
        if not self._direct:
            self._free = generation
        # What on_error logs is queued: sent at once it could call on_error again.
        elif not is_sending():
            return self._send_now(event)
        return None

    def _send_now(self, event: bytes) -> bool:
        """Send an event on its caller's thread."""
        seconds = self._settings.timeout
        if not self._settings.sync_mode:
            # At exit, which has a deadline of its own.
            end = shutdown.deadline(self._settings.shutdown_timeout)
            seconds = min(seconds, end - clock.monotonic())
        try:
            self._worker.send_now(event, seconds)
        except DeliveryError:
            # At exit without sync_mode: the caller must not see errors of the network.
            if self._settings.sync_mode:
                raise
        if self.queue.backlog():
            # It did not get through and is in the spool now: the worker sends it later.
            shutdown.hold(self)
            self._worker.wake()
        return True

    def _overflow(self, event: bytes) -> int:
        """Wait for room if `overflow` says so and waiting is possible; else drop the event."""
        waiting = 0
        if (
            self._settings.overflow == "block"
            and not event_loop.is_running()
            and not is_sending()  # no other thread makes room
        ):
            deadline = clock.monotonic() + self._settings.timeout
            waiting = self._worker.put_when_room(event, deadline)
        if not waiting:
            self._counters.add("dropped")
            name = self._bound_met(event)
            figures.dropped(name)
            most, host = getattr(self._settings, name), self._settings.host
            why = f"the queue for {host} is full ({name}: {most})"
            self._report.lost("dropped", 1, why)
        return waiting

    def _bound_met(self, event: bytes) -> str:
        """Return the setting that leaves no room for an event."""
        held = self.queue.counts().queued_bytes + len(event)
        over = held > self._settings.max_queue_bytes
        return "max_queue_bytes" if over else "max_queue_size"

    def flush(  # type: ignore[override]
        self, timeout: float | None = None, *, check: bool = False
    ) -> bool:
        """
        Wait until everything accepted so far is delivered or given up.

        A sender that waits to fill a batch sends at once. When `logging.shutdown` (without
        a timeout, and `handler.lock` is held) or a reconfiguration calls it (logging's own
        lock is held), it does not wait, because `close` follows.

        Args:
            timeout: Seconds. `None` means as long as it takes, which `max_retries` bounds;
                with a spool, whose retries have no limit, it means `shutdown_timeout`.
            check: Whether to raise if events were given up since the last such call.

        Returns:
            Whether all was settled in time; `True` if there was nothing to do.

        Raises:
            DeliveryError: With `check` only: events were given up.
        """
        fork.notice()
        closing = timeout is None and logging_lock.is_mine(self.lock)
        if closing or logging_lock.is_held():
            return self._worker.flush(-math.inf)
        if timeout is None and self._settings.spool is not None:
            timeout = self._settings.shutdown_timeout
        self._worker.maintain(at_once=True)
        done = self._worker.flush(clock.monotonic() + timeout_seconds(timeout))
        if check:
            self._delivery.check()
        return done

    def nudge(self) -> None:
        """Start sending everything accepted so far, without waiting."""
        self._worker.hurry()

    def close(self) -> None:
        """
        Flush within `shutdown_timeout`, stop the threads, and report what is lost.

        During a reconfiguration it returns at once, and the threads end when all is sent:
        `dictConfig` holds logging's lock, which a sending thread may need.
        """
        fork.notice()
        if logging_lock.is_held() or is_sending() or self.queue.stops_senders():
            # on_error may close its handler, and a thread cannot wait for itself; a
            # signal handler not for threads that wait for what it has interrupted.
            self.retire()
        else:
            self._stop()
        logging_lock.kept(super().close)

    def retire(self) -> None:
        """Let the threads end when all is sent, without waiting for them."""
        self.queue.unregister()
        self._exchange_worker().retire()

    def _stop(self) -> None:
        worker: Worker | None = None
        done, cut = False, True
        try:
            deadline = shutdown.deadline(self._settings.shutdown_timeout)
            if shutdown.is_exiting():
                # Nothing flushes after this: a later event is sent on its caller's thread.
                self._direct, self._free = True, -1
                # Where no event came, no thread has looked.
                self._look_at_loggers()
            self._report.hold(deadline + _LATER)
            # Also in a process without events: send what dead ones left in the spool.
            self._worker.maintain(at_once=True)
            worker = self._exchange_worker()
            done = worker.stop(deadline)
            cut = False
        finally:
            if cut and not shutdown.is_exiting():
                # An exception that a signal handler raised: the threads send the rest.
                if worker is not None:
                    worker.retire()
                self._report.remainder()
            else:
                self._end(all_sent=done)
                if cut:
                    # logging.shutdown closes no other handler after this.
                    shutdown.give_up_others(self)

    def _end(self, *, all_sent: bool) -> None:
        """Give up what is left, and say so."""
        if not all_sent:
            self._abandon()
        self.queue.close()
        self._report.remainder()
        shutdown.let_go(self)

    def give_up(self) -> None:
        """Give up what is queued, and say so: the process ends at once."""
        self._worker.disown()
        self._end(all_sent=False)

    def _exchange_worker(self) -> Worker:
        """Put a new worker in place for later events, and return the old one."""
        with self._lock:
            worker, self._worker = self._worker, self._hire()
        return worker

    def _abandon(self) -> None:
        """Give up the events that could not be delivered in time."""
        events = self.queue.abandon()
        if events:
            outage = f"; {self._report.outage}" if self._report.outage else ""
            why = f"not delivered within shutdown_timeout{outage}"
            # As on a sending thread: an event that on_error logs is queued.
            failure = DeliveryError(None, "shutdown", why, 0)
            run_sending(self._delivery.tell, events, failure)
            # It comes too late, and is reported without on_error.
            late = self.queue.abandon()
            if late:
                figures.failed("shutdown", len(late))
                self._report.lost("failed", len(late), "made by on_error at the end")

    def reject(self, record: logging.LogRecord) -> None:
        """Count an invalid event and hand its record to `handleError`, in an `except`."""
        self.count_rejected(sys.exc_info()[1])
        self._counted.append(record)
        try:
            self.handleError(record)
        except RecursionError:  # pragma: no cover  (depends on the stack left)
            pass  # too little stack even for the line; the event is counted
        finally:
            self._counted.remove(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """
        Count and report a record that is not a valid event; call it in an `except`.

        The log `htlogging` gets one line: what is wrong, where the record was logged, and
        what to do. The first of a kind is logged at once, later ones once a minute with
        their count.
        """
        if not any(counted is record for counted in self._counted):
            self.count_rejected(sys.exc_info()[1])
        self._report.rejected(what_is_wrong(sys.exc_info()[1]), where(record))

    def count_rejected(self, error: BaseException | None) -> None:
        """Count an event that is invalid; `error` says why."""
        self._counters.add("rejected")
        figures.rejected(error)

    @property
    def lacks_key(self) -> bool:
        """Whether it has no write key, because it was made while a test needed none."""
        return self._settings.send and not self._settings.write_key

    @property
    def on_invalid(self) -> str:
        """What the facade does with an invalid event: `raise` or `report`."""
        return self._settings.on_invalid

    def report_call(self, error: InvalidEvent, where: str) -> None:
        """Report an invalid event of a call; it has been counted."""
        self._report.rejected(str(error), where)

    def _is_event(self, record: logging.LogRecord, known: Origin | None) -> bool:
        if known is not None:
            call = known.call
            if call is None:
                if known.explicit and (
                    record.name == LOGGER
                    or (len(record.__dict__) == known.size and not is_ours(record))
                ):
                    return True
            elif origin.call_of(record) is call:
                return self in call.handlers
        if is_ours(record):
            return False
        if is_explicit(record, known):
            return True
        return is_dedicated(record, self, known) and not is_sending()

    def _pass_over(self, record: logging.LogRecord, known: Origin | None) -> None:
        """Handle a record that is not an event."""
        if known is not None and known.call is not None:
            return  # another client's
        passed_over.to_last_resort(record, known, self)
        if not self._has_warned and not is_ours(record):
            what = passed_over.seems_meant(record)
            if what is not None:
                self._has_warned = True
                self._report.passed_over(what, where(record))


HtEventsHandler.__doc__ = with_settings(HtEventsHandler.__doc__)


# Seconds after its deadline by which a handler that closes has told what is lost.
_LATER = 60.0
