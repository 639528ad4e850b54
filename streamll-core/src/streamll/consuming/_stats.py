"""What became of the messages that were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import attrs

__all__ = ["ReadStats", "Skip", "Tally"]


class Skip(StrEnum):
    """Why the event of a message was not given to the program."""

    #: Not an event: not JSON, a field missing or wrong, too large, too deep.
    GARBAGE = "garbage"
    #: An event of another major version of the schema.
    SCHEMA = "schema"
    #: Its `event_id` was consumed before.
    DUPLICATE = "duplicate"
    #: Not asked for, by `only=`, `execution=` or any handler.
    FILTERED = "filtered"
    #: Its connection was lost before its turn came; the broker delivers it again.
    STALE = "stale"


@attrs.frozen(kw_only=True)
class ReadStats:
    """A snapshot of one reader's accounting.

    ``received == yielded + sum(skipped.values()) + retried + dead``, but for the messages in
    hand at the moment.

    Attributes:
        received: messages looked at; a message that was delivered again counts again.
        yielded: events given to the program; by `EventConsumer`, handled without a failure.
        skipped: reason ("garbage", "schema", "duplicate", "filtered", "stale") -> messages.
        retried: messages handed back to the broker after a handler failed.
        dead: messages given up after the last retry.
        reconnects: connections that replaced a lost one.
    """

    received: int = 0
    yielded: int = 0
    skipped: Mapping[str, int] = attrs.field(factory=dict)
    retried: int = 0
    dead: int = 0
    reconnects: int = 0


@attrs.define
class Tally:
    """The running numbers behind `ReadStats`, counted on the loop that reads."""

    received: int = 0
    yielded: int = 0
    skipped: Counter[str] = attrs.field(factory=Counter)
    retried: int = 0
    dead: int = 0
    reconnects: int = 0

    def snapshot(self) -> ReadStats:
        """Return the numbers as they are; callable from any thread."""
        numbers = attrs.asdict(self, recurse=False)
        return ReadStats(**{**numbers, "skipped": dict(self.skipped)})
