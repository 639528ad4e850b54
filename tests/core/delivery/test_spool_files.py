"""Whose a spool file is, and what becomes of files that others left, damaged or use."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.delivery.doubles import Recorder, balanced, eventually, is_notice, open_channel, soon
from core.delivery.spooling import fill, found, items, outage
from streamll._delivery import salvage, spoolfile
from streamll._delivery.spool import Spool
from streamll._delivery.spoolfile import NotASpool


class Killed(BaseException):
    """Nothing is done any more, as after kill -9."""


def die(*args: Any) -> Any:
    raise Killed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def orphan(path: Path) -> Path:
    """What a process that died left beside the spool: events 1 to 5."""
    file = path.with_name("spool.db.77-0")
    fill(file, 1, 5)
    return file


# -- files of others ----------------------------------------------------------------------------


def test_a_text_of_the_program_is_refused_and_not_touched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A path by mistake costs the spool, not the notes; the log says so once."""
    path = tmp_path / "notes.txt"
    path.write_text("What I must not forget.\n" * 10)
    sink, channel = outage(path, events=300)
    eventually(lambda: sink.stats.dropped)
    channel.close(soon())
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    assert path.read_text() == "What I must not forget.\n" * 10
    assert sink.stats.dropped["spool_error"] > 0
    assert caplog.text.count("notes.txt is not a spool; it is left alone") == 1


@pytest.mark.parametrize(
    "content", [b"x", b"-" * 5000, bytes(200), b"SQLite format 3\0" + bytes(5000)]
)
def test_what_is_no_spool_stays_as_it_is(path: Path, content: bytes) -> None:
    """However long: without a sign that it was ours, it is not."""
    path.write_bytes(content)
    with pytest.raises(NotASpool):
        Spool(str(path), 10**6).open()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_the_log_of_a_database_of_others_is_not_merged(tmp_path: Path) -> None:
    """What a killed program left beside its database is for itself to recover."""
    path, copy = tmp_path / "app.db", tmp_path / "copy"
    copy.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE mine (x)")
        for file in (path, path.with_name("app.db-wal")):
            (copy / file.name).write_bytes(file.read_bytes())
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    with pytest.raises(NotASpool):
        Spool(str(copy / "app.db"), 10**6).open()
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


# -- files of dead processes --------------------------------------------------------------------


def make_dangling(path: Path) -> None:
    path.symlink_to("/nonexistent/file")


@pytest.mark.parametrize("make", [make_dangling, Path.mkdir])
def test_a_leftover_that_cannot_be_opened_hides_no_others(
    path: Path, orphan: Path, make: Any
) -> None:
    """Each is taken over for itself."""
    make(path.with_name("spool.db.66-0"))
    fill(path, 6, 9)
    make(path.with_name("spool.db.88-0"))
    assert sorted(found(path)) == list(range(1, 10))
    assert not orphan.exists()


