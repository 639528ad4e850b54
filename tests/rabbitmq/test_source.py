"""`RabbitMQSource` against a real broker: where reading begins, what a queue promises."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from datetime import UTC, datetime

import pytest

import streamll
from streamll import ConfigurationError, PermanentError, TransientError
from streamll.source import Start
from streamll_rabbitmq import RabbitMQSource
from support.events import batch_of, body_of, make_events
from support.rabbitmq_probe import PATIENCE, unique
from support.rabbitmq_producer import patient
from support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.broker, pytest.mark.anyio]


@contextlib.asynccontextmanager
async def opened(broker, exchange, **options):
    """Open a source for the length of a block."""
    url = options.pop("url", None) or broker.url()
    source = RabbitMQSource(url, exchange=exchange, op_timeout=60, **options)
    await source.open()
    try:
        yield source
    finally:
        await source.close()


async def publish(broker, exchange, count, **changes):
    """Publish events with a sink and return their bodies."""
    events = make_events(count, **changes)
    sink = patient(broker.url(), exchange=exchange)
    assert await sink.write(batch_of(events)) is None
    await sink.close()
    return [body_of(event) for event in events]


async def reading(source, count):
    """Receive until there are *count* messages."""
    messages = []
    async with asyncio.timeout(PATIENCE):
        while len(messages) < count:
            messages += await source.receive(0.5)
    return messages


def bodies(messages):
    """Return the bodies, in order."""
    return [message.body for message in messages]


async def test_a_temporary_queue_gets_what_comes_from_now_on(broker, probe, exchange):
    """In order, over many times its prefetch; and nothing from before."""
    await probe.bind(exchange)
    await publish(broker, exchange, 3)
    async with opened(broker, exchange, prefetch=50) as source:
        assert not source.acknowledges
        expected = await publish(broker, exchange, 700)
        assert bodies(await reading(source, 700)) == expected
        assert await source.receive(0.05) == []


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_named_queue_keeps_what_is_not_acked(broker, probe, exchange, kind):
    """Received and not acked: again, counted; acked: gone."""
    queue = unique()
    options = {"queue": queue, "queue_type": kind}
    async with opened(broker, exchange, **options) as source:
        expected = await publish(broker, exchange, 6)
        found = await reading(source, 6)
        assert {message.attempts for message in found} == {1}
        await source.ack(found[1:3])
    async with opened(broker, exchange, **options) as source:
        again = await reading(source, 4)
        assert sorted(bodies(again)) == sorted([expected[0], *expected[3:]])
        assert {message.attempts for message in again} == {2}
        await source.ack(again)
        assert await source.receive(0.05) == []
    assert await probe.count(queue) == 0


async def test_readers_of_a_queue_share_its_messages(broker, exchange):
    """`group` is another word for it; each message goes to one of them."""
    queue = unique()
    async with (
        opened(broker, exchange, group=queue, prefetch=5) as one,
        opened(broker, exchange, queue=queue, prefetch=5) as two,
    ):
        expected = await publish(broker, exchange, 40)
        found = []
        while len(found) < 40:
            for source in (one, two):
                messages = await source.receive(0.05)
                await source.ack(messages)
                found += messages
    assert sorted(bodies(found)) == sorted(expected)


async def test_only_what_is_bound_arrives(broker, probe, exchange):
    """One pattern or several; the routing key is in `Message.key`."""
    await probe.bind(exchange)
    async with opened(broker, exchange, binding=["*.*.error", "*.*.end"]) as source:
        for kind in ("token", "error", "start", "end"):
            await publish(broker, exchange, 1, event_type=kind)
        found = await reading(source, 2)
    assert [message.key.rpartition(".")[2] for message in found] == ["error", "end"]


async def test_an_existing_queue_is_read_as_it_is(broker, probe, exchange):
    """Whatever its arguments, and its bindings are left alone."""
    queue = await probe.bind(exchange, "*.*.error", kind="quorum", x_max_length=10)
    await publish(broker, exchange, 1, event_type="error")
    async with opened(broker, exchange, queue=queue) as source:
        assert len(await reading(source, 1)) == 1
        with pytest.raises(AssertionError):
            await publish(broker, exchange, 1, event_type="end")


async def test_a_retry_comes_when_due_and_is_counted(broker, probe, exchange):
    """Not before its delay; with one more attempt, its own key, and acked like any other."""
    queue = unique()
    async with opened(broker, exchange, queue=queue) as source:
        await publish(broker, exchange, 2)
        first, second = await reading(source, 2)
        await source.ack([first])
        began = time.monotonic()
        await source.retry(second, 0.3)
        (again,) = await reading(source, 1)
        assert time.monotonic() - began >= 0.3
        assert (again.body, again.key, again.attempts) == (second.body, second.key, 2)
        await source.retry(again, 0)
        (third,) = await reading(source, 1)
        assert third.attempts == 3
        await source.ack([third])
        assert await source.receive(0.05) == []
    assert await probe.count(queue) == 0


async def test_a_dead_letter_tells_why(broker, probe, exchange):
    """Body, reason, origin and the event's own properties are in `<queue>.dead`."""
    queue = unique()
    async with opened(broker, exchange, queue=queue) as source:
        (body,) = await publish(broker, exchange, 1)
        (message,) = await reading(source, 1)
        await source.dead_letter(message, "handler raised ValueError")
    (letter,) = await probe.drain(f"{queue}.dead")
    assert letter.body == body
    assert letter.headers["streamll-reason"] == "handler raised ValueError"
    assert letter.headers["streamll-queue"] == queue
    assert letter.headers["streamll-routing-key"] == message.key
    assert letter.message_id
    assert letter.delivery_mode == 2
    assert await probe.count(queue) == 0


