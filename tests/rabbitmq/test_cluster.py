"""A cluster of three nodes and a quorum queue: nodes are killed in the middle of a stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import streamll
from streamll_rabbitmq import RabbitMQSink
from support.brokers import require
from support.events import make_events
from support.rabbitmq_probe import PATIENCE, Probe, unique
from support.rabbitmq_producer import Producer, patient
from support.rabbitmq_server import cluster, missing_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rabbitmq_server import RabbitMQServer

pytestmark = [pytest.mark.broker, pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def three() -> Iterator[list[RabbitMQServer]]:
    """Three nodes of one cluster."""
    require(missing_reason())
    with cluster(3) as started:
        yield started


@pytest.fixture
def nodes(three: list[RabbitMQServer]) -> list[RabbitMQServer]:
    """The same, all running."""
    for node in three:
        if not node.is_running:
            node.start()
    return three


async def leader_first(nodes: list[RabbitMQServer], exchange: str) -> tuple[str, list[str]]:
    """Bind a quorum queue whose leader is the first node; return its name and all URLs."""
    async with Probe.connected(nodes[0].url()) as probe:
        queue = await probe.bind(exchange, kind="quorum", x_queue_leader_locator="client-local")
    await asyncio.to_thread(lambda: [node.sync() for node in nodes])
    return queue, [node.url() for node in nodes]


@pytest.mark.parametrize("connected_to", ["leader", "follower"])
async def test_row_3_a_killed_leader_loses_nothing_that_was_confirmed(
    nodes: list[RabbitMQServer], connected_to: str
) -> None:
    """Connected to it or to another node: lost 0, duplicates only of what was unknown."""
    exchange = unique("exchange")
    queue, urls = await leader_first(nodes, exchange)
    urls = urls if connected_to == "leader" else [urls[1], urls[2]]
    producer = Producer(RabbitMQSink(urls, exchange=exchange, op_timeout=5))
    over = asyncio.Event()
    writing = asyncio.create_task(deliver_until(producer, over))
    async with asyncio.timeout(PATIENCE):
        while len(producer.acked) < 3000:  # noqa: ASYNC110 - it is in the middle of it
            await asyncio.sleep(0.001)
    nodes[0].kill()
    before = len(producer.acked)
    async with asyncio.timeout(PATIENCE):
        while len(producer.acked) < before + 3000:  # noqa: ASYNC110 - two nodes go on
            await asyncio.sleep(0.01)
    over.set()
    await writing
    await producer.sink.close()
    async with Probe.connected(nodes[1].url()) as probe:
        truth = producer.check(await probe.bodies(queue))
    assert not truth.disordered - truth.duplicates - set(producer.unknown)


async def deliver_until(producer: Producer, over: asyncio.Event) -> None:
    """Deliver batch after batch, and one more when the fault is *over*."""
    while not over.is_set():
        await producer.deliver(make_events(500))
    await producer.deliver(make_events(500))


async def test_a_consumer_goes_on_at_another_node(nodes: list[RabbitMQServer]) -> None:
    """Every event is handled; again at most what was in hand when its node was killed."""
    exchange = unique("exchange")
    queue, urls = await leader_first(nodes, exchange)
    producer = Producer(patient(urls, exchange=exchange))
    await producer.deliver(make_events(2000))
    await producer.sink.close()
    consumer = streamll.EventConsumer(
        ",".join(urls), exchange=exchange, queue=queue, prefetch=100, dedup=0
    )
    handled: list[str] = []

    @consumer.on()
    async def handle(event: streamll.Event) -> None:
        handled.append(event.event_id)
        if len(handled) == 700:
            nodes[0].kill()
        if set(handled) == set(producer.given):
            consumer.stop()

    async with asyncio.timeout(2 * PATIENCE):
        await consumer.run()
    assert consumer.stats.reconnects
    assert len(handled) <= len(producer.given) + 100
