"""Rows 4 and 6 as the program sees them: a real broker stops answering while it runs (I1-I8)."""

from __future__ import annotations

import pytest

import streamll
from streamll.testing import MemorySink
from support.brokers import require
from support.invariants import (
    emit_times,
    i1_accounting,
    i2_never_blocks,
    i4_memory,
    i5_closes_within,
    i6_isolated,
    i8_leaves_nothing,
)
from support.rabbitmq_server import RabbitMQServer
from support.rabbitmq_server import missing_reason as rabbitmq_missing
from support.redis_server import RedisServer
from support.redis_server import missing_reason as redis_missing

pytestmark = pytest.mark.broker

LIMIT = 1024 * 1024
EVENTS = 20_000


@pytest.fixture(params=["redis", "rabbitmq"])
def server(request, tmp_path):
    """A broker of either kind, and the URL of a sink for it."""
    is_redis = request.param == "redis"
    require(redis_missing() if is_redis else rabbitmq_missing())
    server = RedisServer(tmp_path).start() if is_redis else RabbitMQServer().start()
    url = f"{server.url}?" if is_redis else f"{server.url()}?mandatory=false&"
    yield server, f"{url}buffer_bytes={LIMIT}"
    server.stop() if is_redis else server.close()


def test_a_frozen_broker_costs_the_program_neither_time_nor_memory_nor_its_other_sinks(server):
    """Emit costs what it did, the buffer is the only memory, and every event is accounted for."""
    broker, url = server
    beside = MemorySink(buffer_size=4 * EVENTS)
    with i8_leaves_nothing():
        streamll.configure(sinks=[url, beside])
        sink = streamll.get_sinks()[0]
        healthy = emit_times(EVENTS)
        streamll.flush(60)
        broker.freeze()
        try:
            with i4_memory(LIMIT):
                faulty = emit_times(EVENTS)
            i1_accounting(sink.stats)
            with i5_closes_within(0.3):
                assert not streamll.shutdown(0.3)
        finally:
            broker.thaw()
        i1_accounting(sink.stats)
        i2_never_blocks(healthy, faulty)
        i6_isolated(beside, 2 * EVENTS)
