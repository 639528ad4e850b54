"""The disk spool: order, ownership, damage, a full disk, a crash."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from core.delivery.doubles import (
    PATIENCE,
    AsyncRecorder,
    Recorder,
    balanced,
    encode,
    eventually,
    is_notice,
    make_event,
    open_channel,
    soon,
    submit,
)
from core.delivery.spooling import DOWN, is_all_on_disk, items, outage
from streamll._delivery import salvage
from streamll._delivery.spool import Spool
from streamll._delivery.spoolfile import NotASpool
from streamll.events import Batch

BOTH = pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


# -- the file -----------------------------------------------------------------------------------


def test_rows_come_back_as_they_went(path: Path) -> None:
    """What was appended is read in order, with body, event and time of acceptance."""
    spool = Spool(str(path), 10**6)
    assert spool.open() == {}
    rows = spool.append(items(1, 5))
    stored = spool.read(rows)
    assert [stored[row].event.sequence for row in rows] == [1, 2, 3, 4, 5]
    assert stored[rows[0]].body == encode(stored[rows[0]].event)
    assert stored[rows[0]].at == 1.5
    spool.close()


def test_another_process_finds_what_was_not_deleted(path: Path) -> None:
    """Rows outlive the process, with their order; times of an earlier process mean nothing."""
    first = Spool(str(path), 10**6)
    first.open()
    rows = first.append(items(1, 5))
    first.delete(rows[:2])
    first.close()
    second = Spool(str(path), 10**6)
    assert list(second.open()) == rows[2:]
    assert [second.read([row])[row].event.sequence for row in rows[2:]] == [3, 4, 5]
    assert second.read(rows[2:])[rows[2]].at is None
    second.close()


def test_the_bound_counts_what_is_held(path: Path) -> None:
    """spool_bytes bounds the bodies held; deleting makes room again."""
    one = len(items(1, 1, 100)[0].body)
    spool = Spool(str(path), one * 3)
    spool.open()
    rows = spool.append(items(1, 5, 100))
    assert len(rows) == 3
    assert spool.append(items(6, 6, 100)) == []
    spool.delete(rows[:1])
    assert len(spool.append(items(7, 8, 100))) == 1
    spool.close()


def test_two_owners_never_share_a_file(path: Path) -> None:
    """The second opens a file of its own; what a closed one left there is taken over later."""
    first, second = Spool(str(path), 10**6), Spool(str(path), 10**6)
    first.open()
    second.open()
    first.append(items(1, 2))
    second.append(items(3, 4))
    second.close()
    first.close()
    third = Spool(str(path), 10**6)
    rows = list(third.open())
    assert [stored.event.sequence for stored in third.read(rows).values()] == [1, 2, 3, 4]
    third.close()
    assert [file.name for file in path.parent.iterdir()] == ["spool.db"]


def test_an_empty_spool_leaves_no_file(path: Path) -> None:
    """Closing a spool that holds nothing cleans up."""
    spool = Spool(str(path), 10**6)
    spool.open()
    spool.delete(spool.append(items(1, 3)))
    spool.close()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    ["crc = crc + 1", "body = 'text'", "body = x'00'", "body = NULL", "at = 'noon'", "weight = 2"],
)
def test_a_damaged_row_costs_itself_only(path: Path, change: str) -> None:
    """A row whose checksum does not fit is missing; its neighbours are read."""
    spool = Spool(str(path), 10**6)
    spool.open()
    rows = spool.append(items(1, 5))
    spool.close()
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE events SET {change} WHERE id = ?", (rows[2],))
    db.close()
    spool = Spool(str(path), 10**6)
    spool.open()
    assert list(spool.read(rows)) == [rows[0], rows[1], rows[3], rows[4]]
    spool.close()


@pytest.mark.parametrize("keeps", ["its header", "its log"])
def test_a_spool_that_is_no_database_any_more_is_moved_aside(path: Path, keeps: str) -> None:
    """A wholly damaged file is kept for inspection, and a new one takes its place."""
    header = b"SQLite format 3\0" + bytes(52) + b"sLL2" if keeps == "its header" else b"zeroes"
    path.write_bytes(header + b"damage" * 1000)
    if keeps == "its log":
        (path.parent / "spool.db-wal").write_bytes(b"\x37\x7f\x06\x82 and so on")
    spool = Spool(str(path), 10**6)
    assert spool.open() == {}
    assert spool.moved_aside
    assert len(spool.append(items(1, 2))) == 2
    assert (path.parent / "spool.db.corrupt-0").read_bytes().endswith(b"damage")
    spool.close()


@pytest.mark.parametrize("page", [2, 5, 10, 20])
def test_a_damaged_page_costs_the_rows_it_holds(path: Path, page: int) -> None:
    """What can still be found in a damaged file is saved."""
    spool = Spool(str(path), 10**8)
    spool.open()
    spool.append(items(1, 500, 200))
    spool.close()
    content = bytearray(path.read_bytes())
    start = page * 4096
    content[start : start + 4096] = os.urandom(4096)
    path.write_bytes(bytes(content))
    spool = Spool(str(path), 10**8)
    rows = list(spool.open())
    got = [stored.event.sequence for stored in spool.read(rows).values()] if rows else []
    assert got == sorted(set(got))
    assert len(got) >= 400
    spool.close()


# -- the channel --------------------------------------------------------------------------------


@BOTH
def test_an_outage_is_survived_in_order(path: Path, kind: type[Recorder]) -> None:
    """What the buffer cannot hold while the circuit is open arrives, in order, afterwards."""
    sink, channel = outage(path, kind, events=5000, recovery_timeout=0.2)
    sink.script = None
    assert channel.flush(soon())
    assert sink.sequences == list(range(5000))
    assert sink.stats.dropped == {}
    assert sink.stats.delivered == 5000
    assert channel.close(soon())
    assert list(path.parent.iterdir()) == []


@BOTH
def test_what_cannot_be_delivered_before_the_end_is_left_for_the_next_start(
    path: Path, kind: type[Recorder]
) -> None:
    """A close during an outage keeps everything on disk; the next process delivers it first."""
    sink, channel = outage(path, kind)
    assert not channel.close(soon())
    stats = sink.stats
    assert stats.dropped == {"spooled": 500}
    assert (stats.queued, stats.in_flight) == (0, 0)
    successor = kind(spool=str(path))
    channel = open_channel(successor)
    submit(channel, make_event(500))
    assert channel.flush(soon())
    assert successor.sequences == list(range(501))
    assert successor.stats.accepted == 501
    channel.close(soon())


def test_leftovers_are_delivered_even_if_nothing_is_emitted(path: Path) -> None:
    """A spool found at start wakes the worker."""
    _, channel = outage(path)
    channel.close(soon())
    successor = Recorder(spool=str(path))
    channel = open_channel(successor)
    eventually(lambda: len(successor.got) == 500)
    channel.close(soon())


def test_a_hanging_sink_does_not_keep_events_from_the_disk(path: Path) -> None:
    """At the deadline of close the caller saves what the worker cannot."""
    release = []

    def hang(batch: Batch) -> None:
        eventually(lambda: release)

    sink = Recorder(hang, spool=str(path), batch_size=1)
    channel = open_channel(sink)
    submit(channel, *(make_event(n) for n in range(20)))
    eventually(lambda: "write" in sink.calls)
    assert not channel.close(time.monotonic() + 0.05)
    assert sink.stats.dropped == {"spooled": 20}
    release.append(True)
    eventually(lambda: sink.calls[-1] == "close")
    successor = Recorder(spool=str(path))
    channel = open_channel(successor)
    eventually(lambda: successor.sequences == list(range(20)))
    channel.close(soon())


def test_a_full_spool_is_counted_and_announced(path: Path) -> None:
    """spool_bytes reached: the newest do not fit, are "spool_full", and that is announced."""
    sink, channel = outage(path, events=400, spool_bytes=20_000, recovery_timeout=0.2)
    eventually(lambda: sink.stats.dropped)
    sink.script = None
    channel.flush(soon())
    stats = sink.stats
    assert set(stats.dropped) == {"spool_full"}
    notices = [event for event in sink.got if is_notice(event)]
    assert sum(event.data["count"] for event in notices) == stats.dropped["spool_full"]
    assert stats.delivered == 400 - stats.dropped["spool_full"] + len(notices)
    assert sink.sequences == sorted(sink.sequences)
    channel.close(soon())


def test_a_full_disk_is_counted_and_announced(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLITE_FULL costs events, never an exception; one log line says so, without payload."""

    def full(*args: Any) -> Any:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
        raise error

    monkeypatch.setattr("streamll._delivery.spool._row", full)
    sink, channel = outage(path, events=300, recovery_timeout=0.2)
    eventually(lambda: sink.stats.dropped)
    sink.script = None
    channel.flush(soon())
    assert set(sink.stats.dropped) == {"spool_full"}
    assert any(event.data.get("cause") == "spool_full" for event in sink.got)
    assert balanced(sink.stats)
    assert caplog.text.count("the spool cannot be used") == 1
    channel.close(soon())


