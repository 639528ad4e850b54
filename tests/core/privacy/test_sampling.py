"""Whole executions are sampled; those with an error are kept; memory is bounded."""

from __future__ import annotations

import gc
import threading
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamll
from streamll import _runtime
from streamll._sampling import Fate, Sampler
from streamll._spans import Execution, Span
from streamll.testing import capture_events
from support.events import body_of, make_event


def lost():
    """Why events were not accepted."""
    return dict(_runtime.current().lost)


def run(fails=False, steps=2):
    """One execution of `2 + steps` spans' events; *fails* in its last step."""
    try:
        with streamll.trace("root"):
            for step in range(steps):
                with streamll.trace("step", n=step):
                    if fails and step == steps - 1:
                        raise ValueError
    except ValueError:
        return


def by_execution(events):
    """execution_id -> its events."""
    found = defaultdict(list)
    for event in events:
        found[event.execution_id].append(event)
    return found


def assert_whole(events):
    """Every execution that arrived arrived completely and in order."""
    for execution in by_execution(events).values():
        assert [event.sequence for event in execution] == list(range(1, len(execution) + 1))
        assert execution[-1].event_type in ("end", "error")
        assert execution[-1].parent_span_id is None


def test_about_the_asked_share_arrives_and_only_whole_executions():
    """1000 executions at one in four."""
    with capture_events(sample=0.25) as events:
        for _ in range(1000):
            run()
        assert (
            lost()["sampled"]
            == (1000 - len({e.execution_id for e in events})) * 6
            - sum(lost().get(reason, 0) for reason in ("sampled_overflow",))
            or events == []
        )
    arrived = by_execution(events)
    assert 150 < len(arrived) < 350
    assert_whole(events)
    assert {event.sampled_rate for event in events} == {4.0}


def test_every_event_is_sent_or_counted():
    """Nothing is lost silently."""
    with capture_events(sample=0.5) as events:
        for n in range(200):
            run(fails=n % 10 == 0)
        counted = sum(lost().values())
    assert len(events) + counted == 200 * 6


def test_an_execution_with_an_error_is_kept_whole_and_in_order():
    """Its weight is 1: every one of its kind is kept."""
    with capture_events(sample=0) as events:
        run()
        run(fails=True)
        run()
    assert_whole(events)
    assert [e.event_type for e in events] == ["start", "start", "end", "start", "error", "error"]
    assert {event.sampled_rate for event in events} == {1.0}


def test_an_error_that_the_program_handles_keeps_the_execution_too():
    """Later events flow at once."""
    with capture_events(sample=0) as events:
        with streamll.trace("root"):
            run_failing_step()
            streamll.emit("after")
    assert [e.event_type for e in events] == ["start", "start", "error", "after", "end"]
    assert_whole(events)


def run_failing_step():
    with pytest.raises(ValueError, match="handled"), streamll.trace("step"):
        raise ValueError("handled")


def test_without_sample_errors_nothing_is_held():
    """`sample_errors=False` is head sampling alone."""
    with capture_events(sample=0, sample_errors=False) as events:
        run(fails=True)
        assert lost() == {"sampled": 6}
    assert events == []


def test_sampling_all_is_no_sampling():
    """The default costs nothing and marks nothing."""
    with capture_events() as events:
        run()
        assert _runtime.current().sampler is None
    assert events[0].sampled_rate is None


def test_an_execution_that_began_before_sampling_is_sent_to_its_end():
    """Reconfiguring never halves a tree."""
    with capture_events() as events, streamll.trace("root"):
        streamll.emit("before")
        sinks = streamll.get_sinks()
        streamll.configure(sinks, sample=0)
        streamll.emit("after")
    assert [event.event_type for event in events][:3] == ["start", "before", "after"]


@pytest.mark.parametrize("sample_errors", [True, False])
def test_an_iterated_program_shows_its_events_whatever_is_sampled(sample_errors):
    """Sampling thins out what sinks get, not what `streamll.stream` yields."""

    def program():
        with streamll.trace("work"):
            return 42

    with capture_events(sample=0, sample_errors=sample_errors) as events:
        items = list(streamll.stream(program))
    assert [item.event_type for item in items[:-1]] == ["start", "end"]
    assert items[-1] == 42
    assert events == []


@pytest.mark.parametrize("sample", [-0.1, 1.1, "half", True, float("nan")])
def test_a_rate_that_is_not_a_share_is_refused(sample):
    """At configure time."""
    with pytest.raises(streamll.ConfigurationError, match="sample must be a number from 0 to 1"):
        streamll.configure(sinks=[], sample=sample)


class Bench:
    """A sampler, and executions that emit into it by hand."""

    def __init__(self, **limits):
        self.lost = Counter()
        self.sampler = Sampler(0, keep_errors=True, lost=self.lost, **limits)
        self.sent = []
        self.emitted = 0

    def open(self):
        """A new root span."""
        span = Span("root", parent=None, execution=Execution())
        self.sampler.decide(span)
        return span

    def emit(self, span, event_type="token", size=0):
        """One event of the root, as the pipeline would emit it."""
        self.emitted += 1
        held = span.execution.held
        if held.fate is Fate.DROPPED:
            self.lost["sampled"] += 1
            return
        event = make_event(
            execution_id=span.execution.execution_id,
            event_type=event_type,
            sequence=span.execution.next_sequence(),
            data={"x": "x" * size},
        )
        held.take(event, body_of(event), lambda *sent: self.sent.append(sent[0]), is_root=True)

    def free(self):
        """Room that is left."""
        return len(self.sampler.room._free)


