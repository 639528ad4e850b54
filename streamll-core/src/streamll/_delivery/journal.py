"""What a channel writes to the log: changes of state and a summary, never an event.

Type names and numbers, and what a sink says in a `DeliveryError`: no payload, no text of
other exceptions. Pure: it returns lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from streamll._delivery.breaker import Change, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streamll.sink import SinkStats

__all__ = ["Journal"]

#: Seconds between two summaries of what was dropped, and in which lines are counted.
_PERIOD: Final = 60.0
#: Most lines in one period; a circuit that flaps faster is not worth more.
_MAX_LINES: Final = 10


@attrs.define
class Journal:
    """Decides what is worth a log line about the sink called *name*."""

    name: str
    _told: Mapping[str, int] = attrs.field(factory=dict)
    _summary_due: float = 0.0
    _period_ends: float = 0.0
    _lines: int = 0

    def lines(self, changes: Iterable[Change], stats: SinkStats, now: float) -> list[str]:
        """Return the lines to log, at most `_MAX_LINES` a minute."""
        if now >= self._period_ends:
            self._period_ends, self._lines = now + _PERIOD, 0
        lines = [*self._circuit(changes, stats), *self._drops(stats, now)]
        lines = lines[: max(0, _MAX_LINES - self._lines)]
        self._lines += len(lines)
        return lines

    def _circuit(self, changes: Iterable[Change], stats: SinkStats) -> Iterator[str]:
        for change in changes:
            if change.old is State.CLOSED:
                cause = stats.last_error or "failures"
                yield f"{self.name}: circuit open after {stats.failures} x {cause}; events wait"
            elif change.new is State.CLOSED:
                yield f"{self.name}: circuit closed, delivering again"

    def _drops(self, stats: SinkStats, now: float) -> Iterator[str]:
        if now < self._summary_due or stats.dropped == self._told:
            return
        new = {
            reason: count - self._told.get(reason, 0)
            for reason, count in stats.dropped.items()
            if count > self._told.get(reason, 0)
        }
        self._told, self._summary_due = stats.dropped, now + _PERIOD
        what = ", ".join(f"{count} {reason}" for reason, count in sorted(new.items()))
        yield f"{self.name}: dropping events ({what}); summed up once a minute"
