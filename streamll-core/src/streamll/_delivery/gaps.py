"""What was dropped and not yet announced: one record per execution and cause."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from streamll.events import Event

__all__ = ["UNANNOUNCED", "Gap", "Gaps"]

#: Executions told apart, per cause; the drops of others are announced together.
_MAX_EXECUTIONS: Final = 32
#: Event types told apart in one record; custom names may be unbounded.
_MAX_TYPES: Final = 32
#: Drops nobody is told of by event: there is no one left to tell, or telling would cause
#: the next one.
UNANNOUNCED: Final = frozenset({"closed", "reentrant", "shutdown_timeout", "spooled"})


@attrs.define
class Gap:
    """Events of one execution that one cause took; no execution: of several others."""

    cause: str
    execution_id: str | None
    first_sequence: int
    last_sequence: int
    count: int = 0
    by_type: Counter[str] = attrs.field(factory=Counter)

    def add(self, event: Event | None, weight: int) -> None:
        """Count *event*, which stands for *weight* events; None: it cannot be read any more."""
        self.count += weight
        if event is None:
            self.by_type["unknown"] += weight
            return
        known = event.event_type in self.by_type or len(self.by_type) < _MAX_TYPES
        self.by_type[event.event_type if known else "other"] += weight
        self.first_sequence = min(self.first_sequence, event.sequence)
        self.last_sequence = max(
            self.last_sequence, event.data.get("last_sequence", 0) if weight > 1 else event.sequence
        )

    def data(self, sink: str) -> dict[str, Any]:
        """Return the payload of the `streamll.dropped` event about this gap."""
        data: dict[str, Any] = {
            "count": self.count,
            "by_type": dict(self.by_type),
            "cause": self.cause,
            "sink": sink,
        }
        if self.execution_id is not None:
            data["execution_id"] = self.execution_id
            data["first_sequence"] = self.first_sequence
            data["last_sequence"] = self.last_sequence
        return data


class Gaps:
    """The gaps of one channel; bounded, whatever is dropped."""

    def __init__(self) -> None:
        self._gaps: dict[tuple[str, str | None], Gap] = {}
        self._told_apart: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._gaps)

    def record(self, event: Event | None, cause: str, weight: int = 1) -> None:
        """Remember that *event*, None if it cannot be read any more, was dropped."""
        gap = self._gaps.get((cause, event.execution_id if event is not None else None))
        if gap is None:
            gap = self._open(event, cause)
        gap.add(event, weight)

    def _open(self, event: Event | None, cause: str) -> Gap:
        told_apart = event is not None and self._told_apart[cause] < _MAX_EXECUTIONS
        execution = event.execution_id if event is not None and told_apart else None
        sequence = event.sequence if event is not None else 0
        self._told_apart[cause] += told_apart
        return self._gaps.setdefault((cause, execution), Gap(cause, execution, sequence, sequence))

    def take(self) -> list[Gap]:
        """Return the gaps and forget them."""
        gaps = list(self._gaps.values())
        self._gaps.clear()
        self._told_apart.clear()
        return gaps
