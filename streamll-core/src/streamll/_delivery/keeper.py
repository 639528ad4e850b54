"""Keeps a channel's spool usable for its driver: no exception leaves, each trouble is told once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamll._delivery.item import Item
    from streamll._delivery.spillway import Stored
    from streamll._delivery.spool import Spool
    from streamll.settings import DeliverySettings

__all__ = ["Keeper"]


def _spool(path: str, most: int) -> Spool:
    # Here, not above: sqlite3 takes long to import, and few sinks have a spool.
    from streamll._delivery.spool import Spool  # noqa: PLC0415

    return Spool(path, most)


class Keeper:
    """The disk side of one channel; without `settings.spool` it holds nothing.

    Thread-safe: normally only the worker calls it, but while that hangs `close` does.
    """

    def __init__(self, settings: DeliverySettings) -> None:
        path = settings.spool
        self._spool = _spool(path, settings.spool_bytes) if path is not None else None
        self._lock = threading.RLock()  # a signal handler may close while `close` writes
        self._troubled = False
        self._full = False
        self._lines: list[str] = []

    def open(self) -> dict[int, int]:
        """Return row -> weight of what an earlier process left; nothing if it cannot be read."""
        with self._guarded() as spool:
            if spool is not None:
                left = spool.open()
                if spool.moved_aside:
                    self._lines.append("the spool file was damaged; what it lost is moved aside")
                return left
        return {}

    def write(self, items: Sequence[Item]) -> tuple[list[int], str]:
        """Store *items*; return their rows, and the reason that cost those without one."""
        with self._guarded() as spool:
            if spool is not None:
                rows = spool.append(items)
                self._troubled = self._troubled and not rows
                return rows, "spool_full"
        return [], "spool_full" if self._full else "spool_error"

    def read(self, rows: Sequence[int]) -> dict[int, Stored]:
        """Return *rows*; a damaged one is missing."""
        with self._guarded() as spool:
            if spool is not None:
                return spool.read(rows)
        return {}

    def delete(self, rows: Sequence[int]) -> None:
        """Forget *rows*."""
        with self._guarded() as spool:
            if spool is not None and rows:
                spool.delete(rows)

    def close(self) -> None:
        """Close the file."""
        with self._guarded() as spool:
            if spool is not None:
                spool.close()

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
                if not self._troubled:
                    self._lines.append(f"the spool cannot be used ({type(error).__name__})")
                self._troubled = True
