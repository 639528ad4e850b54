"""Applies a `RabbitMQTopology` to a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiormq.exceptions import AMQPChannelError

from streamll import PermanentError
from streamll_rabbitmq._errors import reply_of

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

    from streamll_rabbitmq._settings import RabbitMQSettings
    from streamll_rabbitmq._topology import RabbitMQQueue

__all__ = ["declare_queues"]


async def declare_queues(channel: AbstractChannel, settings: RabbitMQSettings) -> None:
    """Create and bind the queues of the topology.

    Raises:
        PermanentError: a queue is there and differs, or this user may not create or bind it.
    """
    for queue in settings.topology.queues if settings.topology else ():
        try:
            await _declare(channel, queue, settings.exchange)
        except AMQPChannelError as error:
            code, text = reply_of(error)
            raise PermanentError(f"cannot create queue {queue.name!r} ({code}): {text}") from None


async def _declare(channel: AbstractChannel, queue: RabbitMQQueue, exchange: str) -> None:
    await channel.queue_declare(queue.name, durable=queue.durable, arguments=queue.arguments)
    for key in queue.binding:
        await channel.queue_bind(queue.name, queue.exchange or exchange, key)
