"""A lock that knows whether the code that asks interrupted its holder."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["OwnedLock"]


class OwnedLock:
    """Not re-entrant, but a signal handler or destructor can tell that it must not wait.

    Built on the interpreter's RLock because that records its owner in the same uninterruptible
    step in which it is acquired: a note of our own would come one bytecode too late for a
    signal handler that runs in between.
    """

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()

    @property
    def is_mine(self) -> bool:
        """Whether the running thread holds it, perhaps in a frame that this code interrupted."""
        return bool(self._lock._is_owned())

    def try_acquire(self) -> bool:
        """Acquire it if that takes no waiting. The caller checked `is_mine` first."""
        return bool(self._lock.acquire(blocking=False))

    def acquire(self, patience: float = -1.0) -> bool:
        """Acquire it within *patience* seconds (-1: any time); False if it did not come free."""
        return bool(self._lock.acquire(timeout=patience))

    def release(self) -> None:
        """Release it if the running thread holds it.

        Belongs into a ``finally`` around the acquiring call itself, so that Ctrl-C between
        the call and the next bytecode cannot leave it locked.
        """
        if self.is_mine:
            self._lock.release()
