"""Bytes that anybody may have written -> an event, or why it is none. Never raises.

JSON only, bounded in size and depth before anything walks it. Unknown fields are ignored: they
come with later minor versions of the schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from streamll.consuming._stats import Skip
from streamll.events import SCHEMA_VERSION, Event

__all__ = ["MAX_BYTES", "MAX_DEPTH", "decode"]

#: Largest body that is looked at: 16 times the largest event streamll sends.
MAX_BYTES: Final = 4 * 1024 * 1024
#: Deepest nesting of a field: 4 times the deepest streamll sends.
MAX_DEPTH: Final = 64

_MAJOR: Final = SCHEMA_VERSION.partition(".")[0]


class _Head(msgspec.Struct):
    """What every version of the schema has."""

    schema_version: str


_event = msgspec.json.Decoder(Event).decode
_head = msgspec.json.Decoder(_Head).decode


def decode(body: bytes) -> Event | Skip:
    """Return the event in *body*, `Skip.SCHEMA` or `Skip.GARBAGE`."""
    if len(body) > MAX_BYTES:
        return Skip.GARBAGE
    try:
        event = _event(body)
    except Exception:  # noqa: BLE001 - whatever a body does to the decoder, it costs only itself
        return _refused(body)
    if not _is_known(event.schema_version):
        return Skip.SCHEMA
    return event if event.timestamp.tzinfo and _is_shallow(event, body) else Skip.GARBAGE


def _refused(body: bytes) -> Skip:
    """Tell another schema from no schema at all."""
    try:
        return Skip.GARBAGE if _is_known(_head(body).schema_version) else Skip.SCHEMA
    except Exception:  # noqa: BLE001 - as above
        return Skip.GARBAGE


def _is_known(version: str) -> bool:
    return version.partition(".")[0] == _MAJOR


def _is_shallow(event: Event, body: bytes) -> bool:
    # Counting brackets is a hundred times cheaper than walking, and nearly always enough.
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return True
    level: list[Any] = [event.data, event.source, event.context]
    for _ in range(MAX_DEPTH + 1):  # the values inside the innermost are one further
        level = [child for value in level for child in _children(value)]
        if not level:
            return True
    return False


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
