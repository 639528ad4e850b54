"""Messages -> the events somebody wants, and what to tell the broker about each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from streamll.consuming._decode import decode
from streamll.consuming._link import Link
from streamll.consuming._recent import RecentIds
from streamll.consuming._settings import ReadSettings
from streamll.consuming._settlements import Settlements
from streamll.consuming._stats import Skip, Tally
from streamll.events import Event
from streamll.patterns import Patterns
from streamll.source import Message

__all__ = ["Delivery", "Reader"]

#: Seconds the last acks may take when closing.
_CLOSE_TIMEOUT: Final = 5.0


@attrs.frozen
class Delivery:
    """One event in hand, with its message and the connection it came by."""

    event: Event
    message: Message
    generation: int


@attrs.define
class Reader:
    """Fetches, decodes, filters, recognises repeats, and settles. Used on one loop.

    Every `Delivery` of `take` ends in exactly one of: `begin` returning False, `finish`,
    `pass_over`, `retry`, `bury`; or in none, and the broker delivers it again.

    Attributes:
        link: the source.
        settings: what to keep.
        tally: the accounting.
        clock: monotonic seconds.
    """

    link: Link
    settings: ReadSettings
    tally: Tally
    clock: Callable[[], float] = time.monotonic
    _wanted: Patterns = attrs.field(init=False)
    _recent: RecentIds = attrs.field(init=False)
    _waiting: deque[tuple[int, Message]] = attrs.field(init=False, factory=deque)
    _settlements: Settlements = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._wanted = Patterns(self.settings.only)
        self._recent = RecentIds(self.settings.dedup)
        self._settlements = Settlements(self.link, self.clock)

    async def fetch(self, timeout: float) -> None:  # noqa: ASYNC109 - the broker waits
        """Get more messages, none after about *timeout* seconds.

        Raises:
            PermanentError: reading is over.
        """
        messages = await self.link.receive(timeout)
        self._waiting.extend((self.link.generation, message) for message in messages)
        await asyncio.sleep(0)  # a source with much at hand must not starve the loop

    @property
    def acknowledges(self) -> bool:
        """Whether the broker delivers again what is not acked."""
        return self.link.source.acknowledges

    @property
    def has_more(self) -> bool:
        """Whether messages are at hand."""
        return bool(self._waiting)

    def take(self) -> Delivery | None:
        """Return the next event that passes the filters, of what was fetched."""
        while self._waiting:
            generation, message = self._waiting.popleft()
            self.tally.received += 1
            event = self._sifted(message)
            if isinstance(event, Event):
                return Delivery(event, message, generation)
            self._skip(event, generation, message)
        return None

    def _sifted(self, message: Message) -> Event | Skip:
        event = decode(message.body)
        if isinstance(event, Skip):
            return event
        wanted = self.settings.execution in (None, event.execution_id)
        return event if wanted and self._wanted.accepts(event) else Skip.FILTERED

    def begin(self, delivery: Delivery) -> bool:
        """Whether it is still to be consumed; asked when its turn comes."""
        if not self.link.is_current(delivery.generation):
            reason = Skip.STALE
        elif delivery.event.event_id in self._recent:
            reason = Skip.DUPLICATE
        else:
            return True
        self._skip(reason, delivery.generation, delivery.message)
        return False

    def finish(self, delivery: Delivery) -> None:
        """It was consumed: ack it, and know it when it comes again."""
        self.tally.yielded += 1
        self._recent.add(delivery.event.event_id)
        self._settlements.ack(delivery.generation, delivery.message)

    def pass_over(self, delivery: Delivery) -> None:
        """Nobody wanted it."""
        self._skip(Skip.FILTERED, delivery.generation, delivery.message)

    def retry(self, delivery: Delivery, delay: float) -> None:
        """Have it delivered again after *delay* seconds."""
        self.tally.retried += 1
        self._settlements.retry(delivery.generation, delivery.message, delay)

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Give it up, and put it where people look."""
        self.tally.dead += 1
        self._settlements.dead_letter(delivery.generation, delivery.message, reason)

    def _skip(self, reason: Skip, generation: int, message: Message) -> None:
        self.tally.skipped[reason.value] += 1
        if reason in (Skip.GARBAGE, Skip.SCHEMA):
            # Acked, it would be gone without anybody having read it.
            self._settlements.dead_letter(generation, message, reason.value)
        else:
            self._settlements.ack(generation, message)

    @property
    def is_due(self) -> bool:
        """Whether something waits to be settled, and has waited long enough."""
        return self._settlements.is_due

    async def settle(self) -> None:
        """Tell the broker what became of the messages.

        Raises:
            PermanentError: the broker refuses.
        """
        await self._settlements.flush()

    async def close(self) -> None:
        """Settle what was consumed and disconnect. The rest is delivered again."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.settle()
        except TimeoutError:
            pass  # unsettled: delivered again
        finally:
            await self.link.close()
