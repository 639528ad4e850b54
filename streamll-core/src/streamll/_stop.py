"""Stopping a program that nobody listens to any more, at its next step.

`streamll.stream` sets a flag in the context of the program it runs; LM calls, tools and
tokens look at it. Python cannot stop a thread from outside.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

from streamll.errors import StreamClosed

__all__ = ["STOP", "check_stopped"]


#: The flag of the stream that this context belongs to.
STOP: ContextVar[threading.Event | None] = ContextVar("streamll_stop", default=None)


def check_stopped() -> None:
    """Raise StreamClosed when the stream this context belongs to was closed."""
    flag = STOP.get()
    if flag is not None and flag.is_set():
        raise StreamClosed
