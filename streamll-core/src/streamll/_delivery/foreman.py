"""The worker's side of a channel: what to do next, what came of it, whom to tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from streamll._delivery.actions import Action, Load, Spill, Wait, Wake, Write
from streamll._delivery.intake import PUMP_AT, Intake
from streamll._delivery.journal import Journal
from streamll._delivery.keeper import Keeper
from streamll._delivery.outcome import Failure
from streamll._delivery.waiters import Waiters
from streamll._log import warn

if TYPE_CHECKING:
    from streamll._delivery.breaker import Change
    from streamll._delivery.channel import Announce
    from streamll.sink import AsyncSink, Sink, SinkStats

__all__ = ["LOCK_PATIENCE", "Foreman", "OnChange"]

#: Called as (sink, old state, new state), from the worker.
OnChange = Callable[[Any, str, str], object]

#: Seconds a user's thread waits for the lock at most. It is held for microseconds, except by
#: a frame that a signal handler interrupted.
LOCK_PATIENCE: Final = 1.0


#: Seconds until rows that could not be read are tried again.
_REREAD: Final = 1.0


class Foreman(Intake):
    """Tells the worker what to do next and takes its results.

    Called by the worker; by `close` as well, if the worker hangs.
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

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._journal = Journal(self._name)
        self._keeper = Keeper(self._settings)
        self._opened = False
        self._finished = False
        self._adopts = False  # the worker has yet to look at what is on disk
        self._close_by = float("inf")
        self._lost_before = 0  # given up until closing began
        self._given_up = False  # `close` has counted what was left
        self._waiters = Waiters()

    def _prepare(self) -> None:
        """Take over what an earlier process left on disk, before anything is delivered."""
        left = self._keeper.open()
        with self._turn():
            self._channel.disk.adopt(left)

    def _decide(self) -> Action:
        """Return what to do next; disk work and reports are done on the way."""
        action = self._next()
        while isinstance(action, (Spill, Load)):
            if not self._visit_disk(action):
                return Wait(_REREAD, Wake.NEVER)
            action = self._next()
        if isinstance(action, Wait) and self._must_look_again():
            return Wait(0.0, Wake.ANY)  # submitted before we said that we sleep
        return action

    def _must_look_again(self) -> bool:
        waiting = len(self._inbox) + len(self._refused)
        return waiting >= (1 if self._asleep else self._pump_at)

    def _next(self) -> Action:
        """Ask the channel; when the answer is `Wait`, `submit` learns when to wake us."""
        with self._turn():
            now = self._clock()
            self._adopts = False
            action = self._channel.next(now)
            if isinstance(action, Wait) and self._is_hopeless(action, now):
                self._give_up_rest()
                action = self._channel.next(now)
            if isinstance(action, Wait):
                self._awaits_full = action.wake is Wake.FULL
                self._asleep = action.wake is Wake.ANY
                self._set_threshold()
            self._works, self._last_step = not isinstance(action, Wait), now
            news = self._news()
        self._report(*news)
        return action

    def _is_hopeless(self, wait: Wait, now: float) -> bool:
        """Whether nothing can be delivered any more, or not before the deadline of `close`."""
        if not self._closing or wait.seconds is None:
            return False
        return self._channel.is_barred or now + wait.seconds >= self._close_by

    def _visit_disk(self, action: Spill | Load) -> bool:
        """Write or read; whether what was to be read could be."""
        if isinstance(action, Spill):
            rows: list[int] = []
            reason = "spool_error"
            try:
                rows, reason = self._keeper.write(action.items)
            finally:
                with self._turn():
                    self._channel.disk.adopt(self._keeper.take_left())
                    self._channel.disk.written(action, rows, reason)
        else:
            stored = self._keeper.read(action.rows)
            if stored is None:
                return False
            with self._turn():
                self._channel.disk.loaded(action, stored, self._clock())
        return True

    def _woke(self) -> None:
        self._asleep = self._awaits_full = False
        self._works = True
        self._pump_at = PUMP_AT

    def _nesting(self) -> bool:
        """Return, once, whether this write may carry events from inside another sink."""
        nested, self._nested = self._nested, False
        return nested

    def _resolve(self, write: Write, result: Failure | Mapping[int, Any] | None) -> None:
        """Tell the channel what an attempt came to."""
        with self._turn():
            if isinstance(result, Failure):
                self._channel.failed(write, result, self._clock())
            else:
                self._channel.succeeded(write, result, self._clock())
            spent = self._channel.disk.take_spent()
        self._keeper.delete(spent)

    def _abandon(self) -> None:
        """Settle, as unknown, what was being written by somebody who is no more."""
        with self._turn():
            self._channel.abandon(self._clock())

    def _recover(self, fault: BaseException) -> None:
        """Go on after a fault of our own, or of a hook: a write it cut off is settled."""
        warn(f"{self._name}: fault in delivery: {type(fault).__name__}")
        with contextlib.suppress(Exception):
            self._abandon()

    def _news(self) -> tuple[list[Change], SinkStats]:
        """Return what to report; who waits for what is settled is told at once."""
        nothing_before = self._channel.nothing_before(self._clock())
        self._waiters.ring_settled(self._channel.settled, nothing_before)
        return self._channel.take_changes(), self._channel.stats()

    def _report(self, changes: list[Change], stats: SinkStats) -> None:
        """Tell plugins and the log what changed; outside of the lock."""
        for change in changes:
            self._tell(change)
        for line in self._journal.lines(changes, stats, self._clock()):
            warn(line)
        for line in self._keeper.take_lines():
            warn(f"{self._name}: {line}")

    def _tell(self, change: Change) -> None:
        if self._on_change is not None:
            try:
                self._on_change(self._sink, change.old.value, change.new.value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - an observer never stops delivery
                warn(f"{self._name}: an observer of circuit changes raised {type(error).__name__}")

    def _finish(self) -> None:
        """Let everyone know that the sink is released."""
        self._close_disk()
        self._finished = True
        with self._locked(LOCK_PATIENCE):
            news = self._news()
        self._report(*news)
        self._waiters.ring_all()

    def _close_disk(self) -> None:
        self._keeper.close(self._channel.disk.take_spent())

    def _give_up_rest(self) -> None:
        """Save what can be on disk and count the rest. Needs the lock."""
        self._keeper.save(self._channel.disk.unsaved())
        self._channel.expire_all("shutdown_timeout")