def test_a_leftover_of_another_user_hides_no_others(
    path: Path, orphan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not be read stays where it is."""
    secret = path.with_name("spool.db.66-0")
    secret.write_bytes(b"")
    header = spoolfile._header

    def guarded(file: Path) -> bytes:
        if file == secret:
            raise PermissionError
        return header(file)

    monkeypatch.setattr(spoolfile, "_header", guarded)
    assert found(path) == [1, 2, 3, 4, 5]
    assert secret.exists()


@pytest.mark.parametrize("step", ["discard", "_forget"])
def test_a_takeover_cut_off_anywhere_doubles_no_row(
    path: Path, orphan: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 after the rows were copied, or after the file was removed."""
    with monkeypatch.context() as patch:
        patch.setattr(salvage, step, die)
        with pytest.raises(Killed):
            Spool(str(path), 10**6).open()
    assert found(path) == [1, 2, 3, 4, 5]
    assert found(path) == [1, 2, 3, 4, 5]
    assert not orphan.exists()


def test_a_takeover_cut_off_before_the_rows_are_gone_doubles_none(
    path: Path, orphan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 right after the commit: the rows are in both files, and delivered once."""
    copy = salvage._copy

    def last_act(*args: Any) -> None:
        copy(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(salvage, "_copy", last_act)
        with pytest.raises(Killed):
            Spool(str(path), 10**6).open()
    assert found(orphan) == [1, 2, 3, 4, 5]
    assert found(path) == [1, 2, 3, 4, 5]


def test_another_file_of_the_same_name_is_another_file(path: Path, orphan: Path) -> None:
    """Process ids come again: what was taken over once says nothing about the next file."""
    assert found(path) == [1, 2, 3, 4, 5]
    fill(orphan, 6, 7)
    assert found(path) == [1, 2, 3, 4, 5, 6, 7]


# -- damage -------------------------------------------------------------------------------------


def damage(path: Path) -> None:
    """Make a page of *path* unreadable; most rows are not in it."""
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 6 * 4096] = b"\xff" * 4096
    path.write_bytes(bytes(content))


# A process that is killed closes nothing; from Python 3.13 on, sqlite3 tells of that.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("step", "call"), [("connect", 2), ("_copy", 1), ("move", 2)])
def test_a_rescue_cut_off_anywhere_is_brought_to_its_end(
    path: Path, step: str, call: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 at any step: no row that can be read is lost, none comes twice."""
    fill(path, 1, 500, size=200)
    damage(path)
    with monkeypatch.context() as patch:
        patch.setattr(salvage, step, killed_at(getattr(salvage, step), call, after=after))
        with pytest.raises(Killed):
            Spool(str(path), 10**6).open()
    gc.collect()  # what the dead process had open
    got = found(path)
    assert len(got) >= 400
    assert got == sorted(set(got))
    assert [file.name for file in path.parent.iterdir() if "rescue" in file.name] == []
    assert path.with_name("spool.db.corrupt-0").exists()


def killed_at(function: Any, call: int, *, after: bool) -> Any:
    """Return *function*, whose *call*th call kills the process, before or after its work."""
    calls: list[Any] = []

    def wrapped(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == call and not after:
            die()
        result = function(*args)
        return die() if len(calls) == call else result

    return wrapped


def test_a_rename_cut_off_in_the_middle_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log went first, so a spool without header is still known for one of ours."""
    path.write_bytes(b"-" * 5000)
    log = path.with_name("spool.db-wal")
    log.write_bytes(b"\x37\x7f\x06\x82 and so on")
    replace = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda old, new: (replace(old, new), die()))
        with pytest.raises(Killed):
            Spool(str(path), 10**6).open()
    assert not log.exists()
    assert found(path) == []
    assert path.with_name("spool.db.corrupt-0").read_bytes() == b"-" * 5000


@pytest.mark.parametrize("weight", ["'heavy'", "NULL", "7", "2.5", "9223372036854775807"])
def test_a_damaged_weight_costs_one_event(path: Path, weight: str) -> None:
    """It counts as one damaged row, and the others are adopted with theirs."""
    fill(path, 1, 5, weight=3)
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE events SET weight = {weight} WHERE id = 3")
    db.close()
    sink = Recorder(spool=str(path))
    channel = open_channel(sink)
    eventually(lambda: any(is_notice(event) for event in sink.got) and not sink.stats.queued)
    channel.flush(soon())
    assert sink.sequences == [1, 2, 4, 5]
    assert sink.stats.dropped == {"spool_corrupt": 1}
    assert sink.stats.delivered == 4 * 3 + 1
    assert balanced(sink.stats)
    channel.close(soon())


# -- locks --------------------------------------------------------------------------------------

OTHER = """
import sys
from streamll._delivery.spool import Spool
print(list(Spool(sys.argv[1], 10**6).open()))
"""


def adopted_elsewhere(path: Path) -> str:
    """Return what another process takes over when it opens *path*."""
    program = [sys.executable, "-c", OTHER, str(path)]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def two(path: Path) -> Iterator[tuple[Spool, Spool]]:
    """Two spools of this process on one path, each with two rows."""
    first, second = Spool(str(path), 10**6), Spool(str(path), 10**6)
    first.open()
    second.open()
    first.append(items(1, 2))
    second.append(items(3, 4))
    yield first, second
    first.close()
    second.close()


def test_who_opens_a_path_again_leaves_the_locks_of_its_process_alone(
    two: tuple[Spool, Spool], path: Path
) -> None:
    """Two sinks share a path, the first is opened again: nobody gets the second's rows."""
    first, second = two
    first.delete(list(range(1, 3)))
    first.close()
    assert first.open() == {}
    first.close()
    assert adopted_elsewhere(path) == "[]"
    assert [row.event.sequence for row in second.read([1, 2]).values()] == [3, 4]
    assert second.append(items(5, 5)) == [3]


def test_a_third_sink_on_a_path_leaves_the_first_two_alone(
    two: tuple[Spool, Spool], path: Path
) -> None:
    """It does not even look into files that its process uses."""
    third = Spool(str(path), 10**6)
    assert third.open() == {}
    third.close()
    assert adopted_elsewhere(path) == "[]"


REMOVAL = """
import os, pathlib, sys
from streamll._delivery.spool import Spool
spool = Spool(sys.argv[1], 10**6)
spool.delete(list(spool.open()))
unlink = pathlib.Path.unlink
pathlib.Path.unlink = lambda file, **how: (unlink(file, **how), os._exit(7))
spool.close()
"""


def test_a_removal_cut_off_in_the_middle_brings_no_row_back(path: Path) -> None:
    """kill -9 after one of the files of an empty spool was removed."""
    fill(path, 1, 5)
    program = [sys.executable, "-c", REMOVAL, str(path)]
    assert subprocess.run(program, check=False).returncode == 7
    assert found(path) == []


@pytest.mark.skipif(os.name == "nt", reason="there a file that is open cannot be removed")
def test_a_closing_owner_removes_nothing_of_its_successor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes as soon as the file is gone has one of its own, with its log."""
    first, second = Spool(str(path), 10**6), Spool(str(path), 10**6)
    first.open()
    first.delete(first.append(items(1, 3)))
    remove = spoolfile._remove

    def succeed(file: Path) -> None:
        monkeypatch.undo()
        assert adopted_elsewhere(path) == "[]"
        assert first._db is not None
        first._db.execute("SELECT 1")  # not closed yet, so that nobody has got the file
        remove(file)
        first._release()  # as if the successor were another process
        second.open()
        second.append(items(4, 5))

    monkeypatch.setattr(spoolfile, "_remove", succeed)
    first.close()
    assert {file.name for file in path.parent.iterdir()} >= {"spool.db", "spool.db-wal"}
    assert adopted_elsewhere(path) == "[]"
    assert len(second.append(items(6, 6))) == 1
    second.close()
    assert found(path) == [4, 5, 6]


@pytest.mark.skipif(os.name == "nt", reason="there a file that is open cannot be removed")
@pytest.mark.parametrize("full", [False, True])
def test_a_file_removed_before_it_could_be_locked_is_not_used(
    path: Path, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last owner closed between our opening and our locking: rows in there would be lost."""
    take = spoolfile._take_possession

    def after_the_owner_is_gone(db: sqlite3.Connection, file: Path) -> None:
        monkeypatch.undo()
        db.execute("PRAGMA user_version")  # opens the file
        path.unlink()
        take(db, file)

    if full:
        fill(path, 1, 2)
    monkeypatch.setattr(spoolfile, "_take_possession", after_the_owner_is_gone)
    spool = Spool(str(path), 10**6)
    assert spool.open() == {}
    spool.append(items(3, 5))
    spool.close()
    assert found(path) == [3, 4, 5]


def test_a_rescue_of_a_leftover_is_brought_to_its_end_as_well(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 when only the damaged file of a dead process is there, under its new name."""
    leftover = path.with_name(f"{path.name}.77-0")
    fill(leftover, 1, 500, size=200)
    damage(leftover)
    with monkeypatch.context() as patch:
        patch.setattr(salvage, "move", killed_at(salvage.move, 1, after=True))
        with pytest.raises(Killed):
            Spool(str(path), 10**6).open()
    gc.collect()  # what the dead process had open
    got = found(path)
    assert len(got) >= 400
    assert got == sorted(set(got))


def test_trouble_in_reading_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot be read just now costs time, and no event."""
    monkeypatch.setattr("streamll._delivery.foreman._REREAD", 0.001)
    fill(path, 1, 50)
    troubles, read = [1, 2, 3], Spool.read

    def reads(spool: Spool, rows: Any) -> Any:
        if troubles and troubles.pop():
            raise sqlite3.OperationalError("disk I/O error")
        return read(spool, rows)

    monkeypatch.setattr(Spool, "read", reads)
    sink = Recorder(spool=str(path))
    channel = open_channel(sink)
    assert channel.flush(soon())
    assert sink.sequences == list(range(1, 51))
    assert sink.stats.dropped == {}
    channel.close(soon())
