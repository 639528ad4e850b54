"""The waiting room of one channel: bounded by events and by bytes, ordered, ranked.

When something must go, tokens give way before debug events, those before others, and span
starts and ends last (`item.RANKS`). Within a rank `drop_oldest` and `coalesce` give up the
oldest, `drop_newest` and `block` the newest.

Events arrive in one queue. Only when something must go is that sorted into one queue per
rank, where giving way is O(1); taking merges those by `order`. So a sink that keeps up never
pays for ranks, and each event is sorted once at most.

`block` makes no difference here: whoever may wait asks `has_room` first.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from streamll._delivery.coalesce import Coalescer, finish
from streamll._delivery.item import RANKS, TOKEN, Item, weight_of

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
        #: Older than all arrivals.
        self._ranked: tuple[deque[Item], ...] = tuple(deque() for _ in RANKS)
        self._arrivals: deque[Item] = deque()
        self.count = self.bytes = self.weight = 0

    @property
    def is_half_full(self) -> bool:
        """Whether half of either bound is used."""
        return self.count * 2 >= self._size or self.bytes * 2 >= self._max_bytes

    def has_room(self, size: int, count: int = 1) -> bool:
        """Whether *count* events of *size* bytes in all would make nothing give way."""
        return self.count + count <= self._size and self.bytes + size <= self._max_bytes

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all items, oldest first, as they would be taken."""
        for item in self._in_order():
            yield finish(item)

    @property
    def oldest(self) -> Item | None:
        """The item that was accepted first."""
        heads = [queue[0] for queue in self._ranked if queue]
        if heads:
            return min(heads, key=_order)
        return self._arrivals[0] if self._arrivals else None

    def extend(self, items: Sequence[Item]) -> bool:
        """Add *items* behind all others if all of them fit; return whether they did."""
        size = sum([item.size for item in items])
        if self._coalescer is not None or not self.has_room(size, len(items)):
            return False
        self._arrivals.extend(items)
        self.count += len(items)
        self.bytes += size
        self.weight += len(items)
        return True

    def push(self, items: Iterable[Item]) -> Sequence[Item]:
        """Add *items* behind all others; return what had to give way, perhaps some of them."""
        if self._coalescer is not None:
            return [gone for item in items for gone in self._merge(item, self._coalescer)]
        for item in items:
            self._arrivals.append(item)
            self._enter(item)
        return self._shrink()

    def _merge(self, item: Item, coalescer: Coalescer) -> Sequence[Item]:
        if not self._absorb(item, coalescer):
            self._arrivals.append(item)
            self._enter(item)
        return self._shrink()

    def restore(self, items: Iterable[Item]) -> Sequence[Item]:
        """Put *items*, oldest first, back in front of all others; return what gave way."""
        for item in reversed(tuple(items)):
            self._ranked[item.rank].appendleft(item)
            self._enter(item)
        if self._coalescer is not None:
            self._coalescer.loose += len(self._ranked[TOKEN])
        return self._shrink()

    def take(self, limit: int) -> list[Item]:
        """Remove and return up to *limit* items, oldest first."""
        taken: list[Item] = []
        while len(taken) < limit and any(self._ranked):
            self._take_run(taken, limit)
        # By islice: one step for a signal handler, and several times as fast as a loop.
        taken += islice(_emptying(self._arrivals), min(limit - len(taken), len(self._arrivals)))
        self._leave(taken)
        return taken

    def _take_run(self, taken: list[Item], limit: int) -> None:
        """Take from the ranked queue with the oldest head until another's head is older."""
        heads = sorted((queue[0].order, rank) for rank, queue in enumerate(self._ranked) if queue)
        queue = self._ranked[heads[0][1]]
        border = heads[1][0] if len(heads) > 1 else _LAST
        while queue and queue[0].order < border and len(taken) < limit:
            taken.append(queue.popleft())

    def expire(self, before: float) -> list[Item]:
        """Remove and return the items accepted at or before *before* (seconds)."""
        expired: list[Item] = []
        for queue in (*self._ranked, self._arrivals):
            while queue and queue[0].at <= before:
                expired.append(queue.popleft())
        self._leave(expired)
        return expired

    def recount(self) -> None:
        """Count again what is held, after an interrupted step."""
        items = self._in_order()
        self.count, self.bytes = len(items), sum(item.size for item in items)
        self.weight = weight_of(items)
        if self._coalescer is not None:
            self._coalescer.reset()

    def _in_order(self) -> list[Item]:
        ranked = sorted((item for queue in self._ranked for item in queue), key=_order)
        return [*ranked, *self._arrivals]

    def _enter(self, item: Item) -> None:
        self.count += 1
        self.bytes += item.size
        self.weight += item.weight

    def _leave(self, items: Sequence[Item]) -> None:
        is_merged = self.weight > self.count
        self.count -= len(items)
        self.bytes -= sum([item.size for item in items])
        self.weight -= weight_of(items) if is_merged else len(items)
        if self._coalescer is not None:
            for item in items:
                self._coalescer.forget(item)
                finish(item)

    def _shrink(self) -> Sequence[Item]:
        """Remove and return what is too much."""
        if self._is_too_full and self._coalescer is not None and self._coalescer.loose:
            self._compact(self._coalescer)
        if not self._is_too_full:
            return ()
        self._sort()
        victims: list[Item] = []
        count, size = self.count - self._size, self.bytes - self._max_bytes
        for queue in self._ranked:
            pop = queue.popleft if self._oldest_goes else queue.pop
            while queue and (len(victims) < count or size > 0):
                victims.append(pop())
                size -= victims[-1].size
        self._leave(victims)
        return victims

    @property
    def _is_too_full(self) -> bool:
        return self.count > self._size or self.bytes > self._max_bytes

    def _sort(self) -> None:
        """Move the arrivals into the queues of their ranks."""
        arrivals = self._arrivals
        while arrivals:
            self._ranked[arrivals[0].rank].append(arrivals.popleft())

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
        kept = deque(coalescer.compact(self._in_order()))
        for queue in self._ranked:
            queue.clear()
        self._arrivals = kept
        self.count = len(self._arrivals)
        self.bytes = sum(item.size for item in self._arrivals)


def _order(item: Item) -> int:
    return item.order


def _emptying(queue: deque[Item]) -> Iterator[Item]:
    """Pop from the left, without a step in Python; the caller knows how many there are."""
    return iter(queue.popleft, None)
