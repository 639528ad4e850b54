"""What an object that JSON does not know looks like in an event.

Unknown objects are never asked for their `repr` or `str`: those may be slow, raise, or tell
more than the program wants told.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import attrs
import msgspec

__all__ = ["encoder_of", "register_encoder", "shown", "unknown"]

#: Type -> what shows its objects as JSON-like values.
_encoders: dict[type, Callable[[Any], Any]] = {}


def register_encoder(kind: type, encoder: Callable[[Any], Any]) -> None:
    """Teach the snapshot how to show *kind*; *encoder* returns JSON-like values."""
    _encoders[kind] = encoder


def encoder_of(kind: type) -> Callable[[Any], Any] | None:
    """Return what shows objects of *kind*: what is registered for it or its nearest base."""
    for base in kind.__mro__:
        if base in _encoders:
            return _encoders[base]
    return None


def shown(value: Any) -> Any:
    """What a known rich type looks like, or its type name."""
    encoder = encoder_of(type(value))
    if encoder is not None:
        return encoder(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal, PurePath, timedelta)):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$type": "bytes", "length": len(value)}
    return _fields(value)


def _fields(value: Any) -> Any:
    kind = type(value)
    if attrs.has(kind):
        return {field.name: getattr(value, field.name, None) for field in attrs.fields(kind)}
    if hasattr(kind, "__dataclass_fields__"):
        return {name: getattr(value, name, None) for name in kind.__dataclass_fields__}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if hasattr(kind, "model_fields") and hasattr(kind, "model_dump"):
        return {name: getattr(value, name, None) for name in kind.model_fields}
    return unknown(value)


def unknown(value: Any) -> dict[str, str]:
    """Return the stand-in of an object we know nothing of: its type, never its text."""
    kind = type(value)
    return {"$type": f"{kind.__module__}.{kind.__qualname__}"}
