"""All that waits in one channel, in the order in which it goes out.

    announcements of drops -> loaded from disk -> on disk -> on the way there -> buffer

Only the buffer is bounded by the settings; announcements are few by design, and the spillway
has bounds of its own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streamll._delivery.buffer import Buffer
from streamll._delivery.item import Item
from streamll._delivery.spillway import Spillway

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamll.settings import DeliverySettings

__all__ = ["Waiting"]


class Waiting:
    """The queue of one channel. Not thread-safe.

    Attributes:
        buffer: in memory.
        notices: announcements of drops; they never give way.
        spillway: what is on its way to, on, or back from the disk; empty without a spool.
    """

    def __init__(self, settings: DeliverySettings) -> None:
        size, max_bytes = settings.buffer_size, settings.buffer_bytes
        self.buffer = Buffer(size, max_bytes, settings.overflow)
        self.notices: deque[Item] = deque()
        self.spillway = Spillway(size, max_bytes)
        self._spools = settings.spool is not None
        self._blocks = settings.overflow == "block"
        self._failing = False  # as far as the last step knew

    def __bool__(self) -> bool:
        return bool(self.buffer.count or self.notices or self.spillway)

    def __iter__(self) -> Iterator[Item]:
        """Iterate over what is in memory, in order."""
        yield from self.notices
        yield from self.spillway
        yield from self.buffer

    @property
    def bytes(self) -> int:
        """Encoded bytes in memory."""
        return self.buffer.bytes + self.spillway.bytes + sum(item.size for item in self.notices)

    @property
    def weight(self) -> int:
        """Events that wait, on disk or not."""
        return self.buffer.weight + self.spillway.weight + len(self.notices)

    def extend(self, items: Sequence[Item], *, failing: bool) -> bool:
        """Add *items* if nothing has to give way for them; return whether it was so."""
        self._failing = failing
        return not self._overflows and self.buffer.extend(items)

    def push(self, items: Sequence[Item], *, failing: bool) -> Sequence[Item]:
        """Add *items*; return what had to give way. *failing*: overflow may go to disk.

        With "block" it always may: whoever did not wait, because the disk had room, must not
        lose the event because the sink works again.
        """
        self._failing = failing
        if not (self._overflows or (self._spools and self._blocks)):
            return self.buffer.push(items)
        victims: list[Item] = []
        for item in items:
            self._make_room(item.size)
            victims += self.buffer.push((item,))
        return victims

    @property
    def _overflows(self) -> bool:
        """Whether what the buffer cannot hold goes to disk."""
        return self._spools and (self._failing or bool(self.spillway))

    def has_room(self, size: int, count: int, away: tuple[int, int]) -> bool:
        """Whether *count* events of *size* bytes in all make nothing give way.

        Not even if what is *away* (bytes, events) comes back; on disk it has a place already,
        where only "block" may rely on it: others may find the sink mended before they come.
        """
        if self._blocks and self._overflows and self.spillway.has_room(size, count):
            return True
        return self.buffer.has_room(size + away[0], count + away[1])

    def _make_room(self, size: int) -> None:
        """Stage the older half of a full buffer, rather than one event for each new one."""
        while not self.buffer.has_room(size) and self.buffer.count:
            if not self.spillway.has_room(size):
                return
            self.spillway.stage(self.buffer.take((self.buffer.count + 1) // 2))

    def take(self, limit: int) -> list[Item]:
        """Remove and return up to *limit* items that may go out now."""
        if not (self.notices or self.spillway):
            return self.buffer.take(limit)
        taken = [self.notices.popleft() for _ in range(min(limit, len(self.notices)))]
        taken += self.spillway.take(limit - len(taken))
        if not self.spillway:
            taken += self.buffer.take(limit - len(taken))
        return taken

    def restore(self, items: Sequence[Item]) -> Sequence[Item]:
        """Put *items*, which were taken, back where they were; return what gave way.

        What never was on disk returns in front of what went there meanwhile.
        """
        self.notices.extendleft(item for item in reversed(items) if item.is_notice)
        events = [item for item in items if not item.is_notice]
        self._failing = self._failing or bool(events)
        if self._must_go_ahead(events):
            self.spillway.restore(events)
            return ()
        return self.buffer.restore(events)

    def _must_go_ahead(self, events: Sequence[Item]) -> bool:
        """Whether the buffer is no place for *events*: behind others, or too small."""
        size = sum([item.size for item in events])
        crowded = bool(self.spillway) or not self.buffer.has_room(size, len(events))
        return self._spools and (crowded or any(item.row for item in events))

    def expire(self, before: float) -> list[Item]:
        """Remove and return what is in memory and was accepted at or before *before*."""
        return self.spillway.expire(before) + self.buffer.expire(before)

    def clear(self) -> tuple[list[Item], int]:
        """Forget everything; return what was in memory, and the events that stay on disk."""
        items, unread = self.spillway.clear()
        items += self.buffer.take(self.buffer.count)
        items += self.notices
        self.notices.clear()
        return items, unread
