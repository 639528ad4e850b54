"""Those who wait in `flush` and `close`, each behind a bell of its own.

A bell is a raw lock: unlike a condition it can be waited for in a signal handler, and rung
from anywhere.
"""

from __future__ import annotations

import _thread
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Waiter", "Waiters", "new_bell", "ring"]


def new_bell() -> _thread.LockType:
    """Return a bell that has not rung: acquiring it waits for `ring`."""
    bell = _thread.allocate_lock()
    bell.acquire()
    return bell


def ring(bell: _thread.LockType) -> None:
    """End the wait of whoever acquires *bell*, now or next."""
    try:
        bell.release()
    except RuntimeError:  # it rang already
        return


@attrs.frozen(eq=False)
class Waiter:
    """Someone waiting until *deadline* for everything up to *mark*; without one, for the end."""

    mark: int | None
    deadline: float
    bell: _thread.LockType = attrs.field(factory=new_bell)


class Waiters:
    """Who waits for one channel. Safe from any thread."""

    def __init__(self) -> None:
        self._waiters: deque[Waiter] = deque()

    def enlist(self, deadline: float, mark: int | None = None) -> Waiter:
        """Return a new waiter; end its stay with `leave`."""
        waiter = Waiter(mark, deadline)
        self._waiters.append(waiter)
        return waiter

    def wait(self, waiter: Waiter, seconds: float) -> None:
        """Wait for the bell of *waiter*, at most *seconds*; Ctrl-C ends its stay."""
        try:
            waiter.bell.acquire(timeout=seconds)
        except BaseException:
            self.leave(waiter)
            raise

    def leave(self, waiter: Waiter) -> None:
        """Forget *waiter*."""
        self._waiters.remove(waiter)

    def ring_settled(self, settled: Callable[[int], bool], nothing_before: float) -> None:
        """Wake those whose mark is *settled*, or cannot be in time any more."""
        for waiter in list(self._waiters):
            mark = waiter.mark
            if mark is not None and (waiter.deadline <= nothing_before or settled(mark)):
                ring(waiter.bell)

    def ring_all(self) -> None:
        """Wake everyone: nothing more will happen."""
        for waiter in list(self._waiters):
            ring(waiter.bell)
