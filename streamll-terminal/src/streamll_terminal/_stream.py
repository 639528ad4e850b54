"""What a text stream can show, and one write to it.

The standard streams are written below Python's own buffer: text that a broken pipe refused
would stay in that buffer and, at exit, cost the observed program an "Exception ignored"
message and its exit code; and a writer thread that is stuck in it can abort the interpreter.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

from streamll import OutcomeUnknown, PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["can_encode", "shows_color", "write_text"]

#: Seconds to wait for room in a stream that is in non-blocking mode.
_PATIENCE: Final = 1.0
#: The reader, the descriptor or the terminal is gone and does not come back.
_GONE: Final = frozenset({errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO})


def shows_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour *stream*: NO_COLOR, then FORCE_COLOR, then TERM, then whether it is a TTY.

    NO_COLOR and FORCE_COLOR count when they are set and not empty (no-color.org).
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return environ.get("TERM") != "dumb" and _is_tty(stream)


def can_encode(stream: TextIO, text: str) -> bool:
    """Whether *stream* can write *text* as it is."""
    try:
        text.encode(_encoding(stream))
    except UnicodeEncodeError:
        return False
    return True


def write_text(stream: TextIO | None, text: str) -> None:
    """Write *text* in one call and flush; what cannot be encoded becomes a backslash escape.

    Blocks while the reader of a pipe or a stopped terminal does not read.

    Raises:
        PermanentError: the stream is closed, not writable, or nobody reads it any more.
        TransientError: there was no room in a non-blocking stream; nothing was written.
        OutcomeUnknown: an I/O error, e.g. a full disk; a part may be written.
    """
    if stream is None:
        raise PermanentError("there is no standard output to write to")
    try:
        _write(stream, text.encode(_encoding(stream), "backslashreplace"))
    except ValueError as error:
        raise PermanentError("the stream is closed or not writable") from error
    except OSError as error:
        kind = PermanentError if error.errno in _GONE else OutcomeUnknown
        raise kind(f"writing to the stream failed ({type(error).__name__})") from error


def _write(stream: TextIO, data: bytes) -> None:
    raw = _raw_file(stream)
    if raw is None:
        stream.write(data.decode(_encoding(stream)))
        stream.flush()
    else:
        stream.flush()  # what the program printed before comes first
        _write_raw(raw, data)


def _raw_file(stream: TextIO) -> io.FileIO | None:
    """Return the file below a standard stream, where it takes the same bytes."""
    buffer: Any = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    standard = stream is sys.__stdout__ or stream is sys.__stderr__
    return raw if standard and type(raw) is io.FileIO and os.linesep == "\n" else None


def _write_raw(raw: io.FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        written = raw.write(left)  # None: non-blocking and full
        if written is None and not select.select([], [raw], [], _PATIENCE)[1]:
            kind = TransientError if len(left) == len(data) else OutcomeUnknown
            raise kind("the stream has no room")
        left = left[written or 0 :]


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"
