"""One file of a spool: whose it is, how it is opened for one process alone, how it goes.

A file is ours if its `application_id` says so or it is empty. It is a damaged one of ours if
SQLite cannot read it, although there is our stamp in it or a write-ahead log beside it. Any
other is left alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["INSERT", "NotASpool", "connect", "discard", "is_spool", "mark_of", "move", "refuse"]

_EVENTS: Final = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    crc INTEGER,
    weight INTEGER,
    at REAL,
    body BLOB,
    ahead INTEGER  -- higher: in front of lower ones, whatever the id
)
"""
#: Up to which row another file was copied into this one; only while that file still exists.
_TAKEN: Final = "CREATE TABLE IF NOT EXISTS taken (source TEXT PRIMARY KEY, last INTEGER)"
INSERT: Final = "INSERT INTO events (crc, weight, at, body, ahead) VALUES (?, ?, ?, ?, ?)"
_MAGIC: Final = b"SQLite format 3\0"
#: How write-ahead logs begin, in either byte order (sqlite.org/fileformat.html, 4.1).
_LOG_MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
#: In the header of our files: "sLL2"; 2 is the layout of the tables.
_APPLICATION: Final = 0x734C4C32
_STAMP: Final = _APPLICATION.to_bytes(4, "big")
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class NotASpool(sqlite3.OperationalError):
    """The file is somebody else's."""


def connect(path: Path) -> sqlite3.Connection | None:
    """Open *path* for this process alone; None if another has it.

    Not bound to a thread: `close` may have to save events that a hanging worker cannot.

    Raises:
        sqlite3.DatabaseError: if the file is damaged.
        sqlite3.OperationalError: if it cannot be used for another reason.
    """
    if not path.exists():
        path.touch(mode=0o600)
    identity = _identity(path)
    db = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        _take_possession(db, path)
        if _identity(path) == identity:
            return db
        db.close()  # its last owner removed it before we had the lock
    except sqlite3.OperationalError as error:
        db.close()
        is_busy = getattr(error, "sqlite_errorcode", None) in _BUSY
        if not is_busy and _identity(path) == identity:
            raise
    except BaseException:
        db.close()
        raise
    return None


def _take_possession(db: sqlite3.Connection, path: Path) -> None:
    _stamp(db, path)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    with db:
        db.execute("BEGIN EXCLUSIVE")
        db.execute(_EVENTS)
        db.execute(_TAKEN)
    for _ in db.execute("SELECT id, weight, length(body) FROM events"):  # finds damaged pages
        continue


def _stamp(db: sqlite3.Connection, path: Path) -> None:
    """Mark an empty file as ours.

    Raises:
        NotASpool: when the file is somebody else's database.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application == 0 and db.execute("PRAGMA page_count").fetchone()[0] == 0:
        db.execute(f"PRAGMA application_id = {_APPLICATION}")  # first: so it is ours from then on
    elif application != _APPLICATION:
        raise NotASpool(f"{path.name} is not a spool; it is left alone")
    if mark_of(db) == "0":
        db.execute(f"PRAGMA user_version = {1 + secrets.randbelow(2**31 - 1)}")


def mark_of(db: sqlite3.Connection) -> str:
    """Return what tells this file from others that had, or will have, its name."""
    return str(db.execute("PRAGMA user_version").fetchone()[0])


def refuse(path: Path, *beside: Path) -> None:
    """Raise `NotASpool` if *path* is neither empty, nor ours, nor was ours before damage.

    Without a stamp it may have been, if it is no database any more, but a write-ahead log lies
    beside it, or beside one of *beside*. To open a database of others could change it already.
    """
    header = _header(path)
    stamped = not header or header[68:72] == _STAMP
    may_be = header[:16] != _MAGIC and any(_has_log(file) for file in (path, *beside))
    if not (stamped or may_be):
        raise NotASpool(f"{path.name} is not a spool; it is left alone")


def is_spool(path: Path) -> bool:
    """Whether *path* is a SQLite file with our stamp (sqlite.org/fileformat.html, offset 68)."""
    header = _header(path)
    return header[:16] == _MAGIC and header[68:72] == _STAMP


def _header(path: Path) -> bytes:
    """Return the first bytes of *path*, which nobody in this process may have open."""
    try:
        with path.open("rb") as file:
            return file.read(100)
    except FileNotFoundError:
        return b""


def _has_log(path: Path) -> bool:
    return _header(path.with_name(f"{path.name}-wal"))[:4] in _LOG_MAGIC


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def discard(db: sqlite3.Connection, path: Path) -> None:
    """Close *path* and remove it; while it is locked, so that it cannot be a successor's."""
    with contextlib.suppress(sqlite3.Error):  # without its log, deleted rows would come back
        db.execute("PRAGMA journal_mode = MEMORY")
    if os.name != "nt":  # there an open file cannot be removed, nor opened by others
        _remove(path)
    db.close()
    if os.name == "nt":
        _remove(path)


def _remove(path: Path) -> None:
    for file in _files(path):
        file.unlink(missing_ok=True)


def move(path: Path, target: Path) -> None:
    """Rename *path*, the files beside it first: cut off in between it is found, and moved again."""
    for old, new in zip(_files(path), _files(target), strict=True):
        if old.exists():
            old.replace(new)


def _files(path: Path) -> Iterator[Path]:
    for suffix in ("-wal", "-shm", ""):
        yield path.with_name(path.name + suffix)
