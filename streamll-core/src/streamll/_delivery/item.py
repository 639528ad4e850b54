"""One event on its way to one sink, and how much it matters when something must go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from streamll.events import Event

__all__ = ["DEBUG", "NOTICE", "OTHER", "RANKS", "TOKEN", "VITAL", "Item", "rank_of"]

#: Ranks, in the order in which events give way: tokens first, span starts and ends last.
TOKEN: Final = 0
DEBUG: Final = 1
OTHER: Final = 2
VITAL: Final = 3
#: Announcements of drops; they wait outside the buffer and never give way.
NOTICE: Final = 4
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
        at: when the channel accepted it (monotonic seconds).
        order: position in the stream of its channel; survives retries.
        rank: see `RANKS`.
        size: encoded bytes it is counted with.
        attempt: failed attempts so far.
        strikes: failures since which, or during which, the sink accepted other events.
        wins: successes the channel had seen when this item last failed.
        losses: failures the channel had seen when this item first failed.
        weight: how many accepted events it stands for; more than 1 once coalesced.
        more: events merged behind `event`, not yet written into `body`.
        row: where the disk spool keeps it; 0 when it was never spooled.
    """

    event: Event
    body: bytes
    at: float
    order: int
    rank: int
    size: int
    attempt: int = 0
    strikes: int = 0
    wins: int = 0
    losses: int = 0
    weight: int = 1
    more: list[Event] | None = None
    row: int = 0


def rank_of(event: Event) -> int:
    """Return the rank of *event*: its type decides, then its severity."""
    rank = _RANK_BY_TYPE.get(event.event_type)
    if rank is not None:
        return rank
    return DEBUG if event.severity == "debug" else OTHER
