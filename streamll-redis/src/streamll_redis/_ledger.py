"""Numbers for the events of one stream key, so that the server can recognise a repeat. Pure.

The server keeps, per producer and key, the highest number it has appended and skips numbers
up to it. For that to be right:

- Rule 1: an event keeps its number for as long as its outcome is unknown.
- Rule 2: within a write numbers rise, and a fresh number is higher than all before it.
- Rule 3: an event that a later write to the key jumps over loses its number: once the server
  may hold a higher one, the old number would be skipped although the event is not there.
  If it comes back it gets a fresh number, so it may be there twice but is never lost.

So the highest number on the server is at least that of event *e* only if *e* is there. Writes
may shrink, grow and drop events from the front; each event still arrives once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ledger"]


@attrs.define
class Ledger:
    """Which number each unconfirmed event of one key has. Not thread-safe.

    Holds at most the events of the last writes whose outcome is unknown.
    """

    _next: int = 1
    _pending: dict[str, int] = attrs.field(factory=dict, repr=False)

    def assign(self, event_ids: Sequence[str]) -> list[int]:
        """Return the numbers of one write, rising, in the order of *event_ids*."""
        numbers: list[int] = []
        highest = 0
        for event_id in event_ids:
            number = self._pending.get(event_id, 0)
            if number <= highest:
                number = self._next
                self._next += 1
            numbers.append(number)
            highest = number
        self._pending = self._above(highest) | dict(zip(event_ids, numbers, strict=True))
        return numbers

    def confirm(self, number: int) -> None:
        """Forget the events up to *number*: the server has answered for them."""
        self._pending = self._above(number)

    def _above(self, number: int) -> dict[str, int]:
        return {event: held for event, held in self._pending.items() if held > number}
