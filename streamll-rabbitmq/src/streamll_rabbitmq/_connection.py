"""The link to the broker: one connection, one confirm channel, renewed when asked.

Rules:

- Nothing here retries by itself. `Link.channel` makes one attempt, over all nodes, within its
  deadline; when to try again is the circuit breaker's decision.
- A link whose channel or connection has closed is thrown away as a whole: the next one starts
  from a known state (declared exchange, empty window).
- So is a link on which the broker refused a publish: RabbitMQ 3.10 refuses for ever what goes to
  a quorum queue on a channel that was opened while the queue had no leader.
- A connection without answers is kept for a while, and while the broker blocks publishers: a
  broker that was only slow still answers for what it was sent, and nothing goes out twice.
  After three heartbeats it is given up, even if heartbeats come: a restarted broker may have
  lost what it was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll_rabbitmq._declare import declare_queues
from streamll_rabbitmq._dialer import Dialer, hang_up
from streamll_rabbitmq._writer import ConfirmChannel

if TYPE_CHECKING:
    from streamll_rabbitmq._client import BrokerConnection
    from streamll_rabbitmq._settings import RabbitMQSettings

__all__ = ["Link"]

#: Heartbeats without an answer to any publish after which a connection is given up.
_MISSED_HEARTBEATS: Final = 3
_CHANNEL: Final = 1


@attrs.define(eq=False)
class Link:
    """The connection of one sink. All methods on one event loop, never concurrently.

    Attributes:
        connection: the last one made, open or not; None before the first and after `close`.
    """

    _settings: RabbitMQSettings
    connection: BrokerConnection | None = attrs.field(default=None, init=False)
    _channel: ConfirmChannel | None = attrs.field(default=None, init=False)
    _dialer: Dialer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._dialer = Dialer(self._settings)

    async def channel(self, deadline: float) -> ConfirmChannel:
        """Return the open channel, connecting to the first node that answers if there is none.

        Raises:
            TransientError, PermanentError: when none could be opened by *deadline* (loop time).
        """
        if self._channel is not None and self._is_usable(self._channel):
            return self._channel
        await self.close()
        self.connection, channel = await self._dialer.dial(deadline, self._prepare)
        self._channel = channel
        return channel

    def _is_usable(self, channel: ConfirmChannel) -> bool:
        patience = _MISSED_HEARTBEATS * self._settings.heartbeat
        is_patient = channel.silence() < patience or channel.connection.is_blocked
        return is_patient and not channel.is_closed

    async def close(self) -> None:
        """Close what is open, politely for at most a second."""
        connection, self.connection, self._channel = self.connection, None, None
        await hang_up(connection)

    async def _prepare(self, connection: BrokerConnection) -> ConfirmChannel:
        channel = ConfirmChannel(connection, _CHANNEL, self._settings)
        connection.channels[_CHANNEL] = channel
        await channel.open()
        await _declare(channel, self._settings)
        return channel


async def _declare(channel: ConfirmChannel, settings: RabbitMQSettings) -> None:
    """Create the exchanges, or only check that the exchange is there."""
    if not settings.declare:
        await channel.exchange_declare(settings.exchange, passive=True)
        return
    arguments: dict[str, Any] = {}
    if settings.alternate_exchange is not None:
        await channel.exchange_declare(
            settings.alternate_exchange, exchange_type="fanout", durable=settings.durable
        )
        arguments["alternate-exchange"] = settings.alternate_exchange
    await channel.exchange_declare(
        settings.exchange, exchange_type="topic", durable=settings.durable, arguments=arguments
    )
    if settings.topology is not None:
        await declare_queues(channel, settings)