def test_one_id_is_decided_alike_everywhere():
    """By the id alone, so several processes agree."""
    ids = [Execution().execution_id for _ in range(100)]
    one, two = (Sampler(0.3, keep_errors=True, lost=Counter()) for _ in range(2))
    assert [one._sampled(i) for i in ids] == [two._sampled(i) for i in ids]
    wider = Sampler(0.6, keep_errors=True, lost=Counter())
    assert all(wider._sampled(i) for i in ids if one._sampled(i))


def test_an_execution_that_outgrows_its_share_is_given_up_whole():
    """Not even a later error brings half of it back."""
    bench = Bench(share=3)
    span = bench.open()
    for _ in range(4):
        bench.emit(span)
    bench.emit(span, "error")
    assert bench.sent == []
    assert bench.lost == {"sampled_overflow": 4, "sampled": 1}
    assert bench.free() == 32_768


def test_when_room_is_short_the_oldest_gives_way():
    """The newer ones can still be kept."""
    bench = Bench(room=4)
    old, new = bench.open(), bench.open()
    for span in (old, old, new, new, new):
        bench.emit(span)
    bench.emit(old, "error")
    bench.emit(new, "error")
    assert {e.execution_id for e in bench.sent} == {new.execution.execution_id}
    assert bench.lost == {"sampled_overflow": 2, "sampled": 1}


def test_room_is_measured_in_bytes_too():
    """An event takes a place per KiB."""
    bench = Bench(room=100, share=10)
    span = bench.open()
    bench.emit(span, size=12 * 1024)
    assert bench.lost == {"sampled_overflow": 1}


def test_room_that_does_not_suffice_is_given_back():
    """Neither the one that asked nor the ones that gave way keep any."""
    bench = Bench(room=4)
    old, new = bench.open(), bench.open()
    for span in (old, old, new):
        bench.emit(span)
    bench.emit(new, size=4 * 1024)
    assert bench.free() == 4
    assert bench.lost == {"sampled_overflow": 4}


def test_a_root_that_closes_without_an_error_frees_its_room_at_once():
    """Even while the program still refers to its span."""
    bench = Bench()
    span = bench.open()
    bench.emit(span)
    bench.emit(span, "end")
    assert bench.free() == 32_768
    assert bench.lost == {"sampled": 2}


def test_what_is_emitted_while_held_events_are_sent_comes_after_them():
    """E.g. by a logging handler below `send`: one at a time has the turn."""
    bench = Bench()
    span = bench.open()
    sent = []

    def send(event, body):
        if event.data["n"] == 1:
            take(4)
        sent.append(event.data["n"])

    def take(n, event_type="token"):
        event = make_event(event_type=event_type, data={"n": n})
        span.execution.held.take(event, b"", send, is_root=True)

    take(1)
    take(2)
    take(3, "error")
    assert sent == [1, 2, 3, 4]


def test_an_execution_nobody_can_emit_into_frees_its_room():
    """E.g. an event outside of any span: it never closes."""
    bench = Bench()
    span = bench.open()
    bench.emit(span)
    del span
    gc.collect()
    assert bench.free() == 32_768
    assert bench.lost == {"sampled": 1}
    assert bench.sampler._holding == {}


KINDS = st.sampled_from(["token", "token", "token", "error", "end"])
STEPS = st.lists(st.tuples(st.integers(0, 4), KINDS, st.integers(0, 3000)), min_size=9, max_size=60)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_happens_executions_are_whole_and_events_and_room_add_up(steps):
    """Any order of events of five executions, in little room."""
    bench = Bench(room=12, share=7)
    spans = [bench.open() for _ in range(5)]
    for number, event_type, size in steps:
        bench.emit(spans[number], event_type, size)
    for execution in by_execution(bench.sent).values():
        assert [e.sequence for e in execution] == list(range(1, len(execution) + 1))
        assert any(e.event_type == "error" for e in execution)
    held = sum(len(span.execution.held._waiting) for span in spans)
    assert len(bench.sent) + sum(bench.lost.values()) + held == len(steps)
    places = sum(entry[2] for span in spans for entry in span.execution.held._waiting)
    assert bench.free() + places == 12


def test_an_error_amid_threads_loses_no_event_and_keeps_each_threads_order():
    """Release and further emits race without a lock."""
    bench = Bench()
    span = bench.open()
    ready = threading.Barrier(8)

    def work(number):
        ready.wait()
        for n in range(200):
            bench.emit_numbered(span, number, n, "error" if (number, n) == (3, 100) else "token")

    def emit_numbered(span, thread, n, event_type):
        event = make_event(event_type=event_type, data={"thread": thread, "n": n})
        span.execution.held.take(event, b"", lambda e, _: bench.sent.append(e), is_root=True)

    bench.emit_numbered = emit_numbered
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.sent) == 1600
    for number in range(8):
        own = [event.data["n"] for event in bench.sent if event.data["thread"] == number]
        assert own == list(range(200))
