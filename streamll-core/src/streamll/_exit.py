"""Draining at interpreter exit, in this process and in its forked children.

`atexit` runs in the main process and in a child that leaves by `sys.exit`; a
`multiprocessing` child leaves by `os._exit` after `threading._shutdown`, where only
`threading._register_atexit` runs (reliability rows 32, 33). Draining twice is harmless.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

__all__ = ["at_exit"]

_drain: Callable[[], object] | None = None


def at_exit(drain: Callable[[], object]) -> None:
    """Call *drain* once when the interpreter leaves. Later calls change nothing."""
    global _drain
    if _drain is None:
        _drain = drain
        atexit.register(drain)


def _in_child() -> None:
    register = getattr(threading, "_register_atexit", None)
    if _drain is not None and register is not None:
        try:
            register(_drain)
        except RuntimeError:  # the child was forked while the interpreter shuts down
            return


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
