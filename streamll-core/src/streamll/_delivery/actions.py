"""What a `Channel` asks its driver to do next."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import attrs

from streamll.events import Batch

if TYPE_CHECKING:
    from streamll._delivery.item import Item

__all__ = ["Action", "Done", "Load", "Spill", "Wait", "Wake", "Write"]


class Wake(Enum):
    """Which new events are a reason to ask again before the time is over."""

    ANY = "any"  # nothing waits: every event is
    FULL = "full"  # waiting for company: a full batch is
    NEVER = "never"  # the sink needs time: none is


@attrs.frozen
class Wait:
    """Ask again in *seconds* (None: no limit), or earlier as *wake* says."""

    seconds: float | None
    wake: Wake


@attrs.frozen(eq=False)
class Write:
    """Make one attempt and report it, with this very object, to `succeeded` or `failed`.

    Attributes:
        batch: what to pass to `write`.
        items: the same, as the channel knows it.
        generation: the circuit's, so that a late result changes nothing.
        suspect: whether this is the trial of an event that failed alone.
        size: encoded bytes.
    """

    batch: Batch
    items: list[Item]
    generation: int
    suspect: bool
    size: int

    @classmethod
    def of(cls, items: list[Item], generation: int, *, suspect: bool) -> Write:
        """Return the write of *items*."""
        batch = Batch(
            tuple([item.event for item in items]),
            tuple([item.body for item in items]),
            1 + max([item.attempt for item in items]),
        )
        return cls(batch, items, generation, suspect, sum([item.size for item in items]))


@attrs.frozen(eq=False)
class Spill:
    """Store *items* on disk and report it to `written`."""

    items: list[Item]


@attrs.frozen(eq=False)
class Load:
    """Read *rows* back from disk and report them to `loaded`."""

    rows: list[int]


@attrs.frozen
class Done:
    """Closed, and nothing is left: release the sink."""


Action = Write | Wait | Spill | Load | Done
