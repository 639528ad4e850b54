"""The sink against a real broker that behaves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import streamll
from streamll import Outcome, Verdict
from support.events import batch_of, body_of, make_event, make_events
from support.rabbitmq_probe import PATIENCE
from support.rabbitmq_producer import patient
from support.truth import Truth, judge

if TYPE_CHECKING:
    from support.rabbitmq_probe import Probe
    from support.rabbitmq_server import RabbitMQServer

pytestmark = [pytest.mark.broker, pytest.mark.anyio]

UNROUTABLE = Verdict(Outcome.REJECTED_PERMANENT, "unroutable")


async def test_the_routing_example_delivers_to_three_queues(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """The options guide: starts to audit, tokens to monitoring, errors to alerts."""
    queues = {
        kind: await probe.bind(exchange, f"ai.rag_pipeline.{kind}")
        for kind in ("start", "token", "error")
    }
    sink = patient(broker.url(), exchange=exchange, routing_key="ai.{module_name}.{event_type}")
    events = [make_event(event_type=kind, module_name="RAGPipeline") for kind in queues]
    assert await sink.write(batch_of(events)) is None
    for kind, queue in queues.items():
        (message,) = await probe.drain(queue)
        assert message.routing_key == f"ai.rag_pipeline.{kind}"
        assert json.loads(message.body)["event_type"] == message.type == kind
    await sink.close()


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
async def test_every_event_arrives_once_and_in_order(
    broker: RabbitMQServer, probe: Probe, exchange: str, kind: str
) -> None:
    """In each type of queue; confirmed means it is there."""
    queue = await probe.bind(exchange, kind=kind)
    sink = patient(broker.url(), exchange=exchange, confirm_window=100)
    batches = [make_events(size) for size in (1, 700, 99, 100, 101)]
    for events in batches:
        assert await sink.write(batch_of(events)) is None
    given = [event.event_id for events in batches for event in events]
    found = await (probe.replay(queue, 1001) if kind == "stream" else probe.bodies(queue))
    assert judge(found, given=given, acked=given) == Truth()
    await sink.close()


async def test_messages_carry_native_properties(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """As a client that knows nothing of streamll sees them."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange, app_id="shop")
    event = make_event()
    await sink.write(batch_of([event]))
    (message,) = await probe.drain(queue)
    assert message.message_id == event.event_id
    assert message.correlation_id == event.execution_id
    assert (message.app_id, message.content_type) == ("shop", "application/json")
    assert message.delivery_mode == 2
    assert message.headers["sequence"] == event.sequence
    await sink.close()


