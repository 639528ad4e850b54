"""The spool while its disk is slow, gone, or fails in between."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.delivery.doubles import (
    Recorder,
    balanced,
    encode,
    eventually,
    make_event,
    make_pure,
    open_channel,
    soon,
    submit,
)
from core.delivery.spooling import DOWN, found, items, outage, refuse
from streamll._delivery.actions import Spill, Write
from streamll._delivery.channel import Channel
from streamll._delivery.keeper import Keeper
from streamll._delivery.outcome import Failure
from streamll._delivery.spool import Spool
from streamll.errors import Outcome
from streamll.settings import DeliverySettings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


class SlowDisk:
    """Lets no write of a spool come to its end before `free` is set."""

    def __init__(self) -> None:
        self.busy, self.free = threading.Event(), threading.Event()
        self.append = Spool.append

    def write(self, spool: Spool, stored: Any) -> list[int]:
        self.busy.set()
        assert self.free.wait(20)
        return self.append(spool, stored)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk()
    monkeypatch.setattr(Spool, "append", lambda spool, stored, **_: slow.write(spool, stored))
    yield slow
    slow.free.set()


# -- close beside a slow disk -------------------------------------------------------------------


def stuck(path: Path, disk: SlowDisk) -> Any:
    """Return sink and channel whose worker is in the middle of a write to disk."""
    sink, channel = outage(path, events=300)
    assert disk.busy.wait(20)
    return sink, channel


def test_a_slow_disk_breaks_no_deadline(path: Path, disk: SlowDisk) -> None:
    """`close` neither waits for the disk nor counts what is on its way there as kept."""
    sink, channel = stuck(path, disk)
    start = time.monotonic()
    assert not channel.close(start + 0.05)
    assert time.monotonic() - start < 5
    assert sink.stats.dropped == {"shutdown_timeout": 300}
    assert balanced(sink.stats)


def test_what_a_slow_disk_wrote_in_the_end_is_spooled_once(path: Path, disk: SlowDisk) -> None:
    """It counts as "spooled" then, and as nothing else; the file has each event once."""
    sink, channel = stuck(path, disk)
    channel.close(time.monotonic() + 0.05)
    disk.free.set()
    eventually(lambda: channel._finished)
    spooled = found(path)
    assert spooled == sorted(set(spooled))
    assert spooled[0] == 0
    dropped = sink.stats.dropped
    assert dropped.get("spooled", 0) == len(spooled) > 0
    assert dropped.get("shutdown_timeout", 0) == 300 - len(spooled)
    assert balanced(sink.stats)


def spilling() -> tuple[Channel, Spill]:
    """Return a failing channel with eleven events, and what its worker is to write to disk."""
    channel = make_pure(spool="x", buffer_size=4, batch_size=1, circuit_breaker=False)
    channel.offer(make_event(1), encode(make_event(1)), 0.0)
    write = channel.next(0.0)
    assert isinstance(write, Write)
    channel.failed(write, Failure(Outcome.REJECTED_TRANSIENT, "E"), 0.0)
    for number in range(2, 12):
        channel.offer(make_event(number), encode(make_event(number)), 0.0)
    spill = channel.next(0.0)
    assert isinstance(spill, Spill)
    return channel, spill


@pytest.mark.parametrize("is_first", [False, True])
def test_close_and_worker_write_the_same_events_once(path: Path, is_first: bool) -> None:
    """Whichever of them comes to the disk first: the other learns of the rows."""
    channel, spill = spilling()
    keeper = Keeper(DeliverySettings(spool=str(path)))
    keeper.open()
    rows = keeper.write(spill.items)[0] if is_first else None
    keeper.save(channel.disk.unsaved())
    channel.expire_all("shutdown_timeout")
    keeper.close()
    if rows is None:
        rows = keeper.write(spill.items)[0]
    channel.disk.written(spill, rows, "spool_full")
    assert found(path) == list(range(1, 12))
    assert channel.stats().dropped == {"spooled": 11}
    assert channel.ledger.balances


# -- a disk that comes later --------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_is_tried_again_in_a_while(path: Path) -> None:
    """Not with each write, but before long: the directory may be there then."""
    now = [0.0]
    target = path.parent / "later" / "spool.db"
    keeper = Keeper(DeliverySettings(spool=str(target)), clock=lambda: now[0])
    assert keeper.open() == {}
    target.parent.mkdir()
    assert keeper.write(items(1, 2)) == ([], "spool_error")
    now[0] = 1.5
    assert keeper.write(items(3, 4)) == ([1, 2], "spool_full")
    keeper.close()
    assert keeper.write(items(5, 6))[0] == []
    assert found(target) == [3, 4]


def test_the_last_chance_of_a_file_is_at_the_end(path: Path) -> None:
    """What `close` saves does not depend on when the file was tried before."""
    keeper = Keeper(DeliverySettings(spool=str(path.parent / "later" / "x")), clock=lambda: 0.0)
    keeper.open()
    (path.parent / "later").mkdir()
    saved = items(1, 2)
    keeper.save([saved, []])
    assert [item.row for item in saved] == [1, 2]
    keeper.close()


def test_what_is_found_when_the_file_opens_at_last_is_delivered_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its place: before what was spooled since."""
    _, channel = outage(path, events=300)
    channel.close(soon())
    opened = Spool.open
    tries: list[Any] = []

    def later(spool: Spool) -> dict[int, int]:
        tries.append(spool)
        if len(tries) == 1:
            raise PermissionError
        return opened(spool)

    monkeypatch.setattr(Spool, "open", later)
    monkeypatch.setattr("streamll._delivery.keeper._REOPEN", 0.0)
    sink = Recorder(refuse, spool=str(path), **{**DOWN, "recovery_timeout": 0.2})
    channel = open_channel(sink)
    submit(channel, make_event(300))
    eventually(lambda: sink.circuit_open)
    submit(channel, *(make_event(n) for n in range(301, 900)))
    eventually(lambda: sink.stats.accepted == 900)
    sink.script = None
    assert channel.flush(soon())
    assert sorted(sink.sequences) == list(range(900))
    assert sink.sequences == list(range(900))
    assert balanced(sink.stats)
    channel.close(soon())


# -- rows that are delivered --------------------------------------------------------------------


@pytest.mark.parametrize("failures", [1, 2, 5])
def test_rows_that_could_not_be_deleted_do_not_come_again(
    path: Path, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without room for the log of a DELETE: it is tried again, at the latest at close."""
    sink, channel = outage(path, events=300, recovery_timeout=0.2)
    eventually(path.exists)
    delete, calls = Spool.delete, list[Any]()

    def fail(spool: Spool, rows: Any) -> None:
        calls.append(rows)
        if len(calls) <= failures:
            raise sqlite3.OperationalError("database or disk is full")
        delete(spool, rows)

    monkeypatch.setattr(Spool, "delete", fail)
    sink.script = None
    assert channel.flush(soon())
    assert channel.close(soon())
    assert len(calls) > failures
    assert found(path) == []


def test_a_delete_that_fails_in_the_middle_gives_back_no_room(path: Path) -> None:
    """The bound counts what the file holds, also after a rollback."""
    spool = Spool(str(path), len(items(1, 1)[0].body) * 2)
    spool.open()
    rows = spool.append(items(1, 2))
    with pytest.raises(sqlite3.Error):
        spool.delete([*rows, object()])  # type: ignore[list-item]
    assert list(spool.read(rows)) == rows
    assert spool.append(items(3, 4)) == []
    spool.close()
