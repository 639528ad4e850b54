"""`RedisSource` against a real server: where reading begins, what a group promises."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from streamll import ConfigurationError, PermanentError, TransientError
from streamll.source import Start
from streamll.testing import FakeClock
from streamll_redis import RedisSink, RedisSource
from streamll_redis._async_link import AsyncLink
from support.events import batch_of, body_of, make_event, make_events
from support.redis_driver import reading
from support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.broker, pytest.mark.anyio]

KEY = "streamll_events"
OLDEST = Start(beginning=True)


@contextlib.asynccontextmanager
async def opened(server, **options):
    """Open a source for the length of a block."""
    url = options.pop("url", None) or server.url
    source = RedisSource(url, **{"start": OLDEST, **options})
    await source.open()
    try:
        yield source
    finally:
        await source.close()


def append(server, count, key=KEY, **changes):
    """Append events with a sink and return their bodies."""
    events = make_events(count, **changes)
    sink = RedisSink(server.url, key, maxlen=None)
    assert sink.write(batch_of(events)) is None
    sink.close()
    return [body_of(event) for event in events]


def bodies(messages):
    """Return the bodies, in order."""
    return [message.body for message in messages]


def pending(server, group="g"):
    """Return how many messages the group has not settled."""
    return server.run("XPENDING", KEY, group)["pending"]


def oldest(server, group="g"):
    """Return how the group stands with the oldest message it has not settled."""
    with server.client() as client:
        return client.xpending_range(KEY, group, "-", "+", 1)[0]


async def test_from_the_beginning(redis_server):
    """Everything there is, then everything that comes, in order."""
    before = append(redis_server, 1200)
    async with opened(redis_server) as source:
        after = append(redis_server, 3)
        assert bodies(await reading(source, 1203)) == before + after
        assert await source.receive(0.05) == []


async def test_from_now_on_nothing_is_lost_between_reads(redis_server):
    """ "Now" is asked for once; what is appended while nobody reads comes later."""
    append(redis_server, 3)
    async with opened(redis_server, start=Start()) as source:
        for _ in range(20):
            expected = append(redis_server, 2)
            assert bodies(await reading(source, 2)) == expected


async def test_from_now_on_a_stream_that_is_not_there_yet(redis_server):
    """The first event of all is not missed."""
    async with opened(redis_server, start=Start()) as source:
        expected = append(redis_server, 1)
        assert bodies(await reading(source, 1)) == expected


async def test_from_a_time_on(redis_server):
    """The first entry of that very millisecond included."""
    for milliseconds in (1000, 2000, 2000, 3000):
        redis_server.run("XADD", KEY, f"{milliseconds}-*", "event", milliseconds)
    start = Start(time=datetime.fromtimestamp(2, UTC))
    async with opened(redis_server, start=start) as source:
        assert bodies(await reading(source, 3)) == [b"2000", b"2000", b"3000"]


async def test_from_a_position_on(redis_server):
    """What comes after the message that had it."""
    expected = append(redis_server, 5)
    async with opened(redis_server) as source:
        third = (await reading(source, 5))[2]
    async with opened(redis_server, start=Start(position=third.position)) as source:
        assert bodies(await reading(source, 2)) == expected[3:]


@pytest.mark.parametrize("stop_at", [0, 17, 60])
async def test_a_position_over_partitions_says_how_far_each_was_read(redis_server, stop_at):
    """Reading on from any message gives the rest, no more and no less."""
    events = [make_event(execution_id=f"{n % 7:032x}") for n in range(70)]
    RedisSink(redis_server.url, "p", partitions=4).write(batch_of(events))
    options = {"stream_key": "p", "partitions": 4}
    async with opened(redis_server, **options) as source:
        found = await reading(source, 70)
    start = Start(position=found[stop_at].position)
    async with opened(redis_server, start=start, **options) as source:
        rest = await reading(source, 69 - stop_at)
        assert await source.receive(0.05) == []
    assert sorted(bodies(found[: stop_at + 1] + rest)) == sorted(map(body_of, events))


async def test_a_lost_connection_goes_on_where_it_was(start_redis):
    """After `close` and `open` the next message is the one after the last received."""
    server = start_redis(appendonly="yes")
    before = append(server, 4)
    async with opened(server, block=0.2, op_timeout=0.5) as source:
        found = await reading(source, 4)
        server.kill()
        with pytest.raises(TransientError):
            await reading(source, 5)
        with pytest.raises(TransientError):
            await source.open()
        server.start()
        after = append(server, 4)
        await source.open()
        found += await reading(source, 4)
    assert bodies(found) == before + after


async def test_a_frozen_server_is_noticed(start_redis):
    """A read that should have ended is a lost connection, not an eternal wait."""
    server = start_redis()
    async with opened(server, block=0.1, op_timeout=1) as source:
        with server.frozen(), pytest.raises(TransientError):
            await reading(source, 1)


async def test_a_timeout_leaves_the_running_read_alone(redis_server):
    """A short `receive` costs nothing: the read at the server goes on."""
    async with opened(redis_server) as source:
        redis_server.run("CONFIG", "RESETSTAT")
        for _ in range(5):
            assert await source.receive(0.01) == []
        expected = append(redis_server, 1)
        assert bodies(await reading(source, 1)) == expected
        assert redis_server.run("INFO", "commandstats")["cmdstat_xread"]["calls"] <= 2


async def test_what_is_no_event_comes_through_empty(redis_server):
    """The consumer counts it; it stops nobody."""
    redis_server.run("XADD", KEY, "*", "other", "x")
    redis_server.run("XADD", KEY, "*", "first", "x", "event", "body")
    async with opened(redis_server) as source:
        assert bodies(await reading(source, 2)) == [b"", b"body"]


async def test_a_group_shares_the_messages(redis_server):
    """Each message goes to one consumer; acked, it is gone."""
    expected = append(redis_server, 40)
    async with (
        opened(redis_server, group="g", count=7) as one,
        opened(redis_server, group="g", count=7) as two,
    ):
        found = []
        while len(found) < 40:
            for source in (one, two):
                messages = await source.receive(0.05)
                await source.ack(messages)
                found += messages
    assert sorted(bodies(found)) == sorted(expected)
    assert pending(redis_server) == 0


async def test_a_consumer_that_comes_back_first_gets_what_it_had(redis_server):
    """Received and not acked: again, counted, before anything new."""
    expected = append(redis_server, 6)
    async with opened(redis_server, group="g", consumer="me", count=4) as source:
        assert len(await reading(source, 6)) == 6
        await source.open()
        again = await reading(source, 6)
    assert bodies(again) == expected
    assert {message.attempts for message in again} == {2}
    append(redis_server, 1)
    async with opened(redis_server, group="g", consumer="me") as source:
        found = await reading(source, 7)
    assert [message.attempts for message in found] == [3] * 6 + [1]


async def test_the_messages_of_the_dead_are_taken_over(redis_server):
    """After `reclaim_after` seconds, by one of the living."""
    expected = append(redis_server, 5)
    async with opened(redis_server, group="g", consumer="dead") as dead:
        assert len(await reading(dead, 5)) == 5
    async with opened(redis_server, group="g", consumer="alive", reclaim_after=0.2) as alive:
        found = await reading(alive, 5)
    assert bodies(found) == expected
    assert {message.attempts for message in found} == {2}


async def test_the_messages_of_the_busy_are_not_taken_over(redis_server):
    """What is in hand is touched in time, as long as its consumer is alive."""
    append(redis_server, 5)
    clock = FakeClock()
    async with opened(redis_server, group="g") as busy, opened(redis_server, group="g") as other:
        busy._lanes[KEY].clock = clock
        mine = await reading(busy, 5)
        assert await busy.receive(0.05) == []
        while (before := oldest(redis_server))["time_since_delivered"] < 1000:
            assert await other.receive(0.05) == []
        clock.advance(busy.settings.reclaim_after / 2)
        assert await busy.receive(0.05) == []
        after = oldest(redis_server)
        assert after["time_since_delivered"] < before["time_since_delivered"]
        assert (after["consumer"], after["times_delivered"]) == (before["consumer"], 1)
        await busy.ack(mine)
    assert pending(redis_server) == 0


async def test_a_retry_comes_when_due_and_is_counted(redis_server):
    """Not before its delay, after it with one more attempt, then acked like any other."""
    append(redis_server, 2)
    clock = FakeClock()
    async with opened(redis_server, group="g") as source:
        source._lanes[KEY].clock = clock
        first, second = await reading(source, 2)
        await source.ack([first])
        await source.retry(second, 5)
        clock.advance(4)
        assert await source.receive(0.05) == []
        clock.advance(1)
        (again,) = await reading(source, 1)
        assert (again.body, again.attempts) == (second.body, 2)
        await source.ack([again])
    assert pending(redis_server) == 0


async def test_a_dead_letter_tells_why(redis_server):
    """Body, reason and origin are in `<stream>:dead`, and the message is acked."""
    (body,) = append(redis_server, 1)
    async with opened(redis_server, group="g") as source:
        (message,) = await reading(source, 1)
        await source.dead_letter(message, "handler raised ValueError")
    ((_, letter),) = redis_server.run("XRANGE", f"{KEY}:dead", "-", "+")
    assert letter[b"event"] == body
    assert letter[b"reason"] == b"handler raised ValueError"
    assert letter[b"id"] == message.position.encode()
    assert letter[b"stream"] == KEY.encode()
    assert pending(redis_server) == 0


async def test_a_letter_that_cannot_be_written_is_not_acked(redis_server):
    """Nothing is taken off the list before it is where people look."""
    append(redis_server, 1)
    redis_server.run("SET", f"{KEY}:dead", "not a stream")
    async with opened(redis_server, group="g") as source:
        (message,) = await reading(source, 1)
        with pytest.raises(PermanentError, match="WRONGTYPE"):
            await source.dead_letter(message, "why")
    assert pending(redis_server) == 1


async def test_a_cancelled_question_is_never_answered_later(redis_server):
    """The answer has nowhere to arrive: the connection is gone."""
    settings = RedisSource(redis_server.url).settings
    link = AsyncLink(settings, settings.origin())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await link.ask(b"BLPOP", b"nothing", b"1", patience=5)
    assert await link.ask(b"PING") == b"PONG"
    link.drop()


async def test_a_new_group_begins_where_it_is_told_an_old_one_where_it_was(redis_server):
    """`start` is for the first consumer of a group only."""
    append(redis_server, 3)
    async with opened(redis_server, group="g", start=Start()) as source:
        assert await source.receive(0.05) == []
    expected = append(redis_server, 2)
    async with opened(redis_server, group="g", start=OLDEST) as source:
        assert bodies(await reading(source, 2)) == expected


async def test_a_stream_that_vanished_is_read_whole_when_it_is_back(redis_server):
    """After a flush there is no group; made again it begins at the beginning."""
    append(redis_server, 3)
    async with opened(redis_server, group="g", start=Start(), block=0.1) as source:
        redis_server.run("FLUSHALL")
        expected = append(redis_server, 2)
        with pytest.raises(TransientError, match="NOGROUP"):
            await reading(source, 1)
        await source.open()
        assert bodies(await reading(source, 2)) == expected


async def test_trimmed_while_pending_comes_through_empty(redis_server):
    """A trimmed entry cannot be had again; it is counted and settled, not waited for."""
    append(redis_server, 2)
    async with opened(redis_server, group="g", consumer="me") as source:
        await reading(source, 2)
        redis_server.run("XTRIM", KEY, "MAXLEN", 0)
        await source.open()
        assert bodies(await reading(source, 2)) == [b"", b""]


async def test_a_key_of_the_wrong_type_is_permanent(redis_server):
    """Trying again does not help."""
    redis_server.run("SET", KEY, "x")
    with pytest.raises(PermanentError, match="WRONGTYPE"):
        await RedisSource(redis_server.url, start=Start()).open()


async def test_a_wrong_password_is_permanent(start_redis):
    """And it is tried once."""
    server = start_redis(requirepass="right")
    with pytest.raises(PermanentError):
        await RedisSource(server.url, password="wrong").open()
    assert server.run("INFO", "commandstats", password="right")["cmdstat_auth"]["failed_calls"] == 1


async def test_a_unix_socket_works(start_redis, tmp_path):
    """`unix://` for the read side too."""
    path = tmp_path / "r.sock"
    server = start_redis(unixsocket=path)
    expected = append(server, 2)
    async with opened(server, url=f"unix://{path}") as source:
        assert bodies(await reading(source, 2)) == expected


async def test_tls_verifies_the_server(start_redis, certificates):
    """S10 for the read side: right authority and name, or nothing."""
    server = start_redis(tls=certificates)
    expected = append(server, 2)
    url = f"rediss://localhost:{server.tls_port}"
    authority = str(certificates.authority)
    async with opened(server, url=url, tls_ca_file=authority) as source:
        assert bodies(await reading(source, 2)) == expected
    for bad in ({}, {"url": url.replace("localhost", "127.0.0.1"), "tls_ca_file": authority}):
        with pytest.raises(PermanentError):
            await RedisSource(bad.pop("url", url), **bad).open()


async def test_resets_lose_and_double_nothing(redis_server):
    """Alone, over a connection that breaks again and again, each message comes once."""
    expected = append(redis_server, 3000)
    found = []
    with TcpProxy(redis_server.port).running() as proxy:
        source = RedisSource(f"redis://127.0.0.1:{proxy.port}", start=OLDEST, count=50)
        while len(found) < 3000:
            proxy.reset_after = 400
            with contextlib.suppress(TransientError):
                await source.open()
                while len(found) < 3000:
                    found += await source.receive(1)
        await source.close()
    assert bodies(found) == expected
    assert proxy.connections > 10


@pytest.mark.parametrize(
    "options",
    [
        {"stream_key": "s:{context.tenant}"},
        {"partitions": 0},
        {"group": ""},
        {"consumer": ""},
        {"reclaim_after": 0},
        {"start": Start(position="yesterday")},
        {"start": Start(position="1-0,2-0"), "partitions": 3},
        {"url": "redis://h?group=g"},
    ],
)
def test_bad_options_are_refused_at_once(options):
    """Before anything connects."""
    with pytest.raises(ConfigurationError):
        RedisSource(**options)


def test_no_task_and_no_warning_is_left_behind(redis_server):
    """A source that is closed in the middle of a read leaves the loop clean."""

    async def main():
        async with opened(redis_server) as source:
            await source.receive(0.01)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
