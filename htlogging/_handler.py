"""The handler: a log record comes in, an event is delivered."""

from __future__ import annotations

import logging
import math
from logging.handlers import QueueHandler

from htlogging._event import filter_hook, ordinary_records, origin, unknown_fields
from htlogging._event.encoder import encode
from htlogging._event.foreign_records import known_of
from htlogging._event.origin import ORIGIN, Origin, is_foreign
from htlogging._event.record import checked, is_event, to_event
from htlogging._process import capturing, fork, hosts, locks, shutdown
from htlogging._process.interruption import is_passing
from htlogging._process.lines import show_debug
from htlogging._process.threads import is_sending
from htlogging._settings import Settings, with_settings
from htlogging.exceptions import DeliveryError, InvalidEvent, InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Unpack

    from htlogging._delivery.pipeline import Pipeline
    from htlogging._queue.base import EventQueue
    from htlogging._settings import HandlerSettings
    from htlogging._stats import Stats

_FILTER = logging.Filterer.filter


@fork.late_import
def _pipeline() -> type[Pipeline]:
    from htlogging._delivery.pipeline import Pipeline

    return Pipeline


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
        queue: Not for callers. From Python 3.12 on `dictConfig` passes one to a handler
            that is named by "class"; it is ignored.
        settings: See docs/settings.md.

    Raises:
        InvalidSetting: A setting is missing, unknown, of a wrong type or out of range.
    """

    queue: EventQueue  # type: ignore[assignment]

    # Marks these handlers for modules of the layers below; see `loggers.makes_events`.
    makes_events = True

    # Whether a record that looks like an event, and is not, was reported.
    _has_warned = False

    def __init__(self, queue: None = None, **settings: Unpack[HandlerSettings]) -> None:
        try:
            self._set_up(queue, settings)  # before logging knows of the handler
        except InvalidSetting as exc:
            # Crash reporters show the local variables of each frame: none may be a secret.
            del queue, settings
            raise exc.with_traceback(None) from None
        super().__init__(self.queue)  # type: ignore[arg-type]
        if self._settings.debug:
            show_debug()
        fork.register(self._pipeline)
        shutdown.register(self, self._pipeline)
        hosts.keep_on_root()
        # dictConfig holds logging's lock, and its handlers are not in place yet: the
        # sending thread writes the line then.
        if not locks.holds_logging():
            self._pipeline.report_host()

    def _set_up(self, queue: object, settings: HandlerSettings) -> None:
        if isinstance(queue, str):
            raise InvalidSetting("use names: HtEventsHandler(write_key=...)")
        self._settings = Settings(settings)
        self._pipeline = _pipeline()(self, self._settings, sends_alike)

    def __repr__(self) -> str:
        if not hasattr(self, "_pipeline"):  # not complete, because a setting is wrong
            return f"<{type(self).__name__}>"
        counts = ", ".join(f"{n} {name}" for name, n in self.stats.items() if n)
        return f"<{type(self).__name__} to {self.host}: {counts or 'no events'}>"

    @property
    def host(self) -> str:
        """The host that events are sent to."""
        return self._settings.host

    @property
    def sends(self) -> bool:
        """Whether events are sent: the setting `send`."""
        return self._settings.send

    def __del__(self) -> None:
        """End the threads: no code can log to this handler any more."""
        pipeline = getattr(self, "_pipeline", None)  # an invalid setting: there is none
        if pipeline is not None and pipeline.worker.is_running():
            pipeline.worker.stop_when_sent()

    @property
    def stats(self) -> Stats:
        """The counters at this moment, as a `Stats`."""
        return self._pipeline.stats()

    def handle(self, record: logging.LogRecord) -> bool:
        """
        Emit the record if it is an event and the handler's filters let it pass.

        Unlike the parent class's method, it does not take `handler.lock`.
        `logging.shutdown` holds that lock while it flushes, and sending threads log.
        """
        known = record.__dict__.get(ORIGIN)  # as `origin.find`, without a call
        if type(known) is not Origin:
            known = None
        if not is_event(record, known, self):
            report = None if self._has_warned else self._pipeline.report
            self._has_warned |= ordinary_records.handle(record, known, self, report)
            return False
        if known is None:
            known = known_of(record)
        # It may come again: a logger above may have this handler, too.
        if not known.taken:
            known.taken = (self,)
        elif self in known.taken:
            return True
        else:
            known.taken += (self,)
            self._pipeline.compare(known.taken, record.name)
        if not self.filters and type(self).filter is _FILTER:
            self.emit(record)
            return True
        return self._emit_filtered(record, known)

    def _emit_filtered(self, record: logging.LogRecord, known: Origin) -> bool:
        before = dict(record.__dict__)
        try:
            passed = self.filter(record)
        except Exception as exc:
            # A filter is the application's code; its error must not reach the request.
            if known.call is not None and is_passing(exc):
                raise
            self._pipeline.rejections.hand_over(record, self)
            return False
        if not passed:
            return False
        # From Python 3.12 on a filter may return another record to use instead.
        other: object = passed
        if isinstance(other, logging.LogRecord) and other is not record:
            filter_hook.follow(record, other)
            record = other
        known.changed = filter_hook.changes(before, record.__dict__)
        try:
            self.emit(record)
        finally:
            known.changed = None
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Make an event of the record and accept it; raise nothing."""
        known = record.__dict__.get(ORIGIN)
        # Most records are not from the facade; without this call they take 1 % less.
        is_call = type(known) is Origin and known.call is not None
        call = origin.call_of(record) if is_call else None
        try:
            encoded = self.prepare(record)
        except InvalidEvent as exc:
            if call is None:
                self._pipeline.rejections.hand_over(record, self)
            else:
                self._pipeline.rejections.count(exc)
                call.error = exc
            return
        except Exception as exc:
            # From a formatter's hook, for example: not a mistake of the caller. Where no
            # code of the application's runs, a signal handler has raised it.
            if is_foreign(exc, record, self.formatter):
                raise
            self._pipeline.rejections.hand_over(record, self)
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
            if is_foreign(exc, record, self.formatter):
                raise
            self._pipeline.rejections.hand_over(record, self)
        else:
            if call is not None:
                call.queued = queued

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
            make = getattr(formatter, "sent_event", to_event)
            event = checked(make(record), f"{type(formatter).__name__}.to_event")
        known = record.__dict__.get(ORIGIN)  # as in `emit`
        if type(known) is Origin and known.call is not None:
            call = origin.call_of(record)
            if call is not None:
                call.event = event
        body = event.get("properties") or event.get("traits")
        if body and not unknown_fields.plain.issuperset(body):
            unknown_fields.report_those(body, record, self._pipeline.report)
        return encode(event, self._settings.max_event_size, built=formatter is None)

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
        pipeline = self._pipeline
        if pipeline.unrestricted != capturing.generation:
            done = pipeline.accept(record, self)
            if done is not None:
                return done
        waiting = 0
        try:
            waiting = pipeline.queue.put(record) or pipeline.put_when_full(record)
            # After `put`: a thread that replaces the worker looks at the queue later.
            wake_at, thread = pipeline.worker.wake_when
            if waiting >= wake_at or not thread.locked():
                shutdown.keep_alive(self)
                pipeline.worker.wake()
        except BaseException as exc:
            pipeline.wake_if_queued(self)  # what was put is sent all the same
            if not (waiting and isinstance(exc, (MemoryError, RecursionError))):
                raise
        return waiting > 0

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
        fork.detect()
        closing = timeout is None and locks.is_mine(self.lock)
        if closing or locks.holds_logging():
            return self._pipeline.worker.flush(-math.inf)
        done = self._pipeline.flush(timeout)
        if check:
            self._pipeline.outcomes.check()
        return done

    def close(self) -> None:
        """
        Flush within `shutdown_timeout`, stop the threads, and report what is lost.

        During a reconfiguration it returns at once, and the threads end when all is sent:
        `dictConfig` holds logging's lock, which a sending thread may need.
        """
        fork.detect()
        if locks.holds_logging() or is_sending() or self.queue.stops_senders():
            # on_error may close its handler, and a thread cannot wait for itself. Nor can a
            # signal handler wait for threads that wait for what it has interrupted.
            self._pipeline.stop_when_sent()
        else:
            self._pipeline.stop()
        locks.call_logging(super().close)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """
        Count and report a record that is not a valid event; call it in an `except`.

        The log `htlogging` gets one line: what is wrong, where the record was logged, and
        what to do. The first of a kind is logged at once, later ones once a minute with
        their count.
        """
        self._pipeline.rejections.report_record(record)


def pipeline_of(handler: HtEventsHandler) -> Pipeline:
    """Return what a handler delivers with; only for modules of this package."""
    return handler._pipeline  # noqa: SLF001


def sends_alike(settings: Settings, other: logging.Handler) -> bool:
    """Return whether a handler sends to the place of these settings, with their key."""
    if not isinstance(other, HtEventsHandler):
        return False
    its = pipeline_of(other).settings
    mine = (settings.host, settings.write_key, True)
    return mine == (its.host, its.write_key, its.send)


HtEventsHandler.__doc__ = with_settings(HtEventsHandler.__doc__)
