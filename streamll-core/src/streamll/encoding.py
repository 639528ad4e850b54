"""Anything -> JSON-safe values, bounded, once for every sink.

A snapshot: what the program does to its objects afterwards cannot change the event.
Unknown objects are never asked for their `repr` or `str`; they become
``{"$type": "module.Class"}``. What a limit cut is named by JSON pointer in `truncated`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import attrs
import msgspec

from streamll.errors import ConfigurationError
from streamll.events import Event
from streamll.privacy import mask_urls

__all__ = ["Limits", "encode", "json_safe", "register_encoder", "safe_text", "snapshot"]

#: JSON numbers beyond 64 bits are not portable: msgspec and most readers refuse them.
_INT_RANGE: Final = range(-(2**63), 2**64)
#: Keys whose values are credentials: in lower case, without hyphens and underscores.
_SECRET_NAMES: Final = frozenset({
    "accesskey", "accesstoken", "apikey", "apisecret", "apitoken", "authorization", "authtoken",
    "awssecretaccesskey", "awssessiontoken", "bearertoken", "clientsecret", "cookie",
    "credentials", "passphrase", "passwd", "password", "privatekey", "proxyauthorization", "pwd",
    "refreshtoken", "secret", "secretaccesskey", "secretkey", "sessiontoken", "setcookie",
    "xapikey",
})  # fmt: skip
_REMOVED: Final = "[removed]"

_encode = msgspec.json.Encoder().encode
_encoders: dict[type, Callable[[Any], Any]] = {}


@attrs.frozen(kw_only=True)
class Limits:
    """Size limits of one event.

    Attributes:
        max_string: characters kept of one string.
        max_items: entries kept of one list or mapping.
        max_depth: nesting kept.
        max_nodes: values visited in all.
        max_event_bytes: encoded size beyond which the payload is cut harder.
    """

    max_string: int = 32_768
    max_items: int = 1_000
    max_depth: int = 16
    max_nodes: int = 20_000
    max_event_bytes: int = 262_144

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            if getattr(self, field.name) < 1:
                raise ConfigurationError(f"{field.name} must be above 0")


#: What an oversized event is reduced to before it is given up.
_TIGHT: Final = Limits(max_string=1_024, max_items=50, max_depth=6, max_nodes=500)


def register_encoder(kind: type, encoder: Callable[[Any], Any]) -> None:
    """Teach the snapshot how to show *kind*; *encoder* returns JSON-like values."""
    _encoders[kind] = encoder


def safe_text(value: object, limit: int = 2_000) -> str:
    """Return ``str(value)`` of an exception or the like; never raises, at most *limit* long."""
    try:
        return str(value)[:limit]
    except Exception:  # noqa: BLE001 - a hostile __str__ must not reach the program
        return f"<{type(value).__name__}>"


def json_safe(value: Any, limits: Limits | None = None) -> tuple[Any, dict[str, int]]:
    """Return a JSON-safe copy of *value* and what was cut (JSON pointer -> original length)."""
    safe, truncated, _ = snapshot(value, limits or Limits())
    return safe, truncated


def snapshot(value: Any, limits: Limits) -> tuple[Any, dict[str, int], tuple[str, ...]]:
    """Return what `json_safe` does, and JSON pointers to the credentials that were removed."""
    walker = _Walker(limits)
    return walker.walk(value, "", 0), walker.truncated, tuple(walker.redacted)


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


def _shown(value: Any) -> Any:
    """What a known rich type looks like, or its type name."""
    encoder = next((_encoders[kind] for kind in type(value).__mro__ if kind in _encoders), None)
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
    return _unknown(value)


def _unknown(value: Any) -> dict[str, str]:
    """Return the stand-in of an object we know nothing of: its type, never its text."""
    kind = type(value)
    return {"$type": f"{kind.__module__}.{kind.__qualname__}"}


class _Walker:
    """One bounded depth-first copy."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nodes = 0
        self.truncated: dict[str, int] = {}
        self.redacted: list[str] = []
        self._open: set[int] = set()

    def walk(self, value: Any, pointer: str, depth: int) -> Any:
        self.nodes += 1
        kind = type(value)
        if kind is str:
            return self._string(value, pointer)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if value in _INT_RANGE else self._string(hex(value), pointer)
        if kind is float:
            return value if math.isfinite(value) else None
        return self._compound(value, pointer, depth)

    def _string(self, value: str, pointer: str) -> Any:
        if value.startswith("data:") and ";base64," in value[:100]:
            media = value[5:].split(";", maxsplit=1)[0]
            return {"$type": "data-uri", "media": media, "length": len(value)}
        is_cut = len(value) > self.limits.max_string
        if is_cut:
            self.truncated[f"/data{pointer}"] = len(value)
            value = value[: self.limits.max_string]
        return self._masked(value, pointer, is_cut) if "://" in value else value

    def _masked(self, value: str, pointer: str, is_cut: bool) -> str:
        masked = mask_urls(value, cut=is_cut)
        if masked != value:
            self.redacted.append(f"/data{pointer}")
        return masked

    def _compound(self, value: Any, pointer: str, depth: int) -> Any:
        over = depth >= self.limits.max_depth or self.nodes > self.limits.max_nodes
        if over or id(value) in self._open:
            self.truncated[f"/data{pointer}"] = _length(value)
            return {"$type": type(value).__qualname__}
        self._open.add(id(value))
        try:
            return self._children(value, pointer, depth + 1)
        except Exception:  # noqa: BLE001 - a hostile object costs itself only
            return _unknown(value)
        finally:
            self._open.discard(id(value))

    def _children(self, value: Any, pointer: str, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, pointer, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            items = self._first(list(value), pointer)
            return [self.walk(item, f"{pointer}/{i}", depth) for i, item in enumerate(items)]
        if isinstance(value, str):
            return self._string(str.__str__(value), pointer)
        return self.walk(_shown(value), pointer, depth)

    def _mapping(self, value: Mapping[Any, Any], pointer: str, depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in self._first(list(value.items()), pointer):
            name = key if type(key) is str else safe_key(key)
            below = f"{pointer}/{_escaped(name)}"
            if item is not None and _is_secret(name):
                self.redacted.append(f"/data{below}")
                copied[name] = _REMOVED
            else:
                copied[name] = self.walk(item, below, depth)
        return copied

    def _first(self, items: list[Any], pointer: str) -> list[Any]:
        if len(items) > self.limits.max_items:
            self.truncated[f"/data{pointer}"] = len(items)
        return items[: self.limits.max_items]


def _is_secret(name: str) -> bool:
    return name.lower().replace("_", "").replace("-", "") in _SECRET_NAMES


def _escaped(name: str) -> str:
    """Return a key as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1") if "/" in name or "~" in name else name


def safe_key(key: Any) -> str:
    """Return a mapping key as text, without asking unknown objects for theirs."""
    if isinstance(key, (int, float, bool, UUID)) or key is None:
        return str(key)
    return key.value if isinstance(key, Enum) and isinstance(key.value, str) else type(key).__name__


def _length(value: Any) -> int:
    try:
        return len(value)
    except Exception:  # noqa: BLE001 - no length, or a hostile one
        return 1
