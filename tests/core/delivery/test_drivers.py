"""Both drivers, with real threads: a thread per `Sink`, one loop for all `AsyncSink`s."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.delivery.doubles import (
    AsyncRecorder,
    Recorder,
    balanced,
    eventually,
    is_notice,
    make_event,
    open_channel,
    soon,
    submit,
)
from streamll.errors import Outcome, PermanentError, TransientError
from streamll.events import Batch
from streamll.sink import Verdict
from support.invariants import i5_closes_within

BOTH = pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])
FAST = {"retry_delay": 0.001, "recovery_timeout": 0.01}


@pytest.fixture(autouse=True)
def threads_are_returned() -> Iterator[None]:
    """No test leaves a thread behind (I8)."""
    before = set(threading.enumerate())
    yield
    eventually(lambda: set(threading.enumerate()) <= before)


class Gate:
    """Holds a sink inside `write` until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, batch: Batch) -> None:
        self.entered.set()
        self.opened.wait()


# -- delivery -----------------------------------------------------------------------------------


@BOTH
def test_events_arrive_in_order(kind: type[Recorder]) -> None:
    """What is submitted arrives, once, in order, from one place."""
    sink = kind()
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(1, 2001)))
    assert channel.flush(soon())
    assert sink.sequences == list(range(1, 2001))
    assert sink.stats.delivered == 2000
    assert len(sink.threads) == 1
    assert channel.close(soon())
    assert sink.calls[0] == "open"
    assert sink.calls[-1] == "close"


@BOTH
def test_no_thread_starts_before_the_first_event(kind: type[Recorder]) -> None:
    """Opening, flushing and closing an unused channel starts nothing and opens nothing."""
    sink, before = kind(), set(threading.enumerate())
    channel = open_channel(sink)
    assert sink.is_running
    assert channel.flush(soon())
    assert channel.close(soon())
    assert set(threading.enumerate()) == before
    assert sink.calls == []
    assert not sink.is_running


def test_async_sinks_share_one_thread() -> None:
    """However many async sinks there are, they take one thread."""
    sinks = [AsyncRecorder() for _ in range(20)]
    channels = [open_channel(sink) for sink in sinks]
    for channel in channels:
        submit(channel, make_event(1))
    assert all(channel.flush(soon()) for channel in channels)
    assert len(set().union(*(sink.threads for sink in sinks))) == 1
    assert {channel.close(soon()) for channel in channels} == {True}


@BOTH
def test_a_flush_does_not_wait_for_company_or_for_later_events(kind: type[Recorder]) -> None:
    """With a long batch_age a flush delivers at once."""
    sink = kind(batch_age=3600.0)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.flush(soon())
    assert sink.sequences == [1]
    channel.close(soon())


@BOTH
def test_a_full_batch_wakes_a_worker_that_waits_for_company(kind: type[Recorder]) -> None:
    """batch_size events go out although batch_age is far away."""
    sink = kind(batch_age=3600.0, batch_size=10)
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(1, 11)))
    eventually(lambda: len(sink.got) == 10)
    channel.close(soon())


@BOTH
def test_verdicts_and_errors_reach_the_accounting(kind: type[Recorder]) -> None:
    """A per-event verdict costs that event; health shows on the sink."""

    def script(batch: Batch) -> Any:
        bad = [i for i, event in enumerate(batch) if event.sequence == 2]
        return dict.fromkeys(bad, Verdict(Outcome.REJECTED_PERMANENT, "unroutable"))

    sink = kind(script)
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in (1, 2, 3)))
    channel.flush(soon())
    assert sink.stats.dropped == {"unroutable": 1}
    assert sink.sequences == [1, 3]
    assert any(is_notice(event) for event in sink.got)
    channel.close(soon())


