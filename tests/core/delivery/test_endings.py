"""How attempts, flushes and channels end when something unusual ends them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

from core.delivery.doubles import (
    AsyncRecorder,
    Recorder,
    balanced,
    eventually,
    make_event,
    open_channel,
    soon,
    submit,
)
from streamll import Batch, Outcome, Verdict
from streamll._delivery.channel import Channel

BOTH = pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])


class Liar(Exception):
    """Cannot even be asked what it is."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError


@BOTH
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, GeneratorExit, ValueError])
def test_an_observer_cannot_take_a_write_with_it(
    kind: type[Recorder], error: type[BaseException]
) -> None:
    """Whatever an observer of the circuit raises, the probe it is told of is made."""
    broken = [True]

    def script(batch: Batch) -> None:
        if broken.pop() if broken else False:
            raise ConnectionError

    def observe(sink: Any, old: str, new: str) -> None:
        if new == "half_open":
            raise error

    sink = kind(script, failure_threshold=1, recovery_timeout=0.005)
    channel = open_channel(sink, on_change=observe)
    submit(channel, make_event(1))
    assert channel.flush(soon())
    assert sink.sequences == [1]
    channel.close(soon())


@BOTH
def test_a_fault_while_a_write_is_open_settles_it(
    kind: type[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that cannot be classified costs an attempt, not the sink."""
    monkeypatch.setattr("streamll._delivery.worker._FAULT_PAUSE", 0.001)
    monkeypatch.setattr("streamll._delivery.loop._FAULT_PAUSE", 0.001)
    faults = [Liar()]

    def script(batch: Batch) -> None:
        if faults:
            raise faults.pop()

    sink = kind(script, retry_delay=0.001)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.flush(soon())
    assert sink.sequences == [1]
    assert sink.stats.retried_unknown == 1
    channel.close(soon())


@BOTH
def test_a_report_nobody_can_read_is_an_unknown_outcome(kind: type[Recorder]) -> None:
    """`write` returned, so the events may have arrived: the repeat is counted as possible."""
    reports: list[Any] = [[Verdict(Outcome.UNKNOWN)]]

    def script(batch: Batch) -> Any:
        return reports.pop() if reports else None

    sink = kind(script, retry_delay=0.001)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.close(soon())
    assert sink.sequences == [1, 1]
    assert sink.stats.retried_unknown == 1


def test_a_batch_larger_than_the_buffer_is_written_when_that_is_half_full() -> None:
    """Waiting for company never makes events give way."""
    sink = Recorder(buffer_size=100, batch_size=512, batch_age=3600)
    channel = open_channel(sink)
    for number in range(1_000):
        submit(channel, make_event(number))
        eventually(lambda: sink.stats.queued < 100)
    assert channel.close(soon())
    assert sink.stats.dropped == {}


def test_flush_is_not_blamed_for_what_came_later() -> None:
    """A loss behind the mark of a flush does not spoil it."""
    entered, gate = threading.Event(), threading.Event()

    def script(batch: Batch) -> None:
        entered.set()
        gate.wait()

    sink = Recorder(script, buffer_size=2, batch_size=1, overflow="drop_newest")
    channel = open_channel(sink)
    submit(channel, make_event(1))
    entered.wait()
    verdicts: list[bool] = []
    thread = threading.Thread(target=lambda: verdicts.append(channel.flush(soon())))
    thread.start()
    eventually(lambda: channel._waiters._waiters)
    submit(channel, *(make_event(n) for n in range(2, 9)))
    assert sink.stats.dropped["buffer_full"] > 0
    gate.set()
    thread.join()
    assert verdicts == [True]
    channel.close(soon())


def test_closing_is_no_success_when_everything_was_rejected() -> None:
    """`close` says whether what was held was delivered, whatever became of it else."""
    gate = threading.Event()

    def script(batch: Batch) -> Any:
        gate.wait()
        return dict.fromkeys(range(len(batch)), Verdict(Outcome.REJECTED_PERMANENT, "no"))

    sink = Recorder(script)
    channel = open_channel(sink)
    submit(channel, make_event(1))
    channel.begin_close(soon())
    gate.set()
    assert not channel.close(soon())
    assert sink.got == []


def test_flush_waits_for_what_an_earlier_process_left(tmp_path: Any) -> None:
    """What is on disk counts from the start, not only once the worker has looked at it."""
    path = tmp_path / "events.spool"

    def fails(batch: Batch) -> None:
        raise ConnectionError

    channel = open_channel(Recorder(fails, spool=str(path)))
    submit(channel, *(make_event(n) for n in range(100)))
    assert not channel.close(time.monotonic() + 0.05)
    for _ in range(20):
        heir = Recorder(spool=str(path), batch_size=7)
        channel = open_channel(heir)
        if channel.flush(soon()):
            break
    assert heir.sequences == list(range(100))
    channel.close(soon())


def test_stats_from_a_signal_handler_touch_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked in the middle of a count, they are what they are, and nothing expires."""
    sink = Recorder(deadline=0.001)
    channel = open_channel(sink)
    with channel._locked():
        monkeypatch.setattr(Channel, "tick", lambda channel, now: pytest.fail("touched"))
        assert balanced(channel.stats)


def test_an_async_sink_does_not_run_in_the_context_of_whoever_came_first() -> None:
    """A request's context variables are not seen by the writes of all others."""
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []
    sink = AsyncRecorder(lambda batch: seen.append(request.get()))
    channel = open_channel(sink)
    contextvars.Context().run(lambda: (request.set("first"), submit(channel, make_event(1))))
    assert channel.close(soon())
    assert seen == ["none"]


@BOTH
def test_names_a_sink_is_likely_to_use_are_its_own(kind: type[Recorder]) -> None:
    """A sink may keep its AMQP channel or its settings where everybody would."""
    sink = kind()
    sink._channel = sink._settings = sink._turn = "mine"  # type: ignore[assignment,attr-defined]
    channel = open_channel(sink)
    submit(channel, make_event(1))
    assert channel.close(soon())
    assert sink.stats.delivered == 1