def test_a_disk_that_fills_up_keeps_what_it_took(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself finds no room: the transaction is dropped and announced, the rest arrives."""
    connect = salvage.connect

    def small(path: Path) -> sqlite3.Connection:
        db = connect(path)
        assert db is not None
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 20}")
        return db

    monkeypatch.setattr(salvage, "connect", small)
    sink, channel = outage(path, events=100, recovery_timeout=0.2)
    eventually(lambda: sink.stats.queued == 100 and is_all_on_disk(channel))
    submit(channel, *(make_event(n, data={"x": "y" * 500}) for n in range(101, 1001)))
    eventually(lambda: sink.stats.dropped)
    sink.script = None
    channel.flush(soon())
    stats = sink.stats
    assert set(stats.dropped) == {"spool_full"}
    assert balanced(stats)
    notices = [event for event in sink.got if is_notice(event)]
    assert sum(event.data["count"] for event in notices) == stats.dropped["spool_full"]
    assert sink.sequences == sorted(set(sink.sequences))
    assert sink.sequences[:50] == list(range(50))
    channel.close(soon())


@pytest.mark.parametrize("where", ["missing/spool.db", "file/spool.db"])
def test_a_spool_that_cannot_be_opened_is_counted(tmp_path: Path, where: str) -> None:
    """A path that cannot be used costs what it should have held: "spool_error"."""
    (tmp_path / "file").touch()
    sink, channel = outage(tmp_path / where, events=300)
    eventually(lambda: sink.stats.dropped)
    assert not channel.close(soon())
    assert set(sink.stats.dropped) == {"spool_error", "shutdown_timeout"}
    assert balanced(sink.stats)


def test_damaged_rows_are_counted_and_announced(path: Path) -> None:
    """Leftovers that are damaged are accepted, counted "spool_corrupt" and announced."""
    _, channel = outage(path)
    channel.close(soon())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE events SET crc = 0 WHERE id % 100 = 0")
    db.close()
    sink = Recorder(spool=str(path))
    channel = open_channel(sink)
    eventually(lambda: any(is_notice(event) for event in sink.got) and not sink.stats.queued)
    channel.flush(soon())
    assert sink.stats.dropped == {"spool_corrupt": 5}
    assert len(sink.sequences) == 495
    assert balanced(sink.stats)
    channel.close(soon())


CRASH = """
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from core.delivery.test_spool import *
    sink, channel = outage(Path(sys.argv[1]), events=2000)
    eventually(lambda: sink.stats.queued == 2000 and is_all_on_disk(channel))
    print("ready", flush=True)
    time.sleep(600)
"""


def test_kill_9_in_mid_outage_costs_what_was_in_memory_only(path: Path) -> None:
    """After kill -9 and restart everything on disk arrives once, in order."""
    tests = str(Path(__file__).parents[2])
    program = [sys.executable, "-c", textwrap.dedent(CRASH), str(path), tests]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
        finally:
            process.send_signal(signal.SIGKILL)
    sink = Recorder(spool=str(path))
    channel = open_channel(sink)
    channel.start()
    eventually(lambda: len(sink.got) >= 1900)
    assert channel.flush(soon())
    memory = DOWN["buffer_size"] + 1  # the buffer, and the batch that opened the circuit
    assert sink.sequences == list(range(sink.sequences[0], sink.sequences[-1] + 1))
    assert len(sink.sequences) >= 2000 - memory
    assert channel.close(soon())


def test_a_forked_child_leaves_the_parents_rows_alone(path: Path) -> None:
    """Parent and child spool side by side; nobody delivers the other's events."""
    program = """
        import os, sys
        sys.path.insert(0, sys.argv[2])
        from core.delivery.test_spool import *
        path = Path(sys.argv[1])
        sink, channel = outage(path, events=200)
        child = os.fork()
        if child == 0:
            submit(channel, make_event(1000))
            eventually(lambda: sink.circuit_open)
            submit(channel, *(make_event(n) for n in range(1001, 1100)))
            channel.close(soon())
            os._exit(0 if sink.stats.dropped == {"spooled": 100} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        sink.script = None
        channel._channel.breaker.hasten(0.0)
        assert channel.flush(soon())
        assert sink.sequences == list(range(200)), sink.sequences
        assert channel.close(soon())
        heir = Recorder(spool=str(path))
        channel = open_channel(heir)
        submit(channel, make_event(2000))
        assert channel.flush(soon())
        assert heir.sequences == [*range(1000, 1100), 2000], heir.sequences
        channel.close(soon())
    """
    tests = str(Path(__file__).parents[2])
    program = textwrap.dedent(program)
    subprocess.run(
        [sys.executable, "-c", program, str(path), tests], check=True, timeout=PATIENCE * 3
    )


def test_files_of_others_beside_the_spool_are_left_alone(tmp_path: Path) -> None:
    """Whatever they are called: databases, texts, another sink's spool that nobody has open."""
    foreign = tmp_path / "events.1234-0"
    with contextlib.closing(sqlite3.connect(foreign)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    text = tmp_path / "events.2024-01-01"
    text.write_text("hello")
    other = Spool(str(tmp_path / "events.eu-west"), 10**6)
    other.open()
    other.append(items(1, 2))
    other.close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    spool = Spool(str(tmp_path / "events"), 10**6)
    assert spool.open() == {}
    spool.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_database_of_the_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    """A path by mistake costs the spool, not the database."""
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(NotASpool, match="not a spool"):
        Spool(str(path), 10**6).open()
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_a_spool_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds what the program said."""
    spool = Spool(str(tmp_path / "events"), 10**6)
    spool.open()
    spool.append(items(1, 2))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    spool.close()
