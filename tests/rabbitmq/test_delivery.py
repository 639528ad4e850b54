"""The sink behind streamll's own delivery, as a program uses it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

import streamll
from streamll_rabbitmq import RabbitMQSink
from support.rabbitmq_probe import PATIENCE, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.rabbitmq_server import RabbitMQServer

pytestmark = [pytest.mark.broker, pytest.mark.anyio]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something the sink's own thread does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


async def test_events_of_a_program_reach_the_queue_and_the_accounting_balances(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Configured by URL; what no queue takes is a counted drop and not a failure."""
    queue = await probe.bind(exchange, "streamll.app.kept")
    url = f"{broker.url()}?exchange={exchange}&routing_key=streamll.app.{{event_type}}"
    with streamll.configure(sinks=[url]):
        (sink,) = streamll.get_sinks()
        assert isinstance(sink, RabbitMQSink)
        for number in range(500):
            streamll.emit("kept", {"n": number})
            streamll.emit("lost", {"n": number})
        # What is announced about the loss has no queue either.
        until(lambda: sink.stats.delivered == 500 and sum(sink.stats.dropped.values()) >= 500)
        stats = sink.stats
        assert stats.dropped.keys() == {"unroutable"}
        waiting = stats.queued + stats.in_flight
        assert stats.accepted == stats.delivered + stats.dropped["unroutable"] + waiting
        assert (stats.circuit, stats.failures, stats.retried_unknown) == ("closed", 0, 0)
        assert sink.is_running
        assert sink.connection is not None
        assert not sink.connection.is_closed
    assert await probe.count(queue) == 500


@pytest.mark.slow
async def test_row_2_a_broker_that_comes_late_gets_everything(
    start_broker: Callable[..., RabbitMQServer],
) -> None:
    """Configure succeeds, events wait, and arrive in order once it is there."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
    broker.kill()
    sink = RabbitMQSink(broker.url(), failure_threshold=1, recovery_timeout=0.5)
    with streamll.configure(sinks=[sink]):
        for number in range(300):
            streamll.emit("waiting", {"n": number})
        until(lambda: sink.circuit_open)
        assert sink.stats.delivered == 0
        broker.start()
        assert streamll.flush(PATIENCE)
        assert (sink.stats.delivered, sink.stats.dropped) == (300, {})
    async with Probe.connected(broker.url()) as probe:
        numbers = [json.loads(body)["data"]["n"] for body in await probe.bodies(queue)]
        assert numbers == list(range(300))
