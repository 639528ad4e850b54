"""Queues that messages come back from, and where dead letters lie: confirmed copies.

    work queue --retry--> <queue>.retry.<ms> --expires--> work queue
    work queue --dead_letter--> <queue>.dead

A copy is confirmed before the message is acked, so a crash in between leaves both: a repeat,
never a loss. Each delay has a queue of its own, because a queue expires in its order; it is
deleted a while after its last message left it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll_rabbitmq._declare import ensure_queue

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel
    from pamqp.commands import Basic

    from streamll_rabbitmq._client import BrokerConnection

__all__ = ["Copies"]

#: Milliseconds a queue for retries stays after its last message has left it.
_LINGER: Final = 60_000


@attrs.define(eq=False)
class Copies:
    """Publishes copies of messages, one by one, for one connection."""

    _connection: BrokerConnection
    _queue: str
    _type: str
    _dead: str
    _channel: AbstractChannel | None = attrs.field(default=None, init=False)
    _has_dead: bool = attrs.field(default=False, init=False)

    async def later(self, body: bytes, properties: Basic.Properties, delay: float) -> None:
        """Put a copy where it comes back from after *delay* seconds."""
        milliseconds = round(delay * 1000)
        name = f"{self._queue}.retry.{milliseconds}" if milliseconds else self._queue
        channel = await self._open()
        if milliseconds:
            arguments: dict[str, Any] = {
                "x-queue-type": self._type,
                "x-message-ttl": milliseconds,
                "x-expires": milliseconds + _LINGER,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self._queue,
            }
            await channel.queue_declare(name, durable=True, arguments=arguments)
        await channel.basic_publish(body, routing_key=name, properties=properties, mandatory=True)

    async def bury(self, body: bytes, properties: Basic.Properties) -> None:
        """Put a copy in the queue of dead letters."""
        if not self._has_dead:
            kind = {"x-queue-type": self._type}
            await ensure_queue(self._connection, self._dead, durable=True, arguments=kind)
            self._has_dead = True
        channel = await self._open()
        await channel.basic_publish(
            body, routing_key=self._dead, properties=properties, mandatory=True
        )

    async def _open(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel(publisher_confirms=True)
        return self._channel
