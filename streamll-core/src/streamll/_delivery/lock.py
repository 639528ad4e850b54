"""A lock that knows whether the code that asks interrupted its holder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["OwnedLock"]


@attrs.frozen
class OwnedLock:
    """To be acquired only where `is_mine` is false: then waiting for it cannot deadlock.

    Built on the interpreter's RLock because that records its owner in the same uninterruptible
    step in which it is acquired: a note of our own would come one bytecode too late for a
    signal handler that runs in between. The three attributes are its own C functions, because
    Ctrl-C may strike at the start of any Python function, but not between two bytecodes that
    call none::

        held = False
        try:
            held = lock.acquire(False)
            ...
        finally:
            if held or lock.is_mine():  # the latter: struck right after acquiring
                lock.release()
    """

    acquire: Callable[..., bool]
    release: Callable[[], None]
    is_mine: Callable[[], bool]

    @classmethod
    def new(cls) -> OwnedLock:
        """Return a lock that nobody holds."""
        lock: Any = threading.RLock()
        return cls(lock.acquire, lock.release, lock._is_owned)
