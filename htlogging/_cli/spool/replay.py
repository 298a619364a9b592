"""Dead letters, and events of dead processes, as queues to send from."""

from __future__ import annotations

from htlogging._cli.drain import Rows, send_all
from htlogging._cli.errors import Failed
from htlogging._cli.terminal.console import Progress
from htlogging._queue.scrubbing import scrubbed
from htlogging._queue.spool import statements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from htlogging._queue.claims import Batch
    from htlogging._queue.spool.admin import SpoolView
    from htlogging._settings import Settings
    from htlogging.exceptions import DeliveryError


class _SpoolRows(Rows):
    """
    Rows of a spool.

    Args:
        view: The spool, opened for writing.
        settled: Called when rows were settled.
    """

    def __init__(self, view: SpoolView, settled: Callable[[], None]) -> None:
        self._view = view
        self._note = settled
        super().__init__()

    def _settled(self) -> None:
        self._note()


class DeadLetters(_SpoolRows):
    """
    Dead letters, in their order.

    Args:
        view: The spool.
        settled: Called when some were settled.
        statuses: Only those refused with one of these statuses; empty for all.
    """

    def __init__(
        self,
        view: SpoolView,
        settled: Callable[[], None],
        statuses: Collection[int | None],
    ) -> None:
        self._statuses = statuses
        # Later letters are left alone: they come from a living process or from this replay.
        self._last = max(view.read(statements.ids_of, "dead"), default=0)
        super().__init__(view, settled)

    def count(self) -> int:
        """Return how many there are to send."""
        rows = self._view.read(statements.letters_by_status, self._last)
        return sum(count for status, count in rows if self._is_wanted(status))

    def _is_wanted(self, status: int | None) -> bool:
        return not self._statuses or status in self._statuses

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        for letter in self._view.letters():
            if letter.id > self._last:
                return
            # What differs from what was accepted is never sent.
            if self._is_wanted(letter.status) and letter.is_sound():
                yield letter.id, letter.body

    def _remove(self, batch: Batch) -> None:
        self._view.change(statements.delete_letters, batch.ids)

    def _refuse(self, batch: Batch, failure: DeliveryError) -> None:
        why = scrubbed(failure, batch.events)
        self._view.change(statements.refuse_again, batch.ids, why)


class Orphans(_SpoolRows):
    """Waiting events of dead processes; no other process takes them meanwhile."""

    def __init__(self, view: SpoolView, settled: Callable[[], None]) -> None:
        self._owners = [owner for owner in view.owners() if view.lock_owner(owner)]
        super().__init__(view, settled)

    def count(self) -> int:
        """Return how many there are to send."""
        sums = (self._view.read(statements.sum_of_owner, o) for o in self._owners)
        return sum(found.events for found in sums)

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        for held in self._owners:
            for row in self._view.events(held):
                if row.is_sound():
                    yield row.id, row.body

    def _remove(self, batch: Batch) -> None:
        self._view.note_settled(batch.ids)
        self._view.change(statements.delete, batch.ids)

    def _refuse(self, batch: Batch, failure: DeliveryError) -> None:
        self._view.note_settled(batch.ids)
        why = scrubbed(failure, batch.events)
        self._view.change(statements.bury, batch.ids, why)


class Replayed:
    """The result; `total` counts all events, those left as they were included."""

    def __init__(self, total: int, sources: list[_SpoolRows]) -> None:
        self.total = total
        self.delivered = sum(source.delivered for source in sources)
        self.refused = sum(source.refused for source in sources)
        stops = (s.stopped for s in sources if s.stopped is not None)
        self.stopped: DeliveryError | None = next(stops, None)


def replay(
    view: SpoolView,
    settings: Settings,
    *,
    statuses: Collection[int | None],
    waiting: bool,
) -> Replayed:
    """
    Send the dead letters of a spool, and events of dead processes.

    Args:
        view: The spool, opened for writing.
        settings: Where to send, and how.
        statuses: Only dead letters refused with one of these statuses; empty for all.
        waiting: Whether to send events of dead processes first.

    Raises:
        Failed: Another replay is running.
    """
    if not view.lock_replay():
        raise Failed("another replay of this spool is running")

    def settled() -> None:
        done = sum(source.delivered + source.refused for source in sources)
        progress.update(done, f"{done:,} of {total:,} events")

    # Made first, so that orphans that are refused now are not sent a second time.
    letters = DeadLetters(view, settled, statuses)
    sources: list[_SpoolRows] = [
        *([Orphans(view, settled)] if waiting else []),
        letters,
    ]
    total = sum(source.count() for source in sources)
    progress = Progress(total)
    try:
        for source in sources:
            send_all(settings, source, progress.note)
            if source.stopped is not None:
                break
    finally:
        progress.clear()
    return Replayed(total, sources)
