"""How a call ended: which closing event, with which data."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final

from streamll.encoding import safe_text
from streamll.errors import StreamClosed

__all__ = ["closing"]

#: Raised to stop a call from outside; the call did not fail. Also asyncio.CancelledError.
_CANCELS: Final = (KeyboardInterrupt, GeneratorExit, SystemExit, StreamClosed)
#: About as much of a traceback is kept: whole entries, the innermost ones.
_TRACEBACK_CHARS: Final = 8_000


def closing(error: BaseException | None) -> tuple[str, str | None, dict[str, Any]]:
    """Return event type, severity (None: the span's own) and data for how a call ended."""
    if error is None:
        return "end", None, {}
    if isinstance(error, _CANCELS) or _is_cancelled(error):
        return "cancel", "warn", {"reason": type(error).__name__}
    return "error", "error", _describe(error)


def _is_cancelled(error: BaseException) -> bool:
    # Where asyncio is not loaded nobody can have raised its error; importing it is slow.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _describe(error: BaseException) -> dict[str, Any]:
    """Say what went wrong. Nothing is cut inside of a text here.

    The size limits do that later, and mark it, so that the scrubber can hold back what may be
    the beginning of a secret.
    """
    return {
        "type": type(error).__name__,
        "message": safe_text(error, sys.maxsize),
        "traceback": "".join(_innermost(_formatted(error))),
    }


def _formatted(error: BaseException) -> list[str]:
    try:
        return traceback.format_tb(error.__traceback__)
    except Exception:  # noqa: BLE001 - e.g. a source file that cannot be read
        return []


def _innermost(entries: list[str]) -> list[str]:
    room, kept = _TRACEBACK_CHARS, len(entries)
    for entry in reversed(entries):
        room -= len(entry)
        if room < 0 and kept < len(entries):
            break
        kept -= 1
    return entries[kept:]
