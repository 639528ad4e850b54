"""Anything -> JSON-safe values, bounded, once for every sink.

A snapshot: what the program does to its objects afterwards cannot change the event.
Unknown objects are never asked for their `repr` or `str`; they become
``{"$type": "module.Class"}``. What a limit cut is named by JSON pointer in `truncated`.
"""

from __future__ import annotations

from typing import Any

from streamll._snapshot.limits import Limits
from streamll._snapshot.plain import PlainCopy, flat_copy
from streamll._snapshot.shown import register_encoder
from streamll._snapshot.walker import Walker

__all__ = ["Limits", "json_safe", "register_encoder", "snapshot"]


def json_safe(value: Any, limits: Limits | None = None) -> tuple[Any, dict[str, int]]:
    """Return a JSON-safe copy of *value* and what was cut (JSON pointer -> original length)."""
    safe, truncated, _ = snapshot(value, limits or Limits())
    return safe, truncated


def snapshot(value: Any, limits: Limits) -> tuple[Any, dict[str, int], tuple[str, ...]]:
    """Return what `json_safe` does, and JSON pointers to the credentials that were removed."""
    try:
        copied = flat_copy(value, limits)
        return PlainCopy(limits).of(value) if copied is None else copied, {}, ()
    except Exception:  # noqa: BLE001 - whatever it was, the walker isolates it
        walker = Walker(limits)
        return walker.walk(value, "", 0), walker.truncated, tuple(walker.redacted)
