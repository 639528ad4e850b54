"""Who gets into one channel, in bulk, and what has to make room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamll._delivery.breaker import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamll._delivery.holdings import Holdings
    from streamll._delivery.item import Item
    from streamll._delivery.losses import Losses
    from streamll._delivery.pace import Pace
    from streamll.settings import DeliverySettings

__all__ = ["Admission"]


@attrs.define
class Admission:
    """Takes responsibility for events, or counts why not. Not thread-safe.

    Attributes:
        closed: whether nobody gets in any more.
    """

    settings: DeliverySettings
    holdings: Holdings
    losses: Losses
    pace: Pace
    closed: bool = False

    def admit(self, items: Sequence[Item]) -> None:
        """Accept *items*, in order: number them, count them, and have them wait."""
        if self.closed:
            self._turn_away(items, "closed")
        elif self.settings.when_open == "drop" and items and self._is_open(items[-1].at):
            self._turn_away(items, "breaker_open")
        else:
            ledger = self.holdings.ledger
            first = ledger.accepted + 1
            ledger.accept(len(items))
            for order, item in enumerate(items, first):
                item.order = order
            if not self.holdings.waiting.extend(items, failing=self.pace.setbacks > 0):
                self._squeeze_in(items)

    def _turn_away(self, items: Iterable[Item], reason: str) -> None:
        for item in items:
            self.losses.refuse(item.event, reason)

    def _squeeze_in(self, items: Sequence[Item]) -> None:
        most = self.settings.buffer_bytes
        self.losses.give_up([item for item in items if item.size > most], "oversize")
        fitting = [item for item in items if item.size <= most]
        victims = self.holdings.waiting.push(fitting, failing=self.pace.setbacks > 0)
        self.losses.give_up(victims, "buffer_full")

    def _is_open(self, now: float) -> bool:
        self.pace.breaker.tick(now, free=self.holdings.in_flight is None)
        return self.pace.breaker.state is State.OPEN
