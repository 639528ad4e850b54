"""Keeps a channel's spool usable for its driver: no exception leaves, each trouble is told once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamll._delivery.item import Item
    from streamll._delivery.spillway import Stored
    from streamll._delivery.spool import Spool
    from streamll.settings import DeliverySettings

__all__ = ["Keeper"]

#: Seconds between two attempts to open a file that could not be opened.
_REOPEN: Final = 1.0
#: Writes whose rows are known yet: what a worker has in hand, and the parts of a `save`.
_REMEMBERED: Final = 4


def _spool(path: str, most: int) -> Spool:
    # Here, not above: sqlite3 takes long to import, and few sinks have a spool.
    from streamll._delivery.spool import Spool  # noqa: PLC0415

    return Spool(path, most)


class Keeper:
    """The disk side of one channel; without `settings.spool` it holds nothing.

    Thread-safe: normally only the worker calls it, but while that hangs `close` does. What
    `close` calls, `save` and `close`, does not wait for a worker that hangs in here.
    """

    def __init__(
        self, settings: DeliverySettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        path = settings.spool
        self._spool = _spool(path, settings.spool_bytes) if path is not None else None
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may close while `close` writes
        self._opened = self._closed = False
        self._open_at = float("-inf")  # not to be tried before
        self._left: dict[int, int] = {}
        self._written: dict[int, list[int]] = {}  # order of the first item -> rows
        self._spent: list[int] = []
        self._troubled = False
        self._full = False
        self._lines: list[str] = []

    def open(self) -> dict[int, int]:
        """Return row -> weight of what an earlier process left; nothing if it cannot be read."""
        with self._guarded() as spool:
            if spool is not None:
                self._try_open(spool)
        return self.take_left()

    def take_left(self) -> dict[int, int]:
        """Return the same once more, if the file could be opened only now."""
        left, self._left = self._left, {}
        return left

    def _try_open(self, spool: Spool) -> None:
        """Open the file if it is not, and was not tried just now: it may have been put right."""
        if self._opened or self._closed or self._clock() < self._open_at:
            return
        self._open_at = self._clock() + _REOPEN
        self._left = spool.open()
        self._opened = True
        if spool.moved_aside:
            self._lines.append("the spool file was damaged; what it lost is moved aside")

    def write(self, items: Sequence[Item], *, ahead: bool = False) -> tuple[list[int], str]:
        """Store *items*; return their rows, and the reason that cost those without one.

        What `save` was given meanwhile is not stored twice. *ahead*: in front of what is there.
        """
        with self._guarded() as spool:
            if spool is not None:
                self._try_open(spool)
                return self._store(items, spool, ahead=ahead), "spool_full"
        return [], "spool_full" if self._full else "spool_error"

    def _store(self, items: Sequence[Item], spool: Spool, *, ahead: bool = False) -> list[int]:
        name = items[0].order
        if name not in self._written:
            self._written[name] = spool.append(items, ahead=ahead)
            self._troubled = self._troubled and not self._written[name]
        if len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]
        return self._written[name]

    def save(self, parts: Sequence[Sequence[Item]]) -> None:
        """Store all *parts* and tell the items their rows; nothing if the disk is busy.

        The first goes in front of what is on disk, the others behind it.
        """
        if self._spool is None or not self._lock.acquire(blocking=False):
            return
        try:
            self._open_at = float("-inf")  # the last chance
            for place, items in enumerate(parts):
                rows = self.write(items, ahead=place == 0)[0] if items else []
                before = [item.row for item, _ in zip(items, rows, strict=False) if item.row]
                for item, row in zip(items, rows, strict=False):
                    item.row = row
                self.delete(before)
        finally:
            self._left = {}  # too late for what is found only now: it stays
            self._lock.release()

    def read(self, rows: Sequence[int]) -> dict[int, Stored] | None:
        """Return *rows*; a damaged one is missing. None if they cannot be read now."""
        with self._guarded() as spool:
            if spool is not None:
                stored = spool.read(rows)
                self._troubled = False
                return stored
        return None

    def delete(self, rows: Sequence[int]) -> None:
        """Forget *rows*; those for which it fails with the next ones, or at the end."""
        self._spent.extend(rows)
        with self._guarded() as spool:
            if spool is not None and self._opened and self._spent:
                spent = tuple(self._spent)
                spool.delete(spent)
                del self._spent[: len(spent)]

    def close(self, rows: Sequence[int] = ()) -> None:
        """Forget *rows* and close the file; left to the worker while that is in here."""
        if not self._lock.acquire(blocking=False):
            self._spent.extend(rows)
            return
        try:
            self.delete(rows)
            self._opened, self._closed = False, True
            with self._guarded() as spool:
                if spool is not None:
                    spool.close()
        finally:
            self._lock.release()

    def take_lines(self) -> list[str]:
        """Return what should be logged since the last call."""
        lines, self._lines = self._lines, []
        return lines

    @contextmanager
    def _guarded(self) -> Iterator[Spool | None]:
        """Yield the spool; what it raises ends the block and is told once."""
        with self._lock:
            self._full = False
            try:
                yield self._spool
            except Exception as error:
                if self._spool is None or not isinstance(error, self._spool.troubles):
                    raise
                self._full = isinstance(error, self._spool.full)
                self._complain(error, self._spool)

    def _complain(self, error: Exception, spool: Spool) -> None:
        if not self._troubled:
            known = str(error) if isinstance(error, spool.foreign) else type(error).__name__
            self._lines.append(f"the spool cannot be used ({known})")
        self._troubled = True
