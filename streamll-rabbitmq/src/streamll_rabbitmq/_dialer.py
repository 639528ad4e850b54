"""Connecting to the first node that answers: names, addresses, TLS, login, deadlines."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from streamll import PermanentError, TransientError
from streamll_rabbitmq._client import BrokerConnection, Stream, without_client_log
from streamll_rabbitmq._errors import of_connecting

if TYPE_CHECKING:
    from streamll import DeliveryError
    from streamll_rabbitmq._access import Access
    from streamll_rabbitmq._address import Address

__all__ = ["Dialer", "hang_up"]

T = TypeVar("T")

#: Seconds a broker gets to answer a close before the socket is dropped.
_CLOSE_TIMEOUT: Final = 1.0


#: Turns of the loop in which the client's own tasks come to their end after a failure; left
#: alone, `asyncio.run` would print each of them.
_TURNS: Final = 10


@attrs.define(eq=False)
class Dialer:
    """Makes connections, one attempt over all nodes at a time. Used on one event loop."""

    _settings: Access
    _tls: ssl.SSLContext | None = attrs.field(init=False)
    _nodes: deque[Address] = attrs.field(init=False)
    #: What names resolved to: while the interpreter exits, names cannot be resolved any more.
    _resolved: dict[str, list[str]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._tls = self._settings.tls()
        self._nodes = deque(self._settings.addresses)

    async def dial(
        self, deadline: float, prepare: Callable[[BrokerConnection], Awaitable[T]]
    ) -> tuple[BrokerConnection, T]:
        """Connect, log in and *prepare* by *deadline* (loop time).

        Raises:
            TransientError, PermanentError: when no node could be used.
        """
        error: DeliveryError = TransientError("no RabbitMQ node was tried in time")
        for left in range(len(self._nodes), 0, -1):
            try:
                return await self._open(self._nodes[0], _share(deadline, left), prepare)
            except PermanentError:
                raise
            except TransientError as failed:
                error = failed
                self._nodes.rotate(-1)
        raise error

    async def _open(
        self,
        address: Address,
        deadline: float,
        prepare: Callable[[BrokerConnection], Awaitable[T]],
    ) -> tuple[BrokerConnection, T]:
        try:
            with without_client_log():
                async with asyncio.timeout_at(deadline):
                    stream = await self._connect(address)
                    connection = BrokerConnection(address, stream, self._settings)
                    return connection, await _prepared(connection, deadline, prepare)
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


async def _prepared(
    connection: BrokerConnection,
    deadline: float,
    prepare: Callable[[BrokerConnection], Awaitable[T]],
) -> T:
    # A broker that went silent must not hold the client's own clean-up either.
    abort = asyncio.get_running_loop().call_at(deadline, connection.abort)
    try:
        await connection.connect()
        return await prepare(connection)
    except BaseException:
        connection.abort()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        raise
    finally:
        abort.cancel()


def _share(deadline: float, parts: int) -> float:
    """Return when to give up on one of *parts* nodes: a dead one leaves time for the rest."""
    now = asyncio.get_running_loop().time()
    return now + max(0.0, deadline - now) / parts


async def hang_up(connection: BrokerConnection | None) -> None:
    """Close *connection*, politely for at most a second; never raises."""
    if connection is None or connection.is_closed:
        return
    abort = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, connection.abort)
    with without_client_log(), suppress(Exception):
        await connection.close()
    abort.cancel()
