"""Event and body -> the fields of a stream entry. Pure.

Field ``event`` is the JSON body as it was encoded when the event was emitted. The other
fields repeat its scalars, because dashboards show fields and do not look into JSON. A value
the event does not have is absent.

``event timestamp sequence`` differ for every event; the rest, the *head*, is the same for all
tokens of a call, so the writer sends a head once and refers to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from streamll import Event

__all__ = ["EACH", "Head", "entry", "head_fields", "head_of", "sequences", "timestamps"]

#: The fields that differ from event to event.
EACH: Final = (b"event", b"timestamp", b"sequence")

#: Names of the head's values, in the order of `head_of`.
_HEAD: Final = (
    b"event_type",
    b"operation",
    b"execution_id",
    b"span_id",
    b"module_name",
    b"duration_ms",
    b"session_id",
    b"total_tokens",
)

#: Characters of a flat text value; the whole value is in the body.
TEXT_LIMIT: Final = 256

_json: Final = msgspec.json.Encoder()

Head = tuple[Hashable, ...]

#: The values of the head that are fields of the event.
_own: Final = attrgetter(*(name.decode() for name in _HEAD[:-2]))


def timestamps(events: Sequence[Event]) -> list[bytes]:
    """Return the values of field ``timestamp``; of all at once, in C."""
    return _json.encode([event.timestamp for event in events])[2:-2].split(b'","')


def sequences(events: Sequence[Event]) -> list[bytes]:
    """Return the values of field ``sequence``."""
    return _json.encode([event.sequence for event in events])[1:-1].split(b",")


def head_of(event: Event) -> Head:
    """Return the values of the head, without the last two if both are absent."""
    head: Head = _own(event)
    context, tokens = event.context, event.data.get("total_tokens")
    session = None if context is None else context.get("session_id")
    if session is None and tokens is None:
        return head
    return (*head, _scalar(session), _scalar(tokens))


def head_fields(head: Head) -> list[bytes]:
    """Return name, value, name, value ... of what is present in *head*."""
    fields: list[bytes] = []
    for name, value in zip(_HEAD, head, strict=False):
        if value is not None:
            fields += (name, str(value)[:TEXT_LIMIT].encode(errors="replace"))
    return fields


def entry(event: Event, body: bytes) -> list[bytes]:
    """Return name, value, name, value ... of a whole entry, in wire order."""
    values = (body, *timestamps([event]), *sequences([event]))
    pairs = zip(EACH, values, strict=True)
    return [part for pair in pairs for part in pair] + head_fields(head_of(event))


def _scalar(value: Any) -> str | None:
    """Return a scalar as text, so that equal heads have equal fields: 1 == 1.0 == True."""
    return str(value) if isinstance(value, str | int | float) else None
