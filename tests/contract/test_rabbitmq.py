"""`RabbitMQSink` keeps the contract against a real broker."""

from __future__ import annotations

import pytest

from streamll.sinks import RabbitMQSink
from streamll.testing import SinkContract
from support.rabbitmq_probe import Queues, unique
from support.rabbitmq_server import free_port

pytestmark = pytest.mark.broker


class TestRabbitMQSink(SinkContract):
    """Read back from a durable queue that is bound to everything."""

    @pytest.fixture(autouse=True)
    def _broker(self, broker):
        self.url = broker.url()

    def make_sink(self):
        self.queues = Queues(self.url, unique("contract"))
        self.queue = self.queues.bind("#")
        return RabbitMQSink(self.url, self.queues.exchange, op_timeout=60)

    def read(self, sink):
        return [message.body for message in self.queues.messages(self.queue)]

    def make_unreachable_sink(self):
        return RabbitMQSink(f"amqp://127.0.0.1:{free_port()}/", op_timeout=1)
