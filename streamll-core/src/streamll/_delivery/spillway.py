"""What overflows to disk while a sink fails, as far as it can be known without a disk.

In order of age: *loaded* (read back, or returned by a sink that failed; undelivered), *unread*
(on disk), *spilling* (handed to the disk, which has not answered), *staged* (to be written
next). All of them are older than the buffer. A driver does the reading and writing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import attrs

from streamll._delivery.item import Item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streamll.events import Event

__all__ = ["Spillway", "Stored"]

#: Events that may be staged, however small the buffer is: what is emitted in the tens of
#: milliseconds that one transaction takes.
_MIN_STAGE: Final = 10_000
#: Events written in one transaction; it is short enough not to keep a worker from its sink.
_TRANSACTION: Final = 2_000


@attrs.frozen
class Stored:
    """One row as read back: *at* is monotonic seconds, None if another process accepted it."""

    row: int
    event: Event
    body: bytes
    at: float | None


@attrs.define
class Spillway:
    """Which events are on their way to, on, and back from the disk.

    Attributes:
        max_events, max_bytes: bounds of what is staged in memory.
        loaded: waiting for delivery; those without a row are in memory only.
        spilling: being written; nobody else may decide on them until `written`.
        staged: waiting to be written.
        bytes: encoded size of what is in memory.
        weight: events all of it stands for, on disk or not.
    """

    max_events: int
    max_bytes: int
    loaded: deque[Item] = attrs.field(init=False, factory=deque)
    spilling: list[Item] = attrs.field(init=False, factory=list)
    staged: deque[Item] = attrs.field(init=False, factory=deque)
    bytes: int = 0
    weight: int = 0
    _unread: deque[range] = attrs.field(init=False, factory=deque)
    _weights: dict[int, int] = attrs.field(init=False, factory=dict)  # of rows above 1

    def __bool__(self) -> bool:
        return bool(self.loaded or self.spilling or self.staged or self._unread)

    @property
    def unread(self) -> bool:
        """Whether rows on disk wait to be read."""
        return bool(self._unread)

    def has_room(self, size: int, count: int = 1) -> bool:
        """Whether *count* more events of *size* bytes in all may be staged."""
        staged = len(self.spilling) + len(self.staged) + count
        return staged <= max(self.max_events, _MIN_STAGE) and self.bytes + size <= self.max_bytes

    def stage(self, items: Iterable[Item]) -> None:
        """Have *items*, younger than all in here, written to disk."""
        for item in items:
            self.staged.append(item)
            self._enter(item)

    def to_write(self) -> list[Item]:
        """Hand the next items to the disk, oldest first."""
        count = min(_TRANSACTION, len(self.staged))
        self.spilling += [self.staged.popleft() for _ in range(count)]
        return list(self.spilling)

    def awaits(self, items: Sequence[Item]) -> bool:
        """Whether *items* are what the disk is to answer for; not if they were given up since."""
        return bool(self.spilling) and self.spilling[0] is items[0]

    def written(self, items: Sequence[Item], rows: Sequence[int]) -> list[Item]:
        """Learn that the first of *items* became *rows*; return those that did not fit."""
        self.spilling.clear()
        for item in items:
            self._leave(item)
        kept = items[: len(rows)]
        self.adopt({row: item.weight for row, item in zip(rows, kept, strict=True)})
        return list(items[len(rows) :])

    def adopt(self, weights: Mapping[int, int]) -> None:
        """Learn of *weights* by row, younger than all rows known."""
        for row, weight in weights.items():
            last = self._unread.pop() if self._unread else range(row, row)
            if last.stop == row:
                self._unread.append(range(last.start, row + 1))
            else:
                self._unread.extend((last, range(row, row + 1)))
            if weight > 1:
                self._weights[row] = weight
        self.weight += sum(weights.values())

    def to_read(self, limit: int) -> list[int]:
        """Return the oldest unread rows that follow each other."""
        return list(self._unread[0][:limit]) if self._unread else []

    def knows(self, rows: Sequence[int]) -> bool:
        """Whether *rows* are the oldest unread ones; not if they were given up since."""
        return bool(self._unread) and self._unread[0].start == rows[0]

    def read(self, rows: Sequence[int], stored: Mapping[int, Stored], now: float) -> list[int]:
        """Learn what was read of the oldest *rows*; return the weights of damaged rows."""
        damaged: list[int] = []
        for row in rows:
            first = self._unread.popleft()
            if len(first) > 1:
                self._unread.appendleft(first[1:])
            weight = self._weights.pop(row, 1)
            self.weight -= weight
            if row in stored:
                self._load(stored[row], weight, now)
            else:
                damaged.append(weight)
        return damaged

    def _load(self, stored: Stored, weight: int, now: float) -> None:
        item = Item(
            stored.event,
            stored.body,
            now if stored.at is None else stored.at,
            len(stored.body),
            weight=weight,
            row=stored.row,
        )
        self.loaded.append(item)
        self._enter(item)

    def take(self, limit: int) -> list[Item]:
        """Remove and return the oldest loaded items."""
        taken = [self.loaded.popleft() for _ in range(min(limit, len(self.loaded)))]
        for item in taken:
            self._leave(item)
        return taken

    def restore(self, items: Sequence[Item]) -> None:
        """Put *items*, older than all in here, in front: oldest first, with or without row."""
        self.loaded.extendleft(reversed(items))
        for item in items:
            self._enter(item)

    def expire(self, before: float) -> list[Item]:
        """Remove and return what is in memory and was accepted at or before *before*.

        Not what is being written: it may be on disk already, where it could not be expired.
        """
        expired: list[Item] = []
        for queue in (self.loaded, self.staged):
            while queue and queue[0].at <= before:
                expired.append(queue.popleft())
                self._leave(expired[-1])
        return expired

    def clear(self) -> tuple[list[Item], int]:
        """Forget everything; return what was in memory, and the events that stay on disk."""
        items = list(self)
        for item in items:
            self._leave(item)
        unread, self.weight = self.weight, 0
        for queue in (self.loaded, self.spilling, self.staged, self._unread):
            queue.clear()
        self._weights.clear()
        return items, unread

    def __iter__(self) -> Iterator[Item]:
        yield from self.loaded
        yield from self.spilling
        yield from self.staged

    def _enter(self, item: Item) -> None:
        self.bytes += item.size
        self.weight += item.weight

    def _leave(self, item: Item) -> None:
        self.bytes -= item.size
        self.weight -= item.weight
