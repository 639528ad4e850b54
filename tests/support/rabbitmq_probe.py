"""Looks at a broker with a client of its own (aio-pika), independent of the code under test."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import attrs
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

__all__ = ["PATIENCE", "Probe", "Queues", "unique"]

#: Seconds after which what should end by itself counts as hanging; a busy machine is slow.
PATIENCE = 90.0


def unique(stem: str = "test") -> str:
    """Return a name no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:12]}"


@attrs.define(eq=False)
class Probe:
    """A connection for setting a stage and looking at what happened on it."""

    connection: AbstractConnection
    channel: AbstractChannel

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Probe]:
        """Connect for the length of a block."""
        connection = await aio_pika.connect(url, timeout=PATIENCE)
        try:
            yield cls(connection, await connection.channel())
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 5)

    async def exchange(self, name: str, kind: str = "topic", **arguments: Any) -> None:
        """Declare a durable exchange."""
        await self.channel.declare_exchange(name, kind, durable=True, arguments=arguments)

    async def bind(
        self, exchange: str, key: str = "#", *, kind: str = "classic", **arguments: Any
    ) -> str:
        """Bind a new durable queue to a topic exchange and return its name."""
        await self.exchange(exchange)
        queue = unique("queue")
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        declared = await self.channel.declare_queue(
            queue, durable=True, arguments={"x-queue-type": kind, **named}
        )
        await declared.bind(exchange, key)
        return queue

    async def drain(self, queue: str) -> list[AbstractIncomingMessage]:
        """Take all messages of a queue, in its order."""
        found = await self.channel.get_queue(queue)
        messages: list[AbstractIncomingMessage] = []
        async with asyncio.timeout(PATIENCE):
            while waiting := await self.count(queue):
                goal = len(messages) + waiting
                async with found.iterator(no_ack=True) as incoming:
                    while len(messages) < goal:
                        messages.append(await anext(incoming))
        return messages

    async def bodies(self, queue: str) -> list[bytes]:
        """Take the bodies of all messages of a queue."""
        return [message.body for message in await self.drain(queue)]

    async def replay(self, stream: str, count: int) -> list[bytes]:
        """Read the first *count* bodies of a stream queue; they stay there."""
        channel = await self.connection.channel()
        await channel.set_qos(prefetch_count=1000)
        queue = await channel.get_queue(stream)
        bodies: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            async with queue.iterator(arguments={"x-stream-offset": "first"}) as messages:
                async for message in messages:
                    await message.ack()
                    bodies.append(message.body)
                    if len(bodies) == count:
                        break
        await channel.close()
        return bodies

    async def count(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        found = await self.channel.declare_queue(queue, passive=True)
        return int(found.declaration_result.message_count or 0)


@attrs.define(eq=False)
class Queues:
    """Queues of one exchange for tests without an event loop.

    Attributes:
        url: of the broker.
        exchange: durable, topic; created with the first queue.
    """

    url: str
    exchange: str
    _taken: dict[str, list[AbstractIncomingMessage]] = attrs.field(factory=dict)

    def bind(self, key: str = "#") -> str:
        """Bind a new durable queue and return its name."""

        async def bind() -> str:
            async with Probe.connected(self.url) as probe:
                return await probe.bind(self.exchange, key)

        queue = asyncio.run(bind())
        self._taken[queue] = []
        return queue

    def messages(self, queue: str) -> list[AbstractIncomingMessage]:
        """Return all messages that ever were in *queue*, oldest first."""

        async def drain() -> list[AbstractIncomingMessage]:
            async with Probe.connected(self.url) as probe:
                return await probe.drain(queue)

        self._taken[queue] += asyncio.run(drain())
        return self._taken[queue]

    def keys(self, queue: str) -> list[str]:
        """Return the routing keys of all messages that ever were in *queue*."""
        return [message.routing_key or "" for message in self.messages(queue)]
