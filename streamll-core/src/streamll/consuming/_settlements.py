"""What is still to be told to the broker about messages that are dealt with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from streamll.consuming._link import Link
from streamll.source import Message, Source

__all__ = ["ACK_INTERVAL", "Settlements"]

#: Most seconds the ack of a consumed event waits for company while more events are at hand:
#: a round trip for each would cost more than reading them.
ACK_INTERVAL: Final = 0.1


@attrs.define
class Settlements:
    """Acks, retries and dead letters, gathered while the source is busy or there is no hurry.

    Where nothing is acked (`Source.acknowledges` is False), there is nothing to tell.
    """

    _link: Link
    _clock: Callable[[], float]
    _acks: list[tuple[int, Message]] = attrs.field(init=False, factory=list)
    _others: list[tuple[int, Callable[[Source], Awaitable[None]]]] = attrs.field(
        init=False, factory=list
    )
    _flushed: float = attrs.field(init=False, default=float("-inf"))

    def ack(self, generation: int, message: Message) -> None:
        """It is dealt with."""
        if self._link.source.acknowledges:
            self._acks.append((generation, message))

    def retry(self, generation: int, message: Message, delay: float) -> None:
        """It is to come again after *delay* seconds."""
        self._say(generation, lambda source: source.retry(message, delay))

    def dead_letter(self, generation: int, message: Message, reason: str) -> None:
        """Nobody could handle it."""
        self._say(generation, lambda source: source.dead_letter(message, reason))

    def _say(self, generation: int, say: Callable[[Source], Awaitable[None]]) -> None:
        if self._link.source.acknowledges:
            self._others.append((generation, say))

    @property
    def is_due(self) -> bool:
        """Whether something waits, and has waited long enough."""
        something = bool(self._acks or self._others)
        return something and self._clock() - self._flushed >= ACK_INTERVAL

    async def flush(self) -> None:
        """Tell it; void is what came by a lost connection.

        Raises:
            PermanentError: the broker refuses.
        """
        self._flushed = self._clock()
        acks, self._acks = self._acks, []
        others, self._others = self._others, []
        messages = [message for generation, message in acks if self._link.is_current(generation)]
        if messages:
            await self._link.tell(self._link.generation, lambda source: source.ack(messages))
        for generation, say in others:
            await self._link.tell(generation, say)
