"""An independent judge of a delivery: what the broker holds against what was promised.

The words are those of RabbitMQ's Jepsen suite. It knows nothing of streamll but the JSON of
an event, and reads with a client of its own.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Truth", "judge"]


@attrs.frozen(kw_only=True)
class Truth:
    """Event ids by what went wrong with them; all empty is a perfect delivery.

    Attributes:
        acked_lost: confirmed by the sink, but not in the broker.
        duplicates: in the broker more than once.
        unexpected: in the broker, but never handed to the sink.
        disordered: behind an event of the same execution with a higher sequence.
    """

    acked_lost: frozenset[str] = frozenset()
    duplicates: frozenset[str] = frozenset()
    unexpected: frozenset[str] = frozenset()
    disordered: frozenset[str] = frozenset()


def judge(found: Iterable[bytes], *, given: Iterable[str], acked: Iterable[str]) -> Truth:
    """Compare JSON bodies *found* in the broker, in its order, with ids *given* and *acked*."""
    events = [json.loads(body) for body in found]
    copies = Counter(event["event_id"] for event in events)
    return Truth(
        acked_lost=frozenset(acked) - copies.keys(),
        duplicates=frozenset(name for name, count in copies.items() if count > 1),
        unexpected=frozenset(copies) - frozenset(given),
        disordered=_disordered(events),
    )


def _disordered(events: Iterable[dict[str, object]]) -> frozenset[str]:
    highest: dict[str, int] = defaultdict(int)
    behind: set[str] = set()
    for event in events:
        execution, sequence = str(event["execution_id"]), int(str(event["sequence"]))
        if sequence < highest[execution]:
            behind.add(str(event["event_id"]))
        highest[execution] = max(sequence, highest[execution])
    return frozenset(behind)
