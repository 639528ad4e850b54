"""What drives a channel, as users see it: waiting, closing, waking the worker, fork."""

from __future__ import annotations

import _thread
import os
import weakref
from abc import abstractmethod
from typing import TYPE_CHECKING

from streamll._delivery.foreman import LOCK_PATIENCE, Foreman, OnChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamll._delivery.channel import Announce
    from streamll._delivery.keeper import Keeper
    from streamll.sink import AsyncSink, Sink, SinkStats

__all__ = ["Driver", "OnChange"]


class Driver(Foreman):
    """Accepts events for one sink and has them delivered. Thread-safe.

    After a fork the child starts empty: what waits belongs to the parent. The child calls
    `sink.open` again and never closes what the parent opened.
    """

    def __init__(
        self,
        sink: Sink | AsyncSink,
        *,
        clock: Callable[[], float],
        announce: Announce,
        on_change: OnChange | None,
    ) -> None:
        super().__init__(sink, clock=clock, announce=announce, on_change=on_change)
        _drivers.add(self)

    # -- what users wait for ----------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether events are accepted."""
        return not self._closing

    @property
    def is_over(self) -> bool:
        """Whether the sink is released, or nobody waits for that any more."""
        return self._finished or self._given_up

    @property
    def is_detained(self) -> bool:
        """Whether the caller interrupted, or is, what it would have to wait for."""
        return self._must_not_wait()

    @property
    def stats(self) -> SinkStats:
        """The accounting; consistent, unless a signal handler asks in the middle of a count."""
        with self._locked(LOCK_PATIENCE) as held:
            if held:
                self._channel.tick(self._clock())
            stats = self._channel.stats()
        if self._awaits_full or self._settings.spool is not None:
            self._relieve()  # we may just have counted what completes a batch, or is for the disk
        return stats

    def start(self) -> None:
        """Start the worker now, to deliver what an earlier process left on disk."""
        self._adopts = True
        self._wake()

    def flush(self, deadline: float) -> bool:
        """Wait until *deadline* (seconds of the clock) for what was accepted before.

        Returns:
            Whether all of it was delivered. False at once when the sink itself asks, or when
            an open circuit will not let anything through before *deadline*.
        """
        if self._must_not_wait():
            return False
        with self._channel.watching() as watch:
            with self._locked(self._left(deadline)) as held:
                if not held:
                    return False
                watch.mark = self._channel.mark
                self._channel.hurry()
                waiter = self._waiters.enlist(deadline, watch.mark)
                hopeless = self._channel.nothing_before(self._clock()) >= deadline
                done = hopeless or self._is_settled(watch.mark)
            if not done:
                self._wake()
                self._waiters.wait(waiter, self._left(deadline))
            self._waiters.leave(waiter)
            with self._locked(LOCK_PATIENCE):
                return self._is_settled(watch.mark) and not watch.lost

    def _is_settled(self, mark: int) -> bool:
        return not self._adopts and self._channel.settled(mark)

    def begin_close(self, deadline: float) -> None:
        """Refuse events from now on and start to drain, until *deadline*; returns at once."""
        with self._locked(self._left(deadline)):
            if not self._closing:
                self._lost_before = self._channel.ledger.given_up
            self._closing = True
            self._close_by = min(self._close_by, deadline)
            self._channel.close(self._clock())
            idle = not self._channel.ledger.outstanding
        if self._is_started() or not idle:
            self._wake()
        else:
            self._finished = True  # it never ran: there is nothing to release

    def close(self, deadline: float) -> bool:
        """Drain and release the sink until *deadline*; what remains is "shutdown_timeout".

        Idempotent; may be called by many threads at once, and after `begin_close`. Called by
        the sink itself, or by a signal handler that interrupted this channel's accounting, it
        only begins to close: waiting would keep the worker from its work.

        Returns:
            Whether nothing was given up since closing began.
        """
        self.begin_close(deadline)
        if self._must_not_wait():
            return False
        waiter = self._waiters.enlist(deadline)
        if not self._finished:
            self._waiters.wait(waiter, self._left(deadline))
        self._waiters.leave(waiter)
        with self._locked(LOCK_PATIENCE):
            self._give_up_rest()
            self._close_disk()
            kept = self._channel.ledger.given_up == self._lost_before
            self._given_up = True
            news = self._news()
        if not self._finished:  # the worker hangs: nobody else tells
            self._report(*news)
        self._part(self._left(deadline))
        return kept

    def _left(self, deadline: float) -> float:
        return min(max(0.0, deadline - self._clock()), _thread.TIMEOUT_MAX)

    # -- what differs -----------------------------------------------------------------------

    def _wake(self) -> None:
        if self._finished:
            return
        try:
            self._asleep = False
            self._works, self._last_step = True, self._clock()
            if not self._rouse():
                self._could_not_start()
        except BaseException:  # Ctrl-C: the worker may not have heard
            self._asleep = True
            raise

    def _could_not_start(self) -> None:
        """Leave it to the next event to try again; there is none after `close`."""
        self._asleep = True
        if self._closing:
            self._finish()

    @abstractmethod
    def _is_started(self) -> bool:
        """Whether there is a worker that has to release the sink."""

    @abstractmethod
    def _rouse(self) -> bool:
        """Wake the worker, or start it; False if the system gives no more threads."""

    @abstractmethod
    def _part(self, seconds: float) -> None:
        """See the worker off, if it ends within *seconds*; else leave it to itself."""


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()
#: What a child inherited and must not touch: closing it would reach into the parent's files.
_inherited: list[Keeper] = []


def _in_child() -> None:
    """Give every driver of a forked child a fresh start. Starts no thread."""
    for driver in list(_drivers):
        _inherited.append(driver._keeper)
        driver._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