async def test_a_stream_queue_is_replayed_from_any_place(broker, exchange):
    """From the beginning, from a position, from a time; every reader gets everything."""
    queue = unique()
    options = {"queue": queue, "queue_type": "stream", "prefetch": 20}
    async with opened(broker, exchange, **options) as live:
        before = datetime.now(UTC)
        expected = await publish(broker, exchange, 100)
        assert bodies(await reading(live, 100)) == expected
        more = await publish(broker, exchange, 5)
        assert bodies(await reading(live, 5)) == more
    oldest = Start(beginning=True)
    async with opened(broker, exchange, start=oldest, **options) as source:
        found = await reading(source, 105)
    assert bodies(found) == expected + more
    after = Start(position=found[41].position)
    async with opened(broker, exchange, start=after, **options) as source:
        assert bodies(await reading(source, 63)) == bodies(found)[42:]
    async with opened(broker, exchange, start=Start(time=before), **options) as source:
        assert len(await reading(source, 105)) == 105


async def test_a_stream_that_is_read_as_a_queue_is_refused(broker, probe, exchange):
    """It would skip what comes while the connection is lost; the message says what to do."""
    queue = await probe.bind(exchange, kind="stream")
    with pytest.raises(PermanentError, match="queue_type='stream'"):
        async with opened(broker, exchange, queue=queue):
            pass


async def test_a_stream_that_nobody_told_of_is_refused_by_its_first_message(
    broker, probe, exchange, monkeypatch
):
    """Where the broker could not be asked what the queue is."""
    monkeypatch.setattr("streamll_rabbitmq._declare._IS_STREAM", re.compile("never"))
    queue = await probe.bind(exchange, kind="stream")
    async with opened(broker, exchange, queue=queue) as source:
        await publish(broker, exchange, 1)
        with pytest.raises(PermanentError, match="queue_type='stream'"):
            await reading(source, 1)


async def test_a_stream_goes_on_where_it_was(broker, exchange):
    """After `open` the next message is the one after the last received."""
    options = {"queue": unique(), "queue_type": "stream", "prefetch": 7}
    async with opened(broker, exchange, **options) as source:
        expected = await publish(broker, exchange, 50)
        found = []
        while len(found) < 50:
            found += await source.receive(1)
            await source.open()
    assert bodies(found) == expected


