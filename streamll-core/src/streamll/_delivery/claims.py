"""Which spool files this process uses, so that it never opens one of them twice.

A POSIX lock belongs to the process, not to the descriptor: whoever opens a file once more, if
only to read its header, and closes it again, lets go of all locks the process has on it.

Without a lock of its own: each step is atomic, also in a finalizer or after a fork.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["claim", "disclaim"]

_claimed: dict[str, object] = {}


def claim(path: Path) -> bool:
    """Reserve *path* for the caller; False if somebody in this process has it."""
    token = object()
    return _claimed.setdefault(os.path.realpath(path), token) is token


def disclaim(path: Path) -> None:
    """Let others have *path*, which must be closed."""
    _claimed.pop(os.path.realpath(path), None)


# A child does not have its parent's locks, and finds them held against itself.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_claimed.clear)
