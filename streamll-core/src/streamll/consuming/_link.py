"""A source that survives its connections.

    CLOSED --open--> OPEN --TransientError--> LOST --backoff, open--> OPEN ...
    any --close--> CLOSED

Each loss begins a new generation: a source that `acknowledges` delivers what was not acked
again, so what came by an older connection is void.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Final

import attrs

from streamll._delivery.backoff import Backoff
from streamll._named import named
from streamll.consuming._stats import Tally
from streamll.errors import OutcomeUnknown, TransientError
from streamll.source import Message, Source

__all__ = ["Link", "State"]

logger = logging.getLogger("streamll")

#: Seconds before the first attempt to connect again; doubles, with jitter, up to 30 s.
_RECONNECT_DELAY: Final = 0.25
#: Seconds a source may take to say goodbye.
_CLOSE_TIMEOUT: Final = 5.0
#: What may have reached the broker and what has not are one here: it is delivered again.
_LOSSES: Final = (TransientError, OutcomeUnknown)


class State(Enum):
    """Of the connection."""

    CLOSED = "closed"
    OPEN = "open"
    LOST = "lost"


def _backoff() -> Backoff:
    return Backoff(_RECONNECT_DELAY, random.random)


@attrs.define
class Link:
    """One source and its state. Used by one task at a time.

    Attributes:
        source: what is read.
        tally: where reconnects are counted.
        sleep: waits for so many seconds.
        backoff: how long to wait before connecting again.
        state: of the connection.
        generation: how many connections were lost.
    """

    source: Source
    tally: Tally
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    backoff: Backoff = attrs.field(factory=_backoff)
    state: State = attrs.field(init=False, default=State.CLOSED)
    generation: int = attrs.field(init=False, default=0)
    _failures: int = attrs.field(init=False, default=0)

    def is_current(self, generation: int) -> bool:
        """Whether what came in *generation* may still be settled with the broker."""
        return generation == self.generation or not self.source.acknowledges

    async def open(self) -> None:
        """Return when connected, after as many attempts as it takes.

        Raises:
            PermanentError: trying again is pointless.
        """
        while self.state is not State.OPEN:
            await self.sleep(self.backoff.delay(self._failures))
            try:
                await self.source.open()
            except _LOSSES as error:
                await self._lose(error)
            except BaseException:
                await self._disconnect()
                raise
            else:
                self._enter(State.OPEN)

    async def receive(self, timeout: float) -> Sequence[Message]:  # noqa: ASYNC109 - the broker waits
        """Return the next messages, none after about *timeout* seconds; raises as `open`."""
        while True:
            await self.open()
            try:
                messages = await self.source.receive(timeout)
            except _LOSSES as error:
                await self._lose(error)
            else:
                self._failures = 0
                return messages

    async def tell(self, generation: int, say: Callable[[Source], Awaitable[None]]) -> None:
        """Settle what came in *generation*; void once its connection is lost.

        Raises:
            PermanentError: the broker refuses.
        """
        if self.state is not State.OPEN or not self.is_current(generation):
            return
        try:
            await say(self.source)
        except _LOSSES as error:
            await self._lose(error)

    async def close(self) -> None:
        """Disconnect. What is not settled is delivered again."""
        if self.state is State.OPEN:
            await self._disconnect()
        self._enter(State.CLOSED)

    async def _lose(self, error: Exception) -> None:
        self.generation += 1
        self._failures += 1
        self._enter(State.LOST, named(error))
        await self._disconnect()

    async def _disconnect(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.source.close()
        except Exception as error:  # noqa: BLE001 - it is given up anyway
            if self.state is not State.LOST:
                self._log(f"close raised {type(error).__name__}")

    def _enter(self, state: State, why: str = "") -> None:
        """Change state, and say so once: only a loss and its end are news."""
        before, self.state = self.state, state
        if state is State.LOST and before is not State.LOST:
            self._log(f"no connection, trying again ({why})")
        elif state is State.OPEN and before is State.LOST:
            self.tally.reconnects += 1
            self._log("connected again")

    def _log(self, news: str) -> None:
        logger.warning("streamll: %s: %s", type(self.source).__name__, news)
