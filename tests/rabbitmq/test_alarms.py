"""The sink while the broker blocks publishers: rows 14 (memory) and 15 (disk)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import streamll
from streamll import TransientError
from streamll_rabbitmq import RabbitMQSink
from support.events import batch_of, make_events
from support.rabbitmq_probe import PATIENCE, Probe
from support.rabbitmq_producer import Producer
from support.rabbitmq_server import RabbitMQServer
from support.truth import Truth

pytestmark = [pytest.mark.broker, pytest.mark.anyio, pytest.mark.slow]

Start = Callable[..., RabbitMQServer]
Alarm = Callable[[RabbitMQServer, bool], None]

ALARMS = [
    pytest.param(lambda broker, on: broker.set_memory_alarm(on=on), id="row_14_memory"),
    pytest.param(lambda broker, on: broker.set_disk_alarm(on=on), id="row_15_disk"),
]


async def until_blocked(producer: Producer) -> None:
    """Publish until the broker has said that publishers have to wait."""
    async with asyncio.timeout(PATIENCE):
        while not producer.sink.connection.is_blocked:
            events = make_events(1)
            producer.given += [event.event_id for event in events]
            await producer.attempt(events)


@pytest.mark.parametrize("alarm", ALARMS)
async def test_rows_14_and_15_a_blocked_publisher_sends_nothing_more(
    start_broker: Start, alarm: Alarm
) -> None:
    """Unknown at first, then not sent at all; each event is there once after it clears."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        producer = Producer(RabbitMQSink(broker.url(), op_timeout=1.0))
        await producer.deliver(make_events(10))
        await asyncio.to_thread(alarm, broker, True)
        await until_blocked(producer)
        events = make_events(20)
        with pytest.raises(TransientError, match="is blocking publishers"):
            await producer.sink.write(batch_of(events))
        await asyncio.to_thread(alarm, broker, False)
        await producer.deliver(events)
        assert producer.check(await probe.bodies(queue)) == Truth()
        assert not producer.sink.connection.is_blocked
        await producer.sink.close()


async def test_row_14_a_connection_made_during_the_alarm_does_not_hang(
    start_broker: Start,
) -> None:
    """Declaring works; publishing is unknown until the alarm clears."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        await asyncio.to_thread(broker.set_memory_alarm, on=True)
        producer = Producer(RabbitMQSink(broker.url(), op_timeout=1.0))
        events = make_events(5)
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                assert await producer.attempt(events) == events
        await asyncio.to_thread(broker.set_memory_alarm, on=False)
        await producer.deliver(events)
        producer.check(await probe.bodies(queue))
        await producer.sink.close()


async def test_row_15_shutdown_is_bounded_while_publishers_are_blocked(
    start_broker: Start,
) -> None:
    """What could not be delivered is counted as a drop, and nothing waits for the alarm."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        await probe.bind("streamll")
    sink = RabbitMQSink(broker.url(), op_timeout=1.0)
    with streamll.configure(sinks=[sink]):
        streamll.emit("before")
        assert await asyncio.to_thread(streamll.flush, PATIENCE)
        await asyncio.to_thread(broker.set_disk_alarm, on=True)
        for number in range(50):
            streamll.emit("during", {"n": number})
        async with asyncio.timeout(PATIENCE):
            assert not await asyncio.to_thread(streamll.shutdown, 2.0)
    stats = sink.stats
    assert (stats.queued, stats.in_flight) == (0, 0)
    assert stats.accepted == stats.delivered + sum(stats.dropped.values())
    assert sum(stats.dropped.values()) == 50
