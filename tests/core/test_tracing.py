"""`emit`, `trace` and `context`: the application's own events."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamll
from streamll.testing import MemorySink, capture_events, tree
from support.tokens import assert_complete


@pytest.fixture
def sink():
    """A configured sink."""
    memory = MemorySink()
    streamll.configure(sinks=[memory])
    return memory


def got(sink):
    """What arrived."""
    assert streamll.flush()
    return sink.events


def test_a_trace_starts_and_ends_once_with_its_duration(sink):
    """start, custom event, end; one span; contiguous sequence."""
    with streamll.trace("retrieval", k=5) as span:
        span.emit("docs_found", count=3)
        span.set(best=0.9)
    start, found, end = got(sink)
    assert (start.event_type, found.event_type, end.event_type) == ("start", "docs_found", "end")
    assert {e.operation for e in (start, found, end)} == {"retrieval"}
    assert start.data == {"k": 5}
    assert found.data == {"count": 3}
    assert end.data == {"best": 0.9}
    assert end.duration_ms >= 0
    assert [e.sequence for e in (start, found, end)] == [1, 2, 3]
    assert len({e.span_id for e in (start, found, end)}) == 1


def test_an_exception_closes_the_trace_as_error_and_passes_on(sink):
    """The program sees its own exception."""
    with pytest.raises(KeyError), streamll.trace("work"):
        raise KeyError("missing")
    error = got(sink)[-1]
    assert error.event_type == "error"
    assert error.data["type"] == "KeyError"
    assert "test_tracing" in error.data["traceback"]
    assert error.severity == "error"


def test_a_cancelled_task_closes_its_trace_as_cancel(sink):
    """Cancellation is not an error."""

    async def main():
        async def work():
            async with streamll.trace("work"):
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [e.event_type for e in got(sink)] == ["start", "cancel"]


def test_traces_nest_and_emit_joins_the_innermost(sink):
    """Parents are right at any depth."""
    with streamll.trace("outer"), streamll.trace("inner"):
        streamll.emit("note", {"n": 1})
    (root,) = tree(got(sink))
    assert list(root.lines()) == ["outer None end", "  inner None end"]
    assert root.children[0].others[0].event_type == "note"


def test_a_decorator_gives_every_call_its_own_span(sink):
    """Sync and async functions, concurrently."""

    @streamll.trace("job")
    def job(n):
        return n

    @streamll.trace("ajob")
    async def ajob(n):
        await asyncio.sleep(0)
        return n

    async def all_of_them():
        return await asyncio.gather(*(ajob(n) for n in range(10)))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(job, range(10))) == list(range(10))
    assert asyncio.run(all_of_them()) == list(range(10))
    roots = tree(got(sink))
    assert len(roots) == 20
    assert all(root.outcome == "end" and len(root.closings) == 1 for root in roots)


def test_bound_carries_the_span_into_a_plain_thread_pool(sink):
    """A worker's events join the span of whoever submitted."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool, streamll.trace("outer"):
        pool.submit(streamll.bound(streamll.emit), "inside").result()
        pool.submit(streamll.emit, "outside").result()
    events = {e.event_type: e for e in got(sink)}
    assert events["inside"].span_id == events["start"].span_id
    assert events["outside"].execution_id != events["start"].execution_id


def test_context_is_on_each_event_of_its_block_only(sink):
    """Nested blocks add; leaving restores."""
    with streamll.context(tenant="a"):
        with streamll.context(user="u"):
            streamll.emit("both")
        streamll.emit("one")
    streamll.emit("none")
    assert [e.context for e in got(sink)] == [{"tenant": "a", "user": "u"}, {"tenant": "a"}, None]


def test_context_values_must_be_scalars():
    """A list in the context is refused where it is set."""
    with pytest.raises(TypeError, match="context value 'tags' must be a scalar, not list"):
        streamll.set_context(tags=["x"])


