"""One event on its way to one sink, and how much it matters when something must go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamll.events import Event

__all__ = ["DEBUG", "OTHER", "RANKS", "TOKEN", "VITAL", "Item", "weight_of"]

#: Ranks, in the order in which events give way: tokens first, span starts and ends last.
TOKEN: Final = 0
DEBUG: Final = 1
OTHER: Final = 2
VITAL: Final = 3
RANKS: Final = (TOKEN, DEBUG, OTHER, VITAL)

_RANK_BY_TYPE: Final = {
    "token": TOKEN,
    "start": VITAL,
    "end": VITAL,
    "error": VITAL,
    "cancel": VITAL,
}


class Item(msgspec.Struct, gc=False, eq=False):
    """An event waiting for, or taking part in, a write.

    A msgspec struct rather than an attrs class because one is made per event and sink: it
    costs a third, and `gc=False` is safe because an item never refers to itself.

    Attributes:
        event, body: the event and its JSON.
        at: when it was handed over (monotonic seconds).
        size: encoded bytes it is counted with.
        order: position in the stream of its channel, from 1; survives retries. 0 is not
            accepted yet, or older than whatever is in memory.
        attempt: failed attempts so far.
        strikes: failures since which, or during which, the sink accepted other events.
        wins: successes the channel had seen when this item last failed.
        losses: failures the channel had seen when this item first failed.
        weight: how many accepted events it stands for; more than 1 once coalesced.
        more: events merged behind `event`, not yet written into `body`.
        row: where the disk spool keeps it; 0 when it was never spooled.
        is_notice: whether it announces drops; such wait outside the buffer, never give way.
    """

    event: Event
    body: bytes
    at: float
    size: int
    order: int = 0
    attempt: int = 0
    strikes: int = 0
    wins: int = 0
    losses: int = 0
    weight: int = 1
    more: list[Event] | None = None
    row: int = 0
    is_notice: bool = False

    @property
    def rank(self) -> int:
        """One of `RANKS`: the type of the event decides, then its severity."""
        event = self.event
        rank = _RANK_BY_TYPE.get(event.event_type)
        if rank is not None:
            return rank
        return DEBUG if event.severity == "debug" else OTHER


def weight_of(items: Iterable[Item]) -> int:
    """Return how many accepted events *items* stand for."""
    return sum([item.weight for item in items])
