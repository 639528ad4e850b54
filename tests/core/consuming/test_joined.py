"""The trace goes on in the service that consumes."""

from __future__ import annotations

import asyncio

import pytest

import streamll
from streamll.consuming import EventConsumer
from streamll.testing import MemorySink
from streamll.testing._source import MemorySource
from support.events import make_event


@pytest.fixture
def emitted():
    """What a handler emits for one event: (event, handler) -> events."""
    sink = MemorySink()
    streamll.configure(sinks=[sink])

    def consume(*events, handler):
        source = MemorySource(events)
        consumer = EventConsumer(source, retries=0)
        source.on_idle = consumer.stop
        consumer.on()(handler)
        asyncio.run(consumer.run())
        assert consumer.stats.dead == 0
        assert streamll.flush()
        return sink.events

    return consume


def sync_work(event):
    """A handler that traces and emits."""
    with streamll.trace("audit"):
        streamll.emit("looked")
    streamll.emit("noted")


async def async_work(event):
    """The same, async."""
    sync_work(event)


@pytest.mark.parametrize("handler", [sync_work, async_work])
def test_spans_of_a_handler_are_children_of_the_event_it_handles(emitted, handler):
    """Same trace, parent is the event's span, an execution of its own."""
    cause = make_event(trace_id="7" * 32, span_id="6" * 16, parent_span_id="5" * 16)
    start, looked, end, noted = emitted(cause, handler=handler)
    assert {event.trace_id for event in (start, looked, end, noted)} == {"7" * 32}
    assert start.parent_span_id == cause.span_id
    assert looked.span_id == start.span_id == end.span_id
    assert (noted.span_id, noted.parent_span_id) == (cause.span_id, "5" * 16)
    assert [event.sequence for event in (start, looked, end, noted)] == [1, 2, 3, 4]
    assert start.execution_id != cause.execution_id


def test_each_event_is_joined_by_itself(emitted):
    """Neither trace nor execution leaks from one event into the next."""
    causes = [make_event(trace_id=str(n) * 32, span_id=str(n) * 16) for n in (1, 2)]
    first, second = emitted(*causes, handler=lambda event: streamll.emit("noted"))
    assert (first.trace_id, second.trace_id) == ("1" * 32, "2" * 32)
    assert first.execution_id != second.execution_id
    assert (first.sequence, second.sequence) == (1, 1)
    assert first.parent_span_id is None
