"""All that one channel is responsible for: in a write, under suspicion, or waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamll._delivery.item import Item, weight_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamll._delivery.actions import Write
    from streamll._delivery.isolation import Isolation
    from streamll._delivery.ledger import Ledger
    from streamll._delivery.waiting import Waiting

__all__ = ["Holdings"]


@attrs.define
class Holdings:
    """Where the events of one channel are. Not thread-safe.

    Attributes:
        ledger: how many they are.
        waiting: those that wait in order.
        isolation: those that failed alone and wait for a trial.
        in_flight: the write that is open, if one is.
    """

    ledger: Ledger
    waiting: Waiting
    isolation: Isolation
    in_flight: Write | None = None

    def __bool__(self) -> bool:
        """Whether anything is left to write."""
        return bool(self.waiting or self.isolation)

    def __iter__(self) -> Iterator[Item]:
        """Iterate over what is in memory, in order."""
        yield from self._written
        yield from self.isolation
        yield from self.waiting

    @property
    def _written(self) -> list[Item]:
        return self.in_flight.items if self.in_flight is not None else []

    def has_room(self, size: int, count: int) -> bool:
        """Whether *count* events of *size* bytes in all find a place beside the open write."""
        write = self.in_flight
        away = (write.size, len(write.items)) if write is not None else (0, 0)
        return self.waiting.has_room(size, count, away)

    @property
    def queued_bytes(self) -> int:
        """Encoded bytes waiting in memory."""
        return self.waiting.bytes + sum(item.size for item in self.isolation)

    def finish(self, write: Write) -> bool:
        """Close *write*; False if it was given up before, so that its result is too late."""
        if self.in_flight is not write:
            return False
        self.in_flight = None
        return True

    def passed(self, mark: int) -> bool:
        """Whether nothing accepted up to *mark* is held any more."""
        oldest = self.waiting.buffer.oldest
        heads = (oldest,) if oldest is not None else ()
        held = (*self.waiting.notices, *self.isolation, *heads, *self._written)
        return not self.waiting.spillway and all(item.order > mark for item in held)

    def unsaved(self) -> list[list[Item]]:
        """Return, in order, the events that only memory holds.

        In three parts: what is older than all unread rows; what a worker is about to write,
        the very items it has in hand; and what is younger. Rows that were read are among the
        first if younger ones follow them: they have to be written anew, or come behind those.
        """
        spillway = self.waiting.spillway
        older = (*self._written, *self.isolation, *spillway.loaded)
        younger = (*spillway.staged, *self.waiting.buffer)
        first = _unsaved(older) and [item for item in older if not item.is_notice]
        return [first, list(spillway.spilling), _unsaved(younger)]

    def expire(self, before: float) -> list[Item]:
        """Remove and return what waits and was accepted at or before *before* (seconds)."""
        suspects = [item for item in self.isolation if item.at <= before and not item.is_notice]
        self.isolation.discard(suspects)
        return [*suspects, *self.waiting.expire(before)]

    def clear(self) -> tuple[list[Item], int]:
        """Forget everything; return what was in memory, now waiting, and how much is on disk."""
        written, self.in_flight = self._written, None
        self.ledger.put_back(weight_of(written))
        # The write may yet succeed, and whoever reads the rows cannot know.
        self.ledger.retried_unknown += weight_of(item for item in written if item.row)
        waiting, unread = self.waiting.clear()
        items = [*written, *self.isolation, *waiting]
        self.isolation.discard(items)
        return items, unread

    def recount(self) -> None:
        """Make the ledger agree with what is held, after an interrupted step."""
        self.waiting.buffer.recount()
        queued = self.waiting.weight + weight_of(self.isolation)
        self.ledger.settle(queued, weight_of(self._written))


def _unsaved(items: Iterable[Item]) -> list[Item]:
    return [item for item in items if not item.row and not item.is_notice]
