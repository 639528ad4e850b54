"""`consume` in an event loop: what is given, what is left out, what is acked when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamll import PermanentError, TransientError
from streamll.consuming import consume
from streamll.source import Start
from streamll.testing import FakeClock
from streamll.testing._source import MemorySource, MemoryStream
from support.events import body_of, make_event, make_events


async def first(stream, count):
    """The next *count* events; leaves the stream open."""
    return [await anext(stream) for _ in range(count)]


async def rest(stream):
    """All events until nothing is left, then close."""
    source = stream._pull.reader.link.source
    source.on_idle = stream._pull.stop
    return [event async for event in stream]


def read(source, **options):
    """All events of *source*, and the stats."""
    stream = consume(source, **options)
    return asyncio.run(rest(stream)), stream.stats


def test_events_come_as_they_were_sent_and_in_order():
    """The read side changes nothing."""
    events = make_events(250)
    assert read(MemorySource(events))[0] == events


def test_a_break_closes_the_source():
    """Nothing is left connected by a loop that ends early."""
    source = MemorySource(make_events(3))

    async def main():
        async for _ in consume(source):
            break
        for _ in range(5):
            await asyncio.sleep(0)
        assert not source.is_open

    asyncio.run(main())


def test_a_with_block_connects_when_entered_and_outlives_a_break():
    """So that what happens inside is seen by a reader that begins now."""
    stream = MemoryStream(make_events(2))
    source = MemorySource(stream, start=Start())

    async def main():
        async with consume(source) as events:
            assert source.is_open
            new = make_events(2)
            for event in new:
                stream.add(event)
            async for event in events:
                assert event == new[0]
                break
            for _ in range(5):
                await asyncio.sleep(0)
            assert await anext(events) == new[1]
        assert not source.is_open

    asyncio.run(main())


def test_a_closed_stream_has_no_further_event_and_closing_again_is_harmless():
    """As with a generator."""

    async def main():
        stream = consume(MemorySource(make_events(3)))
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
        assert [event async for event in stream] == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("start", "left"),
    [
        (Start(beginning=True), 4),
        (Start(position="00000001"), 3),
        (Start(time=datetime(2026, 1, 1, 0, 2, tzinfo=UTC)), 2),
        (Start(), 0),
    ],
)
def test_reading_begins_where_the_start_says(start, left):
    """Beginning, position (after it), time (from it on), now."""
    events = [make_event(timestamp=datetime(2026, 1, 1, 0, n, tzinfo=UTC)) for n in range(4)]
    assert read(MemorySource(events, start=start))[0] == events[4 - left :]


def test_only_keeps_what_matches_type_operation_or_both():
    """The same patterns as for sinks; the rest is counted."""
    kinds = [("llm_call", "token"), ("llm_call", "end"), ("tool_call", "end"), ("x", "error")]
    events = [make_event(operation=operation, event_type=kind) for operation, kind in kinds]
    got, stats = read(MemorySource(events), only=["tool_*", "*.error", "llm_call.end"])
    assert got == events[1:]
    assert stats.skipped == {"filtered": 1}


def test_one_execution_can_be_followed():
    """All others are counted as filtered."""
    events = [make_event(execution_id=name * 32, trace_id="c" * 32) for name in "abab"]
    got, stats = read(MemorySource(events), execution="a" * 32)
    assert got == [events[0], events[2]]
    assert stats.skipped == {"filtered": 2}


def test_a_repeated_event_is_given_once():
    """Delivery is at-least-once; `event_id` tells."""
    a, b = make_events(2)
    got, stats = read(MemorySource([a, b, a, b, b]))
    assert got == [a, b]
    assert stats.skipped == {"duplicate": 3}


def test_the_window_of_known_ids_is_bounded_and_can_be_switched_off():
    """Two ids are remembered of three; none with 0."""
    a, b, c = make_events(3)
    assert read(MemorySource([a, b, b, c, b, a, c]), dedup=2)[0] == [a, b, c, a]
    assert read(MemorySource([a, a]), dedup=0)[0] == [a, a]


def test_garbage_and_foreign_schemas_are_skipped_counted_and_never_fatal():
    """Without a group there is nobody to tell."""
    event = make_event()
    foreign = body_of(make_event(schema_version="2.0"))
    source = MemorySource([b"\x00", foreign, b"{}", event])
    got, stats = read(source)
    assert got == [event]
    assert stats.skipped == {"garbage": 2, "schema": 1}
    assert source.stream.dead == []


def test_with_a_group_they_become_dead_letters():
    """Acked, they would be gone without anybody having read them."""
    foreign = body_of(make_event(schema_version="2.0"))
    source = MemorySource([b"\x00", foreign], group="g")
    read(source)
    letters = [(message.position, reason) for message, reason in source.stream.dead]
    assert letters == [("00000001", "garbage"), ("00000002", "schema")]
    assert source.stream.unacked("g") == []


def test_what_is_filtered_or_repeated_is_acked():
    """It is dealt with; else it would pile up in the group."""
    a, b = make_events(2)
    source = MemorySource([a, a, b], group="g")
    read(source, only="nothing")
    assert source.stream.unacked("g") == []


def test_an_event_is_acked_when_the_next_is_asked_for():
    """Not before: a crash in between has it delivered again."""
    source = MemorySource(make_events(3), group="g")
    clock = FakeClock()

    async def main():
        stream = consume(source)
        stream._pull.reader._settlements._clock = clock
        for left in ([1, 2, 3], [2, 3], [3]):
            await anext(stream)
            assert [int(position) for position in source.stream.unacked("g")] == left
            clock.advance(1)
        await stream.aclose()

    asyncio.run(main())


def test_acks_keep_each_other_company_for_a_tenth_of_a_second():
    """A thousand events consumed in no time cost two round trips, not a thousand."""
    source = MemorySource(make_events(1000), group="g", batch=1000)

    async def main():
        stream = consume(source)
        stream._pull.reader._settlements._clock = FakeClock()
        await rest(stream)

    asyncio.run(main())
    assert source.calls["ack"] <= 2
    assert source.stream.unacked("g") == []


def test_the_event_a_loop_broke_off_at_stays_unacked():
    """A break and an exception look alike to an iterator, so both count as a crash."""
    for ending in (None, ValueError()):
        source = MemorySource(make_events(3), group="g")

        async def main(source=source, ending=ending):
            seen = 0
            async for _ in consume(source):
                seen += 1
                if seen == 2:
                    if ending:
                        raise ending
                    break

        try:
            asyncio.run(main())
        except ValueError:
            assert ending
        assert source.stream.unacked("g") == ["00000002", "00000003"]


def test_a_with_block_left_cleanly_acks_its_last_event():
    """Left by an exception it does not."""
    for error, left in ((None, ["00000002"]), (ValueError(), ["00000001", "00000002"])):
        source = MemorySource(make_events(2), group="g")

        async def main(source=source, error=error):
            async with consume(source) as events:
                await anext(events)
                if error:
                    raise error

        try:
            asyncio.run(main())
        except ValueError:
            assert error
        assert source.stream.unacked("g") == left


def test_a_reader_of_the_same_group_takes_over_what_was_left():
    """Delivered again, first, and counted in `attempts`."""
    stream = MemoryStream(make_events(3))

    async def main():
        async for _ in consume(MemorySource(stream, group="g")):
            break
        for _ in range(5):
            await asyncio.sleep(0)
        return await first(consume(MemorySource(stream, group="g")), 3)

    taken = asyncio.run(main())
    assert [body_of(event) for event in taken] == [message.body for message in stream.messages]


def test_a_cancelled_wait_loses_no_event():
    """`asyncio.wait_for(anext(events), 1)` may be tried again."""
    stream = MemoryStream()

    async def main():
        events = consume(MemorySource(stream))
        waiting = asyncio.ensure_future(anext(events))
        for _ in range(5):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        event = make_event()
        stream.add(event)
        assert await anext(events) == event
        await events.aclose()

    asyncio.run(main())


def test_a_close_from_elsewhere_ends_the_loop_that_waits():
    """As if the stream had come to its end."""

    async def main():
        source = MemorySource()
        stream = consume(source)
        waiting = asyncio.ensure_future(rest_of(stream))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        await stream.aclose()
        assert await waiting == []
        assert not source.is_open

    async def rest_of(stream):
        return [event async for event in stream]

    asyncio.run(main())


def test_a_close_waits_until_what_it_interrupts_has_let_go():
    """The methods of a source never run at once."""
    order = []

    class Slow(MemorySource):
        async def receive(self, *_):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                order.append("received")

        async def close(self):
            order.append("closed")

    async def main():
        stream = consume(Slow())
        waiting = asyncio.ensure_future(anext(stream, None))
        for _ in range(5):
            await asyncio.sleep(0)
        await stream.aclose()
        await waiting

    asyncio.run(main())
    assert order == ["received", "closed"]


def test_a_timeout_of_the_source_itself_is_not_taken_for_a_close():
    """It is a fault of the plugin, and seen."""
    with pytest.raises(TimeoutError, match="mine"):
        read(MemorySource(fails=lambda m, _: TimeoutError("mine") if m == "receive" else None))


def test_a_permanent_error_is_raised_with_its_message():
    """And everything is closed."""
    source = MemorySource(
        fails=lambda method, _: PermanentError("wrong password") if method == "open" else None
    )
    with pytest.raises(PermanentError, match="wrong password"):
        read(source)
    assert not source.is_open
    assert source.calls["close"] >= 1


bodies = st.lists(
    st.one_of(
        st.integers(0, 9),  # an event, perhaps again
        st.just(b"\x00"),
        st.just(body_of(make_event(schema_version="3.1"))),
    ),
    max_size=30,
)
failures = st.sets(
    st.tuples(st.sampled_from(["open", "receive", "ack", "dead_letter"]), st.integers(1, 12))
)


@settings(max_examples=300, deadline=None)
@given(bodies, failures, st.booleans(), st.integers(1, 7), st.booleans())
def test_whatever_is_lost_each_event_is_given_once_and_every_message_accounted_for(
    plan, broken, grouped, batch, late
):
    """Any mix of events, repeats and garbage, through any pattern of lost connections.

    In order; with a group, nothing stays unacked; the numbers add up.
    """
    events = make_events(10)
    source = MemorySource(
        [events[item] if isinstance(item, int) else item for item in plan],
        group="g" if grouped else None,
        batch=batch,
        fails=lambda *call: TransientError("lost") if call in broken else None,
    )
    stream = consume(source, dedup=1000)
    clock = FakeClock()
    stream._pull.reader._settlements._clock = clock if late else lambda: clock.now + len(broken)

    async def no_wait(_):
        clock.advance(1)

    stream._pull.reader.link.sleep = no_wait
    got = asyncio.run(rest(stream))
    wanted = [events[item] for item in dict.fromkeys(i for i in plan if isinstance(i, int))]
    assert got == wanted
    stats = stream.stats
    assert stats.received == stats.yielded + sum(stats.skipped.values())
    assert stats.yielded == len(wanted)
    if not grouped:
        assert stats.received == len(plan)
