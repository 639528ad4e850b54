"""Numbers for the events of one stream key, so that the server can recognise a repeat. Pure.

The server keeps, per producer and key, the highest number it has appended and skips numbers
up to it. For that to be right:

- Rule 1: an event keeps its number for as long as its outcome is unknown.
- Rule 2: within a write numbers rise, and a fresh number is higher than all before it. So a
  write is sent in the order of its numbers: what is new goes behind what is repeated.
- Rule 3: an event that a later write to the key jumps over loses its number: once the server
  may hold a higher one, the old number would be skipped although the event is not there.
  If it comes back it gets a fresh number, so it may be there twice but is never lost.
- Rule 4: notices of drops have numbers of their own. A channel puts them in front of what it
  repeats, perhaps of a part of it, and they would jump over the rest.

So the highest number on the server is at least that of event *e* only if *e* is there. Writes
may shrink, grow and drop events from the front; each event still arrives once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamll import Event

__all__ = ["Ledger"]


@attrs.define
class Ledger:
    """Which number each unconfirmed event of one key has. Not thread-safe.

    Holds at most the events of the last writes whose outcome is unknown.
    """

    _next: int = 1
    _pending: dict[str, int] = attrs.field(factory=dict, repr=False)
    #: The last write, while nothing else is pending: most are confirmed before anyone looks.
    _latest: tuple[int, Sequence[Event]] = attrs.field(default=(1, ()), repr=False)

    def assign(self, events: Sequence[Event]) -> Sequence[int]:
        """Return the numbers of one write; it must be sent in their order."""
        self._remember_latest()
        if not self._pending:
            numbers = self._fresh(len(events))
            self._latest = (numbers[0], events)
            return numbers
        known = self._known([event.event_id for event in events])
        self._pending = self._above(max(known))
        self._pending.update(zip([event.event_id for event in events], known, strict=True))
        return known

    def _remember_latest(self) -> None:
        first, events = self._latest
        self._latest = (1, ())
        self._pending.update((event.event_id, first + at) for at, event in enumerate(events))

    def _fresh(self, count: int) -> range:
        first = self._next
        self._next += count
        return range(first, self._next)

    def _known(self, event_ids: Sequence[str]) -> Sequence[int]:
        held = self._pending.get
        return [held(event_id) or self._fresh(1)[0] for event_id in event_ids]

    def confirm(self, number: int) -> None:
        """Forget the events up to *number*: the server has answered for them."""
        if number >= self._next - 1:  # the usual case: all that was given out
            self._latest = (1, ())
            self._pending.clear()
        else:
            self._remember_latest()
            self._pending = self._above(number)

    def _above(self, number: int) -> dict[str, int]:
        return {event: held for event, held in self._pending.items() if held > number}
