"""The sink against a broker that dies, freezes or falls silent: rows that concern one attempt.

A confirmed event is never lost, and nothing waits for ever. Every wait here ends on a
condition; `PATIENCE` is only for what hangs.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from streamll import OutcomeUnknown, TransientError
from streamll_rabbitmq import RabbitMQSink
from support.events import batch_of, make_events
from support.rabbitmq_probe import PATIENCE, Probe
from support.rabbitmq_producer import Producer, patient
from support.rabbitmq_server import RabbitMQServer, free_port
from support.tcp_proxy import TcpProxy
from support.truth import Truth

pytestmark = [pytest.mark.broker, pytest.mark.anyio]

Start = Callable[..., RabbitMQServer]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_row_3_a_killed_broker_keeps_what_it_confirmed(
    start_broker: Start, kind: str
) -> None:
    """SIGKILL between and in the middle of batches, restart: nothing confirmed is lost."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll", kind=kind)
    await asyncio.to_thread(broker.sync)
    producer = Producer(RabbitMQSink(broker.url(), op_timeout=5))
    await producer.deliver(make_events(2000))
    killed = asyncio.Event()
    writing = asyncio.create_task(deliver_until(producer, killed))
    async with asyncio.timeout(PATIENCE):
        while len(producer.acked) < 4000:  # noqa: ASYNC110 - it is in the middle of it
            await asyncio.sleep(0.001)
    broker.kill()
    await asyncio.to_thread(broker.start)
    killed.set()
    await writing
    await producer.sink.close()
    assert producer.unknown
    async with Probe.connected(broker.url()) as probe:
        producer.check(await probe.bodies(queue))


async def deliver_until(producer: Producer, over: asyncio.Event) -> None:
    """Deliver batch after batch, and one more when the fault is *over*."""
    while not over.is_set():
        await producer.deliver(make_events(1000))
    await producer.deliver(make_events(1000))


@pytest.mark.slow
async def test_row_6_a_frozen_broker_is_unknown_and_later_settles_without_a_copy(
    start_broker: Start,
) -> None:
    """SIGSTOP: each attempt ends in time; after SIGCONT the late confirms count, unsent again."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        producer = Producer(RabbitMQSink(broker.url(), op_timeout=1.0, heartbeat=600))
        await producer.deliver(make_events(10))
        broker.freeze()
        events = make_events(500)
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                assert await producer.attempt(events) == events
        assert not producer.sink.connection.is_closed
        broker.thaw()
        await producer.deliver(events)
        assert producer.check(await probe.bodies(queue)) == Truth()
        await producer.sink.close()


@pytest.mark.slow
async def test_row_6_a_broker_frozen_for_good_is_given_up_by_heartbeat(
    start_broker: Start,
) -> None:
    """Then the events are sent again on a new connection: copies within what was unknown."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
    producer = Producer(RabbitMQSink(broker.url(), op_timeout=1.0, heartbeat=1))
    await producer.deliver(make_events(10))
    broker.freeze()
    connection = producer.sink.connection
    events = make_events(100)
    async with asyncio.timeout(PATIENCE):
        while not connection.is_closed:
            await producer.attempt(events)
    broker.thaw()
    await producer.deliver(events)
    async with Probe.connected(broker.url()) as probe:
        producer.check(await probe.bodies(queue))
    await producer.sink.close()


@pytest.mark.slow
async def test_row_7_connecting_to_a_frozen_broker_is_bounded(start_broker: Start) -> None:
    """The kernel still accepts; nobody answers."""
    broker = start_broker()
    broker.freeze()
    sink = RabbitMQSink(broker.url(), op_timeout=0.5, heartbeat=600)
    with pytest.raises(TransientError, match="did not answer in time"):
        async with asyncio.timeout(PATIENCE):
            await sink.open()
    await sink.close()
    broker.thaw()


@pytest.mark.parametrize("tls", [False, True])
async def test_row_2_a_broker_that_is_down_is_transient(tls: bool, exchange: str) -> None:
    """And works as soon as it is there, without a new sink."""
    sink = RabbitMQSink(f"amqp{'s' if tls else ''}://localhost:{free_port()}", exchange=exchange)
    for _ in range(3):
        with pytest.raises(TransientError, match="cannot connect"):
            await sink.write(batch_of(make_events(1)))
    assert sink.connection is None
    await sink.close()