@pytest.mark.slow
async def test_a_lost_connection_is_told_and_the_queue_goes_on(start_broker):
    """A kill in between: nothing acked comes again, nothing unacked is missing."""
    broker = start_broker()
    queue = unique()
    async with opened(broker, "streamll", queue=queue, queue_type="quorum") as source:
        await publish(broker, "streamll", 4)
        found = await reading(source, 4)
        await source.ack(found[:2])
        broker.sync()
        broker.kill()
        with pytest.raises(TransientError):
            await reading(source, 1)
        with pytest.raises(TransientError):
            await source.open()
        broker.start()
        await source.open()
        again = await reading(source, 2)
    assert bodies(again) == bodies(found)[2:]


@pytest.mark.slow
async def test_row_6_a_frozen_broker_is_noticed_and_nothing_is_missing(start_broker):
    """SIGSTOP: no read and no `open` hangs; after SIGCONT what was not acked comes again."""
    broker = start_broker()
    queue = unique()
    source = RabbitMQSource(broker.url(), queue=queue, op_timeout=2.0, heartbeat=1)
    await source.open()
    expected = await publish(broker, "streamll", 10)
    found = await reading(source, 10)
    await source.ack(found[:2])
    broker.freeze()
    with pytest.raises(TransientError):
        await reading(source, 1)
    with pytest.raises(TransientError, match="did not answer in time"):
        async with asyncio.timeout(PATIENCE):
            await source.open()
    broker.thaw()
    async with opened(broker, "streamll", queue=queue) as source:
        again = await reading(source, 8)
        await source.ack(again)
    assert sorted(bodies(again)) == sorted(expected[2:])


async def test_resets_lose_nothing(broker, probe, exchange):
    """Over a connection that breaks again and again, each message is acked in the end."""
    queue = unique()
    async with opened(broker, exchange, queue=queue):
        expected = await publish(broker, exchange, 1000)
    seen = set()
    with TcpProxy(broker.port).running() as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/"
        source = RabbitMQSource(url, exchange=exchange, queue=queue, prefetch=20, op_timeout=30)
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 1000:
                proxy.reset_after = 2500
                with contextlib.suppress(TransientError):
                    await source.open()
                    while len(seen) < 1000:
                        messages = await source.receive(1)
                        for message in messages:
                            await source.ack([message])
                            seen.add(message.body)
        await source.close()
    assert seen == set(expected)
    assert proxy.connections > 3


async def test_a_deleted_queue_is_a_loss(broker, probe, exchange):
    """The broker ends the reading; opening again creates the queue."""
    queue = unique()
    async with opened(broker, exchange, queue=queue) as source:
        await probe.channel.queue_delete(queue)
        with pytest.raises(TransientError):
            await reading(source, 1)
        await source.open()
        expected = await publish(broker, exchange, 1)
        assert bodies(await reading(source, 1)) == expected


async def test_what_arrives_while_messages_are_taken_is_not_lost(broker, exchange, monkeypatch):
    """Header and body of a message come in pieces, and `receive` may be called in between."""
    async with opened(broker, exchange, queue=unique()) as source:
        inbox, taken = source._inbox, []
        read = inbox._read_content

        async def read_later(*arguments):
            taken.extend(inbox.take())
            return await read(*arguments)

        monkeypatch.setattr(inbox, "_read_content", read_later)
        expected = await publish(broker, exchange, 20)
        async with asyncio.timeout(PATIENCE):
            while len(taken) < 20:
                await inbox.wait(1)
                taken += inbox.take()
    assert bodies(taken) == expected


async def test_a_cancelled_receive_loses_nothing(broker, exchange):
    """What was not returned is returned by the next call."""
    async with opened(broker, exchange, queue=unique()) as source:
        expected = await publish(broker, exchange, 50)
        found = []
        while len(found) < 50:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    found += await source.receive(1)
        assert bodies(found) == expected


