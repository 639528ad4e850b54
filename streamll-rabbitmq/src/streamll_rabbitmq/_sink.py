"""The RabbitMQ sink: one persistent, confirmed message per event, published in bulk."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, ClassVar, Final

from streamll import AsyncSink
from streamll_rabbitmq._address import DEFAULT_URL
from streamll_rabbitmq._codec import Codec
from streamll_rabbitmq._connection import Link
from streamll_rabbitmq._errors import (
    learnt_size,
    of_connecting,
    of_publishing,
    refuses_writes,
    unroutable,
)
from streamll_rabbitmq._settings import MIB, RabbitMQSettings
from streamll_rabbitmq._verdicts import is_failure, is_refused, verdicts
from streamll_rabbitmq._window import Answer
from streamll_rabbitmq._writer import publish

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from streamll import Batch, DeliveryError, Report
    from streamll_rabbitmq._client import BrokerConnection
    from streamll_rabbitmq._topology import RabbitMQTopology
    from streamll_rabbitmq._writer import ConfirmChannel

__all__ = ["RabbitMQSink"]

_log: Final = logging.getLogger("streamll.rabbitmq")

#: Part of an attempt's time after which nothing more is sent; the rest is for the answers.
_SENDING: Final = 0.5


class RabbitMQSink(AsyncSink):
    """Publishes events to a RabbitMQ topic exchange, one message each.

    Delivered means: taken by at least one queue and confirmed by the broker, which has then
    written persistent messages of durable queues to disk (quorum queues: on most nodes).

    While the connection lasts, an event that comes again because its confirm was late is not
    published twice; after a lost connection it may be. `message_id` is the `event_id`, by
    which consumers recognise a repeat. Events of one sink keep their order, but for repeats.

    Args:
        amqp_url: ``amqp://user:password@host:port/vhost``, ``amqps://`` (TLS, verified); the
            nodes of a cluster as a list, or separated by commas.
        exchange: the topic exchange.
        routing_key: template over event fields such as ``ai.{module_name}.{event_type}``, see
            `streamll.templates`; ``.``, ``*`` and ``#`` in a value become ``_``.
        durable: exchange and messages survive a restart of the broker, in durable queues.
        mandatory: drop an event that no queue takes as "unroutable". False counts it as
            delivered: for an exchange where queues only pick what they need.
        declare: create the exchange; False only checks that it is there.
        alternate_exchange: a fanout exchange for what no queue takes; created with the other.
        topology: queues to create and bind whenever the sink connects.
        cloudevents: also send the attributes of CloudEvents 1.0 as headers (binary content
            mode), see `streamll_rabbitmq._cloudevents`.
        app_id: the AMQP app_id of the messages, and the name of the connection.
        confirm_window: events that may be on their way without a confirm.
        max_message_size: bytes; a larger event is dropped as "oversize". 16 MiB is the limit
            of RabbitMQ 4; a lower one is learnt when the broker refuses a message.
        op_timeout: seconds one attempt may take, connecting included.
        heartbeat: seconds; a connection without answers for three times as long is given up.
        username, password: login; preferred over what the URL holds.
        tls_ca_file: authorities to trust instead of the system's.
        tls_cert_file, tls_key_file: client certificate.
        ssl_context: full control over TLS; the only way not to verify the broker.
        delivery: see `streamll.settings.DeliverySettings`.

    Raises:
        ConfigurationError: for an option or URL that cannot be used.
    """

    #: The keyword a URL given to `configure` is passed as.
    url_parameter: ClassVar[str] = "amqp_url"
    #: A write is one round trip to the broker's disk: a larger batch than usual pays.
    delivery_defaults: ClassVar[Mapping[str, Any]] = {"batch_size": 4096}
    #: What belongs into code, not into URLs.
    code_only: ClassVar[frozenset[str]] = frozenset(
        {"password", "ssl_context", "topology", "username"}
    )

    def __init__(
        self,
        amqp_url: str | Sequence[str] = DEFAULT_URL,
        exchange: str = "streamll",
        routing_key: str = "streamll.{operation}.{event_type}",
        durable: bool = True,
        *,
        mandatory: bool = True,
        declare: bool = True,
        alternate_exchange: str | None = None,
        topology: RabbitMQTopology | None = None,
        cloudevents: bool = False,
        app_id: str = "streamll",
        confirm_window: int = 4096,
        max_message_size: int = 16 * MIB,
        op_timeout: float = 2.0,
        heartbeat: int = 10,
        username: str | None = None,
        password: str | None = None,
        tls_ca_file: str | None = None,
        tls_cert_file: str | None = None,
        tls_key_file: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        **delivery: Any,
    ) -> None:
        super().__init__(**delivery)
        self.settings = RabbitMQSettings.of(
            amqp_url,
            exchange=exchange,
            routing_key=routing_key,
            durable=durable,
            mandatory=mandatory,
            declare=declare,
            alternate_exchange=alternate_exchange,
            topology=topology,
            cloudevents=cloudevents,
            app_id=app_id,
            confirm_window=confirm_window,
            max_message_size=max_message_size,
            op_timeout=op_timeout,
            heartbeat=heartbeat,
            username=username,
            password=password,
            tls_ca_file=tls_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
            ssl_context=ssl_context,
        )
        self.settings.warn_if_insecure()
        self._codec = Codec(self.settings)
        self._max_size = max_message_size
        self._inherited: list[Link] = []
        self._told = False  # that events are unroutable
        self._renew()

    def __repr__(self) -> str:
        hosts = ",".join(map(str, self.settings.addresses))
        return f"RabbitMQSink({hosts!r}, {self.settings.exchange!r})"

    @property
    def connection(self) -> BrokerConnection | None:
        """The connection (`is_closed`, `is_blocked`); None before the first and after `close`."""
        return self._link.connection

    async def open(self) -> None:
        """Connect, log in and declare the exchange, and the topology if there is one.

        Raises:
            TransientError, PermanentError: when that is not possible.
        """
        await self._reach(self._deadline())

    async def write(self, batch: Batch) -> Report | None:
        """Publish *batch* and await the confirms, in `op_timeout` seconds; see `Sink.write`."""
        deadline = self._deadline()
        channel = await self._reach(deadline)
        answers = await self._publish(channel, batch, deadline)
        if Answer.RETURNED in answers.values():
            self._tell_unroutable()
        if is_refused(answers):
            await self._link.close()
        self._max_size = learnt_size(channel.close_reason) or self._max_size
        found = verdicts(batch.bodies, answers, self._max_size)
        if is_failure(found, answers):
            raise self._failure(channel, answers)
        return found or None

    async def close(self) -> None:
        """Close the connection, within about a second."""
        await self._link.close()

    async def _reach(self, deadline: float) -> ConfirmChannel:
        if os.getpid() != self._pid:
            self._inherited.append(self._link)  # the parent's: neither used nor closed here
            self._renew()
        return await self._link.channel(deadline)

    async def _publish(
        self, channel: ConfirmChannel, batch: Batch, deadline: float
    ) -> dict[int, Answer | None]:
        """Publish what is not too large; return the answers by position in the batch."""
        now = asyncio.get_running_loop().time()
        fitting = [i for i, body in enumerate(batch.bodies) if len(body) <= self._max_size]
        answers = await publish(
            channel,
            (self._codec.message(batch.events[i], batch.bodies[i]) for i in fitting),
            confirm_window=self.settings.confirm_window,
            send_by=now + (deadline - now) * _SENDING,
            answer_by=deadline,
        )
        return dict(zip(fitting, answers, strict=False))

    def _tell_unroutable(self) -> None:
        """Log, once, what to do about events that no queue takes."""
        if not self._told:
            self._told = True
            _log.warning("%s", unroutable(self.settings))

    def _failure(
        self, channel: ConfirmChannel, answers: Mapping[int, Answer | None]
    ) -> DeliveryError:
        reason, connection = channel.close_reason, channel.connection
        if isinstance(reason, Exception) and refuses_writes(reason) and not channel.window.answers:
            # The first publish is refused before the next is looked at: nothing got through.
            return of_connecting(reason, connection.address, self.settings)
        sent = any(answer is not None for answer in answers.values())
        return of_publishing(reason, connection.address, sent=sent, blocked=connection.is_blocked)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.settings.op_timeout

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._link = Link(self.settings)
