"""What becomes of the events of an attempt: delivered, tried again, or to blame and given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from streamll._delivery.item import weight_of
from streamll._delivery.outcome import verdict_at
from streamll.errors import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamll._delivery.actions import Write
    from streamll._delivery.holdings import Holdings
    from streamll._delivery.item import Item
    from streamll._delivery.losses import Losses
    from streamll._delivery.outcome import Failure
    from streamll.sink import Verdict

__all__ = ["Returns"]


@attrs.frozen
class Returns:
    """Settles writes that ended. Not thread-safe.

    Attributes:
        holdings: where to put back what has to be tried again.
        losses: what is given up.
    """

    holdings: Holdings
    losses: Losses

    def reported(self, write: Write, report: Mapping[int, Any]) -> tuple[str | None, bool]:
        """Settle a write that returned; *report* holds the verdicts on undelivered events.

        Returns:
            Why nothing got through, None if something did or nothing is left to try; and
            whether nothing is.
        """
        bad = _verdicts(write, report) if report else {}
        delivered = [i for n, i in enumerate(write.items) if n not in bad] if bad else write.items
        self.holdings.ledger.deliver(weight_of(delivered))
        self.losses.spend(delivered)
        again = {n: verdict for n, verdict in bad.items() if self._retries(write.items[n], verdict)}
        self._take_back(write, again, proven=bool(delivered))
        stuck = again and not delivered
        return (next(iter(again.values())).outcome.value if stuck else None), not again

    def failed(self, write: Write, failure: Failure) -> None:
        """Settle a write that raised."""
        unknown = failure.outcome is Outcome.UNKNOWN
        self.holdings.ledger.put_back(weight_of(write.items), unknown=unknown)
        if failure.sent and failure.outcome is not Outcome.REJECTED_PERMANENT:
            self._search(write, unknown=unknown)
        else:  # it says nothing about the events
            self._return(write, write.items)

    def _retries(self, item: Item, verdict: Verdict) -> bool:
        """Count the verdict on one event; return whether it goes back."""
        if verdict.outcome is Outcome.REJECTED_PERMANENT:
            self.losses.reject(item, verdict.reason)
            return False
        item.attempt += verdict.was_tried
        unknown = verdict.outcome is Outcome.UNKNOWN
        self.holdings.ledger.put_back(item.weight, unknown=unknown)
        return True

    def _take_back(self, write: Write, again: Mapping[int, Verdict], *, proven: bool) -> None:
        """Put back what is to be tried again; what others outlive too often is to blame."""
        isolation, convicts = self.holdings.isolation, set[int]()
        if proven and not write.suspect:
            tried = [n for n, verdict in again.items() if verdict.was_tried]
            convicts = {n for n in tried if isolation.outlived(write.items[n])}
            self.losses.give_up([write.items[n] for n in sorted(convicts)], "rejected")
        self._return(write, [write.items[n] for n in again if n not in convicts])

    def _search(self, write: Write, *, unknown: bool) -> None:
        """Put back a batch that failed by exception, unless its only event is to blame."""
        items, isolation = write.items, self.holdings.isolation
        isolation.blame(items)
        if len(items) == 1 and isolation.convicts(items[0]):
            self.losses.give_up(items, "rejected")
        elif write.suspect:
            isolation.readmit(items, last=True)
        else:
            others = bool(self.holdings.waiting)
            self._restore(isolation.failed(items, others=others, unknown=unknown))

    def _return(self, write: Write, items: Sequence[Item]) -> None:
        """Put *items* back to where *write* took them from."""
        if write.suspect:
            self.holdings.isolation.readmit(items)
        else:
            self._restore(items)

    def _restore(self, items: Sequence[Item]) -> None:
        """Put *items* in front of what waits; what no longer fits gives way by policy."""
        self.losses.give_up(self.holdings.waiting.restore(items), "buffer_full")


def _verdicts(write: Write, report: Mapping[int, Any]) -> dict[int, Verdict]:
    """Return what *report* says of the events that were not delivered, by their place."""
    verdicts = ((place, verdict_at(report, place)) for place in range(len(write.items)))
    return {place: verdict for place, verdict in verdicts if verdict is not None}
