"""Creates and binds queues: those of a `RabbitMQTopology`, and the one that is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from aiormq.exceptions import AMQPChannelError, ChannelNotFoundEntity

from streamll import PermanentError
from streamll_rabbitmq._errors import reply_of

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

    from streamll_rabbitmq._client import BrokerConnection
    from streamll_rabbitmq._settings import RabbitMQSettings, ReadSettings
    from streamll_rabbitmq._topology import RabbitMQQueue

#: What a broker says of a stream queue that is declared as a classic one.
_IS_STREAM: Final = re.compile(r"x-queue-type.*current is (the value )?'stream'")

__all__ = ["bind_queue", "create_queue", "declare_queues", "ensure_queue"]


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
            what = f"cannot create queue {queue.name!r}, or it differs from the one that is there"
            raise PermanentError(f"{what}; delete that, or describe it ({code}): {text}") from None


async def _declare(channel: AbstractChannel, queue: RabbitMQQueue, exchange: str) -> None:
    await channel.queue_declare(queue.name, durable=queue.durable, arguments=queue.arguments)
    for key in queue.binding:
        await channel.queue_bind(queue.name, queue.exchange or exchange, key)


async def create_queue(connection: BrokerConnection, settings: ReadSettings) -> bool:
    """Create the queue that is read, if it has a name and is not there; whether it is new."""
    if settings.queue is None:
        return True
    arguments = {"x-queue-type": settings.queue_type}
    is_new = await ensure_queue(
        connection, settings.queue, durable=settings.durable, arguments=arguments
    )
    if not (is_new or settings.is_stream):
        await _refuse_stream(connection, settings.queue)
    return is_new


async def _refuse_stream(connection: BrokerConnection, name: str) -> None:
    """Find out whether a queue that is there is a stream, which would be read as a queue.

    A broker does not tell what a queue is; but it says why it is not another. Whoever may not
    ask learns of it from the first message.

    Raises:
        PermanentError: when it is one.
    """
    channel = await connection.channel()
    try:
        await channel.queue_declare(name, arguments={"x-queue-type": "classic"}, durable=True)
        await channel.close()
    except AMQPChannelError as error:
        if _IS_STREAM.search(reply_of(error)[1]):
            raise PermanentError(
                f"queue {name!r} is a stream; say so: queue_type='stream'"
            ) from None


async def bind_queue(channel: AbstractChannel, settings: ReadSettings, *, is_new: bool) -> str:
    """Bind the queue and return its name, which the broker makes up for a temporary one."""
    queue = settings.queue or await _temporary(channel)
    keys = settings.binding or (("#",) if is_new else ())
    if keys:
        await channel.exchange_declare(
            settings.exchange, exchange_type="topic", durable=settings.durable
        )
    for key in keys:
        await channel.queue_bind(queue, settings.exchange, key)
    return queue


async def _temporary(channel: AbstractChannel) -> str:
    declared = await channel.queue_declare("", exclusive=True, auto_delete=True)
    return str(declared.queue)


async def ensure_queue(
    connection: BrokerConnection, name: str, *, durable: bool, arguments: dict[str, Any]
) -> bool:
    """Create a queue unless there is one of that name, of whatever kind; whether it is new."""
    channel = await connection.channel()
    try:
        await channel.queue_declare(name, passive=True)
    except ChannelNotFoundEntity:  # which closes the channel
        channel = await connection.channel()
        await channel.queue_declare(name, durable=durable, arguments=arguments)
        await channel.close()
        return True
    await channel.close()
    return False
