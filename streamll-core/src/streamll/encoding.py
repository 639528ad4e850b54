"""An event -> its JSON body, once for every sink, no longer than the limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streamll._snapshot import Limits, json_safe
from streamll.events import Event

__all__ = ["encode", "safe_text"]

_encode = msgspec.json.Encoder().encode

#: What an oversized event is reduced to before it is given up.
_TIGHT: Final = Limits(max_string=1_024, max_items=50, max_depth=6, max_nodes=500)


def safe_text(value: object, limit: int = 2_000) -> str:
    """Return ``str(value)`` of an exception or the like; never raises, at most *limit* long."""
    try:
        return str(value)[:limit]
    except Exception:  # noqa: BLE001 - a hostile __str__ must not reach the program
        return f"<{type(value).__name__}>"


def encode(event: Event, limits: Limits) -> tuple[Event, bytes]:
    """Return the event and its JSON body, no longer than ``limits.max_event_bytes``.

    Raises:
        ValueError: when not even the bare envelope can be encoded.
    """
    try:
        body = _encode(event)
    except (UnicodeEncodeError, OverflowError, TypeError, RecursionError, ValueError):
        event = _repaired(event, limits)
        body = _encode(event)
    if len(body) <= limits.max_event_bytes:
        return event, body
    return _shrunk(event, len(body), limits)


def _repaired(event: Event, limits: Limits) -> Event:
    data, cut = json_safe(_valid(event.data), limits)
    strings = ("operation", "event_type", "module_name", "module_path", "name")
    changes = {key: _valid(getattr(event, key)) for key in strings}
    context = _valid(json_safe(event.context, limits)[0])
    return event.replace(
        data=data, context=context, tags=_valid(event.tags), truncated=cut or None, **changes
    )


def _shrunk(event: Event, size: int, limits: Limits) -> tuple[Event, bytes]:
    data, cut = json_safe(event.data, _TIGHT)
    smaller = event.replace(data=data, truncated={**(event.truncated or {}), **cut} or None)
    body = _encode(smaller)
    if len(body) > limits.max_event_bytes:
        smaller = event.replace(data={"$oversize": size}, truncated={"/data": size}, context=None)
        body = _encode(smaller)
    return smaller, body


def _valid(value: Any) -> Any:
    """Replace lone surrogates, which have no UTF-8 form, all through *value*."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_valid(key): _valid(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_valid(item) for item in value)
    return value
