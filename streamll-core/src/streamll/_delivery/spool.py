"""The disk spool of one sink: a SQLite file in WAL mode.

A row is safe once `append` returns, also from a crash of the process; not from a power cut
in the following moments (synchronous=NORMAL). Each row carries a CRC-32: damage costs the
rows it hits. A file that is no longer a database is moved aside to "<path>.corrupt-N".

One living process owns a file, by SQLite's own exclusive lock. If *path* is taken, e.g. by
the parent of a forked process or by another sink, "<path>.<pid>-N" is used instead; what a
dead process left in such a file is taken over by whoever opens *path* next. A file is ours if
its `application_id` says so or it is empty; any other is left alone. Files are for their owner
only (mode 0600): they hold what the program said.

Uses the file system: only a worker calls this, never `emit`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from streamll._delivery.spillway import Stored
from streamll.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamll._delivery.item import Item

__all__ = ["Spool", "SpoolFull"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    crc INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL
)
"""
_INSERT: Final = "INSERT INTO events (crc, weight, at, body) VALUES (?, ?, ?, ?)"
_SUMMARY: Final = "SELECT id, weight, length(body) FROM events ORDER BY id"
_MAGIC: Final = b"SQLite format 3\0"
#: In the header of our files: "sLLs".
_APPLICATION: Final = 0x734C4C73
#: Files tried if all are taken; more sinks of one process on one path are a mistake.
_MAX_FILES: Final = 100

_decode = msgspec.json.Decoder(Event).decode


class SpoolFull(Exception):
    """The disk has no room."""


