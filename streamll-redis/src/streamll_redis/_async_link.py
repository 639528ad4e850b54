"""One connection of the read side, on an event loop; the counterpart of `_connection`.

redis-py connects, negotiates TLS and logs in; its retries are off. Whatever goes wrong, a
cancellation included, closes the connection, so a late answer is never taken for a later one.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import hiredis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from streamll import TransientError
from streamll_redis._access import Access, Origin, Transport
from streamll_redis._connection import Reply, as_value
from streamll_redis._errors import describe, of_connecting
from streamll_redis._protocol import command

__all__ = ["AsyncLink"]

_READ_BYTES: Final = 262_144

_KINDS: Final = {
    Transport.TCP: Connection,
    Transport.UNIX: UnixDomainSocketConnection,
    Transport.CLIENT_TLS: SSLConnection,
}


class _Exposed:
    """Mixed into a redis-py connection class: shows its streams, and takes a TLS context."""

    context: ssl.SSLContext | None = None
    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None

    @property
    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """What is read and written; only while connected."""
        assert self._reader is not None and self._writer is not None  # noqa: PT018, S101
        return self._reader, self._writer

    def abort(self) -> None:
        """Close at once, whatever state it is in."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = dict(super()._connection_arguments())  # type: ignore[misc]
        return arguments if self.context is None else {**arguments, "ssl": self.context}


class AsyncLink:
    """A connection to one server. Used by one task at a time.

    Attributes:
        where: the server, for messages.
        host: the server's host; empty for a unix socket.
    """

    def __init__(self, access: Access, origin: Origin) -> None:
        self.where = origin.where
        self.host = str(origin.options.get("host", ""))
        self._timeout = access.op_timeout
        self._context = access.tls()
        self._origin = origin
        self._connection: Any = None
        self._parser = hiredis.Reader()

    async def ask(self, *arguments: bytes, patience: float = 0.0) -> Reply:
        """Connect if need be, send one command and return its reply; an error as a `Refusal`.

        Args:
            arguments: of the command.
            patience: seconds the server may take beside the time limit: it was told to block.

        Raises:
            TransientError, PermanentError: when there is no answer.
        """
        (reply,) = await self.ask_all([arguments], patience=patience)
        return reply

    async def ask_all(
        self, commands: list[tuple[bytes, ...]], *, patience: float = 0.0
    ) -> list[Reply]:
        """Send *commands* at once and return their replies; see `ask`."""
        if self._connection is None:
            await self._connect()
        try:
            async with asyncio.timeout(self._timeout + patience):
                return await self._exchange(commands)
        except (RedisError, OSError, hiredis.HiredisError) as error:
            self.drop()
            raise TransientError(
                f"no answer from Redis at {self.where}: {describe(error)}"
            ) from None
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def _exchange(self, commands: list[tuple[bytes, ...]]) -> list[Reply]:
        reader, writer = self._connection.streams
        writer.write(b"".join(command(*arguments) for arguments in commands))
        await writer.drain()
        replies: list[Reply] = []
        while len(replies) < len(commands):
            data = await reader.read(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                replies.append(as_value(reply))
        return replies

    async def _connect(self) -> None:
        connection = self._made()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
        except (RedisError, OSError) as error:
            connection.abort()
            raise of_connecting(error, self.where) from None
        except BaseException:
            connection.abort()
            raise
        self._parser = hiredis.Reader()
        self._connection = connection

    def _made(self) -> Any:
        kind = _KINDS[self._origin.transport]
        exposed = type(f"Exposed{kind.__name__}", (_Exposed, kind), {})
        made = exposed(
            **self._origin.options,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        made.context = self._context
        return made
