"""One stream key read by a consumer group: what is pending, and whose it is.

    received --ack--> gone     --retry--> claimed again when due     --dead_letter--> gone

- What this consumer had received before and not acked comes first.
- What a consumer received and neither acked nor touched for `reclaim_after` seconds is taken
  over, by XPENDING and XCLAIM: XAUTOCLAIM does not tell how often it was delivered. We touch
  what is in hand here, so only the dead lose theirs.
- The server counts deliveries; that is `Message.attempts`.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from streamll.source import Message
from streamll_redis._async_link import AsyncLink
from streamll_redis._entries import Entry, attempts_of, entries_of, message_of
from streamll_redis._errors import Refusal
from streamll_redis._lane import Lane, asked, checked
from streamll_redis._positions import BEGINNING

__all__ = ["GroupLane"]

#: Entries the stream of dead letters keeps.
DEAD_LETTERS: Final = 100_000


@attrs.define(eq=False)
class GroupLane(Lane):
    """Reads one stream key for a group: two links, as one of them blocks."""

    clock: Callable[[], float] = time.monotonic
    _other: AsyncLink | None = None
    _existed: bool = False
    _cursor: str | None = BEGINNING
    _in_hand: set[str] = attrs.field(factory=set)
    _retries: list[tuple[float, str, int]] = attrs.field(factory=list)
    _reclaim_at: float = 0.0

    async def open_group(self, link: AsyncLink, other: AsyncLink) -> None:
        """Join the group over new links; what was received and not acked comes again."""
        self._link, self._other = link, other
        self._in_hand.clear()
        self._retries.clear()
        self._cursor, self._reclaim_at = BEGINNING, 0.0
        await self._create(other)

    async def _create(self, other: AsyncLink) -> None:
        """Make the group, unless it is there; one that vanished reads the new stream whole."""
        start = BEGINNING if self._existed else self.position or "$"
        create = (b"XGROUP", b"CREATE", self._name, self._group, start.encode(), b"MKSTREAM")
        reply = await other.ask(*create)
        if not (isinstance(reply, Refusal) and reply.code == "BUSYGROUP"):
            checked(reply, other.where)
        self._existed = True

    async def read(self) -> Sequence[Message]:
        """Return entries that nobody has received yet."""
        read = self._read_group(*self._block())
        reply = await asked(self._link, *read, b">", patience=self.settings.block)
        return [message_of(entry, self.key) for entry in entries_of(reply)]

    def took(self, messages: Sequence[Message]) -> None:
        """Remember what is in hand."""
        self._in_hand.update(message.position for message in messages)

    @property
    def wait(self) -> float:
        """Seconds until `due` has something to do."""
        at = min(self._reclaim_at, self._retries[0][0] if self._retries else float("inf"))
        return 0.0 if self._cursor is not None else max(0.0, at - self.clock())

    async def due(self) -> Sequence[Message]:
        """Return what comes again: ours of before, retries, what the dead left behind."""
        messages = await self._own() if self._cursor is not None else []
        messages = messages or await self._retried() or await self._reclaimed()
        self.took(messages)
        return messages

    async def _own(self) -> list[Message]:
        """Return the next of what this consumer received before."""
        assert self._cursor is not None  # noqa: S101
        entries = entries_of(await asked(self._other, *self._read_group(), self._cursor.encode()))
        if not entries:
            self._cursor = None
            return []
        self._cursor = entries[-1][0]
        counts = await self._pending(entries[0][0], self._cursor)
        return [message_of(entry, self.key, attempts=counts.get(entry[0], 1)) for entry in entries]

    async def _retried(self) -> list[Message]:
        now, due = self.clock(), {}
        while self._retries and self._retries[0][0] <= now:
            _, name, attempts = heapq.heappop(self._retries)
            due[name] = attempts + 1
        return await self._claimed(due, 0.0) if due else []

    async def _reclaimed(self) -> list[Message]:
        """Touch what is in hand, and take over what nobody has touched for long."""
        if self.clock() < self._reclaim_at:
            return []
        self._reclaim_at = self.clock() + self.settings.reclaim_after / 3
        await self._touch()
        idle = b"%d" % (self.settings.reclaim_after * 1000)
        pending = (b"XPENDING", self._name, self._group, b"IDLE", idle, b"-", b"+", self._count)
        reply = await asked(self._other, *pending)
        left = {name: count + 1 for name, count in attempts_of(reply).items()}
        return await self._claimed(left, self.settings.reclaim_after) if left else []

    async def _touch(self) -> None:
        names = [name.encode() for name in self._in_hand]
        if names:
            claim = (b"XCLAIM", self._name, self._group, self._consumer, b"0")
            await asked(self._other, *claim, *names, b"JUSTID")

    async def _claimed(self, attempts: dict[str, int], idle: float) -> list[Message]:
        """Make entries ours; those that another consumer took or acked meanwhile are left out."""
        names = [name.encode() for name in attempts]
        least = b"%d" % (idle * 1000)
        claim = (b"XCLAIM", self._name, self._group, self._consumer, least)
        reply = await asked(self._other, *claim, *names)
        self._in_hand.difference_update(attempts)
        entries: list[Entry] = [(item[0].decode(), item[1]) for item in reply if item]
        return [message_of(entry, self.key, attempts=attempts[entry[0]]) for entry in entries]

    async def ack(self, messages: Sequence[Message]) -> None:
        """Take *messages* off the group's list."""
        names = [message.position for message in messages]
        await asked(
            self._other, b"XACK", self._name, self._group, *(name.encode() for name in names)
        )
        self._in_hand.difference_update(names)

    def retry(self, message: Message, delay: float) -> None:
        """Have *message* again in *delay* seconds; if we die before, others reclaim it."""
        heapq.heappush(self._retries, (self.clock() + delay, message.position, message.attempts))

    def letter(self, message: Message, reason: str) -> tuple[bytes, ...]:
        """Return the command that appends a dead letter."""
        fields = {
            "event": message.body,
            "reason": reason.encode(errors="replace"),
            "stream": self._name,
            "id": message.position.encode(),
            "group": self._group,
            "attempts": b"%d" % message.attempts,
        }
        flat = [part for name, value in fields.items() for part in (name.encode(), value)]
        trim = (b"MAXLEN", b"~", b"%d" % DEAD_LETTERS, b"*")
        return (b"XADD", self.settings.dead_key.encode(), *trim, *flat)

    def close(self) -> None:
        """Close both connections."""
        super().close()
        if self._other is not None:
            self._other.drop()

    async def _pending(self, first: str, last: str) -> Mapping[str, int]:
        """Return how often what this consumer has pending was delivered."""
        span = (first.encode(), last.encode(), self._count)
        pending = (b"XPENDING", self._name, self._group, *span, self._consumer)
        return attempts_of(await asked(self._other, *pending))

    def _read_group(self, *block: bytes) -> tuple[bytes, ...]:
        who = (b"XREADGROUP", b"GROUP", self._group, self._consumer)
        return (*who, b"COUNT", self._count, *block, b"STREAMS", self._name)

    @property
    def _group(self) -> bytes:
        return (self.settings.group or "").encode()

    @property
    def _consumer(self) -> bytes:
        return self.settings.consumer.encode()

    @property
    def _count(self) -> bytes:
        return b"%d" % self.settings.count
