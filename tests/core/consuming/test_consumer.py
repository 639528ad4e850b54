"""`EventConsumer`: handlers, retries, dead letters, stopping."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamll import ConfigurationError, PermanentError, StreamllError, TransientError
from streamll.consuming import EventConsumer
from streamll.testing import FakeClock
from streamll.testing._source import MemorySource, MemoryStream
from support.events import make_event, make_events

VARIABLE = contextvars.ContextVar("variable", default="unset")


def when_done(consumer):
    """Have *consumer* stop when nothing is left to read or to handle."""
    source = consumer._reader.link.source
    source.on_idle = lambda: consumer._lanes.is_idle and consumer.stop()
    return consumer


def run(consumer):
    """Run until everything is handled."""

    async def main():
        async with asyncio.timeout(60):
            await when_done(consumer).run()

    asyncio.run(main())
    return consumer.stats


def test_each_handler_gets_the_events_it_asked_for():
    """By type, operation, both, glob and predicate; `on()` gets all."""
    names = [("llm_call", "end"), ("tool_call", "end"), ("llm_call", "error")]
    events = [make_event(operation=operation, event_type=kind) for operation, kind in names]
    consumer = EventConsumer(MemorySource(events))
    got = {}
    for key, wanted in {
        "all": (),
        "type": ("end",),
        "both": ("llm_call.end", "error"),
        "glob": ("*_call.e[nr]*",),
        "list": ("tool_call, error",),
        "predicate": (lambda event: event.operation == "tool_call",),
        "none": ("token", lambda event: False),
    }.items():
        consumer.on(*wanted)(lambda event, key=key: got.setdefault(key, []).append(event))
    run(consumer)
    end, tool, error = events
    assert got == {
        "all": events,
        "type": [end, tool],
        "both": [end, error],
        "glob": events,
        "list": [tool, error],
        "predicate": [tool],
    }


def test_handlers_of_an_event_are_called_one_after_the_other_as_registered():
    """Sync and async mixed."""
    consumer, order = EventConsumer(MemorySource(make_events(2))), []

    @consumer.on("token")
    def first(event):
        order.append("first")

    @consumer.on("llm_call")
    async def second(event):
        await asyncio.sleep(0)
        order.append("second")

    class Third:
        async def __call__(self, event):
            order.append("third")

    consumer.on()(Third())
    run(consumer)
    assert order == ["first", "second", "third"] * 2


def test_a_sync_handler_may_block_and_keeps_the_context_variables():
    """It runs in a thread; the loop goes on meanwhile."""
    consumer = EventConsumer(MemorySource(make_events(1)))
    loop_went_on, seen = threading.Event(), []

    async def main():
        VARIABLE.set("set")
        loop = asyncio.get_running_loop()

        @consumer.on()
        def blocking(event):
            seen.append((threading.current_thread(), VARIABLE.get()))
            loop.call_soon_threadsafe(loop_went_on.set)
            assert loop_went_on.wait(30)

        await when_done(consumer).run()

    asyncio.run(main())
    assert seen[0][0] is not threading.current_thread()
    assert seen[0][1] == "set"


def test_an_event_is_acked_after_its_handlers_and_not_before():
    """A crash inside a handler has it delivered again."""
    source = MemorySource(make_events(1), group="g")
    consumer = EventConsumer(source)

    @consumer.on()
    async def look(event):
        assert source.stream.unacked("g") == ["00000001"]

    run(consumer)
    assert consumer.stats.dead == consumer.stats.retried == 0
    assert source.stream.unacked("g") == []


def test_acks_do_not_wait_for_the_rest_of_a_long_batch():
    """What is handled is acked while the next is."""
    source = MemorySource(make_events(3), group="g")
    consumer, clock, left = EventConsumer(source), FakeClock(), []
    consumer._reader._settlements._clock = clock

    @consumer.on()
    async def look(event):
        clock.advance(1)
        for _ in range(5):
            await asyncio.sleep(0)
        left.append(len(source.stream.unacked("g")))

    run(consumer)
    assert left == [3, 2, 1]


def test_retries_do_not_wait_for_the_rest_of_a_long_batch_either():
    """Nor do dead letters."""
    source = MemorySource(make_events(3), group="g")
    consumer, clock, dead = EventConsumer(source, retries=0), FakeClock(), []
    consumer._reader._settlements._clock = clock

    @consumer.on()
    async def look(event):
        clock.advance(1)
        for _ in range(5):
            await asyncio.sleep(0)
        dead.append(len(source.stream.dead))
        raise ValueError

    run(consumer)
    assert dead == [0, 1, 2]


def test_a_dead_letter_that_was_lost_with_the_connection_is_written_again(never_wait):
    """It is no repeat of something that was dealt with."""
    source = MemorySource(make_events(1), group="g", fails=lambda *call: call == ("dead_letter", 1))
    consumer = never_wait(EventConsumer(source, retries=0))
    consumer.on()(lambda event: 1 / 0)
    run(consumer)
    assert [reason for _, reason in source.stream.dead] == ["ZeroDivisionError"]


def test_an_event_that_nobody_handles_is_acked_and_counted():
    """As if it had been filtered."""
    source = MemorySource(make_events(2), group="g")
    consumer = EventConsumer(source)
    consumer.on("error")(print)
    assert run(consumer).skipped == {"filtered": 2}
    assert source.stream.unacked("g") == []


def test_a_failed_event_is_delivered_again_with_delay_then_dead_lettered_by_type_name():
    """The loop survives; the events beside it are handled once."""
    bad, good = make_events(2)
    source = MemorySource([bad, good], group="g")
    consumer, calls = EventConsumer(source, retries=2, retry_delay=1.5), []

    @consumer.on()
    async def handler(event):
        calls.append(event)
        if event == bad:
            raise ZeroDivisionError("payload")

    stats = run(consumer)
    assert (calls.count(bad), calls.count(good)) == (3, 1)
    assert source.stream.delays == [1.5, 1.5]
    [(letter, reason)] = source.stream.dead
    assert (letter.position, letter.attempts, reason) == ("00000001", 3, "ZeroDivisionError")
    assert (stats.yielded, stats.retried, stats.dead) == (1, 2, 1)
    assert source.stream.unacked("g") == []


def test_a_retry_that_works_leaves_no_dead_letter():
    """It is not taken for a repeat of the first delivery."""
    source = MemorySource(make_events(1), group="g")
    consumer, calls = EventConsumer(source), []

    @consumer.on()
    def handler(event):
        calls.append(event)
        if len(calls) < 3:
            raise OSError

    stats = run(consumer)
    assert (len(calls), stats.yielded, stats.retried, stats.skipped) == (3, 1, 2, {})
    assert source.stream.dead == []


def test_without_retries_the_first_failure_is_the_last():
    """Straight to the dead letters."""
    source = MemorySource(make_events(1), group="g")
    consumer = EventConsumer(source, retries=0)
    consumer.on()(lambda event: 1 / 0)
    assert run(consumer).dead == 1
    assert source.stream.delays == []


def test_without_a_group_only_the_failed_handlers_are_called_again_on_the_spot(never_wait, waits):
    """Then the event counts as dead, and the next one comes."""
    consumer = never_wait(EventConsumer(MemorySource(make_events(2)), retries=2, retry_delay=0.7))
    calls = []

    @consumer.on()
    async def good(event):
        calls.append("good")

    @consumer.on()
    async def bad(event):
        calls.append("bad")
        if calls.count("bad") <= 3:
            raise ValueError

    stats = run(consumer)
    assert calls == ["good", "bad", "bad", "bad", "good", "bad"]
    assert [wait for wait in waits if wait] == [0.7, 0.7]
    assert (stats.yielded, stats.dead, stats.retried) == (1, 1, 0)


def test_a_handler_that_fails_does_not_keep_the_event_from_the_others():
    """Pager and audit know nothing of each other."""
    source = MemorySource(make_events(1), group="g")
    consumer, audit = EventConsumer(source, retries=1), []
    consumer.on(lambda event: 1 / 0)(print)
    consumer.on()(audit.append)
    run(consumer)
    assert len(audit) == 2
    assert source.stream.dead[0][1] == "ZeroDivisionError"


@pytest.mark.parametrize(
    "error", [Exception, SystemExit, StopIteration, asyncio.CancelledError, TimeoutError]
)
@pytest.mark.parametrize("is_async", [True, False])
def test_nothing_a_handler_raises_stops_the_loop(error, is_async):
    """Not even what usually ends a program, a future or a task."""
    source = MemorySource(make_events(2), group="g")
    consumer = EventConsumer(source, retries=0)

    def sync(event):
        raise error

    async def coroutine(event):
        raise error

    consumer.on()(coroutine if is_async else sync)
    assert run(consumer).dead == 2


def test_a_failure_is_logged_once_with_its_place_and_never_its_text(caplog):
    """The text may hold payload; further ones are counted."""
    consumer = EventConsumer(MemorySource(make_events(5)), retries=0)

    @consumer.on()
    def page_someone(event):
        raise KeyError("canary")

    with caplog.at_level("DEBUG"):
        run(consumer)
    [line] = [record.getMessage() for record in caplog.records if record.name == "streamll"]
    assert "page_someone raised KeyError at" in line
    assert "test_consumer.py:" in line
    assert "canary" not in caplog.text


def test_stop_finishes_the_event_in_hand_and_leaves_the_rest():
    """From inside a handler."""
    source = MemorySource(make_events(5), group="g")
    consumer = EventConsumer(source)

    @consumer.on()
    async def handler(event):
        consumer.stop()
        await asyncio.sleep(0)

    asyncio.run(consumer.run())
    assert consumer.stats.yielded == 1
    assert source.stream.unacked("g") == ["00000002", "00000003", "00000004", "00000005"]
    assert not source.is_open


def test_stop_from_another_thread_ends_the_wait_for_the_next_event():
    """Without waiting for one."""

    class Silent(MemorySource):
        async def receive(self, *_):
            waiting.set()
            await asyncio.Event().wait()

    waiting = threading.Event()
    consumer = EventConsumer(Silent())
    consumer.on()(print)
    stopper = threading.Thread(target=lambda: (waiting.wait(), consumer.stop()))
    stopper.start()
    asyncio.run(consumer.run())
    stopper.join()


def test_a_stop_before_the_start_counts():
    """A program may be told to end while it begins."""
    source = MemorySource(make_events(1))
    consumer = EventConsumer(source)
    consumer.on()(print)
    consumer.stop()
    asyncio.run(consumer.run())
    assert source.calls["open"] == 0


def test_a_stop_ends_the_wait_for_a_retry():
    """The event is not dead: it was not tried often enough."""
    consumer = EventConsumer(MemorySource(make_events(1)), retry_delay=3600)

    @consumer.on()
    async def handler(event):
        asyncio.get_running_loop().call_soon(consumer.stop)
        raise ValueError

    asyncio.run(consumer.run())
    assert (consumer.stats.dead, consumer.stats.yielded) == (0, 0)


def test_a_cancelled_run_leaves_what_it_was_doing_unacked():
    """What was handled before is acked; the handler is interrupted."""
    source = MemorySource(make_events(3), group="g")
    consumer, interrupted = EventConsumer(source), []

    async def main():
        reached = asyncio.Event()

        @consumer.on()
        async def handler(event):
            if event.sequence % 2 == parity:
                return
            reached.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                interrupted.append(event)
                raise

        running = asyncio.ensure_future(consumer.run())
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    first = consumer._reader.link.source.stream.messages[0].body
    parity = int(first.split(b'"sequence":')[1].split(b",")[0]) % 2
    asyncio.run(main())
    assert len(interrupted) == 1
    assert consumer.stats.retried == consumer.stats.dead == 0
    assert source.stream.unacked("g") == ["00000002", "00000003"]
    assert not source.is_open


def test_a_cancel_after_a_stop_interrupts_the_event_in_hand_and_disconnects():
    """Whoever cannot wait for the handler may insist."""
    source = MemorySource(make_events(2), group="g")
    consumer = EventConsumer(source)

    async def main():
        reached = asyncio.Event()

        @consumer.on()
        async def handler(event):
            reached.set()
            await asyncio.Event().wait()

        running = asyncio.ensure_future(consumer.run())
        await reached.wait()
        consumer.stop()
        for _ in range(5):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert source.stream.unacked("g") == ["00000001", "00000002"]
    assert not source.is_open


def test_a_permanent_error_ends_the_run_with_its_message():
    """After the handlers at work; a wait for a retry is not waited out."""
    failed = []
    source = MemorySource(
        make_events(1),
        fails=lambda m, _: PermanentError("queue deleted") if m == "receive" and failed else None,
    )
    consumer = EventConsumer(source, concurrency=2, retry_delay=3600)

    @consumer.on()
    async def handler(event):
        failed.append(event)
        raise ValueError

    with pytest.raises(PermanentError, match="queue deleted"):
        run(consumer)
    assert not source.is_open


def test_a_consumer_without_handlers_or_run_twice_is_refused():
    """Both are mistakes that would show as silence."""
    consumer = EventConsumer(MemorySource())
    with pytest.raises(StreamllError, match=r"@consumer\.on"):
        asyncio.run(consumer.run())
    consumer.on()(print)
    consumer.stop()
    asyncio.run(consumer.run())
    with pytest.raises(StreamllError, match="runs once"):
        asyncio.run(consumer.run())


def test_on_refuses_what_is_no_pattern_and_a_decorator_without_parentheses():
    """``@consumer.on`` above an async handler would take it for a predicate."""
    consumer = EventConsumer(MemorySource())
    with pytest.raises(ConfigurationError, match=r"on\(\)"):

        @consumer.on
        async def handler(event): ...

    with pytest.raises(ConfigurationError, match="not 5"):
        consumer.on(5)
    with pytest.raises(ConfigurationError, match="pattern"):
        consumer.on("")


def test_a_handler_is_returned_unchanged():
    """It can be called and tested by itself."""

    def handler(event): ...

    assert EventConsumer(MemorySource()).on("x")(handler) is handler


def test_executions_are_handled_at_the_same_time():
    """Each handler waits for the other's event: one after the other would never end."""
    events = [make_event(execution_id=f"{n:032x}") for n in range(16)]
    consumer = EventConsumer(MemorySource(events), concurrency=2)

    async def main():
        both = asyncio.Barrier(2)

        @consumer.on()
        async def handler(event):
            await both.wait()
            consumer.stop()

        async with asyncio.timeout(60):
            await consumer.run()

    asyncio.run(main())
    assert consumer.stats.yielded == 2


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=40),
    st.integers(1, 5),
    st.booleans(),
    st.sets(st.tuples(st.sampled_from(["receive", "ack", "open"]), st.integers(1, 8))),
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
)
def test_an_execution_is_handled_in_order_and_each_event_once(
    plan, concurrency, grouped, broken, pace
):
    """For any number of lanes, any pattern of lost connections and any speed of handlers."""
    events = [make_event(execution_id=f"{lane:032x}") for lane in plan]
    source = MemorySource(
        events,
        group="g" if grouped else None,
        batch=7,
        fails=lambda *call: TransientError() if call in broken else None,
    )
    consumer = EventConsumer(source, concurrency=concurrency)
    clock = iter(range(10**9))
    consumer._reader._settlements._clock = clock.__next__

    async def no_wait(_):
        await asyncio.sleep(0)

    consumer._reader.link.sleep = no_wait
    handled = []

    @consumer.on()
    async def handler(event):
        for _ in range(pace[event.sequence % len(pace)]):
            await asyncio.sleep(0)
        handled.append(event)

    stats = run(consumer)
    for lane in set(plan):
        mine = [event for event in events if event.execution_id == f"{lane:032x}"]
        assert [event for event in handled if event.execution_id == mine[0].execution_id] == mine
    assert len(handled) == len(events)
    assert stats.received == stats.yielded + sum(stats.skipped.values())
    if grouped and source.stream.groups:
        assert source.stream.unacked("g") == []


