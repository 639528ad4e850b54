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
    return {
        "type": type(error).__name__,
        "message": safe_text(error),
        "traceback": _formatted(error),
    }


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(error.__traceback__))[-_TRACEBACK_CHARS:]
    except Exception:  # noqa: BLE001 - e.g. a source file that cannot be read
        return ""