@given(st.lists(st.tuples(st.integers(0, 4), st.text(max_size=5)), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_concurrent_contexts_never_mix_in_tasks_and_threads(jobs):
    """Every event carries its own job's context and data, whatever else runs."""
    memory = MemorySink()
    streamll.configure(sinks=[memory])

    async def one(number, worker, text):
        with streamll.context(job=number, text=text), streamll.trace("job", number=number):
            for step in range(worker + 1):
                await asyncio.sleep(0)
                streamll.emit("step", {"number": number, "text": text, "step": step})

    async def main():
        tasks = [one(n, worker, text) for n, (worker, text) in enumerate(jobs)]
        await asyncio.gather(*tasks)

    def in_thread(n):
        worker, text = jobs[n]
        asyncio.run(one(n + 1000, worker, text))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(in_thread, n) for n in range(len(jobs))]
        asyncio.run(main())
        [future.result() for future in futures]
    by_job: dict = {}
    for event in got(memory):
        by_job.setdefault(event.context["job"], []).append(event)
    for number, events in by_job.items():
        worker, text = jobs[number % 1000]
        assert len({e.execution_id for e in events}) == 1
        assert sorted(e.sequence for e in events) == list(range(1, worker + 4))
        assert {e.context["text"] for e in events} == {text}
        assert all(e.data["number"] == number for e in events if e.event_type == "step")


def test_hostile_payloads_neither_raise_nor_cost_other_events(sink):
    """A bad event costs itself at most."""

    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError(name)

    streamll.emit("good")
    streamll.emit("bad", {"x": Hostile(), "\ud800": "\udfff"})
    streamll.emit("good")
    assert [e.event_type for e in got(sink)] == ["good", "bad", "good"]


def test_processors_may_change_or_veto_and_a_raising_one_vetoes():
    """The chain fails closed and the sequence stays contiguous."""
    memory = MemorySink()

    def processor(event):
        if event.event_type == "secret":
            raise ValueError("cannot redact")
        if event.event_type == "noise":
            return None
        return event.replace(data={**event.data, "seen": True})

    streamll.configure(sinks=[memory], processors=[processor])
    with streamll.trace("t"):
        for name in ("a", "secret", "noise", "b"):
            streamll.emit(name)
    events = got(memory)
    assert [e.event_type for e in events] == ["start", "a", "b", "end"]
    assert [e.sequence for e in events] == [1, 2, 3, 4]
    assert all(e.data["seen"] for e in events)


class Unspeakable:
    """Has no text."""

    def __str__(self):
        raise RuntimeError("str")


@pytest.mark.parametrize("data", ["text", [1, 2], 7, Unspeakable()])
def test_emit_takes_whatever_it_is_given(data):
    """It never raises into the program: what is no mapping becomes the "value"."""
    with capture_events() as events, streamll.trace("t") as span:
        streamll.emit("x", data)
        span.emit("x", data, more=1)
        streamll.emit(Unspeakable())
        streamll.emit("y", {"a": 1}, b=2)
    values = [event.data for event in events if event.event_type == "x"]
    assert len(values) == 2
    assert all("value" in value for value in values)
    assert values[1]["more"] == 1
    assert [e.data for e in events if e.event_type == "y"] == [{"a": 1, "b": 2}]


def test_a_trace_may_be_entered_again():
    """Inside itself and by many threads: a span each, every one closed once, none left over."""
    again = streamll.trace("again")

    def enter(_):
        with again:
            streamll.emit("inside")

    with capture_events() as events, ThreadPoolExecutor(8) as pool:
        with again, again:
            streamll.emit("inside")
        assert list(pool.map(enter, range(200)))
        streamll.emit("after")
    assert_complete(events)
    starts = [event for event in events if event.event_type == "start"]
    assert len({event.span_id for event in starts}) == len(starts) == 202
    assert events[-1].parent_span_id is None
    assert events[-1].span_id not in {event.span_id for event in starts}


def test_generators_that_take_turns_leave_no_span_behind():
    """What begins after both have ended belongs to neither."""

    def turns(name):
        with streamll.trace(name):
            yield

    with capture_events() as events:
        first, second = turns("first"), turns("second")
        next(first), next(second)
        assert [next(first, None), next(second, None)] == [None, None]
        with streamll.trace("after"):
            pass
    assert_complete(events)
    (after,) = (event for event in events if event.operation == "after" and event.sequence == 1)
    assert after.parent_span_id is None


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_trace_refuses_to_decorate_a_generator(kind):
    """Its span would end before the first item; the message says what to write."""

    def plain():
        yield

    async def asynchronous():
        yield

    with pytest.raises(TypeError, match="inside of it"):
        streamll.trace("t")(plain if kind == "generator" else asynchronous)


def test_a_context_may_be_left_elsewhere():
    """A framework may run the two halves of a block in two contexts; the program goes on."""

    def block():
        with streamll.context(tenant="a"):
            yield

    halves = block()
    contextvars.copy_context().run(next, halves)
    assert next(halves, "done") == "done"
