"""The accounting of one channel: where every accepted event is, at all times."""

from __future__ import annotations

from collections import Counter

import attrs

__all__ = ["Ledger"]


@attrs.define
class Ledger:
    """Counts of events. Every method keeps `balances` true; none ever raises.

    ``accepted == delivered + sum(dropped.values()) + queued + in_flight``

    An event that is refused ("closed", "reentrant") counts as accepted and dropped at once,
    so that nothing handed to a channel is missing from its numbers.
    """

    accepted: int = 0
    delivered: int = 0
    queued: int = 0
    in_flight: int = 0
    retried_unknown: int = 0
    dropped: Counter[str] = attrs.field(factory=Counter)
    #: How many of the dropped had been waiting; the others were refused.
    given_up: int = 0

    @property
    def outstanding(self) -> int:
        """Events whose fate is open."""
        return self.queued + self.in_flight

    @property
    def lost(self) -> int:
        """Events given up, for any reason."""
        return self.dropped.total()

    @property
    def balances(self) -> bool:
        """Whether the identity holds."""
        return self.accepted == self.delivered + self.lost + self.outstanding

    def accept(self, count: int = 1) -> None:
        """Take responsibility for *count* events, which now wait."""
        self.accepted += count
        self.queued += count

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count events that were handed over but never waited."""
        self.accepted += count
        self.dropped[reason] += count

    def take(self, count: int) -> None:
        """Move waiting events into a write."""
        self.queued -= count
        self.in_flight += count

    def put_back(self, count: int, *, unknown: bool = False) -> None:
        """Move events of a write back to waiting; *unknown* if they may have arrived."""
        self.in_flight -= count
        self.queued += count
        if unknown:
            self.retried_unknown += count

    def deliver(self, count: int) -> None:
        """Count events of a write as confirmed."""
        self.in_flight -= count
        self.delivered += count

    def drop_waiting(self, reason: str, count: int) -> None:
        """Give up waiting events."""
        self.queued -= count
        self.given_up += count
        self.dropped[reason] += count

    def drop_in_flight(self, reason: str, count: int) -> None:
        """Give up events of a write."""
        self.in_flight -= count
        self.given_up += count
        self.dropped[reason] += count

    def settle(self, queued: int, in_flight: int) -> None:
        """Make the counts agree with what is really held, after an interrupted step.

        `KeyboardInterrupt` may strike between two counts; the difference is "interrupted".
        """
        self.queued, self.in_flight = queued, in_flight
        missing = self.accepted - self.delivered - self.lost - self.outstanding
        if missing > 0:
            self.dropped["interrupted"] += missing
        else:
            self.accepted -= missing
