"""What a spool gets from other files: from damaged ones, and from those of dead processes.

A copy may be cut off at any point, by kill -9 or a full disk, and is made once nevertheless:
in one transaction with a note of the file it came from, which is forgotten when that file is
gone.

A damaged file becomes "<path>.streamll-rescue-N" until its rows are saved, then
"<path>.corrupt-N", for inspection.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from streamll._delivery.claims import claim, disclaim
from streamll._delivery.spoolfile import (
    INSERT,
    connect,
    discard,
    is_spool,
    mark_of,
    move,
    refuse,
)

__all__ = ["open_file", "take_over"]

_RESCUE: Final = "streamll-rescue"
_Row = tuple[Any, ...]


def open_file(path: Path) -> tuple[sqlite3.Connection | None, bool]:
    """Open *path*, which the caller claimed, and save what can be of a damaged one.

    Returns:
        None if another process has it open; and whether there was damage.
    """
    aside = _unused(path, _RESCUE)
    refuse(path, aside)
    try:
        db = connect(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        move(path, aside)
        db = connect(path)
    return db, db is not None and _rescue_all(path, db)


def _rescue_all(path: Path, db: sqlite3.Connection) -> bool:
    """Bring every rescue to its end, also what a killed process began; whether there was one."""
    found = False
    try:
        for damaged in _named(path, rf"{_RESCUE}-[0-9]+"):
            _copy(db, damaged.name, _readable(damaged))
            move(damaged, _unused(path, "corrupt"))
            _forget(db, damaged.name)
            found = True
    except BaseException:
        db.close()
        raise
    return found


def _readable(damaged: Path) -> Iterator[_Row]:
    """Iterate over the rows of *damaged* that can be read."""
    source = sqlite3.connect(damaged, timeout=0)
    one = "SELECT id, crc, weight, at, body, ahead FROM events WHERE id = ?"
    try:
        for row in range(1, _last_row(source) + 1):
            found: list[_Row] = []
            with contextlib.suppress(sqlite3.DatabaseError):
                found = source.execute(one, (row,)).fetchall()
            yield from found
    finally:
        source.close()


def _last_row(source: sqlite3.Connection) -> int:
    """Return the last row there can be; 0 if this is not a database at all."""
    with contextlib.suppress(sqlite3.DatabaseError, TypeError, ValueError):
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
        return int(source.execute(query).fetchone()[0])
    return 0


def take_over(path: Path, db: sqlite3.Connection) -> bool:
    """Move what dead processes left beside *path* into it; whether there was damage.

    One that cannot be taken is left to the next owner, and keeps nobody from the others.
    """
    damage = False
    for orphan in _orphans(path):
        with contextlib.suppress(sqlite3.Error, OSError):
            damage |= claim(orphan) and _take(orphan, db)
    return damage


def _orphans(path: Path) -> list[Path]:
    """Return the files of dead processes, also those of which only a rescue is left."""
    rescues = _named(path, rf"[0-9]+-[0-9]+\.{_RESCUE}-[0-9]+")
    stems = {file.with_name(file.name.rpartition(f".{_RESCUE}-")[0]) for file in rescues}
    return sorted({*_named(path, "[0-9]+-[0-9]+"), *stems})


def _take(orphan: Path, db: sqlite3.Connection) -> bool:
    """Move the rows of *orphan*, just claimed, to *db*; whether it was damaged."""
    try:
        ours = is_spool(orphan) or not orphan.exists()
        source, damage = open_file(orphan) if ours else (None, False)
        if source is not None:
            _move_rows(source, orphan, db)
        return damage
    finally:
        disclaim(orphan)


def _move_rows(source: sqlite3.Connection, orphan: Path, db: sqlite3.Connection) -> None:
    with contextlib.closing(source):
        mark = mark_of(source)
        rows = "SELECT id, crc, weight, at, body, ahead FROM events WHERE id > ? ORDER BY id"
        _copy(db, mark, source.execute(rows, (_taken(db, mark),)))
        with source:
            source.execute("DELETE FROM events")
        discard(source, orphan)
        _forget(db, mark)


def _copy(db: sqlite3.Connection, mark: str, rows: Iterator[_Row]) -> None:
    """Append *rows* (id first) to *db*, unless an earlier process did; remember that."""
    last = _taken(db, mark)
    with db:
        for row, *cells in rows:
            if row > last:
                db.execute(INSERT, cells)
                last = row
        db.execute("INSERT OR REPLACE INTO taken VALUES (?, ?)", (mark, last))


def _taken(db: sqlite3.Connection, mark: str) -> int:
    """Return up to which row the file with this *mark* is in *db*."""
    found = db.execute("SELECT last FROM taken WHERE source = ?", (mark,)).fetchone()
    return found[0] if found is not None else 0


def _forget(db: sqlite3.Connection, mark: str) -> None:
    with db:
        db.execute("DELETE FROM taken WHERE source = ?", (mark,))


def _named(path: Path, ending: str) -> list[Path]:
    """Return the files called "<path>.<ending>"."""
    ours = re.compile(rf"{re.escape(path.name)}\.{ending}")
    return sorted(file for file in path.parent.iterdir() if ours.fullmatch(file.name))


def _unused(path: Path, kind: str) -> Path:
    """Return the first "<path>.<kind>-N" that nothing has."""
    names = (path.with_name(f"{path.name}.{kind}-{n}") for n in itertools.count())
    return next(name for name in names if not name.exists())
