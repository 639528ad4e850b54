"""What drives a channel, whatever runs the sink: deciding, reporting, waiting, closing, fork."""

from __future__ import annotations

import _thread
import logging
import os
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from streamll._delivery.actions import Action, Load, Spill, Wait, Wake, Write
from streamll._delivery.intake import PUMP_AT, Intake
from streamll._delivery.journal import Journal
from streamll._delivery.keeper import Keeper
from streamll._delivery.outcome import Failure
from streamll._delivery.waiters import Waiters

if TYPE_CHECKING:
    from streamll._delivery.breaker import Change
    from streamll._delivery.channel import Announce
    from streamll.sink import AsyncSink, Sink, SinkStats

__all__ = ["Driver", "OnChange", "log"]

logger = logging.getLogger("streamll")

#: Called as (sink, old state, new state), from the worker.
OnChange = Callable[[Any, str, str], object]

#: Seconds a user's thread waits for the lock at most. It is held for microseconds, except by
#: a frame that a signal handler interrupted.
_LOCK_PATIENCE: Final = 1.0


class Driver(Intake):
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
        self._on_change = on_change
        super().__init__(sink, clock=clock, announce=announce)
        _drivers.add(self)

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._journal = Journal(self._name)
        self._keeper = Keeper(self._settings)
        self._opened = False
        self._finished = False
        self._close_by = float("inf")
        self._waiters = Waiters()

    # -- what the worker does ---------------------------------------------------------------

    def _prepare(self) -> None:
        """Take over what an earlier process left on disk, before anything is delivered."""
        left = self._keeper.open()
        with self._turn():
            self._channel.adopt(left)

    def _decide(self) -> Action:
        """Return what to do next; disk work and reports are done on the way."""
        action = self._next()
        while isinstance(action, (Spill, Load)):
            self._visit_disk(action)
            action = self._next()
        if isinstance(action, Wait) and self._must_look_again():
            return Wait(0.0, Wake.ANY)  # submitted before we said that we sleep
        return action

    def _must_look_again(self) -> bool:
        return len(self._inbox) >= (1 if self._asleep else self._pump_at)

    def _next(self) -> Action:
        """Ask the channel; when the answer is `Wait`, `submit` learns when to wake us."""
        with self._turn():
            now = self._clock()
            action = self._channel.next(now)
            if isinstance(action, Wait) and self._is_hopeless(action, now):
                self._give_up_rest()
                action = self._channel.next(now)
            if isinstance(action, Wait):
                self._awaits_full = action.wake is Wake.FULL
                self._asleep = action.wake is Wake.ANY
                self._set_threshold()
            self._runnable = not isinstance(action, (Wait, Write))
            news = self._news()
        self._report(*news)
        return action

    def _is_hopeless(self, wait: Wait, now: float) -> bool:
        """Whether nothing can be delivered any more before the deadline of `close`."""
        return self._closing and wait.seconds is not None and now + wait.seconds >= self._close_by

    def _visit_disk(self, action: Spill | Load) -> None:
        if isinstance(action, Spill):
            rows, reason = self._keeper.write(action.items)
            with self._turn():
                self._channel.written(action, rows, reason)
        else:
            stored = self._keeper.read(action.rows)
            with self._turn():
                self._channel.loaded(action, stored, self._clock())

    def _woke(self) -> None:
        self._asleep = self._awaits_full = False
        self._runnable = True
        self._pump_at = PUMP_AT

    def _nesting(self) -> bool:
        """Return, once, whether this write may carry events from inside another sink."""
        nested, self._nested = self._nested, False
        return nested

    def _resolve(self, write: Write, result: Failure | Mapping[int, Any] | None) -> None:
        """Tell the channel what an attempt came to."""
        self._runnable = True
        with self._turn():
            if isinstance(result, Failure):
                self._channel.failed(write, result, self._clock())
            else:
                self._channel.succeeded(write, result, self._clock())
            spent = self._channel.take_spent()
        self._keeper.delete(spent)

    def _news(self) -> tuple[list[Change], SinkStats]:
        """Return what to report; who waits for what is settled is told at once."""
        self._waiters.ring_settled(self._channel.settled)
        return self._channel.take_changes(), self._channel.stats()

    def _report(self, changes: list[Change], stats: SinkStats) -> None:
        """Tell plugins and the log what changed; outside of the lock."""
        for change in changes:
            self._tell(change)
        for line in self._journal.lines(changes, stats, self._clock()):
            log(line)
        for line in self._keeper.take_lines():
            log(f"{self._name}: {line}")

    def _tell(self, change: Change) -> None:
        if self._on_change is not None:
            try:
                self._on_change(self._sink, change.old.value, change.new.value)
            except Exception as error:  # noqa: BLE001 - an observer never stops delivery
                log(f"{self._name}: an observer of circuit changes raised {type(error).__name__}")

    def _finish(self) -> None:
        """Let everyone know that the sink is released."""
        self._close_disk()
        self._finished = True
        with self._locked(_LOCK_PATIENCE):
            news = self._news()
        self._report(*news)
        self._waiters.ring_all()

    def _close_disk(self) -> None:
        self._keeper.delete(self._channel.take_spent())
        self._keeper.close()

    def _give_up_rest(self) -> None:
        """Save what can be on disk and count the rest. Needs the lock."""
        items = self._channel.unsaved()
        if items and self._settings.spool is not None:
            rows, _ = self._keeper.write(items)
            for item, row in zip(items, rows, strict=False):
                item.row = row
        self._channel.expire_all("shutdown_timeout")

    # -- what users wait for ----------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether events are accepted."""
        return not self._closing

    @property
    def stats(self) -> SinkStats:
        """The accounting; consistent, unless a signal handler asks in the middle of a count."""
        with self._locked(_LOCK_PATIENCE):
            self._channel.tick(self._clock())
            return self._channel.stats()

    def start(self) -> None:
        """Start the worker now, to deliver what an earlier process left on disk."""
        self._wake()

    def flush(self, deadline: float) -> bool:
        """Wait until *deadline* (seconds of the clock) for what was accepted before.

        Returns:
            Whether all of it was delivered. False at once when the sink itself asks.
        """
        if self._must_not_wait():
            return False
        with self._locked(self._left(deadline)) as held:
            if not held:
                return False
            mark, given_up = self._channel.mark, self._channel.ledger.given_up
            self._channel.hurry()
            waiter = self._waiters.enlist(mark)
            settled = self._channel.settled(mark)
        if not settled:
            self._wake()
            self._waiters.wait(waiter, self._left(deadline))
        self._waiters.leave(waiter)
        with self._locked(_LOCK_PATIENCE):
            return self._channel.settled(mark) and self._channel.ledger.given_up == given_up

    def begin_close(self, deadline: float) -> None:
        """Refuse events from now on and start to drain, until *deadline*; returns at once."""
        with self._locked(self._left(deadline)):
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
            Whether nothing had to be given up.
        """
        self.begin_close(deadline)
        if self._must_not_wait():
            return False
        waiter = self._waiters.enlist()
        if not self._finished:
            self._waiters.wait(waiter, self._left(deadline))
        self._waiters.leave(waiter)
        with self._locked(_LOCK_PATIENCE):
            self._give_up_rest()
            self._close_disk()
            dropped = self._channel.ledger.dropped
            kept = not (dropped["shutdown_timeout"] or dropped["spooled"])
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
            self._runnable = True
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


def log(line: str) -> None:
    """Log a warning; a broken handler never stops delivery."""
    try:
        logger.warning("streamll: %s", line)
    except Exception:  # noqa: BLE001
        return


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
