"""The disk, as far as a channel can know it without one: what goes there and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamll._delivery.item import weight_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamll._delivery.actions import Load, Spill
    from streamll._delivery.holdings import Holdings
    from streamll._delivery.item import Item
    from streamll._delivery.losses import Losses
    from streamll._delivery.spillway import Stored

__all__ = ["Disk"]


@attrs.frozen
class Disk:
    """Keeps the accounting right while a driver reads and writes. Not thread-safe."""

    holdings: Holdings
    losses: Losses

    def adopt(self, weights: Mapping[int, int]) -> None:
        """Take responsibility for what an earlier process left on disk: row -> weight."""
        self.holdings.ledger.accept(sum(weights.values()))
        self.holdings.waiting.spillway.adopt(weights)

    def written(self, spill: Spill, rows: Sequence[int], reason: str) -> None:
        """Report that the first of `spill.items` became *rows*; *reason* cost the others."""
        spillway = self.holdings.waiting.spillway
        if spillway.awaits(spill.items):
            self.losses.give_up(spillway.written(spill.items, rows), reason)
        else:
            self._written_late(spill.items, rows)

    def _written_late(self, items: Sequence[Item], rows: Sequence[int]) -> None:
        """Count as on disk what `close`, which could not wait for it, had to count as lost."""
        late = [item for item, _ in zip(items, rows, strict=False) if not item.row]
        dropped = self.holdings.ledger.dropped
        dropped.subtract({"shutdown_timeout": weight_of(late)})
        dropped.update({"spooled": weight_of(late)})
        for reason in ("shutdown_timeout", "spooled"):
            if not dropped[reason]:
                del dropped[reason]

    def loaded(self, load: Load, stored: Mapping[int, Stored], now: float) -> None:
        """Report what was read of `load.rows`; what is missing was damaged."""
        if not self.holdings.waiting.spillway.knows(load.rows):
            return  # given up by `close`: they stay on disk
        for weight in self.holdings.waiting.spillway.read(load.rows, stored, now):
            self.losses.damaged(weight)
        self.losses.spent.extend(row for row in load.rows if row not in stored)

    def unsaved(self) -> list[list[Item]]:
        """Return, in order and in parts, the events that only memory holds."""
        return self.holdings.unsaved()

    def take_spent(self) -> list[int]:
        """Return the rows that may be deleted since the last call."""
        spent, self.losses.spent[:] = list(self.losses.spent), []
        return spent
