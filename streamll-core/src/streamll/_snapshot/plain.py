"""The quick copies of what is JSON as it stands, which most is; `Walker` does the rest."""

from __future__ import annotations

import math
from typing import Any, Final

from streamll._snapshot.limits import Limits
from streamll._snapshot.secret_names import HARMLESS, is_secret
from streamll._snapshot.shown import encoder_of
from streamll._snapshot.walker import INT_RANGE

__all__ = ["NotPlain", "PlainCopy", "flat_copy"]

#: Integers nearer to zero need no closer look.
_FAR: Final = 2**53


def flat_copy(value: Any, limits: Limits) -> dict[str, Any] | None:
    """Return a copy of a mapping of short texts and numbers; None where that is not enough.

    A token event is one. In one piece, and less than half of the time of `PlainCopy`.
    """
    if type(value) is not dict or not len(value) < limits.max_items <= limits.max_nodes:
        return None
    copied = value.copy()  # first, at one stroke: another thread may change the original
    if not HARMLESS.issuperset(copied):
        return None
    longest = limits.max_string
    for item in copied.values():
        kind = type(item)
        if kind is str:
            is_plain = len(item) <= longest and ":" not in item  # no link, no data URI
        elif kind is int:
            is_plain = -_FAR < item < _FAR
        else:
            is_plain = item is None or kind is bool
        if not is_plain:
            return None
    return copied


class NotPlain(Exception):
    """The value is too large, holds a credential or a link, or is not JSON."""


class PlainCopy:
    """One copy of a value that needs no change. What it cannot take, it refuses."""

    __slots__ = ("_left", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.max_nodes

    def of(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of *value*.

        Raises:
            NotPlain: where the copy would differ; and whatever reading the value raises.
        """
        kind = type(value)
        if kind is str:
            return self._string(value)
        if kind is dict:
            return self._mapping(value, depth + 1)
        if kind is list or kind is tuple:
            self._enter(value, depth)
            return [self.of(item, depth + 1) for item in value]
        return value if _is_number(value, kind) else self._known(value, kind, depth)

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        self._enter(value, depth - 1)
        copied = {}
        for key, item in value.items():
            if type(key) is not str or (key not in HARMLESS and is_secret(key)):
                raise NotPlain
            copied[key] = self._string(item) if type(item) is str else self.of(item, depth)
        return copied

    def _enter(self, value: Any, depth: int) -> None:
        limits = self._limits
        self._left -= len(value)
        if self._left < 1 or depth >= limits.max_depth or len(value) > limits.max_items:
            raise NotPlain

    def _string(self, value: str) -> str:
        if len(value) > self._limits.max_string or "://" in value or value.startswith("data:"):
            raise NotPlain
        return value

    def _known(self, value: Any, kind: type, depth: int) -> Any:
        encoder = encoder_of(kind)
        if encoder is None or depth >= self._limits.max_depth:
            raise NotPlain
        return self.of(encoder(value), depth + 1)


def _is_number(value: Any, kind: type) -> bool:
    if value is None or kind is bool:
        return True
    return value in INT_RANGE if kind is int else kind is float and math.isfinite(value)