def test_a_slow_execution_does_not_keep_others_waiting_for_ever():
    """New events are fetched and handled while one handler hangs."""
    waits = set()

    class Timed(MemorySource):
        async def receive(self, *args):
            waits.add((consumer._lanes.is_idle, *args))
            return await super().receive(*args)

    stream = MemoryStream([make_event(execution_id="0" * 32)])
    consumer = EventConsumer(Timed(stream), concurrency=4)
    lanes = {n: make_event(execution_id=f"{n:032x}") for n in range(1, 20)}

    async def main():
        hangs, others = asyncio.Event(), asyncio.Event()

        @consumer.on()
        async def handler(event):
            if event.execution_id == "0" * 32:
                for other in lanes.values():
                    stream.add(other)
                await hangs.wait()
            else:
                others.set()

        running = asyncio.ensure_future(consumer.run())
        async with asyncio.timeout(60):
            await others.wait()
            consumer.stop()
            hangs.set()
            await running

    asyncio.run(main())
    assert waits == {(True, 1.0), (False, 0.05)}  # what is handled is acked soon


def test_run_sync_runs_until_stopped():
    """The loop is its own; the caller's thread only waits."""
    source = MemorySource(make_events(3), group="g")
    consumer, threads = when_done(EventConsumer(source)), set()

    @consumer.on()
    async def handler(event):
        threads.add(threading.current_thread().name)

    consumer.run_sync()
    assert consumer.stats.yielded == 3
    assert threads == {"streamll-consume"}
    assert "streamll-consume" not in {thread.name for thread in threading.enumerate()}


def test_run_sync_raises_what_run_raises():
    """And ends its thread."""
    consumer = EventConsumer(MemorySource(fails=lambda *_: PermanentError("denied")))
    consumer.on()(print)
    with pytest.raises(PermanentError, match="denied"):
        consumer.run_sync()
    assert "streamll-consume" not in {thread.name for thread in threading.enumerate()}
