"""Event and body -> the fields of a stream entry. Pure.

Field ``event`` is the JSON body as it was encoded when the event was emitted. The other
fields repeat its scalars, because dashboards show fields and do not look into JSON. A value
the event does not have is absent.

``event timestamp sequence`` differ for every event; the rest, the *head*, is the same for all
tokens of a call, so the writer sends a head once and refers to it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from streamll import Event

__all__ = ["EACH", "each_values", "entry", "head_fields", "head_of"]

#: The fields that differ from event to event, in the order of `each_values`.
EACH: Final = (b"event", b"timestamp", b"sequence")

#: Names of the head's values, in the order of `head_of`.
_HEAD: Final = (
    b"event_type",
    b"operation",
    b"execution_id",
    b"span_id",
    b"module_name",
    b"session_id",
    b"total_tokens",
    b"duration_ms",
)

#: Characters of a flat text value; the whole value is in the body.
TEXT_LIMIT: Final = 256

_json: Final = msgspec.json.Encoder()

Head = tuple[Hashable, ...]


def each_values(event: Event, body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the values of `EACH`."""
    return body, _json.encode(event.timestamp)[1:-1], b"%d" % event.sequence


def head_of(event: Event) -> Head:
    """Return the values of the head; equal heads have equal fields."""
    context = event.context
    tokens = event.data.get("total_tokens")
    return (
        event.event_type,
        event.operation,
        event.execution_id,
        event.span_id,
        event.module_name,
        None if context is None else _scalar(context.get("session_id")),
        None if tokens is None else _scalar(tokens),
        event.duration_ms,
    )


def head_fields(head: Head) -> list[bytes]:
    """Return name, value, name, value ... of what is present in *head*."""
    fields: list[bytes] = []
    for name, value in zip(_HEAD, head, strict=True):
        if value is not None:
            fields += (name, str(value)[:TEXT_LIMIT].encode(errors="replace"))
    return fields


def entry(event: Event, body: bytes) -> list[bytes]:
    """Return name, value, name, value ... of a whole entry, in wire order."""
    pairs = zip(EACH, each_values(event, body), strict=True)
    return [part for pair in pairs for part in pair] + head_fields(head_of(event))


def _scalar(value: Any) -> Hashable:
    return value if isinstance(value, str | int | float) else None
