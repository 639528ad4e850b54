"""`RabbitMQSource`: the read side of RabbitMQ."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from streamll import ConfigurationError, DeliveryError, PermanentError, TransientError
from streamll.source import Message, Source, Start
from streamll_rabbitmq._address import DEFAULT_URL
from streamll_rabbitmq._client import without_client_log
from streamll_rabbitmq._copies import Copies
from streamll_rabbitmq._declare import bind_queue, create_queue
from streamll_rabbitmq._dialer import Dialer, hang_up
from streamll_rabbitmq._errors import of_reading
from streamll_rabbitmq._inbox import Inbox
from streamll_rabbitmq._messages import (
    is_of_stream,
    letter_of,
    message_of,
    offset_of,
    retry_of,
)
from streamll_rabbitmq._positions import Offsets
from streamll_rabbitmq._settings import ReadSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from aiormq.abc import DeliveredMessage

    from streamll_rabbitmq._client import BrokerConnection

__all__ = ["RabbitMQSource"]


class RabbitMQSource(Source):
    """Reads events from a queue of RabbitMQ.

    With *queue* (or *group*, another word for it): a lasting queue, whose readers share its
    messages; each is acked when it was dealt with. A queue that is there is read as it is; one
    that is not is created and bound. Without: a temporary queue of our own, which gets what is
    published while we are connected, and is gone with the connection.

    A queue of type "stream" keeps what was read, and `queue_type` must say so: every reader
    gets everything from its start on, nothing is acked, and `Message.position` is the offset.

    Args:
        url: ``amqp://user:password@host:port/vhost``, as for `RabbitMQSink`.
        exchange: the topic exchange to bind to; created when it is not there.
        binding: topic patterns, one or several; by default "#" for a queue we create, and none
            for one that is there.
        queue: name of the queue.
        group: the same, in the words of other brokers.
        queue_type: of a queue we create: "classic", "quorum" or "stream"; a stream that is
            there needs it too.
        durable: exchange and queue survive a restart of the broker; as given to the sink.
        prefetch: messages in hand at most.
        dead_letter_queue: for what nobody could handle; None is ``<queue>.dead``.
        start: where to begin; other than "from now" for stream queues only. A queue always
            gives what it has, oldest first.
        op_timeout: seconds an exchange with the broker may take, connecting included.
        app_id: names the connection.
        heartbeat, username, password, tls_ca_file, tls_cert_file, tls_key_file, ssl_context:
            as for `RabbitMQSink`.

    Raises:
        ConfigurationError: for an option or URL that cannot be used.
    """

    #: What belongs into code, not into URLs.
    code_only: ClassVar[frozenset[str]] = frozenset(
        {"password", "ssl_context", "start", "username"}
    )

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        exchange: str = "streamll",
        binding: str | Sequence[str] | None = None,
        queue: str | None = None,
        group: str | None = None,
        queue_type: str = "classic",
        durable: bool = True,
        prefetch: int = 512,
        dead_letter_queue: str | None = None,
        start: Start | None = None,
        op_timeout: float = 2.0,
        app_id: str = "streamll",
        heartbeat: int = 10,
        username: str | None = None,
        password: str | None = None,
        tls_ca_file: str | None = None,
        tls_cert_file: str | None = None,
        tls_key_file: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = ReadSettings.of(
            url,
            exchange=exchange,
            binding=binding,
            queue=queue,
            group=group,
            queue_type=queue_type,
            durable=durable,
            prefetch=prefetch,
            dead_letter_queue=dead_letter_queue,
            start=start,
            op_timeout=op_timeout,
            app_id=app_id,
            heartbeat=heartbeat,
            username=username,
            password=password,
            tls_ca_file=tls_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
            ssl_context=ssl_context,
        )
        self.settings.warn_if_insecure()
        self.acknowledges = self.settings.queue is not None and not self.settings.is_stream
        self._dialer = Dialer(self.settings)
        self._connection: BrokerConnection | None = None
        self._inbox: Inbox | None = None
        self._copies: Copies | None = None
        #: By delivery tag, what was received and not settled.
        self._in_hand: dict[int, DeliveredMessage] = {}
        self._offsets = Offsets(self.settings.start)

    def __repr__(self) -> str:
        hosts = ",".join(map(str, self.settings.addresses))
        return f"RabbitMQSource({hosts!r}, {self.settings.target})"

    async def open(self) -> None:
        """Connect, create what is missing, and begin to read.

        Raises:
            TransientError, PermanentError: when that is not possible.
        """
        await self.close()
        deadline = asyncio.get_running_loop().time() + self.settings.op_timeout
        self._connection, self._inbox = await self._dialer.dial(deadline, self._prepare)
        queue = self.settings.queue or ""
        kind = "classic" if self.settings.is_stream else self.settings.queue_type
        dead = self.settings.dead_letter_queue or f"{queue}.dead"
        self._copies = Copies(self._connection, queue, kind, dead)

    async def _prepare(self, connection: BrokerConnection) -> Inbox:
        is_new = await create_queue(connection, self.settings)
        inbox = Inbox(connection, _free_number(connection))
        connection.channels[inbox.number] = inbox
        await inbox.open()
        queue = await bind_queue(inbox, self.settings, is_new=is_new)
        await inbox.basic_qos(prefetch_count=self.settings.prefetch)
        await inbox.basic_consume(queue, _no_callback, arguments=self._place())
        return inbox

    def _place(self) -> dict[str, Any]:
        """Where reading begins, in the words of stream queues."""
        return {"x-stream-offset": self._offsets.first()} if self.settings.is_stream else {}

    async def receive(self, timeout: float) -> Sequence[Message]:  # noqa: ASYNC109 - the broker waits
        """Return the next messages; see `Source.receive`."""
        inbox = self._opened()
        if not self.acknowledges:
            # What was returned before is with the consumer: room for more.
            await self._said(inbox.settle(list(self._in_hand)))
            self._in_hand.clear()
        await inbox.wait(timeout)
        if inbox.is_lost:
            raise self._loss(inbox)
        return self._received(inbox.take())

    def _received(self, found: Sequence[DeliveredMessage]) -> list[Message]:
        self._in_hand.update((_tag(delivered), delivered) for delivered in found)
        if not self.settings.is_stream:
            if found and is_of_stream(found[0]):
                raise PermanentError(f"{self.settings.target} is a stream: queue_type='stream'")
            return [message_of(delivered, str(_tag(delivered))) for delivered in found]
        return [message_of(d, str(offset_of(d))) for d in self._offsets.fresh(found)]

    async def ack(self, messages: Sequence[Message]) -> None:
        """Say that *messages* are dealt with; see `Source.ack`."""
        if not self.acknowledges:
            return
        tags = [int(message.position) for message in messages]
        await self._said(self._opened().settle(tags))
        for tag in tags:
            self._in_hand.pop(tag, None)

    async def retry(self, message: Message, delay: float) -> None:
        """Have a copy of *message* come back in *delay* seconds, and ack it."""
        delivered = self._held(message)
        if delivered is not None:
            properties = retry_of(delivered, message.attempts)
            await self._copied(lambda c: c.later(message.body, properties, delay))
            await self.ack([message])

    async def dead_letter(self, message: Message, reason: str) -> None:
        """Put a copy of *message* in the queue of dead letters, and ack it."""
        delivered = self._held(message)
        if delivered is not None:
            queue = self.settings.queue or ""
            properties = letter_of(delivered, message.attempts, queue, reason)
            await self._copied(lambda c: c.bury(message.body, properties))
            await self.ack([message])

    async def close(self) -> None:
        """Disconnect; what is not acked goes back to the queue."""
        connection, self._connection = self._connection, None
        self._inbox = self._copies = None
        self._in_hand.clear()
        await hang_up(connection)

    def _held(self, message: Message) -> DeliveredMessage | None:
        """Return what was delivered; None when it is settled already."""
        if not self.acknowledges:
            raise ConfigurationError("only a named queue can retry or give up messages")
        return self._in_hand.get(int(message.position))

    def _opened(self) -> Inbox:
        if self._inbox is None:
            raise TransientError("the source is not open")
        return self._inbox

    def _loss(self, inbox: Inbox, error: BaseException | None = None) -> DeliveryError:
        reason = inbox.close_reason or error
        return of_reading(reason, inbox.connection.address, self.settings)

    async def _copied(self, publish: Callable[[Copies], Awaitable[None]]) -> None:
        self._opened()
        if self._copies is not None:
            await self._said(publish(self._copies))

    async def _said(self, words: Awaitable[None]) -> None:
        """Await *words* to the broker, in `op_timeout` seconds."""
        inbox = self._opened()
        try:
            with without_client_log():
                async with asyncio.timeout(self.settings.op_timeout):
                    await words
        except Exception as error:  # noqa: BLE001 - sorted by exact type
            raise of_reading(error, inbox.connection.address, self.settings) from None


async def _no_callback(_: DeliveredMessage) -> None:
    """Messages go to the inbox."""


def _free_number(connection: BrokerConnection) -> int:
    return next(n for n in range(1, 100) if n not in connection.channels)


def _tag(delivered: DeliveredMessage) -> int:
    return delivered.delivery_tag or 0