class Spool:
    """Rows in order, at most *max_bytes* of event bodies. Not thread-safe.

    Raises:
        SpoolFull: by `append`, if the disk is full; nothing was stored.
        sqlite3.Error, OSError: by any method, if the file cannot be used.
    """

    #: What its methods may raise; here, so that who holds a spool need not import sqlite3.
    troubles: ClassVar = (sqlite3.Error, OSError, ValueError, SpoolFull)
    full: ClassVar = SpoolFull

    def __init__(self, path: str, max_bytes: int) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None
        self._bytes = 0
        self._inherited = 0  # rows up to this one are another process's
        self.moved_aside = False

    def open(self) -> dict[int, int]:
        """Open the file, unless it is; return row -> weight of what an earlier process left."""
        if self._db is not None:
            return {}
        path, self._db = self._own()
        if path == self._path:
            self._take_over_orphans(self._db)
        rows = self._db.execute(_SUMMARY).fetchall()
        self._bytes = sum(size for _, _, size in rows)
        self._inherited = rows[-1][0] if rows else 0
        return {row: weight for row, weight, _ in rows}

    def append(self, items: Sequence[Item]) -> list[int]:
        """Store *items* behind all rows; return their rows: fewer if *max_bytes* is reached."""
        db = self._ready()
        fitting = list(self._fitting(items))
        try:
            with db:
                rows = [db.execute(_INSERT, _row(item)).lastrowid or 0 for item in fitting]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise SpoolFull from error
            raise
        self._bytes += sum(len(item.body) for item in fitting)
        return rows

    def read(self, rows: Sequence[int]) -> dict[int, Stored]:
        """Return *rows*, ascending; a damaged one is missing."""
        found = "SELECT id, crc, at, body FROM events WHERE id BETWEEN ? AND ?"
        try:
            stored = self._ready().execute(found, (rows[0], rows[-1])).fetchall()
        except sqlite3.DatabaseError:  # a damaged page: save what is outside of it
            stored = [*itertools.chain.from_iterable(map(self._read_one, rows))]
        good = (self._check(*row) for row in stored)
        return {row.row: row for row in good if row is not None}

    def _read_one(self, row: int) -> list[tuple[int, int, float, bytes]]:
        one = "SELECT id, crc, at, body FROM events WHERE id = ?"
        try:
            return self._ready().execute(one, (row,)).fetchall()
        except sqlite3.DatabaseError:
            return []

    def _check(self, row: int, crc: int, at: float, body: bytes) -> Stored | None:
        try:
            if zlib.crc32(body) != crc:
                return None
            return Stored(row, _decode(body), body, at if row > self._inherited else None)
        except (TypeError, msgspec.MsgspecError, UnicodeError):
            return None

    def delete(self, rows: Iterable[int]) -> None:
        """Forget *rows*."""
        db = self._ready()
        with db:
            for row in rows:
                sizes = db.execute("DELETE FROM events WHERE id = ? RETURNING length(body)", (row,))
                self._bytes -= sum(size for (size,) in sizes.fetchall())

    def close(self) -> None:
        """Close the file; an empty one is removed."""
        db, self._db = self._db, None
        if db is not None:
            path = Path(db.execute("PRAGMA database_list").fetchone()[2])
            empty = db.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None
            db.close()
            if empty:
                _remove(path)

    def _ready(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.OperationalError("the spool is not open")
        return self._db

    def _fitting(self, items: Iterable[Item]) -> Iterator[Item]:
        room = self._max_bytes - self._bytes
        for item in items:
            room -= len(item.body)
            if room < 0:
                return
            yield item

    def _own(self) -> tuple[Path, sqlite3.Connection]:
        """Open the first file that nobody else has open."""
        own = (f"{self._path}.{os.getpid()}-{n}" for n in range(_MAX_FILES))
        for path in (self._path, *map(Path, own)):
            db = self._try(path)
            if db is not None:
                return path, db
        raise sqlite3.OperationalError("every spool file is in use")

    def _try(self, path: Path) -> sqlite3.Connection | None:
        """Open *path*, saving what can be of a damaged one; None if somebody else has it open."""
        try:
            return _connect(path)
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", None)  # None: raised by us
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                return None
            raise
        except sqlite3.DatabaseError:
            if _is_foreign(path):
                raise
            self.moved_aside = True
            return _rescue(_move_aside(path), _connect(path))

    def _take_over_orphans(self, db: sqlite3.Connection) -> None:
        ours = re.compile(re.escape(self._path.name) + r"\.[0-9]+-[0-9]+")
        for path in sorted(self._path.parent.iterdir()):
            if not ours.fullmatch(path.name) or not _is_spool(path):
                continue
            orphan = self._try(path)
            if orphan is not None:
                rows = orphan.execute("SELECT crc, weight, at, body FROM events ORDER BY id")
                with db:
                    db.executemany(_INSERT, rows)
                orphan.close()
                _remove(path)


def _connect(path: Path) -> sqlite3.Connection:
    """Open *path* for this process alone.

    Not bound to a thread: `close` may have to save events that a hanging worker cannot.
    """
    if not path.exists():
        path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        _claim(db, path)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        with db:
            db.execute("BEGIN EXCLUSIVE")
            db.execute(_SCHEMA)
        for _ in db.execute(_SUMMARY):  # finds damaged pages
            continue
    except BaseException:
        db.close()
        raise
    return db


def _claim(db: sqlite3.Connection, path: Path) -> None:
    """Stamp an empty file as ours.

    Raises:
        sqlite3.OperationalError: when the file is somebody else's database.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION:
        return
    if db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        raise sqlite3.OperationalError(f"{path.name} is a database, but not a spool")
    db.execute(f"PRAGMA application_id = {_APPLICATION}")


def _is_spool(path: Path) -> bool:
    """Whether *path* is a SQLite file with our stamp (sqlite.org/fileformat.html, offset 68)."""
    header = _header(path)
    return header[:16] == _MAGIC and header[68:72] == _APPLICATION.to_bytes(4, "big")


def _is_foreign(path: Path) -> bool:
    """Whether *path* is neither empty, nor ours, nor what damage could have made of ours."""
    header = _header(path)
    return bool(header) and header[:16] == _MAGIC and not _is_spool(path)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _row(item: Item) -> tuple[int, int, float, bytes]:
    return zlib.crc32(item.body), item.weight, item.at, item.body


def _files(path: Path) -> Iterator[Path]:
    for suffix in ("", "-wal", "-shm"):
        yield path.with_name(path.name + suffix)


def _remove(path: Path) -> None:
    for file in _files(path):
        file.unlink(missing_ok=True)


def _move_aside(path: Path) -> Path:
    aside = (path.with_name(f"{path.name}.corrupt-{n}") for n in itertools.count())
    target = next(candidate for candidate in aside if not candidate.exists())
    for old, new in zip(_files(path), _files(target), strict=True):
        if old.exists():
            old.replace(new)
    return target


def _rescue(damaged: Path, db: sqlite3.Connection) -> sqlite3.Connection:
    """Copy the rows of *damaged* that can be read into *db*, one by one; return *db*."""
    source = sqlite3.connect(damaged, timeout=0)
    one = "SELECT crc, weight, at, body FROM events WHERE id = ?"
    try:
        last = source.execute("SELECT seq FROM sqlite_sequence").fetchone()
        for row in range(1, last[0] + 1 if last else 1):
            with contextlib.suppress(sqlite3.DatabaseError), db:
                db.executemany(_INSERT, source.execute(one, (row,)))
    except sqlite3.DatabaseError:  # not a database at all
        pass
    finally:
        source.close()
    return db