@pytest.mark.slow
async def test_row_28_a_broker_that_is_not_ready_is_transient(start_broker: Start) -> None:
    """The node runs, its broker does not (as while it boots or leaves): on when it is back."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll", kind="quorum")
    await asyncio.to_thread(broker.sync)
    producer = Producer(RabbitMQSink(broker.url(), op_timeout=5))
    await producer.deliver(make_events(100))
    await asyncio.to_thread(broker.ctl, "stop_app")
    events = make_events(100)
    assert await producer.attempt(events) == events
    with pytest.raises(TransientError):
        await producer.sink.write(batch_of(events))
    starting = asyncio.create_task(asyncio.to_thread(broker.ctl, "start_app"))
    await producer.deliver(events)
    await starting
    await producer.sink.close()
    async with Probe.connected(broker.url()) as probe:
        producer.check(await probe.bodies(queue))


async def test_row_8_a_reset_in_the_middle_loses_nothing(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """RST after some of the batch: what is unknown is sent again."""
    queue = await probe.bind(exchange)
    with TcpProxy(broker.port).running() as proxy:
        sink = patient(f"amqp://localhost:{proxy.port}", exchange=exchange)
        producer = Producer(sink)
        await producer.deliver(make_events(10))
        for size in (1, 50_000, 300_000):
            proxy.reset_after = size
            await producer.deliver(make_events(1000))
        assert proxy.connections >= 3
        await sink.close()
    assert producer.unknown
    producer.check(await probe.bodies(queue))


async def test_row_12_a_black_hole_is_unknown_and_nothing_is_lost(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Answers that never come: the confirms count when they do."""
    queue = await probe.bind(exchange)
    with TcpProxy(broker.port).running() as proxy:
        url = f"amqp://localhost:{proxy.port}"
        sink = RabbitMQSink(url, exchange=exchange, op_timeout=1.0, heartbeat=600)
        producer = Producer(sink)
        await producer.deliver(make_events(10))
        events = make_events(300)
        proxy.mute_replies = True
        for _ in range(2):
            assert await producer.attempt(events) == events
        proxy.mute_replies = False
        await producer.deliver(events)
        await sink.close()
    assert producer.unknown
    assert producer.check(await probe.bodies(queue)) == Truth()


async def test_row_10_a_thin_link_delivers_what_it_can(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """A batch that does not fit into the time is delivered in part, from its beginning."""
    queue = await probe.bind(exchange)
    with TcpProxy(broker.port).running() as proxy:
        url = f"amqp://localhost:{proxy.port}"
        sink = RabbitMQSink(
            url, exchange=exchange, op_timeout=2.0, confirm_window=50, heartbeat=600
        )
        producer = Producer(sink)
        await producer.deliver(make_events(1))
        proxy.bandwidth = 200_000  # the batch takes some 5 s
        events = left = make_events(1500)
        producer.given += [event.event_id for event in events]
        async with asyncio.timeout(PATIENCE):
            while len(left) == len(events):
                left = await producer.attempt(events)
        assert left
        assert producer.acked == producer.given[: len(producer.acked)]
        proxy.bandwidth = 0
        await producer.deliver(left)
        await sink.close()
    assert producer.check(await probe.bodies(queue)) == Truth()


async def test_row_13_a_hanging_name_server_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name resolution has no timeout of its own."""
    release = asyncio.Event()

    async def hang(*arguments: Any, **options: Any) -> None:
        await release.wait()

    sink = RabbitMQSink("amqp://broker.invalid", op_timeout=0.3)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    with pytest.raises(TransientError):
        async with asyncio.timeout(PATIENCE):
            await sink.open()


async def test_row_39_a_name_is_resolved_once_when_it_cannot_be_again(
    broker: RabbitMQServer, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the interpreter exits there is no executor to resolve names in."""

    async def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    url = f"amqp://localhost:{broker.port}"
    sink = patient(url, exchange=exchange, mandatory=False)
    await sink.open()
    await sink.close()
    real = socket.getaddrinfo
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", refuse)
    assert socket.getaddrinfo is real
    assert await sink.write(batch_of(make_events(1))) is None
    await sink.close()


async def test_the_next_node_takes_over(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """A list of nodes: dead ones and silent ones cost a share of the time, not the attempt."""
    queue = await probe.bind(exchange)
    silent = socket.create_server(("127.0.0.1", 0))
    urls = [
        f"amqp://127.0.0.1:{free_port()}",
        f"amqp://127.0.0.1:{silent.getsockname()[1]}",
        broker.url(),
    ]
    sink = RabbitMQSink(urls, exchange=exchange, op_timeout=10.0)
    assert await sink.write(batch_of(make_events(5))) is None
    assert await probe.count(queue) == 5
    await sink.close()
    silent.close()


@pytest.mark.slow
async def test_close_is_bounded_while_the_broker_is_frozen(start_broker: Start) -> None:
    """Row 38: a second, whatever the broker does."""
    broker = start_broker()
    sink = RabbitMQSink(broker.url(), op_timeout=2.0, mandatory=False, heartbeat=600)
    await sink.open()
    broker.freeze()
    with pytest.raises(OutcomeUnknown):
        # More than the kernel's buffers take, so that there is something left to send.
        await sink.write(batch_of(make_events(200, data={"x": "y" * 100_000})))
    async with asyncio.timeout(PATIENCE):
        await sink.close()
    broker.thaw()
