"""Giving events up: counted, remembered, announced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll._delivery.gaps import UNANNOUNCED, Gaps
from streamll._delivery.item import Item, weight_of
from streamll.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamll._delivery.ledger import Ledger

__all__ = ["Announce", "Losses", "Watch"]

#: Makes the `streamll.dropped` event, and its JSON, from its data.
Announce = Callable[[Mapping[str, Any]], tuple[Event, bytes]]

#: Reasons a sink may invent; later ones are counted as "rejected". Longer ones are cut.
_MAX_REASONS: Final = 32
_MAX_REASON_CHARS: Final = 64


@attrs.define(eq=False)
class Watch:
    """Who wants to know whether one of the first *mark* events is lost from now on."""

    mark: float = float("inf")
    lost: bool = False


@attrs.define
class Losses:
    """What one channel gave up.

    Attributes:
        since: how many events had been accepted at the oldest unannounced loss.
        spent: rows of the disk spool that nobody needs any more.
        watches: who is told of losses; from any thread.
    """

    ledger: Ledger
    name: str
    announce: Announce
    since: int = 0
    spent: list[int] = attrs.field(factory=list)
    watches: deque[Watch] = attrs.field(factory=deque)
    _gaps: Gaps = attrs.field(init=False, factory=Gaps)

    def __bool__(self) -> bool:
        """Whether there is something to announce."""
        return bool(self._gaps)

    def refuse(self, event: Event, reason: str) -> None:
        """Count *event* as dropped without ever having been held."""
        self.ledger.refuse(reason)
        self._note(event, reason, 1)

    def give_up(self, items: Sequence[Item], reason: str) -> None:
        """Count waiting *items* as dropped."""
        if items:
            self.ledger.drop_waiting(reason, weight_of(items))
            for item in items:
                self._note_item(item, reason)

    def reject(self, item: Item, reason: Any) -> None:
        """Count an *item* of a write as dropped, for a sink's own *reason*."""
        known = self._bounded(reason)
        self.ledger.drop_in_flight(known, item.weight)
        self._note_item(item, known)

    def damaged(self, weight: int) -> None:
        """Count waiting events that cannot be read any more."""
        self.ledger.drop_waiting("spool_corrupt", weight)
        for watch in tuple(self.watches):
            watch.lost = True
        self._note(None, "spool_corrupt", weight)

    def announcements(self) -> list[Item]:
        """Return the events that tell of everything so far, now waiting."""
        notices = []
        for gap in self._gaps.take():
            event, body = self.announce(gap.data(self.name))
            self.ledger.accept()
            notices.append(Item(event, body, 0.0, len(body), self.since, is_notice=True))
        return notices

    def forget(self) -> None:
        """Announce nothing any more: there is no one left to tell."""
        self._gaps.take()

    def spend(self, items: Iterable[Item]) -> None:
        """Learn that *items* are not needed on disk any more."""
        self.spent += [item.row for item in items if item.row]

    def _note_item(self, item: Item, reason: str) -> None:
        for watch in tuple(self.watches):
            watch.lost |= item.order <= watch.mark and not item.is_notice
        if item.row:
            self.spent.append(item.row)
        if not item.is_notice:  # an announcement of lost announcements would never end
            self._note(item.event, reason, item.weight)

    def _note(self, event: Event | None, reason: str, weight: int) -> None:
        if reason not in UNANNOUNCED:
            if not self._gaps:
                self.since = self.ledger.accepted
            self._gaps.record(event, reason, weight)

    def _bounded(self, reason: Any) -> str:
        """Return a sink's own reason, bounded in length and number."""
        if not isinstance(reason, str) or not reason:
            return "rejected"
        short = reason[:_MAX_REASON_CHARS]
        known = short in self.ledger.dropped or len(self.ledger.dropped) < _MAX_REASONS
        return short if known else "rejected"