async def test_cloudevents_are_read_by_attributes_and_by_us(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Binary mode: a foreign client finds the attributes, our own reader the same events."""
    foreign, own = await probe.bind(exchange), await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange, cloudevents=True, app_id="shop")
    events = make_events(2)
    assert await sink.write(batch_of(events)) is None
    await sink.close()
    messages = await probe.drain(foreign)
    assert [m.headers["cloudEvents:id"] for m in messages] == [e.event_id for e in events]
    required = ("id", "source", "specversion", "type")
    assert all(m.headers[f"cloudEvents:{name}"] for m in messages for name in required)
    assert messages[0].headers["cloudEvents:source"] == "/streamll/shop"
    assert messages[0].body == body_of(events[0])
    async with asyncio.timeout(PATIENCE):
        async with streamll.consume(broker.url(), queue=own) as found:
            assert [await anext(found), await anext(found)] == events


async def test_row_23_an_unroutable_event_is_dropped_and_its_neighbours_are_not(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Row 23: returned is never delivered, and is no failure of the broker."""
    queue = await probe.bind(exchange, "streamll.llm_call.error")
    sink = patient(broker.url(), exchange=exchange)
    events = [make_event(event_type="error" if i % 2 else "token") for i in range(50)]
    report = await sink.write(batch_of(events))
    assert report == dict.fromkeys(range(0, 50, 2), UNROUTABLE)
    assert await probe.count(queue) == 25
    assert await sink.write(batch_of([make_event()])) == {0: UNROUTABLE}
    await sink.close()


async def test_not_mandatory_counts_as_delivered_what_no_queue_takes(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """For exchanges whose queues only pick."""
    sink = patient(broker.url(), exchange=exchange, mandatory=False)
    assert await sink.write(batch_of(make_events(3))) is None
    await sink.close()


async def test_an_alternate_exchange_takes_what_no_queue_takes(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """It is created with the exchange, and what it routes is delivered."""
    sink = patient(broker.url(), exchange=exchange, alternate_exchange=f"{exchange}-rest")
    await sink.open()
    rest = await probe.channel.declare_queue(f"{exchange}-rest", durable=True)
    await rest.bind(f"{exchange}-rest")
    assert await sink.write(batch_of(make_events(3))) is None
    assert await probe.count(rest.name) == 3
    await sink.close()


async def test_row_25_an_oversize_event_costs_only_itself(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Row 25: it never reaches the wire."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange, max_message_size=10_000)
    events = [make_event(data={"x": "y" * (20_000 if i == 2 else 10)}) for i in range(5)]
    report = await sink.write(batch_of(events))
    assert report == {2: Verdict(Outcome.REJECTED_PERMANENT, "oversize")}
    assert await probe.count(queue) == 4
    await sink.close()


async def test_large_events_are_cut_into_frames(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Beyond the broker's frame size of 128 KiB."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange)
    events = [make_event(data={"x": "y" * size}) for size in (131_000, 131_072, 700_000)]
    assert await sink.write(batch_of(events)) is None
    sizes = [len(json.loads(body)["data"]["x"]) for body in await probe.bodies(queue)]
    assert sizes == [131_000, 131_072, 700_000]
    await sink.close()


async def test_row_26_hostile_values_cost_nobody_anything(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """Row 26: surrogates, controls and very long names are published like others."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange)
    names = ["\ud800", "*.#", "\x00\x1b[31m", "é" * 300, "x" * 100_000, ""]
    events = [make_event(operation=name, event_type=name, name=name) for name in names]
    bodies = tuple(b"{}" for _ in events)
    batch = type(batch_of([]))(tuple(events), bodies)
    assert await sink.write(batch) is None
    assert await probe.count(queue) == len(names)
    await sink.close()


async def test_a_refused_publish_is_unknown_and_tried_again(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """A full queue that rejects; another bound queue may have taken the event."""
    await probe.bind(exchange, x_max_length=3, x_overflow="reject-publish")
    sink = patient(broker.url(), exchange=exchange)
    report: Any = {}
    for _ in range(20):
        report = await sink.write(batch_of(make_events(3))) or report
    assert set(report.values()) == {Verdict(Outcome.UNKNOWN, "nack")}
    await sink.close()


async def test_a_channel_that_refuses_is_renewed(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """It may be the channel and not the queue; the next attempt makes another."""
    queue = await probe.bind(exchange, x_max_length=1, x_overflow="reject-publish")
    sink = patient(broker.url(), exchange=exchange)
    async with asyncio.timeout(PATIENCE):
        while not await sink.write(batch_of(make_events(1))):
            pass
    assert sink.connection is None
    await probe.bodies(queue)
    assert await sink.write(batch_of(make_events(1))) is None
    await sink.close()


async def test_without_the_right_to_configure_an_existing_exchange_can_be_used(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """`declare=False` checks and needs only the right to write."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url("writer"), exchange=exchange, declare=False)
    assert await sink.write(batch_of(make_events(3))) is None
    assert await probe.count(queue) == 3
    await sink.close()


async def test_a_virtual_host_with_odd_characters_can_be_used(
    broker: RabbitMQServer, exchange: str
) -> None:
    """Percent-encoded in the URL, as everywhere."""
    sink = patient(broker.url("audit", vhost="team%20a%2Fb"), exchange=exchange)
    await sink.open()
    assert sink.connection is not None
    assert sink.connection.vhost == "team a/b"
    await sink.close()


async def test_the_monitoring_snippet_of_the_guide_sees_the_connection(
    broker: RabbitMQServer, exchange: str
) -> None:
    """`sink.connection and not sink.connection.is_closed`, before, during and after."""
    sink = patient(broker.url(), exchange=exchange)
    assert not (sink.connection and not sink.connection.is_closed)
    await sink.open()
    connection = sink.connection
    assert connection is not None
    assert not connection.is_closed
    assert not connection.is_blocked
    await sink.close()
    assert connection.is_closed
    assert sink.connection is None


async def test_close_may_be_repeated_and_open_again(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """A sink that was closed connects again when it is used again."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange)
    await sink.close()
    for _ in range(2):
        await sink.open()
        assert await sink.write(batch_of(make_events(1))) is None
        await sink.close()
        await sink.close()
    assert await probe.count(queue) == 2


async def test_nothing_is_left_behind(broker: RabbitMQServer, exchange: str) -> None:
    """I8: no task survives `close`."""
    before = asyncio.all_tasks()
    sink = patient(broker.url(), exchange=exchange, mandatory=False)
    for _ in range(3):
        await sink.write(batch_of(make_events(10)))
        await sink.close()
    async with asyncio.timeout(PATIENCE):
        while asyncio.all_tasks() != before:  # noqa: ASYNC110 - tasks end without an event
            await asyncio.sleep(0.01)


async def test_an_empty_batch_is_delivered(broker: RabbitMQServer, exchange: str) -> None:
    """There is nothing to wait for."""
    sink = patient(broker.url(), exchange=exchange)
    assert await sink.write(batch_of([])) is None
    await sink.close()