@BOTH
def test_a_failed_open_is_tried_again(kind: type[Recorder]) -> None:
    """`open` is called until it works, then never again."""
    sink, attempts = kind(**FAST), []
    really_open = sink.open

    def open_() -> Any:
        attempts.append(1)
        if len(attempts) < 4:
            raise ConnectionRefusedError
        return really_open()

    sink.open = open_  # type: ignore[method-assign]
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.flush(soon())
    submit(channel, make_event(2))
    assert channel.close(soon())
    assert len(attempts) == 4
    assert sink.sequences == [1, 2]


@BOTH
def test_every_event_is_delivered_or_counted_through_a_sink_that_fails_nine_times_of_ten(
    kind: type[Recorder],
) -> None:
    """Real threads, a 90 % failing sink: accepted = delivered + dropped, and nothing twice."""
    chance = random.Random(7)

    def script(batch: Batch) -> None:
        if chance.random() < 0.9:
            raise ConnectionError

    sink = kind(script, retry_delay=0.0001, recovery_timeout=0.0002, batch_size=50)
    channel = open_channel(sink)
    threads = [
        threading.Thread(target=submit, args=(channel, *(make_event(n) for n in chunk)))
        for chunk in (range(1, 101), range(101, 201), range(201, 301))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close(time.monotonic() + 2.0)  # open periods double, so the rest may take minutes
    stats = sink.stats
    assert balanced(stats)
    assert (stats.queued, stats.in_flight) == (0, 0)
    assert stats.delivered == len(sink.got)
    assert len(set(sink.sequences)) == len(sink.sequences)
    lost = stats.dropped.get("rejected", 0) + stats.dropped.get("shutdown_timeout", 0)
    assert len(sink.sequences) + lost >= 300


@BOTH
def test_circuit_changes_are_told_and_logged_once(
    kind: type[Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    """An observer sees every change; the log has one line per outage, without payload."""
    told: list[tuple[str, str]] = []
    broken = [True]

    def script(batch: Batch) -> None:
        if broken[0]:
            raise PermanentError("ask the operator") from ValueError("SECRET payload")

    sink = kind(script, recovery_timeout=0.005)
    channel = open_channel(sink, on_change=lambda sink, old, new: told.append((old, new)))
    with caplog.at_level(logging.DEBUG):
        submit(channel, *(make_event(n) for n in range(1, 50)))
        eventually(lambda: len(told) > 6)
        broken[0] = False
        assert channel.flush(soon())
        channel.close(soon())
    assert told[0] == ("closed", "open")
    assert told[1:3] == [("open", "half_open"), ("half_open", "open")]
    assert told[-1] == ("half_open", "closed")
    messages = [record.getMessage() for record in caplog.records if record.name == "streamll"]
    assert len(messages) == 2
    assert "PermanentError" in messages[0]
    assert "SECRET" not in caplog.text


@BOTH
def test_an_observer_that_raises_does_not_stop_delivery(
    kind: type[Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    """A failing observer of circuit changes is told of and costs nothing."""

    def script(batch: Batch) -> None:
        if sink.calls.count("write") < 3:
            raise PermanentError

    def observe(*change: Any) -> None:
        raise ZeroDivisionError

    sink = kind(script, recovery_timeout=0.005)
    channel = open_channel(sink, on_change=observe)
    submit(channel, make_event(1))
    assert channel.flush(soon())
    assert channel.close(soon())
    assert "ZeroDivisionError" in caplog.text


# -- back pressure ------------------------------------------------------------------------------


@BOTH
def test_block_waits_for_room(kind: type[Recorder]) -> None:
    """overflow="block": a slow sink slows the program, and nothing is dropped."""
    sink = kind(lambda batch: time.sleep(0.0005), overflow="block", buffer_size=4, block_timeout=60)
    channel = open_channel(sink)
    threads = [
        threading.Thread(target=submit, args=(channel, *(make_event(n) for n in range(100))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert channel.close(soon())
    assert sink.stats.delivered == 400
    assert sink.stats.dropped == {}


@pytest.mark.parametrize(("buffer_size", "events"), [(4, 100), (1_024, 5_000)])
def test_block_keeps_room_for_what_a_failure_gives_back(buffer_size: int, events: int) -> None:
    """A batch that failed comes back, and nobody has taken its place meanwhile."""
    fails = itertools.cycle([True, False])

    def fails_every_other_time(batch: Batch) -> None:
        time.sleep(0.0005)
        if next(fails):
            raise TransientError

    options = {"block_timeout": 60, "retry_delay": 0.001, "max_attempts": 1_000}
    sink = Recorder(
        fails_every_other_time, overflow="block", circuit_breaker=False,
        buffer_size=buffer_size, **options,
    )  # fmt: skip
    channel = open_channel(sink)
    threads = [
        threading.Thread(target=submit, args=(channel, *(make_event(n) for n in range(events))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert channel.close(soon())
    assert sink.stats.dropped == {}
    assert sink.stats.delivered == 2 * events


def test_who_waits_for_room_longest_gets_in_first() -> None:
    """overflow="block": the line is kept, so no thread starves beside busier ones."""
    gate = Gate()
    sink = Recorder(gate, overflow="block", buffer_size=1, batch_size=1, block_timeout=60)
    channel = open_channel(sink)
    submit(channel, make_event(0))
    gate.entered.wait()
    threads = []
    for number in range(1, 8):
        threads.append(threading.Thread(target=submit, args=(channel, make_event(number))))
        threads[-1].start()
        eventually(lambda waiting=number: len(channel._line) == waiting)
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert channel.close(soon())
    assert sink.sequences == list(range(8))


def test_block_gives_up_after_block_timeout() -> None:
    """A frozen sink costs block_timeout, then the event, which is counted."""
    gate = Gate()
    sink = Recorder(gate, overflow="block", buffer_size=1, batch_size=1, block_timeout=0.01)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    gate.entered.wait()
    submit(channel, make_event(2), make_event(3))
    assert sink.stats.dropped == {"buffer_full": 1}
    gate.opened.set()
    channel.close(soon())


@BOTH
def test_a_frozen_sink_costs_the_program_nothing_but_events(kind: type[Recorder]) -> None:
    """A sink that hangs fills its buffer; the rest is dropped by policy and counted."""
    gate = Gate()
    sink = kind(gate, buffer_size=100, batch_size=1)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    gate.entered.wait()
    submit(channel, *(make_event(n) for n in range(2, 1002)))
    stats = sink.stats
    assert (stats.queued, stats.in_flight, stats.dropped) == (100, 1, {"buffer_full": 900})
    gate.opened.set()
    assert channel.close(soon())
    assert balanced(sink.stats)


# -- life cycle ---------------------------------------------------------------------------------


@BOTH
def test_closing_drains_then_refuses(kind: type[Recorder]) -> None:
    """Row 52: close delivers what waits, closes the sink once; later events count "closed"."""
    sink = kind()
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(100)))
    assert channel.close(soon())
    submit(channel, *(make_event(n) for n in range(10)))
    assert channel.close(soon())
    assert sink.stats.delivered == 100
    assert sink.stats.dropped == {"closed": 10}
    assert sink.calls.count("close") == 1


@BOTH
def test_row_52_close_during_emit_from_fifty_threads(kind: type[Recorder]) -> None:
    """50 closers and 4 emitters at once: no exception, one close, exact accounting."""
    for _ in range(10):
        sink, errors = kind(), []
        channel = open_channel(sink)

        def guarded(call: Callable[[], Any], errors: list[BaseException] = errors) -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)

        def emit(channel: Any = channel) -> None:
            submit(channel, *(make_event(n) for n in range(300)))

        calls = [emit] * 4 + [lambda channel=channel: channel.close(soon())] * 50
        threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        stats = sink.stats
        assert stats.accepted == 1200
        assert balanced(stats)
        assert (stats.queued, stats.in_flight) == (0, 0)
        assert sink.calls.count("close") <= 1


def test_row_43_a_sync_sink_that_hangs_does_not_hold_up_close() -> None:
    """close returns by its deadline; what remains is counted, a late result changes nothing."""
    gate = Gate()
    sink = Recorder(gate, batch_size=2)
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(10)))
    gate.entered.wait()
    with i5_closes_within(0.05):
        assert not channel.close(time.monotonic() + 0.05)
    before = sink.stats
    assert before.dropped == {"shutdown_timeout": 10}
    gate.opened.set()
    eventually(lambda: sink.calls[-1] == "close")
    assert sink.stats.dropped == before.dropped
    assert balanced(sink.stats)


def test_row_43_an_async_sink_that_hangs_is_cancelled() -> None:
    """A hanging async write is cancelled at the deadline; the sink is released."""

    class Hanging(AsyncRecorder):
        async def write(self, batch: Batch) -> None:
            self.calls.append("write")
            await asyncio.Event().wait()

    sink, healthy = Hanging(), AsyncRecorder()
    hanging, other = open_channel(sink), open_channel(healthy)
    submit(hanging, make_event(1))
    eventually(lambda: "write" in sink.calls)
    submit(other, make_event(1))
    assert other.flush(soon())
    with i5_closes_within(0.05):
        assert not hanging.close(time.monotonic() + 0.05)
    assert sink.stats.dropped == {"shutdown_timeout": 1}
    eventually(lambda: sink.calls[-1] == "close")
    assert other.close(soon())


def test_several_channels_drain_in_parallel() -> None:
    """With begin_close three hanging sinks share one deadline rather than add up."""
    gates = [Gate() for _ in range(3)]
    sinks = [Recorder(gate) for gate in gates]
    channels = [open_channel(sink) for sink in sinks]
    for channel, gate in zip(channels, gates, strict=True):
        submit(channel, make_event(1))
        gate.entered.wait()
    deadline = time.monotonic() + 0.1
    for channel in channels:
        channel.begin_close(deadline)
    assert not any(channel.close(deadline) for channel in channels)
    assert all(sink.stats.dropped == {"shutdown_timeout": 1} for sink in sinks)
    for gate in gates:
        gate.opened.set()


@BOTH
def test_closing_gives_up_early_on_a_sink_that_is_down(kind: type[Recorder]) -> None:
    """One last try, then no waiting for a recovery that lies behind the deadline."""

    def script(batch: Batch) -> None:
        raise ConnectionRefusedError

    sink = kind(script, failure_threshold=1, recovery_timeout=3600.0)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    eventually(lambda: sink.circuit_open)
    far = time.monotonic() + 1800.0
    assert not channel.close(far)
    assert sink.stats.dropped == {"shutdown_timeout": 1}
    assert sink.calls.count("write") == 2


@BOTH
def test_a_sink_may_be_given_a_new_channel(kind: type[Recorder]) -> None:
    """Reconfiguring under load: the old channel drains, the new one goes on."""
    sink = kind()
    for start in (0, 100, 200):
        channel = open_channel(sink)
        submit(channel, *(make_event(n) for n in range(start, start + 100)))
        assert channel.close(soon())
    assert sink.sequences == list(range(300))
    assert sink.calls.count("open") == sink.calls.count("close") == 3


# -- hostile sinks ------------------------------------------------------------------------------


class Hostile(Exception):
    """An exception that hurts whoever looks at it."""

    def __repr__(self) -> str:
        raise SystemExit

    __str__ = __repr__


@BOTH
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, Hostile])
def test_row_42_no_exception_kills_the_worker(
    kind: type[Recorder], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever `write` raises is a failed attempt: the events arrive later."""

    def script(batch: Batch) -> None:
        if sink.calls.count("write") < 5:
            raise error

    sink = kind(script, **FAST)
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(10)))
    assert channel.close(soon())
    assert sink.stats.last_error == error.__name__
    assert sorted(sink.sequences) == list(range(10))


@BOTH
@pytest.mark.parametrize("report", [True, 7, "no", [1], {"a": 1}, {0: None}])
def test_a_report_of_a_foreign_type_does_no_harm(kind: type[Recorder], report: Any) -> None:
    """What `write` returns by accident, e.g. a client's answer, means delivered."""
    sink = kind()
    really_write = sink.write

    def write(batch: Batch) -> Any:
        done = really_write(batch)
        if not asyncio.iscoroutine(done):
            return report

        async def finish() -> Any:
            await done
            return report

        return finish()

    sink.write = write  # type: ignore[method-assign]
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.close(soon())
    assert sink.stats.delivered == 1


@BOTH
def test_row_47_emit_inside_a_sink_is_refused_and_counted(kind: type[Recorder]) -> None:
    """A sink that emits while it writes does not feed itself: exact count, no recursion."""
    sink = kind(lambda batch: submit(channel, make_event(99)))
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(5)))
    assert channel.flush(soon())
    stats = sink.stats
    assert stats.delivered == 5
    assert stats.dropped == {"reentrant": sink.calls.count("write")}
    assert stats.accepted == 5 + stats.dropped["reentrant"]
    channel.close(soon())


@BOTH
def test_row_47_a_logging_handler_that_emits_does_not_recurse(kind: type[Recorder]) -> None:
    """sink -> logging -> emit -> the same sink: recursion ends at once."""

    class Emitting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            submit(channel, make_event(99))

    logger, handler = logging.getLogger("tests.client"), Emitting()
    logger.addHandler(handler)
    sink = kind(lambda batch: logger.warning("written"))
    channel = open_channel(sink)
    try:
        submit(channel, make_event(1))
        assert channel.flush(soon())
        assert sink.stats.dropped == {"reentrant": 1}
    finally:
        logger.removeHandler(handler)
        channel.close(soon())


def test_two_sinks_that_emit_do_not_feed_each_other_for_ever() -> None:
    """What a sink emits reaches other sinks once; what those emit because of it does not."""
    sinks = [Recorder(lambda batch: feed()), Recorder(lambda batch: feed())]
    channels = [open_channel(sink) for sink in sinks]

    def feed() -> None:
        for channel in channels:
            submit(channel, make_event(99))

    submit(channels[0], make_event(1))
    for _ in range(5):
        for channel in channels:
            assert channel.flush(soon())
    assert sum(sink.stats.delivered for sink in sinks) <= 4
    assert {channel.close(soon()) for channel in channels} == {True}


@BOTH
def test_a_sink_that_can_never_work_is_not_waited_for(kind: type[Recorder]) -> None:
    """After PermanentError, `flush` and `close` end long before their deadline, all counted."""

    def script(batch: Batch) -> None:
        raise PermanentError

    sink = kind(script, recovery_timeout=3600.0)
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(1, 4)))
    never = time.monotonic() + 1e6  # waiting for that would hang
    assert not channel.flush(never - 1e6 + 1800)
    assert not channel.close(never)
    assert channel.stats.dropped == {"shutdown_timeout": 3}
    assert balanced(channel.stats)


@BOTH
def test_a_sink_may_flush_and_close_itself(kind: type[Recorder]) -> None:
    """Waiting for oneself would take until the deadline: it returns False at once."""
    answers: list[bool] = []

    def script(batch: Batch) -> None:
        answers.append(channel.flush(soon()))
        answers.append(channel.close(soon()))

    sink = kind(script)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    eventually(lambda: "close" in sink.calls)
    assert answers == [False, False]
    assert sink.stats.delivered == 1


def test_reentrancy_follows_the_sink_into_its_threads_and_tasks() -> None:
    """asyncio.to_thread and tasks that a sink starts count as inside of it."""

    class Busy(AsyncRecorder):
        async def write(self, batch: Batch) -> None:
            self.calls.append("write")
            await asyncio.to_thread(submit, channel, make_event(98))
            await asyncio.create_task(self.emit_later())

        async def emit_later(self) -> None:
            submit(channel, make_event(99))

    sink = Busy()
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.flush(soon())
    assert sink.stats.dropped == {"reentrant": 2}
    channel.close(soon())


# -- many of everything -------------------------------------------------------------------------


@BOTH
def test_row_49_two_thousand_threads(kind: type[Recorder]) -> None:
    """No resource per emitting thread: one worker, exact accounting."""
    sink = kind(buffer_size=100_000)
    channel = open_channel(sink)
    before = threading.active_count()
    for _ in range(20):
        barrier = threading.Barrier(100)

        def emit(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            submit(channel, *(make_event(n) for n in range(5)))

        threads = [threading.Thread(target=emit) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert threading.active_count() <= before + 1
    assert channel.close(soon())
    assert sink.stats.delivered == len(sink.got) == 10_000


@BOTH
def test_row_40_emitting_from_many_event_loops(kind: type[Recorder]) -> None:
    """The program's loops come and go; the sink never notices."""
    sink = kind()
    channel = open_channel(sink)

    async def emit(number: int) -> None:
        submit(channel, make_event(number))

    for number in range(100):
        asyncio.run(emit(number))
    assert channel.close(soon())
    assert sink.sequences == list(range(100))


@BOTH
def test_row_48_the_wall_clock_does_not_matter(
    kind: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers use the monotonic clock: a wall clock that jumps an hour changes nothing."""

    def script(batch: Batch) -> None:
        if sink.calls.count("write") < 4:
            raise ConnectionError

    wall = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: float(next(wall)))
    sink = kind(script, batch_age=0.001, deadline=3600.0, **FAST)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.close(soon())
    assert sink.stats.delivered == 1


# -- misuse and accidents -----------------------------------------------------------------------


LATER = Verdict(Outcome.REJECTED_TRANSIENT)


@pytest.mark.parametrize("report", [{"x": LATER}, {99: LATER}, {-1: LATER}, [LATER], LATER])
def test_a_report_that_names_no_event_is_a_failure(report: Any) -> None:
    """What cannot be understood is not taken for a delivery."""
    answers = iter([report, None])

    class Misreporting(Recorder):
        def write(self, batch: Batch) -> Any:
            super().write(batch)
            return next(answers)

    sink = Misreporting(retry_delay=0.001)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.close(soon())
    assert sink.stats.delivered == 1
    assert next(answers, "both were asked for") == "both were asked for"


class Held(Recorder):
    """Stays in its first write until it is let go."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entered, self.opened = threading.Event(), threading.Event()

    def write(self, batch: Batch) -> Any:
        super().write(batch)
        self.entered.set()
        self.opened.wait()


class AsyncHeld(AsyncRecorder):
    """Its async twin; the loop is free meanwhile."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entered, self.opened = threading.Event(), threading.Event()

    async def write(self, batch: Batch) -> Any:
        await super().write(batch)
        self.entered.set()
        while not self.opened.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:  # as a client that cannot stop half-way
                continue


@pytest.mark.parametrize("kind", [Held, AsyncHeld])
def test_a_sink_is_used_by_one_channel_at_a_time(kind: type[Held]) -> None:
    """Configured again while a write hangs, it is opened anew only after it was closed."""
    sink = kind()
    first = open_channel(sink)
    submit(first, make_event(1))
    sink.entered.wait()
    assert not first.close(0)
    second = open_channel(sink)
    submit(second, make_event(2))
    assert not second.flush(time.monotonic() + 0.05)
    assert sink.calls == ["open", "write"]
    sink.opened.set()
    assert second.close(soon())
    assert sink.calls == ["open", "write", "close"] * 2


def test_async_sinks_outlive_their_loop() -> None:
    """A sink's own task that takes the loop down costs what it was writing an answer, no more."""

    class Dying(AsyncRecorder):
        async def write(self, batch: Batch) -> None:
            if not self.got:
                asyncio.get_running_loop().stop()
            await super().write(batch)

    sink = Dying(retry_delay=0.001)
    channel = open_channel(sink)
    submit(channel, make_event(1), make_event(2))
    assert channel.flush(soon())
    neighbour = AsyncRecorder()
    other = open_channel(neighbour)
    submit(other, make_event(3))
    assert other.close(soon())
    assert channel.close(soon())
    assert len(neighbour.got) == 1
