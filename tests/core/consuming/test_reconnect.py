"""Lost connections."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from streamll import OutcomeUnknown, TransientError
from streamll.consuming import consume
from streamll.testing._source import MemorySource
from support.events import make_events


def breaking(**calls):
    """Fail these calls: method -> numbers."""
    return lambda method, number: number in calls.get(method, ())


def read(stream):
    """All events until nothing is left."""
    stream._pull.reader.link.source.on_idle = stream._pull.stop

    async def main():
        return [event async for event in stream]

    return asyncio.run(main())


@pytest.mark.parametrize("group", [None, "g"])
def test_reading_goes_on_where_it_was(never_wait, group):
    """Closed, opened, and no event twice or never."""
    events = make_events(9)
    source = MemorySource(events, group=group, batch=2, fails=breaking(receive={2, 4}))
    stream = never_wait(consume(source))
    assert read(stream) == events
    assert source.calls["open"] == 3
    assert stream.stats.reconnects == 2


def test_a_server_that_is_not_there_is_tried_ever_less_often(never_wait, waits):
    """Twice the time, jittered, up to 30 s; and from the start again after a success."""
    source = MemorySource(make_events(1), fails=breaking(open=set(range(1, 12)), receive={2}))
    read(never_wait(consume(source)))
    grown = [wait for wait in waits if wait][:11]
    for failures, wait in enumerate(grown):
        whole = min(30.0, 0.25 * 2**failures)
        assert whole / 2 <= wait <= whole
    assert [wait for wait in waits if wait][11] <= 0.25


def test_a_server_that_accepts_and_drops_at_once_is_not_hammered(never_wait, waits):
    """Only what was received counts as a success."""
    source = MemorySource(make_events(1), fails=breaking(receive={1, 2, 3, 4, 5}))
    read(never_wait(consume(source)))
    assert waits[5] >= 2.0


def test_each_change_is_logged_once_with_what_the_source_says(never_wait, caplog):
    """Five failures are one loss; no password is shown, and no text of a foreign exception."""
    lost = [TransientError("amqp://user:hunter2@host") for _ in range(5)]
    lost[0].__cause__ = ConnectionRefusedError("hunter2")
    source = MemorySource(
        make_events(3), batch=1, fails=lambda m, n: lost[n - 1] if m == "open" and n < 6 else None
    )
    with caplog.at_level("DEBUG"):
        read(never_wait(consume(source)))
    assert [record.getMessage() for record in caplog.records if record.name == "streamll"] == [
        "streamll: MemorySource: no connection, trying again "
        "(TransientError: amqp://[credentials]@host)",
        "streamll: MemorySource: connected again",
    ]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("error", [TransientError, OutcomeUnknown])
def test_an_event_whose_ack_was_lost_is_not_given_again(never_wait, error):
    """The broker delivers it again, it is recognised and acked."""
    events = make_events(3)
    source = MemorySource(
        events,
        group="g",
        batch=3,
        fails=lambda m, n: error("lost") if (m, n) == ("ack", 1) else None,
    )
    stream = never_wait(consume(source))
    assert read(stream) == events
    assert stream.stats.skipped["duplicate"] >= 1
    assert source.stream.unacked("g") == []


def test_what_waited_when_the_connection_was_lost_is_left_to_the_new_one(never_wait):
    """Its delivery tags are void: acking them would close the channel."""
    events = make_events(5)
    source = MemorySource(events, group="g", batch=5, fails=breaking(ack={1}))
    stream = never_wait(consume(source))
    stream._pull.reader._settlements._clock = itertools.count().__next__
    assert read(stream) == events
    assert stream.stats.skipped == {"stale": 4, "duplicate": 1}


def test_a_close_that_hangs_on_a_dead_server_does_not_hide_the_loss(never_wait, caplog):
    """What `close` raises after a loss is not news."""
    source = MemorySource(make_events(2), fails=breaking(receive={1}, close={1}))
    with caplog.at_level("DEBUG", "streamll"):
        assert len(read(never_wait(consume(source)))) == 2
    assert "close raised" not in caplog.text


def test_a_wait_for_the_server_ends_when_the_stream_is_closed():
    """Not after the 30 s."""
    source = MemorySource(fails=lambda method, _: method == "open")

    async def main():
        stream = consume(source)
        asleep = asyncio.Event()

        async def for_ever(seconds):
            if seconds:
                asleep.set()
                await asyncio.Event().wait()

        stream._pull.reader.link.sleep = for_ever
        waiting = asyncio.ensure_future(anext(stream, None))
        await asleep.wait()
        await stream.aclose()
        assert await waiting is None

    asyncio.run(main())
