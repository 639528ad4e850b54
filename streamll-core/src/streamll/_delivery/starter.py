"""Starts a thread on demand, from wherever `submit` may be called."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

from streamll._delivery.lock import OwnedLock

__all__ = ["Starter"]


class Starter:
    """One daemon thread that runs *target*, and again as long as *again* says so afterwards.

    `start` waits, once, for the system to start the thread. Of CPython's own locks that takes
    only re-entrant ones, so it is safe in signal handlers and destructors.
    """

    def __init__(self, name: str, target: Callable[[], None], again: Callable[[], bool]) -> None:
        self._name = name
        self._target = target
        self._again = again
        self._claim = _thread.allocate_lock()  # the thread runs, or is about to
        self._running = _thread.allocate_lock()  # it runs
        self._starting = OwnedLock.new()
        self._thread: threading.Thread | None = None
        self._ident = 0

    @property
    def started(self) -> bool:
        """Whether the thread runs, or is about to."""
        return self._claim.locked()

    @property
    def is_detained(self) -> bool:
        """Whether the thread is the caller's, or the caller interrupted its start."""
        return self._ident == _thread.get_ident() or self._starting.is_mine()

    def start(self) -> bool:
        """Start the thread unless it was; False if the system gives no more threads."""
        if self._starting.is_mine():  # we interrupted the frame that starts it
            return True
        held = False
        try:
            held = self._starting.acquire(False)
            return not (held and self._claim.acquire(False)) or self._launch()
        except BaseException:  # Ctrl-C; if the thread runs all the same, it takes the claim
            if held and self._claim.locked() and not self._running.locked():
                self._claim.release()
            raise
        finally:
            if held or self._starting.is_mine():
                self._starting.release()

    def _launch(self) -> bool:
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is leaving
            self._claim.release()
            return False
        return True

    def join(self, seconds: float) -> None:
        """Wait up to *seconds* for the end of the thread."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        self._thread = threading.current_thread()
        while self._running.acquire(False):
            self._claim.acquire(False)
            self._ident = _thread.get_ident()
            try:
                self._target()
            finally:
                self._ident = 0  # the system may give it to another thread
                self._running.release()
                self._claim.release()
            if not self._again() or not self._claim.acquire(False):
                break
