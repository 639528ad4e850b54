"""The bounded copy of any value: cuts what is too large, removes credentials, and says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import islice
from typing import Any, Final
from uuid import UUID

from streamll._snapshot.limits import Limits
from streamll._snapshot.secret_names import HARMLESS, is_secret
from streamll._snapshot.shown import shown, unknown
from streamll.privacy import mask_urls

__all__ = ["INT_RANGE", "Walker"]

#: JSON numbers beyond 64 bits are not portable: msgspec and most readers refuse them.
INT_RANGE: Final = range(-(2**63), 2**64)
_REMOVED: Final = "[removed]"


class Walker:
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
            return value if value in INT_RANGE else self._string(hex(value), pointer)
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
            return unknown(value)
        finally:
            self._open.discard(id(value))

    def _children(self, value: Any, pointer: str, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, pointer, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            items = self._first(value, value, pointer)
            return [self.walk(item, f"{pointer}/{i}", depth) for i, item in enumerate(items)]
        if isinstance(value, str):
            return self._string(str.__str__(value), pointer)
        if isinstance(value, (int, float)) and not isinstance(value, Enum):
            return self.walk(_plain_number(value), pointer, depth)
        return self.walk(shown(value), pointer, depth)

    def _mapping(self, value: Mapping[Any, Any], pointer: str, depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in self._first(value, value.items(), pointer):
            name = key if type(key) is str else _safe_key(key)
            below = f"{pointer}/{_escaped(name)}"
            if item is not None and name not in HARMLESS and is_secret(name):
                self.redacted.append(f"/data{below}")
                copied[name] = _REMOVED
            else:
                copied[name] = self.walk(item, below, depth)
        return copied

    def _first(self, whole: Any, items: Iterable[Any], pointer: str) -> list[Any]:
        """Return what is kept of *items*; no more is read, as they may be lazy, or endless."""
        most = self.limits.max_items
        first = list(islice(items, most + 1))
        if len(first) > most:
            self.truncated[f"/data{pointer}"] = max(_length(whole), len(first))
        return first[:most]


def _plain_number(value: float) -> float:
    """Return the number that an object of a subclass, such as `numpy.float64`, is."""
    return int.__add__(value, 0) if isinstance(value, int) else float.__add__(value, 0.0)


def _escaped(name: str) -> str:
    """Return a key as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1") if "/" in name or "~" in name else name


def _safe_key(key: Any) -> str:
    """Return a mapping key as text, without asking unknown objects for theirs."""
    if isinstance(key, (int, float, bool, UUID)) or key is None:
        return str(key)
    return key.value if isinstance(key, Enum) and isinstance(key.value, str) else type(key).__name__


def _length(value: Any) -> int:
    try:
        return len(value)
    except Exception:  # noqa: BLE001 - no length, or a hostile one
        return 1
