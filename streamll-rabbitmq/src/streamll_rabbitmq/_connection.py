"""The link to the broker: one connection, one confirm channel, renewed when asked.

Rules:

- Nothing here retries by itself. `Link.channel` makes one attempt, over all nodes, within its
  deadline; when to try again is the circuit breaker's decision.
- A link whose channel or connection has closed is thrown away as a whole: the next one starts
  from a known state (declared exchange, empty window).
- A connection without answers is kept for a while, and while the broker blocks publishers: a
  broker that was only slow still answers for what it was sent, and nothing goes out twice.
  After three heartbeats it is given up, even if heartbeats come: a restarted broker may have
  lost what it was sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll import PermanentError, TransientError
from streamll_rabbitmq._client import BrokerConnection, Stream, without_client_log
from streamll_rabbitmq._errors import of_connecting
from streamll_rabbitmq._writer import ConfirmChannel

if TYPE_CHECKING:
    from streamll import DeliveryError
    from streamll_rabbitmq._settings import Address, RabbitMQSettings

__all__ = ["Link"]

#: Seconds a broker gets to answer a close before the socket is dropped.
_CLOSE_TIMEOUT: Final = 1.0
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
    _tls: ssl.SSLContext | None = attrs.field(init=False)
    _channel: ConfirmChannel | None = attrs.field(default=None, init=False)
    _nodes: deque[Address] = attrs.field(init=False)
    #: What names resolved to: while the interpreter exits, names cannot be resolved any more.
    _resolved: dict[str, list[str]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._tls = self._settings.tls()
        self._nodes = deque(self._settings.addresses)

    async def channel(self, deadline: float) -> ConfirmChannel:
        """Return the open channel, connecting to the first node that answers if there is none.

        Raises:
            TransientError, PermanentError: when none could be opened by *deadline* (loop time).
        """
        if self._channel is not None and self._is_usable(self._channel):
            return self._channel
        await self.close()
        error: DeliveryError = TransientError("no RabbitMQ node was tried in time")
        for left in range(len(self._nodes), 0, -1):
            try:
                return await self._open(self._nodes[0], _share(deadline, left))
            except PermanentError:
                raise
            except TransientError as failed:
                error = failed
                self._nodes.rotate(-1)
        raise error

    def _is_usable(self, channel: ConfirmChannel) -> bool:
        patience = _MISSED_HEARTBEATS * self._settings.heartbeat
        is_patient = channel.silence() < patience or channel.connection.is_blocked
        return is_patient and not channel.is_closed

    async def close(self) -> None:
        """Close what is open, politely for at most a second."""
        connection, self.connection, self._channel = self.connection, None, None
        if connection is not None and not connection.is_closed:
            abort = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, connection.abort)
            with without_client_log(), suppress(Exception):
                await connection.close()
            abort.cancel()

    async def _open(self, address: Address, deadline: float) -> ConfirmChannel:
        try:
            with without_client_log():
                async with asyncio.timeout_at(deadline):
                    stream = await self._connect(address)
                    return await self._handshake(address, stream, deadline)
        except TimeoutError:
            raise TransientError(f"RabbitMQ at {address} did not answer in time") from None
        except Exception as error:  # noqa: BLE001 - sorted by exact type
            raise of_connecting(error, address, self._settings) from None

    async def _connect(self, address: Address) -> Stream:
        last = OSError("no address")
        for host in await self._resolve(address):
            try:
                return await asyncio.open_connection(
                    host,
                    address.port,
                    ssl=self._tls if address.tls else None,
                    server_hostname=address.host if address.tls else None,
                )
            except ssl.SSLCertVerificationError:
                raise
            except OSError as error:
                last = error
        raise last

    async def _resolve(self, address: Address) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM
            )
            self._resolved[address.host] = list(dict.fromkeys(str(e[4][0]) for e in found))
        except (OSError, RuntimeError):
            if address.host not in self._resolved:
                raise
        return self._resolved[address.host]

    async def _handshake(self, address: Address, stream: Stream, deadline: float) -> ConfirmChannel:
        connection = BrokerConnection(address, stream, self._settings)
        # A broker that went silent must not hold the client's own clean-up either.
        abort = asyncio.get_running_loop().call_at(deadline, connection.abort)
        try:
            await connection.connect()
            channel = ConfirmChannel(connection, _CHANNEL, self._settings)
            connection.channels[_CHANNEL] = channel
            await channel.open()
            await _declare(channel, self._settings)
        except BaseException:
            connection.abort()
            raise
        finally:
            abort.cancel()
        self.connection, self._channel = connection, channel
        return channel


def _share(deadline: float, parts: int) -> float:
    """Return when to give up on one of *parts* nodes: a dead one leaves time for the rest."""
    now = asyncio.get_running_loop().time()
    return now + max(0.0, deadline - now) / parts


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