async def test_a_wrong_password_is_permanent_and_not_shown(broker):
    """Trying again does not help."""
    source = RabbitMQSource(broker.url(), username="audit", password="wrong-secret", op_timeout=60)
    with pytest.raises(PermanentError) as caught:
        await source.open()
    assert "secret" not in str(caught.value)


async def test_a_user_without_rights_is_told_what_is_missing(broker, exchange):
    """Row 20 for the read side: the message names the queue."""
    source = RabbitMQSource(
        broker.url("nobody"), exchange=exchange, queue="forbidden", op_timeout=60
    )
    with pytest.raises(PermanentError, match="forbidden"):
        await source.open()


async def test_tls_verifies_the_broker(broker, certificates, exchange):
    """S10 for the read side: right authority and name, or nothing."""
    port, authority = broker.tls_port, certificates.authority
    url = f"amqps://localhost:{port}/"
    async with opened(broker, exchange, url=url, tls_ca_file=authority) as source:
        expected = await publish(broker, exchange, 2)
        assert bodies(await reading(source, 2)) == expected
    for bad in ({"url": url}, {"url": f"amqps://127.0.0.1:{port}/", "tls_ca_file": authority}):
        with pytest.raises(PermanentError):
            await RabbitMQSource(**bad, op_timeout=60).open()


async def test_consume_reads_from_a_url(broker, probe, exchange):
    """`streamll.consume("amqp://...")`, as for Redis."""
    queue = await probe.bind(exchange)
    await publish(broker, exchange, 3, event_type="token")
    url = f"{broker.url()}?exchange={exchange}&queue={queue}"
    found = []
    async with asyncio.timeout(PATIENCE):
        async with streamll.consume(url, only="token") as events:
            async for event in events:
                found.append(event)
                if len(found) == 3:
                    break
    assert [event.event_type for event in found] == ["token"] * 3


async def test_a_failing_handler_is_retried_then_buried(broker, probe, exchange):
    """`EventConsumer`: retries with delay, then the dead letters; its neighbours are handled."""
    queue = await probe.bind(exchange)
    await publish(broker, exchange, 1, event_type="error")
    await publish(broker, exchange, 4, event_type="end")
    consumer = streamll.EventConsumer(
        broker.url(), exchange=exchange, queue=queue, retries=2, retry_delay=0.1
    )
    calls = []

    @consumer.on()
    async def handle(event):
        calls.append(event.event_type)
        if event.event_type == "error":
            raise ValueError("payload")

    async def until_buried():
        dead = await probe.channel.declare_queue(f"{queue}.dead", durable=True)
        async with dead.iterator() as letters:
            letter = await anext(letters)
            await letter.ack()
        consumer.stop()
        return letter

    async with asyncio.timeout(PATIENCE):
        _, letter = await asyncio.gather(consumer.run(), until_buried())
    assert sorted(calls) == ["end"] * 4 + ["error"] * 3
    assert "ValueError" in letter.headers["streamll-reason"]
    assert letter.headers["streamll-attempts"] == 3
    assert await probe.count(queue) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"queue_type": "quorum"},
        {"queue": "q", "queue_type": "lazy"},
        {"queue": "q", "queue_type": "stream", "durable": False},
        {"queue": "q", "group": "g"},
        {"queue": ""},
        {"binding": ["x" * 256]},
        {"prefetch": 0},
        {"prefetch": 70_000},
        {"start": Start(beginning=True)},
        {"queue": "q", "start": Start(position="1")},
        {"queue": "q", "queue_type": "stream", "start": Start(position="last")},
        {"url": "amqp://h?prefetch=1"},
    ],
)
def test_bad_options_are_refused_at_once(options):
    """Before anything connects."""
    with pytest.raises(ConfigurationError):
        RabbitMQSource(**options)


def test_no_task_is_left_behind(broker, exchange):
    """A source that is closed in the middle of a read leaves the loop clean."""

    async def main():
        async with opened(broker, exchange) as source:
            await source.receive(0.01)
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
