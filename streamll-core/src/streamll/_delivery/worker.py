"""Drives the channel of a `Sink` on a daemon thread of its own, started by the first event."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from streamll._delivery.actions import Done, Wait, Write
from streamll._delivery.driver import Driver
from streamll._delivery.outcome import Failure, checked, failure_of
from streamll._delivery.reentry import entering
from streamll._delivery.starter import Starter
from streamll._delivery.turn import turn_of
from streamll._delivery.waiters import new_bell, ring
from streamll._log import warn

if TYPE_CHECKING:
    from streamll.sink import Sink

__all__ = ["Worker"]

#: Seconds to pause after a fault of our own, so that it cannot spin.
_FAULT_PAUSE: Final = 1.0


class Worker(Driver):
    """The thread of one `Sink`: it asks the channel what to do and does it."""

    _sink: Sink

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._bell = new_bell()
        self._starter = Starter(f"streamll-{self._name}", self._run, lambda: False)

    def _is_started(self) -> bool:
        return self._starter.started

    def _rouse(self) -> bool:
        # In any case: after a Ctrl-C in the middle of its start a thread may run unclaimed.
        ring(self._bell)
        return self._starter.started or self._starter.start()

    def _detains_worker(self) -> bool:
        return self._starter.is_detained

    def _part(self, seconds: float) -> None:
        if self._finished:
            self._starter.join(seconds)

    def _run(self) -> None:
        with turn_of(self._sink):
            self._work()

    def _work(self) -> None:
        starter = self._starter
        self._prepare()
        while starter is self._starter:  # else this is a forked child, which has another
            try:
                if self._step():
                    break
            except BaseException as fault:  # noqa: BLE001 - the worker outlives everything
                self._recover(fault)
                self._bell.acquire(timeout=_FAULT_PAUSE)

    def _step(self) -> bool:
        """Do one thing; return whether it was the last."""
        action = self._decide()
        if isinstance(action, Write):
            self._resolve(action, self._attempt(action))
        elif isinstance(action, Wait):
            self._sleep(action.seconds)
        elif isinstance(action, Done):
            self._release_sink()
            self._finish()
        return isinstance(action, Done)

    def _sleep(self, seconds: float | None) -> None:
        self._bell.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        self._woke()

    def _attempt(self, write: Write) -> Failure | Mapping[int, Any] | None:
        """Call the sink once; whatever it raises becomes a `Failure`."""
        try:
            with entering(self, nested=self._nesting()):
                self._open_sink()
                report = self._sink.write(write.batch)
                return checked(report, len(write.batch))
        except BaseException as error:  # noqa: BLE001 - SystemExit in a sink is the sink's
            return failure_of(error, sent=self._opened)

    def _open_sink(self) -> None:
        if not self._opened:
            self._sink.open()
            self._opened = True

    def _release_sink(self) -> None:
        if self._opened:
            try:
                with entering(self):
                    self._sink.close()
            except BaseException as error:  # noqa: BLE001
                warn(f"{self._name}: close raised {type(error).__name__}")
