"""The disk spool of one sink: a SQLite file in WAL mode.

A row is safe once `append` returns, also from a crash of the process; not from a power cut
in the following moments (synchronous=NORMAL). Each row carries a CRC-32: damage costs the
rows it hits. A file that is no longer a database is moved aside to "<path>.corrupt-N".

One living process owns a file, by SQLite's own exclusive lock. If *path* is taken, e.g. by
the parent of a forked process or by another sink, "<path>.<pid>-N" is used instead; what a
dead process left in such a file is taken over by whoever opens *path* next. Files are for
their owner only (mode 0600): they hold what the program said.

Uses the file system: only a worker calls this, never `emit`.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import struct
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from streamll._delivery.claims import claim, disclaim
from streamll._delivery.salvage import open_file, take_over
from streamll._delivery.spillway import Stored
from streamll._delivery.spoolfile import INSERT, NotASpool, discard
from streamll.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamll._delivery.item import Item

__all__ = ["Spool", "SpoolFull"]

_SUMMARY: Final = "SELECT id, weight, coalesce(length(body), 0) FROM events ORDER BY ahead DESC, id"
_FRONT: Final = "SELECT coalesce(max(ahead), 0) + 1 FROM events"
_ROWS: Final = "SELECT id, crc, weight, at, body FROM events WHERE id BETWEEN ? AND ?"
_DELETE: Final = "DELETE FROM events WHERE id = ? RETURNING coalesce(length(body), 0)"
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
    foreign: ClassVar = NotASpool

    def __init__(self, path: str, max_bytes: int) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._db: sqlite3.Connection | None = None
        self._file = self._path  # the one that is open
        self._release: Callable[[], Any] = lambda: None  # lets others in this process have it
        self._bytes = 0
        self._inherited = 0  # rows up to this one are another process's
        self.moved_aside = False

    def open(self) -> dict[int, int]:
        """Open the file, unless it is; return row -> weight of what an earlier process left."""
        if self._db is not None:
            return {}
        self._own()
        try:
            if self._file == self._path:
                self.moved_aside |= take_over(self._path, self._ready())
            return self._survey()
        except BaseException:
            self._let_go()
            raise

    def _survey(self) -> dict[int, int]:
        rows = self._ready().execute(_SUMMARY).fetchall()
        self._bytes = sum(size for _, _, size in rows)
        self._inherited = max((row for row, _, _ in rows), default=0)
        return {row: self._sound(row, weight) for row, weight, _ in rows}

    def _sound(self, row: int, weight: Any) -> int:
        """Return *weight* if the row can be trusted, which only few have to be asked."""
        return weight if weight != 1 and self.read([row]) else 1

    def append(self, items: Sequence[Item], *, ahead: bool = False) -> list[int]:
        """Store *items* behind all rows; return their rows: fewer if *max_bytes* is reached.

        With *ahead* whoever opens the file next reads them in front of all that is there.
        """
        db = self._ready()
        fitting = list(self._fitting(items))
        try:
            with db:
                front = db.execute(_FRONT).fetchone()[0] if ahead else 0
                cells = [(*_row(item), front) for item in fitting]
                rows = [db.execute(INSERT, row).lastrowid or 0 for row in cells]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise SpoolFull from error
            raise
        self._bytes += sum(len(item.body) for item in fitting)
        return rows

    def read(self, rows: Sequence[int]) -> dict[int, Stored]:
        """Return *rows*, which follow each other; a damaged one is missing.

        Raises:
            sqlite3.OperationalError: for trouble that says nothing about the rows.
        """
        try:
            stored = self._ready().execute(_ROWS, (rows[0], rows[-1])).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # a damaged page: save what is outside of it
            stored = [*itertools.chain.from_iterable(map(self._read_one, rows))]
        good = (self._check(*row) for row in stored)
        return {row.row: row for row in good if row is not None}

    def _read_one(self, row: int) -> list[Any]:
        try:
            return self._ready().execute(_ROWS, (row, row)).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return []

    def _check(self, row: int, crc: int, weight: int, at: float, body: bytes) -> Stored | None:
        try:
            if _seal(weight, at, body) != crc:
                return None
            return Stored(row, _decode(body), body, at if row > self._inherited else None)
        except (TypeError, struct.error, msgspec.MsgspecError, UnicodeError):
            return None

    def delete(self, rows: Iterable[int]) -> None:
        """Forget *rows*: all of them, or by an exception none."""
        db = self._ready()
        with db:
            freed = [size for row in rows for (size,) in db.execute(_DELETE, (row,)).fetchall()]
        self._bytes -= sum(freed)

    def close(self) -> None:
        """Close the file; an empty one is removed."""
        if self._db is not None:
            try:
                if self._db.execute("SELECT 1 FROM events LIMIT 1").fetchone() is None:
                    discard(self._db, self._file)
            finally:
                self._let_go()

    def _let_go(self) -> None:
        db, self._db = self._ready(), None
        db.close()
        self._release()

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

    def _own(self) -> None:
        """Open the first file that nobody else has open."""
        own = (f"{self._path}.{os.getpid()}-{n}" for n in range(_MAX_FILES))
        for path in (self._path, *map(Path, own)):
            if claim(path):
                self._release = release = weakref.finalize(self, disclaim, path)
                release.atexit = False  # the file is in use until the drain at exit is over
                try:
                    self._file, (self._db, damage) = path, open_file(path)
                    self.moved_aside |= damage
                finally:
                    if self._db is None:
                        self._release()
            if self._db is not None:
                return
        raise sqlite3.OperationalError("every spool file is in use")


def _row(item: Item) -> tuple[int, int, float, bytes]:
    seal = _seal(item.weight, item.at, item.body)
    return seal, item.weight, item.at, item.body


def _seal(weight: int, at: float, body: bytes) -> int:
    """Return the checksum of all that a row says."""
    return zlib.crc32(body, zlib.crc32(struct.pack("<qd", weight, at)))
