"""Whose turn it is to use a sink: one channel at a time.

A sink may be configured again while its earlier channel still waits for a write that hangs:
the new one's events wait in its buffer until that is over and the sink is closed.
"""

from __future__ import annotations

import os
import threading
from typing import Any

__all__ = ["turn_of"]

_guard = threading.Lock()


def turn_of(sink: Any) -> threading.Lock:
    """Return the lock that a channel holds from before `open` until after `close`.

    Only workers take it. A forked child has one of its own: its parent's is nobody's.
    """
    with _guard:
        pid, turn = getattr(sink, "_streamll_turn", (0, None))
        if turn is None or pid != os.getpid():
            turn = threading.Lock()
            sink._streamll_turn = (os.getpid(), turn)
    return turn


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
