"""`consume` without an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque

import pytest

from streamll import PermanentError, StreamllError
from streamll.consuming import EventConsumer, consume
from streamll.testing._source import MemorySource, MemoryStream
from support.events import make_event, make_events


def ours():
    """Our threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "streamll-consume"]


@pytest.fixture(autouse=True)
def _no_thread_stays():
    """Nothing runs after any of these tests."""
    yield
    assert ours() == []


def test_a_plain_loop_gets_the_events_and_leaves_no_thread():
    """Without any event loop of the caller's."""
    events, got = make_events(5), []
    source = MemorySource(events, batch=2)
    for event in consume(source):
        got.append(event)
        assert len(ours()) == 1
        if len(got) == 5:
            break
    assert got == events
    assert not source.is_open
    assert ours() == []


def test_nothing_starts_before_the_first_event():
    """Making a stream costs no thread."""
    consume(MemorySource())
    assert ours() == []


def test_it_works_in_any_thread():
    """Also where the main thread runs an event loop."""
    got = []

    async def main():
        await asyncio.to_thread(lambda: got.extend(next(zip(consume(MemorySource([event]))))))

    event = make_event()
    asyncio.run(main())
    assert got == [event]


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: next(iter(stream)),
        next,
        lambda stream: stream.__enter__(),
        lambda stream: list(stream),
    ],
)
def test_it_is_refused_where_an_event_loop_would_stand_still(use):
    """The message says what to write instead."""

    async def main():
        with pytest.raises(StreamllError, match="async for event in consume"):
            use(consume(MemorySource(make_events(1))))

    asyncio.run(main())


def test_a_consumer_is_refused_there_too():
    """As for the loop."""

    async def main():
        consumer = EventConsumer(MemorySource())
        consumer.on()(print)
        with pytest.raises(StreamllError, match=r"await consumer\.run"):
            consumer.run_sync()

    asyncio.run(main())


def test_a_with_block_connects_acks_and_disconnects():
    """As in async code."""
    source = MemorySource(make_events(3), group="g")
    with consume(source) as events:
        assert source.is_open
        for _ in events:
            break
        next(events)
    assert not source.is_open
    assert source.stream.unacked("g") == ["00000003"]


def test_an_exception_in_the_loop_passes_and_leaves_its_event_unacked():
    """It is delivered again to whoever comes next."""
    source = MemorySource(make_events(2), group="g")
    with pytest.raises(ZeroDivisionError), consume(source) as events:
        deque(1 / 0 for _ in events)
    assert source.stream.unacked("g") == ["00000001", "00000002"]


def test_a_close_from_another_thread_ends_the_loop():
    """The loop waits for an event that never comes."""
    waiting = threading.Event()
    stream = consume(MemorySource(on_idle=waiting.set))
    closer = threading.Thread(target=lambda: (waiting.wait(), stream.close()))
    closer.start()
    assert list(stream) == []
    closer.join()
    stream.close()


def test_a_permanent_error_is_raised_in_the_loop():
    """With its message."""
    source = MemorySource(fails=lambda method, _: PermanentError("no such queue"))
    with pytest.raises(PermanentError, match="no such queue"):
        list(consume(source))


def test_the_source_lives_while_the_caller_is_busy():
    """The loop goes on between two events, so heartbeats do."""
    stream = MemoryStream(make_events(2))
    beats, beaten = [], threading.Event()

    class Beating(MemorySource):
        async def open(self):
            await super().open()
            self.task = asyncio.create_task(self.beat())

        async def beat(self):
            while not beaten.is_set():
                beats.append(1)
                if len(beats) > 3 and busy.is_set():
                    beaten.set()
                await asyncio.sleep(0)

    busy = threading.Event()
    with consume(Beating(stream)) as events:
        next(events)
        busy.set()
        assert beaten.wait(30)


def test_a_stream_belongs_to_the_loop_or_the_thread_that_used_it_first():
    """Two event loops cannot share a connection."""

    async def main():
        stream = consume(MemorySource(make_events(3)))
        await anext(stream)
        with pytest.raises(StreamllError, match="async for"):
            await asyncio.to_thread(next, stream)
        with pytest.raises(StreamllError, match="aclose"):
            await asyncio.to_thread(stream.close)
        await stream.aclose()

    asyncio.run(main())


def test_aclose_closes_what_a_thread_reads():
    """So that a web server can end a reader thread."""
    stream = consume(MemorySource(make_events(2)))
    next(stream)
    asyncio.run(stream.aclose())
    assert next(stream, None) is None


def test_stats_can_be_read_at_any_time():
    """A snapshot, from the caller's thread."""
    a, b = make_events(2)
    with consume(MemorySource([a, b"\x00", a, b])) as events:
        before = events.stats
        next(events), next(events)
        stats = events.stats
    assert (before.received, before.skipped) == (0, {})
    assert (stats.received, stats.yielded) == (4, 1)
    assert stats.skipped == {"garbage": 1, "duplicate": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_told_that_the_loop_stayed_behind():
    """Instead of waiting for ever."""
    source = MemorySource(make_events(3), batch=1)
    with consume(source) as events:
        next(events)
        child = os.fork()
        if not child:
            try:
                next(events)
            except StreamllError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
