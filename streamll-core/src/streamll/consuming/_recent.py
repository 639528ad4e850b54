"""The ids seen last."""

from __future__ import annotations

from collections import deque

__all__ = ["RecentIds"]


class RecentIds:
    """Remembers the last *size* ids added; 0 remembers none."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: set[str] = set()
        self._order: deque[str] = deque()

    def __contains__(self, identity: str) -> bool:
        return identity in self._known

    def add(self, identity: str) -> None:
        """Remember *identity*, and forget the oldest beyond the size."""
        if identity in self._known or not self._size:
            return
        if len(self._order) >= self._size:
            self._known.discard(self._order.popleft())
        self._order.append(identity)
        self._known.add(identity)
