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
    from collections.abc import Mapping, Sequence

__all__ = ["Interrupted", "can_encode", "shows_color", "write_lines"]

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


class Interrupted(OutcomeUnknown):
    """Writing stopped in the middle: *lines* whole ones are out, or in the stream's own buffer."""

    def __init__(self, message: str, lines: int) -> None:
        super().__init__(message)
        self.lines = lines


def write_lines(stream: TextIO | None, lines: Sequence[str]) -> None:
    """Write *lines* in one call and flush; what cannot be encoded becomes a backslash escape.

    Blocks while the reader of a pipe or a stopped terminal does not read.

    Raises:
        PermanentError: the stream is closed, not writable, or nobody reads it any more.
        TransientError: there was no room in a non-blocking stream; nothing was written.
        Interrupted: no room any more, or an I/O error, e.g. a full disk.
    """
    if stream is None:
        raise PermanentError("there is no standard output to write to")
    text = "".join(f"{line}\n" for line in lines)
    _write(stream, text.encode(_encoding(stream), "backslashreplace"))


def _write(stream: TextIO, data: bytes) -> None:
    raw = _raw_file(stream)
    done = 0
    try:
        if raw is None:
            stream.write(data.decode(_encoding(stream)))
            done = len(data)
        stream.flush()  # below the buffer: what the program printed before comes first
        while raw is not None and done < len(data):
            done += _write_some(raw, data[done:])
    except ValueError as error:
        raise PermanentError("the stream is closed or not writable") from error
    except OSError as error:
        message = f"writing to the stream failed ({type(error).__name__})"
        if error.errno in _GONE:
            raise PermanentError(message) from error
        if raw is not None and error.errno == errno.EAGAIN and not done:
            raise TransientError(message) from error
        raise Interrupted(message, data.count(b"\n", 0, done)) from error


def _write_some(raw: io.FileIO, data: bytes) -> int:
    """Return how many bytes went out; raises BlockingIOError if there is no room for long."""
    written = raw.write(data)
    if written is None and not select.select([], [raw], [], _PATIENCE)[1]:
        raise BlockingIOError(errno.EAGAIN, "the stream has no room")
    return written or 0


def _raw_file(stream: TextIO) -> io.FileIO | None:
    """Return the file below a standard stream, where it takes the same bytes."""
    buffer: Any = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    standard = stream is sys.__stdout__ or stream is sys.__stderr__
    return raw if standard and type(raw) is io.FileIO and os.linesep == "\n" else None


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"
