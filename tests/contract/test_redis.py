"""`RedisSink` keeps the contract against a real server."""

from __future__ import annotations

import pytest

from streamll.sinks import RedisSink
from streamll.testing import SinkContract
from support.rabbitmq_server import free_port

pytestmark = pytest.mark.broker

KEY = "contract"


class TestRedisSink(SinkContract):
    """Read back from the stream."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server

    def make_sink(self):
        return RedisSink(self.server.url, KEY, op_timeout=20)

    def read(self, sink):
        return [fields[b"event"] for _, fields in self.server.run("XRANGE", KEY, "-", "+")]

    def make_unreachable_sink(self):
        return RedisSink(f"redis://127.0.0.1:{free_port()}", op_timeout=1)
