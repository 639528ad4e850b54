"""aiormq's connection, made to keep secrets: the only place that reaches into its handshake.

The client's log lines are dropped for our connections: they would repeat per attempt what
streamll reports once, and at DEBUG they hold payload.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from aiormq.connection import Connection, TransportFactory
from aiormq.exceptions import ConnectionClosed, InvalidFrameError
from pamqp.commands import Connection as Methods
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pamqp.common import FieldTable

    from streamll_rabbitmq._access import Access
    from streamll_rabbitmq._address import Address

__all__ = ["BrokerConnection", "Stream", "without_client_log"]

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_ours: ContextVar[bool] = ContextVar("streamll_rabbitmq", default=False)


@contextmanager
def without_client_log() -> Iterator[None]:
    """Drop the client's log lines of a block and of the tasks it starts, and no one else's."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


def _not_ours(_: logging.LogRecord) -> bool:
    return not _ours.get()


for _name in ("aiormq.connection", "aiormq.channel", "aiormq.connection.marshall"):
    logging.getLogger(_name).addFilter(_not_ours)


class _Opened(TransportFactory):
    """Hands aiormq a stream that is already open: name, address and TLS are ours to decide."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def create(self, url: URL, **kwargs: Any) -> Stream:
        return self._stream


class _Peek:
    """Remembers the last frame of a handshake."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver
        self.last: Any = None

    async def get_frame(self) -> Any:
        self.last = await self._receiver.get_frame()
        return self.last


class BrokerConnection(Connection):
    """aiormq's connection; `str` and `repr` show neither user nor password."""

    def __init__(self, address: Address, stream: Stream, settings: Access) -> None:
        user, password = settings.login(address)
        url = URL.build(
            scheme="amqp",
            host=address.host,
            port=address.port,
            user=user,
            password=password,
            query={"heartbeat": str(settings.heartbeat)},
        )
        name: FieldTable = {"connection_name": f"streamll:{settings.app_id}"}
        super().__init__(url, transport_factory=_Opened(stream), client_properties=name)
        self.vhost = address.vhost
        self.address = address
        self._transport = stream[1].transport

    def __str__(self) -> str:
        return str(self.address)

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has asked publishers to wait."""
        ready = self.ready()
        try:
            ready.send(None)
        except StopIteration:
            return False
        finally:
            ready.close()
        return True

    def abort(self) -> None:
        """Drop the socket at once."""
        self._transport.abort()

    @staticmethod
    async def _rpc(
        request: Any, writer: Any, frame_receiver: Any, wait_response: bool = True
    ) -> Any:
        """Do one step of the handshake; a refusal keeps its reply code, which aiormq loses."""
        peek: Any = _Peek(frame_receiver)
        try:
            return await Connection._rpc(request, writer, peek, wait_response)
        except InvalidFrameError:
            frame = peek.last[2] if peek.last else None
            if isinstance(frame, Methods.Close):
                raise ConnectionClosed(frame.reply_code, frame.reply_text) from None
            raise
