"""What overflows to disk stays in order, and is not lost on the way: the pure part."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.delivery.doubles import (
    Recorder,
    encode,
    eventually,
    is_notice,
    make_event,
    make_pure,
    open_channel,
    soon,
    submit,
)
from core.delivery.spooling import DOWN as OUTAGE
from core.delivery.spooling import fill, found, items, outage, refuse
from streamll._delivery.actions import Load, Spill, Wait, Write
from streamll._delivery.outcome import Failure
from streamll._delivery.spillway import Spillway, Stored
from streamll._delivery.spool import Spool
from streamll.errors import Outcome
from streamll.events import Batch

#: It says nothing about the events, so that none steps aside.
DOWN = Failure(Outcome.REJECTED_TRANSIENT, "ConnectionRefusedError", sent=False)
SMALL: dict[str, Any] = {"spool": "x", "buffer_size": 4, "circuit_breaker": False}


class Outage:
    """A channel with a spool, its disk, and a sink that works or not."""

    def __init__(self, **options: Any) -> None:
        self.channel = make_pure(**{**SMALL, **options})
        self.now = 0.0
        self.number = 0
        self.write: Write | None = None
        self.disk: dict[int, Stored] = {}
        self.got: list[int] = []

    def emit(self, count: int = 1, at: float = 0.0) -> None:
        for _ in range(count):
            self.number += 1
            event = make_event(self.number)
            self.channel.offer(event, encode(event), at)

    @property
    def may_emit(self) -> bool:
        """Whether the next event has a place, or may go to disk: then none may be lost."""
        channel = self.channel
        diverted = channel._pace.setbacks or channel.waiting.spillway
        blocks = channel.settings.overflow == "block"
        return channel.has_room(400, 1) or bool(diverted and not blocks)

    def begin(self) -> Any:
        """Ask the channel; return what it says, and begin a write."""
        if self.write is not None:
            return None
        action = self.channel.next(self.now)
        if isinstance(action, Write):
            self.write = action
        elif isinstance(action, Load):
            found = {row: self.disk[row] for row in action.rows}
            self.channel.disk.loaded(action, found, self.now)
        elif isinstance(action, Wait):
            self.now += min(action.seconds or 0.0, 100.0)
        return action

    def spilled(self, spill: Spill) -> None:
        first = len(self.disk) + 1
        rows = list(range(first, first + len(spill.items)))
        for row, item in zip(rows, spill.items, strict=True):
            self.disk[row] = Stored(row, item.event, item.body, item.at)
        self.channel.disk.written(spill, rows, "spool_full")

    def begin_write(self) -> None:
        """Do what comes before the next write, and begin it, if there is something to write."""
        action = self.begin()
        while isinstance(action, (Spill, Load)) or (isinstance(action, Wait) and action.seconds):
            if isinstance(action, Spill):
                self.spilled(action)
            action = self.begin()

    def end(self, *, works: bool) -> None:
        write, self.write = self.write, None
        if write is not None and works:
            self.got += [event.sequence for event in write.batch if not is_notice(event)]
            self.channel.succeeded(write, None, self.now)
        elif write is not None:
            self.channel.failed(write, DOWN, self.now)

    def step(self, *, works: bool) -> Any:
        action = self.begin()
        if isinstance(action, Spill):
            self.spilled(action)
        self.end(works=works)
        return action

    def drain(self) -> list[int]:
        """Let the sink work; return all it got."""
        self.end(works=True)
        for _ in range(1000):
            action = self.step(works=True)
            if isinstance(action, Wait) and action.seconds is None:
                return self.got
        raise AssertionError("it never came to rest")


STEPS = st.lists(st.sampled_from(["begin", "burst", "emit", "fail", "succeed"]), max_size=30)


@example(
    steps=["emit", "begin", "fail", "begin", "burst", "succeed", "begin", "burst"],
    overflow="drop_oldest",
    batch=3,
    size=6,
)
@settings(max_examples=300, deadline=None)
@given(
    steps=STEPS,
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "block", "coalesce"]),
    batch=st.integers(1, 5),
    size=st.integers(1, 6),
)
def test_a_spool_keeps_everything_in_order(
    steps: list[str], overflow: str, batch: int, size: int
) -> None:
    """Whatever fails while whatever comes: each event arrives once, in order."""
    outage = Outage(overflow=overflow, batch_size=batch, buffer_size=size)
    for step in steps:
        if step in {"fail", "succeed"}:
            outage.end(works=step == "succeed")
        elif step == "begin":
            outage.begin_write()
        for _ in range({"emit": 1, "burst": 9}.get(step, 0)):
            if outage.may_emit:
                outage.emit()
    assert outage.drain() == list(range(1, outage.number + 1))
    assert outage.channel.stats().dropped == {}
    assert outage.channel.ledger.balances


def test_a_batch_that_failed_returns_before_what_overflowed_meanwhile() -> None:
    """Not into the buffer, which goes out after the disk."""
    outage = Outage(batch_size=2)
    outage.emit(2)
    outage.step(works=False)
    outage.now += 100.0
    outage.begin()
    outage.emit(20)
    outage.end(works=False)
    assert outage.drain() == list(range(1, 23))


def test_a_batch_that_failed_goes_to_disk_rather_than_lost() -> None:
    """The buffer filled up while it was away, and the sink is failing only now."""
    outage = Outage(batch_size=2)
    outage.emit(2)
    outage.begin()
    outage.emit(4)
    outage.end(works=False)
    assert outage.channel.stats().dropped == {}
    assert outage.drain() == [1, 2, 3, 4, 5, 6]


def test_what_is_being_written_does_not_expire() -> None:
    """A deadline passes while the disk is busy: what it has is safe, and so is the younger."""
    outage = Outage(batch_size=1, deadline=10.0)
    outage.emit()
    outage.step(works=False)
    outage.emit(7, at=0.0)
    spill = outage.begin()
    assert isinstance(spill, Spill)
    given = [item.event.sequence for item in spill.items]
    outage.emit(8, at=9.0)
    outage.now = 10.5
    outage.channel.tick(outage.now)
    outage.spilled(spill)
    got = outage.drain()
    assert set(got) >= {*range(9, 17)}
    assert outage.channel.stats().dropped == {"expired": 16 - len(got)}
    assert outage.channel.ledger.balances
    assert len(given) > 0


def test_what_is_being_written_is_still_counted() -> None:
    """Neither its bytes nor its events vanish while the disk is busy."""
    outage = Outage(batch_size=1)
    outage.emit()
    outage.step(works=False)
    outage.emit(10)
    before = outage.channel.stats()
    assert isinstance(outage.begin(), Spill)
    assert outage.channel.stats() == before
    assert [item.order for part in outage.channel.disk.unsaved() for item in part] == [
        *range(1, 12)
    ]
    items, unread = outage.channel.waiting.clear()
    assert (len(items), unread) == (11, 0)


# -- overflow="block" ---------------------------------------------------------------------------


def test_nobody_waits_for_room_while_the_disk_has_some() -> None:
    """With "block", a spool and a sink that fails there is room, however full the buffer is."""
    outage = Outage(overflow="block", batch_size=1)
    outage.emit(4)
    assert not outage.channel.has_room(400, 1)
    outage.step(works=False)
    assert outage.channel.has_room(400, 1)
    outage.channel.waiting.spillway.max_bytes = 100
    assert not outage.channel.has_room(400, 1)


def test_who_did_not_wait_for_the_disk_loses_nothing_when_the_sink_works_again() -> None:
    """The promise of room holds for what is on its way into the channel."""
    outage = Outage(overflow="block", batch_size=1)
    outage.emit(4)
    outage.step(works=False)
    assert outage.channel.has_room(400, 3)
    outage.now += 100.0
    outage.step(works=True)
    outage.emit(3)
    assert outage.drain() == list(range(1, 8))


def test_block_never_waits_in_an_outage(tmp_path: Any) -> None:
    """A program whose sink is down goes on at its own pace."""
    options: dict[str, Any] = {"overflow": "block", "block_timeout": 3600.0}
    sink, channel = outage(tmp_path / "spool.db", events=500, **options)
    assert sink.stats.accepted == 500
    assert not channel.close(soon())
    assert sink.stats.dropped == {"spooled": 500}


def test_what_memory_held_at_close_comes_first_if_it_is_older(tmp_path: Path) -> None:
    """A batch that fails, and hangs in the end, was accepted before what overflowed to disk."""
    path, calls = tmp_path / "events.spool", []
    fails, hangs = threading.Event(), threading.Event()

    def script(batch: Batch) -> None:
        calls.append(batch)
        if len(calls) > 1:
            (fails if len(calls) == 2 else hangs).wait()
        raise ConnectionRefusedError

    options: dict[str, Any] = {"buffer_size": 10, "retry_delay": 0.001, "circuit_breaker": False}
    sink = Recorder(script, spool=str(path), **options)
    channel = open_channel(sink)
    submit(channel, make_event(0))
    eventually(lambda: len(calls) == 2)
    submit(channel, *(make_event(n) for n in range(1, 300)))
    fails.set()  # the overflow goes to disk before the third attempt
    eventually(lambda: len(calls) == 3)
    assert [event.sequence for event in calls[2]] == [0]
    channel.close(time.monotonic())
    hangs.set()
    eventually(lambda: sink.calls[-1] == "close")
    assert found(path) == list(range(300))


def test_rows_ahead_of_others_are_read_first_by_the_next_owner(tmp_path: Path) -> None:
    """However often: the last that went ahead is the first that is read."""
    path = tmp_path / "events.spool"
    for first, last in ((7, 9), (4, 6), (1, 3)):
        spool = Spool(str(path), 10**6)
        spool.open()
        spool.append(items(first, last), ahead=first < 7)
        spool.close()
    assert found(path) == list(range(1, 10))


def test_what_an_heir_accepted_stays_behind_what_it_inherited(tmp_path: Path) -> None:
    """Also when both failed in one batch and are saved again."""
    path = tmp_path / "events.spool"
    fill(path, 0, 2)
    heir = Recorder(refuse, spool=str(path), retry_delay=0.001, circuit_breaker=False)
    channel = open_channel(heir)
    submit(channel, *(make_event(n) for n in range(3, 6)))
    eventually(lambda: heir.calls.count("write") > 3)
    channel.close(time.monotonic())
    assert found(path) == [0, 1, 2, 3, 4, 5]


def test_a_write_that_is_cut_off_by_close_may_repeat_what_is_saved(tmp_path: Path) -> None:
    """It may succeed yet, so the next owner's copies count as retried after an unknown outcome."""
    gate = threading.Event()
    sink = Recorder(lambda batch: gate.wait(), spool=str(tmp_path / "events.spool"))
    channel = open_channel(sink)
    submit(channel, make_event(1))
    eventually(lambda: sink.stats.in_flight)
    channel.close(time.monotonic())
    assert sink.stats.dropped == {"spooled": 1}
    assert sink.stats.retried_unknown == 1
    gate.set()


def test_large_events_go_to_disk_rather_than_wait(tmp_path: Path) -> None:
    """overflow="block", the circuit open: the worker is told of what is for the disk."""
    bounds: dict[str, Any] = {"buffer_size": 1_000, "buffer_bytes": 200_000, "block_timeout": 60}
    path = str(tmp_path / "events.spool")
    sink = Recorder(refuse, spool=path, overflow="block", **{**OUTAGE, **bounds})
    channel = open_channel(sink)
    submit(channel, make_event(0))
    eventually(lambda: sink.circuit_open)
    submit(channel, *(make_event(n, data={"pad": "y" * 5_000}) for n in range(1, 200)))
    assert sink.stats.dropped == {}
    assert (sink.stats.queued, sink.stats.queued_bytes < 400_000) == (200, True)
    channel.close(time.monotonic())


def test_the_stage_has_room_for_as_many_as_it_says() -> None:
    """Who asks for several places gets them or none."""
    spillway = Spillway(10, 10**9)
    spillway.stage(items(1, 9_990))
    assert spillway.has_room(1, 10)
    assert not spillway.has_room(1, 11)
