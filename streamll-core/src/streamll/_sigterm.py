"""Opt-in: deliver what is held when the process gets SIGTERM."""

from __future__ import annotations

import _thread
import os
import signal
import time
from types import FrameType
from typing import Final

from streamll._lifecycle import cannot_wait, flush, seconds, shutdown

__all__ = ["drain_on_sigterm"]

#: Seconds until a signal that came at a bad moment is sent again.
_AGAIN: Final = 0.001


def drain_on_sigterm(timeout: float = 5.0) -> None:
    """Deliver what is held when the process gets SIGTERM, then die of it as it would have.

    Opt-in: streamll installs no signal handler by itself. A handler that was there before is
    called afterwards; where SIGTERM was ignored, it still is, and streamll goes on. Call it
    from the main thread.

    Args:
        timeout: seconds; see `shutdown`.

    Raises:
        ConfigurationError: for a timeout that is no number.
        ValueError: outside the main thread, as `signal.signal` does.
    """
    timeout = seconds(timeout)

    def handle(number: int, frame: FrameType | None) -> None:
        if cannot_wait() and _comes_again(number):  # the frame we interrupted has to go on first
            return
        if before is signal.SIG_IGN:
            flush(timeout)
        else:
            shutdown(timeout)
            signal.signal(number, before)
            _pass_on(number, frame)

    def _pass_on(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        else:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, handle)


def _comes_again(number: int) -> bool:
    """Have the signal sent once more, soon; False if the system gives no more threads."""
    try:  # not by `threading`: what we interrupted may hold its locks
        _thread.start_new_thread(_send_again, (number,))
    except RuntimeError:
        return False
    return True


def _send_again(number: int) -> None:
    time.sleep(_AGAIN)
    os.kill(os.getpid(), number)
