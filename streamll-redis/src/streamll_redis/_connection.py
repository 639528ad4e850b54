"""One connection to a server, bounded in time, with errors of replies as values.

redis-py connects, negotiates TLS and logs in; its retries are off and its sockets obey our
deadline. A connection on which anything went wrong is closed and never used again, so a late
answer can never be taken for the answer to a later question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError
from redis.retry import Retry

from streamll_redis._access import Transport
from streamll_redis._deadline import Deadline, DeadlineSocket, run_within
from streamll_redis._errors import Refusal, of_connecting
from streamll_redis._protocol import command

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterable

    from streamll_redis._access import Access, Origin

__all__ = ["LOST", "Link", "Reply", "as_value"]

#: In place of a reply that never came: the outcome of its request is unknown.
LOST: Final = object()

Reply = Any

_KINDS: Final = {
    Transport.TCP: Connection,
    Transport.UNIX: UnixDomainSocketConnection,
    Transport.CLIENT_TLS: SSLConnection,
}


class _Bounded:
    """Mixed into a redis-py connection class: its socket obeys a deadline.

    Attributes:
        deadline: of connecting and logging in.
        context: how to verify the server; None leaves that to the class.
        bounded: the connected socket.
    """

    deadline: Deadline
    context: ssl.SSLContext | None = None
    bounded: DeadlineSocket

    def _connect(self) -> DeadlineSocket:
        sock = super()._connect()  # type: ignore[misc]
        if self.context is not None:
            sock = self._encrypt(sock, self.context)
        self.bounded = DeadlineSocket(sock, self.deadline)
        return self.bounded

    def _encrypt(self, sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            sock.settimeout(self.deadline.remaining())
            return context.wrap_socket(sock, server_hostname=self.host)  # type: ignore[attr-defined]
        except BaseException:
            sock.close()
            raise


class Link:
    """A connection that is made when needed. Used by one thread at a time.

    Attributes:
        where: the server, for messages.
        host: the server's host; empty for a unix socket.
        failure: what broke the connection in the running operation; None if nothing did.
    """

    def __init__(self, access: Access, origin: Origin) -> None:
        self.where = origin.where
        self.host = str(origin.options.get("host", ""))
        self.failure: Exception | None = None
        self._origin = origin
        self._timeout = access.op_timeout
        self._context = access.tls()
        self._deadline = Deadline.after(access.op_timeout)
        self._connection: Any = None

    def begin(self, deadline: Deadline) -> None:
        """Start an operation: everything until the next `begin` shares this time limit."""
        self.failure = None
        self._deadline = deadline
        if self._connection is not None:
            self._connection.bounded.deadline = deadline

    def ask(self, *arguments: bytes) -> Reply:
        """Connect if need be, send one command and return its reply.

        Raises:
            TransientError, PermanentError: when there is no answer.
        """
        self.connect()
        (reply,) = self.exchange([command(*arguments)], 1)
        if reply is LOST:
            raise of_connecting(self.failure or TimeoutError(), self.where)
        return reply

    def connect(self) -> None:
        """Make sure there is a usable connection.

        Raises:
            TransientError, PermanentError: when there cannot be one.
        """
        if self._connection is not None and self._is_stale():
            self.drop()
        if self._connection is None:
            self._connection = self._connected()

    def exchange(self, requests: Iterable[bytes], count: int) -> list[Reply]:
        """Send *requests* and return *count* replies, in order.

        Requests are taken one by one, so the server works while the next is made. An error
        reply is a `Refusal`. When the connection fails it is closed, `failure` says why, and
        each reply that never came is `LOST`.
        """
        replies: list[Reply] = []
        if self._connection is None:
            return [LOST] * count
        try:
            for request in requests:
                self._connection.send_packed_command([request], check_health=False)
            self._receive(replies, count)
        except (RedisError, OSError, hiredis.HiredisError) as error:
            self.failure = error
            self.drop()
        except BaseException:
            self.drop()
            raise
        return replies + [LOST] * (count - len(replies))

    def drop(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _receive(self, replies: list[Reply], count: int) -> None:
        reader = hiredis.Reader()
        buffer = bytearray(65_536)
        sock = self._connection.bounded
        while len(replies) < count:
            size = sock.recv_into(buffer)
            if not size:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(bytes(buffer[:size]))
            while (reply := reader.gets()) is not False:
                replies.append(as_value(reply))

    def _is_stale(self) -> bool:
        """Whether the server has closed the idle connection, or sent what nobody asked for."""
        try:
            return bool(self._connection.can_read(0))
        except (RedisError, OSError):
            return True

    def _connected(self) -> Any:
        connection = self._make()
        try:
            run_within(self._deadline, connection.connect)
        except (RedisError, OSError) as error:
            raise of_connecting(error, self.where) from None
        return connection

    def _make(self) -> Any:
        made = _bounded(self._origin, self._timeout)
        made.deadline = self._deadline
        made.context = self._context
        return made


def _bounded(origin: Origin, timeout: float) -> Any:
    kind = _KINDS[origin.transport]
    bounded = type(f"Bounded{kind.__name__}", (_Bounded, kind), {})
    return bounded(
        **origin.options,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def as_value(reply: Any) -> Reply:
    """Return a reply of hiredis, an error reply as a `Refusal`."""
    return Refusal.parse(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply
