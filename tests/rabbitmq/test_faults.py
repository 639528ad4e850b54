"""The sink against a broker that misbehaves: rows of the fault matrix that concern one attempt.

A confirmed event is never lost, a lost or returned one is never confirmed, and nothing waits
longer than it says.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streamll import (
    DeliveryError,
    Event,
    Outcome,
    OutcomeUnknown,
    PermanentError,
    TransientError,
    Verdict,
)
from streamll_rabbitmq import RabbitMQSink
from support.events import batch_of, make_event, make_events
from support.rabbitmq_probe import Probe
from support.rabbitmq_server import RabbitMQServer, free_port
from support.tcp_proxy import TcpProxy
from support.truth import Truth, judge

pytestmark = [pytest.mark.broker, pytest.mark.anyio]

#: Seconds beyond `op_timeout` an attempt may take on a busy machine.
GRACE = 3.0

Start = Callable[..., RabbitMQServer]


class Producer:
    """Retries as the channel does, and remembers what was confirmed and what was unknown."""

    def __init__(self, sink: RabbitMQSink) -> None:
        self.sink = sink
        self.given: list[str] = []
        self.acked: list[str] = []
        self.unknown: list[str] = []

    async def attempt(self, events: Sequence[Event]) -> list[Event]:
        """Make one attempt and return what has to be tried again."""
        try:
            report = await self.sink.write(batch_of(list(events))) or {}
        except OutcomeUnknown:
            self.unknown += [event.event_id for event in events]
            return list(events)
        except DeliveryError:
            return list(events)
        bad = {i for i, v in report.items() if v.outcome is not Outcome.DELIVERED}
        self.acked += [e.event_id for i, e in enumerate(events) if i not in bad]
        unknown = {i for i in bad if report[i].outcome is Outcome.UNKNOWN}
        self.unknown += [events[i].event_id for i in unknown]
        return [events[i] for i in sorted(bad)]

    async def deliver(self, events: Sequence[Event], patience: float = 60.0) -> None:
        """Try until everything is confirmed."""
        self.given += [event.event_id for event in events]
        async with asyncio.timeout(patience):
            while events := await self.attempt(events):  # noqa: ASYNC110 - a broker is no event
                await asyncio.sleep(0.05)

    def check(self, bodies: Sequence[bytes]) -> Truth:
        """Assert what always holds, and return the rest."""
        truth = judge(bodies, given=self.given, acked=self.acked)
        assert not truth.acked_lost
        assert not truth.unexpected
        assert len(bodies) <= len(set(self.given)) + len(self.unknown)
        return truth


async def down(proxy: TcpProxy, attribute: str, seconds: float) -> None:
    """Let a proxy misbehave for a while."""
    setattr(proxy, attribute, True)
    await asyncio.sleep(seconds)
    setattr(proxy, attribute, False)


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
    writing = asyncio.create_task(producer.deliver(make_events(10_000), 120))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)
    await writing
    await producer.sink.close()
    async with Probe.connected(broker.url()) as probe:
        producer.check(await probe.bodies(queue))


@pytest.mark.slow
async def test_row_6_a_frozen_broker_is_unknown_and_later_settles_without_a_copy(
    start_broker: Start,
) -> None:
    """SIGSTOP: each attempt ends in time; after SIGCONT the late confirms count, unsent again."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        producer = Producer(RabbitMQSink(broker.url(), op_timeout=0.5, heartbeat=60))
        await producer.deliver(make_events(10))
        broker.freeze()
        events = make_events(500)
        for _ in range(3):
            began = time.monotonic()
            assert await producer.attempt(events) == events
            assert time.monotonic() - began < 0.5 + GRACE
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
    producer = Producer(RabbitMQSink(broker.url(), op_timeout=0.5, heartbeat=1))
    await producer.deliver(make_events(10))
    broker.freeze()
    connection = producer.sink.connection
    events = make_events(100)
    async with asyncio.timeout(30):
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
    sink = RabbitMQSink(broker.url(), op_timeout=0.5)
    began = time.monotonic()
    with pytest.raises(TransientError, match="did not answer in time"):
        await sink.open()
    assert time.monotonic() - began < 0.5 + GRACE
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


async def test_row_8_a_reset_in_the_middle_loses_nothing(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """RST after some of the batch: what is unknown is sent again."""
    queue = await probe.bind(exchange)
    with TcpProxy(broker.port).running() as proxy:
        sink = RabbitMQSink(f"amqp://localhost:{proxy.port}", exchange=exchange, op_timeout=5)
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
        sink = RabbitMQSink(f"amqp://localhost:{proxy.port}", exchange=exchange, op_timeout=0.5)
        producer = Producer(sink)
        await producer.deliver(make_events(10))
        events = make_events(300)
        muting = asyncio.create_task(down(proxy, "mute_replies", 2.0))
        await asyncio.sleep(0.1)
        await producer.deliver(events)
        await muting
        await sink.close()
    assert producer.unknown
    assert producer.check(await probe.bodies(queue)) == Truth()


async def test_row_10_a_thin_link_delivers_what_it_can(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """A batch that does not fit into the time is delivered in part, from its beginning."""
    queue = await probe.bind(exchange)
    with TcpProxy(broker.port).running() as proxy:
        sink = RabbitMQSink(
            f"amqp://localhost:{proxy.port}", exchange=exchange, op_timeout=1.0, confirm_window=50
        )
        await sink.open()
        proxy.bandwidth = 200_000
        producer = Producer(sink)
        events = make_events(1500)
        producer.given += [event.event_id for event in events]
        left = await producer.attempt(events)
        assert 0 < len(left) < len(events)
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
    began = time.monotonic()
    with pytest.raises(TransientError):
        await sink.open()
    assert time.monotonic() - began < 0.3 + GRACE


async def test_row_39_a_name_is_resolved_once_when_it_cannot_be_again(
    broker: RabbitMQServer, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the interpreter exits there is no executor to resolve names in."""

    async def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    url = f"amqp://localhost:{broker.port}"
    sink = RabbitMQSink(url, exchange=exchange, mandatory=False)
    await sink.open()
    await sink.close()
    real = socket.getaddrinfo
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", refuse)
    assert socket.getaddrinfo is real
    assert await sink.write(batch_of(make_events(1))) is None
    await sink.close()


@pytest.mark.slow
async def test_row_14_a_blocked_publisher_waits_no_longer_than_it_says(
    start_broker: Start,
) -> None:
    """Memory alarm: unknown, then not sent at all, and each event once after it clears."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        sink = RabbitMQSink(broker.url(), op_timeout=0.5)
        producer = Producer(sink)
        await producer.deliver(make_events(10))
        await asyncio.to_thread(broker.set_memory_alarm, on=True)
        first, second = make_events(20), make_events(20)
        assert await producer.attempt(first) == first
        async with asyncio.timeout(10):
            while not sink.connection.is_blocked:
                await producer.attempt(first)
        began = time.monotonic()
        with pytest.raises(TransientError, match="is blocking publishers"):
            await sink.write(batch_of(second))
        assert time.monotonic() - began < 0.5 + GRACE
        await asyncio.to_thread(broker.set_memory_alarm, on=False)
        await producer.deliver([*first, *second])
        assert producer.check(await probe.bodies(queue)) == Truth()
        await sink.close()


@pytest.mark.slow
async def test_row_14_a_connection_made_during_the_alarm_does_not_hang(
    start_broker: Start,
) -> None:
    """Declaring works; publishing is unknown until the alarm clears."""
    broker = start_broker()
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        await asyncio.to_thread(broker.set_memory_alarm, on=True)
        producer = Producer(RabbitMQSink(broker.url(), op_timeout=0.5))
        events = make_events(5)
        for _ in range(3):
            await producer.attempt(events)
        await asyncio.to_thread(broker.set_memory_alarm, on=False)
        await producer.deliver(events)
        producer.check(await probe.bodies(queue))
        await producer.sink.close()


@pytest.mark.parametrize(
    ("user", "vhost", "says"),
    [
        ("wrong", "", "login refused"),
        ("guest", "closed", "virtual host 'closed' does not exist or refuses this user"),
        ("guest", "absent", "virtual host 'absent' does not exist or refuses this user"),
        ("nobody", "", "no right to use exchange"),
        ("writer", "", "declare=False needs only the right to write"),
    ],
)
async def test_rows_18_and_20_what_is_refused_for_good_is_permanent(
    broker: RabbitMQServer, exchange: str, user: str, vhost: str, says: str
) -> None:
    """It names virtual host and exchange, and neither user nor password."""
    url = broker.url("guest" if user == "wrong" else user, vhost=vhost)
    sink = RabbitMQSink(url, exchange=exchange, password="CANARY" if user == "wrong" else None)
    with pytest.raises(PermanentError, match=says) as raised:
        await sink.write(batch_of(make_events(1)))
    assert str(broker.port) in str(raised.value)
    assert "CANARY" not in str(raised.value)
    assert f"'{user}'" not in str(raised.value)
    await sink.close()


async def test_row_20_no_right_to_write_is_permanent(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """The broker says so only at the first publish."""
    queue = await probe.bind(exchange)
    sink = RabbitMQSink(broker.url("nobody"), exchange=exchange, declare=False)
    with pytest.raises(PermanentError, match="no right to use exchange"):
        await sink.write(batch_of(make_events(100)))
    assert await probe.count(queue) == 0
    await sink.close()


async def test_row_21_an_exchange_of_another_type_is_permanent(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """The message says which argument differs."""
    await probe.exchange(exchange, "direct")
    sink = RabbitMQSink(broker.url(), exchange=exchange)
    with pytest.raises(PermanentError, match=r"received 'topic' but current is 'direct'"):
        await sink.open()
    await sink.close()


async def test_an_exchange_that_is_not_there_is_permanent_when_it_must_not_be_created(
    broker: RabbitMQServer, exchange: str
) -> None:
    """`declare=False`."""
    sink = RabbitMQSink(broker.url(), exchange=exchange, declare=False)
    with pytest.raises(PermanentError, match=f"there is no exchange '{exchange}'"):
        await sink.open()
    await sink.close()


async def test_row_22_an_exchange_deleted_at_run_time_is_declared_again(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """One failed attempt, then the exchange is back; nothing is confirmed in between."""
    await probe.bind(exchange)
    sink = RabbitMQSink(broker.url(), exchange=exchange, mandatory=False)
    assert await sink.write(batch_of(make_events(10))) is None
    await probe.channel.exchange_delete(exchange)
    events = make_events(10)
    with pytest.raises(OutcomeUnknown, match="closed the channel: ChannelNotFoundEntity 404"):
        await sink.write(batch_of(events))
    assert await sink.write(batch_of(events)) is None
    await probe.channel.get_exchange(exchange, ensure=True)
    await sink.close()


async def test_row_24_the_same_event_twice_on_its_way_is_never_confirmed_falsely(
    broker: RabbitMQServer, exchange: str
) -> None:
    """Unroutable copies of one id: not one of them is delivered."""
    sink = RabbitMQSink(broker.url(), exchange=exchange)
    event = make_event()
    report = await sink.write(batch_of([event] * 4))
    assert set(report) == {0, 1, 2, 3}
    assert set(report.values()) == {Verdict(Outcome.REJECTED_PERMANENT, "unroutable")}
    await sink.close()


async def test_row_25_a_broker_with_a_lower_limit_teaches_it(start_broker: Start) -> None:
    """It closes the channel once; from then on the large event costs only itself."""
    broker = start_broker("max_message_size = 5000")
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        producer = Producer(RabbitMQSink(broker.url()))
        small = make_events(20)
        large = make_event(data={"x": "y" * 9000})
        batch = [*small[:10], large, *small[10:]]
        report = await producer.sink.write(batch_of(batch))
        assert report[10] == Verdict(Outcome.REJECTED_PERMANENT, "oversize")
        assert {v.outcome for i, v in report.items() if i != 10} <= {Outcome.UNKNOWN}
        report = await producer.sink.write(batch_of([large, *make_events(3)]))
        assert report == {0: Verdict(Outcome.REJECTED_PERMANENT, "oversize")}
        await producer.deliver(small)
        assert {body for body in await probe.bodies(queue) if len(body) > 5000} == set()
        await producer.sink.close()


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
    sink = RabbitMQSink(urls, exchange=exchange, op_timeout=6.0)
    assert await sink.write(batch_of(make_events(5))) is None
    assert await probe.count(queue) == 5
    await sink.close()
    silent.close()


@pytest.mark.slow
async def test_close_is_bounded_while_the_broker_is_frozen(start_broker: Start) -> None:
    """Row 38: a second, whatever the broker does."""
    broker = start_broker()
    sink = RabbitMQSink(broker.url(), op_timeout=0.3, mandatory=False)
    await sink.write(batch_of(make_events(1)))
    broker.freeze()
    with pytest.raises(OutcomeUnknown):
        # More than the kernel's buffers take, so that there is something left to send.
        await sink.write(batch_of(make_events(200, data={"x": "y" * 100_000})))
    began = time.monotonic()
    await sink.close()
    assert time.monotonic() - began < 1 + GRACE
    broker.thaw()
