"""The waiting room of one channel: bounded by events and by bytes, ordered, ranked.

When something must go, tokens give way before debug events, those before others, and span
starts and ends last (`item.RANKS`). Within a rank `drop_oldest` and `coalesce` give up the
oldest, `drop_newest` and `block` the newest. There is one queue per rank, so giving way is
O(1); taking merges them by `order`.

`block` makes no difference here: whoever may wait asks `has_room` first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from streamll._delivery.coalesce import Coalescer, finish
from streamll._delivery.item import RANKS, TOKEN, Item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamll.settings import Overflow

__all__ = ["Buffer"]

#: From this share of either bound on, tokens merge rather than take a place of their own, so
#: that at least an eighth of the buffer passes between two compactions of all of it.
_NEARLY_FULL: Final = 7 / 8
_LAST: Final = float("inf")


class Buffer:
    """Items in order of acceptance, at most *size* of them and *max_bytes* of JSON.

    Not thread-safe. Both bounds hold after every call.

    Attributes:
        count: items waiting.
        bytes: their sizes.
        weight: events they stand for; more than `count` once tokens are merged.
    """

    def __init__(self, size: int, max_bytes: int, overflow: Overflow) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._oldest_goes = overflow in {"drop_oldest", "coalesce"}
        self._coalescer = Coalescer() if overflow == "coalesce" else None
        self._queues: tuple[deque[Item], ...] = tuple(deque() for _ in RANKS)
        self.count = self.bytes = self.weight = 0

    @property
    def is_half_full(self) -> bool:
        """Whether half of either bound is used."""
        return self.count * 2 >= self._size or self.bytes * 2 >= self._max_bytes

    def has_room(self, size: int) -> bool:
        """Whether an event of *size* bytes makes nothing give way, or could never be held."""
        fits = self.count < self._size and self.bytes + size <= self._max_bytes
        return fits or size > self._max_bytes

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all items, oldest first, as they would be taken."""
        for item in sorted((item for queue in self._queues for item in queue), key=_order):
            yield finish(item)

    @property
    def oldest(self) -> Item | None:
        """The item that was accepted first."""
        return min((q[0] for q in self._queues if q), key=_order, default=None)

    def fits(self, item: Item) -> bool:
        """Whether *item* could be held at all."""
        return item.size <= self._max_bytes

    def push(self, item: Item) -> Sequence[Item]:
        """Add *item* behind all others; return what had to give way, perhaps *item* itself."""
        if self._coalescer is not None and self._absorb(item, self._coalescer):
            return self._shrink()
        self._queues[item.rank].append(item)
        self.count += 1
        self.bytes += item.size
        self.weight += item.weight
        if self.count <= self._size and self.bytes <= self._max_bytes:
            return ()
        return self._shrink()

    def restore(self, items: Iterable[Item]) -> Sequence[Item]:
        """Put *items*, oldest first, back in front of all others; return what gave way."""
        for item in reversed(tuple(items)):
            self._queues[item.rank].appendleft(item)
            self.count += 1
            self.bytes += item.size
            self.weight += item.weight
        if self._coalescer is not None:
            self._coalescer.loose += len(self._queues[TOKEN])
        return self._shrink()

    def take(self, limit: int) -> list[Item]:
        """Remove and return up to *limit* items, oldest first."""
        taken: list[Item] = []
        while len(taken) < limit and self.count > len(taken):
            self._take_run(taken, limit)
        for item in taken:
            self._leave(item)
        return taken

    def _take_run(self, taken: list[Item], limit: int) -> None:
        """Take from the queue with the oldest head until another queue's head is older."""
        heads = sorted((queue[0].order, rank) for rank, queue in enumerate(self._queues) if queue)
        queue = self._queues[heads[0][1]]
        border = heads[1][0] if len(heads) > 1 else _LAST
        while queue and queue[0].order < border and len(taken) < limit:
            taken.append(queue.popleft())

    def expire(self, before: float) -> list[Item]:
        """Remove and return the items accepted at or before *before* (seconds)."""
        expired: list[Item] = []
        for queue in self._queues:
            while queue and queue[0].at <= before:
                expired.append(queue.popleft())
        for item in expired:
            self._leave(item)
        return expired

    def recount(self) -> None:
        """Count again what is held, after an interrupted step."""
        items = [item for queue in self._queues for item in queue]
        self.count, self.bytes = len(items), sum(item.size for item in items)
        self.weight = sum(item.weight for item in items)
        if self._coalescer is not None:
            self._coalescer.reset()

    def _leave(self, item: Item) -> None:
        self.count -= 1
        self.bytes -= item.size
        self.weight -= item.weight
        if self._coalescer is not None:
            self._coalescer.forget(item)
            finish(item)

    def _shrink(self) -> Sequence[Item]:
        victims: list[Item] = []
        while self.count > self._size or self.bytes > self._max_bytes:
            if self._coalescer is not None and self._coalescer.loose:
                self._compact(self._coalescer)
            else:
                queue = next(queue for queue in self._queues if queue)
                victims.append(queue.popleft() if self._oldest_goes else queue.pop())
                self._leave(victims[-1])
        return victims

    def _absorb(self, item: Item, coalescer: Coalescer) -> bool:
        """Merge *item* into a waiting token if the buffer is nearly full."""
        crowded = self.count >= self._size * _NEARLY_FULL
        crowded = crowded or self.bytes >= self._max_bytes * _NEARLY_FULL
        gained = coalescer.merge(item) if crowded and item.rank == TOKEN else 0
        if gained:
            self.bytes += gained
            self.weight += item.weight
        else:
            coalescer.note(item)
            coalescer.loose -= crowded and item.rank == TOKEN
        return gained > 0

    def _compact(self, coalescer: Coalescer) -> None:
        items = sorted((item for queue in self._queues for item in queue), key=_order)
        for queue in self._queues:
            queue.clear()
        for item in coalescer.compact(items):
            self._queues[item.rank].append(item)
        self.count = sum(map(len, self._queues))
        self.bytes = sum(item.size for queue in self._queues for item in queue)


def _order(item: Item) -> int:
    return item.order
