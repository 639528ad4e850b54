"""What waits to be counted, and the lock around the accounting of one channel.

`Intake` appends to the inbox from any thread, without the lock; whoever holds the lock moves
it into the channel, before anything else is asked of that.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from streamll._delivery.channel import Announce, Channel
from streamll._delivery.item import Item
from streamll._delivery.lock import OwnedLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamll.events import Event
    from streamll.sink import AsyncSink, Sink

__all__ = ["Inbox"]


class Inbox:
    """Owns the channel of one sink. Everything that touches the channel holds `_lock`."""

    def __init__(
        self, sink: Sink | AsyncSink, *, clock: Callable[[], float], announce: Announce
    ) -> None:
        self._sink: Any = sink
        self._name = type(sink).__name__
        self._clock = clock
        self._announce = announce
        self._settings = sink.delivery
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Set up everything that belongs to one process."""
        self._channel = Channel(self._settings, self._name, self._announce)
        self._inbox: deque[Item] = deque()
        self._pulled: list[Item] = []  # on their way from the inbox into the channel
        self._refused: deque[Event] = deque()  # to be counted only
        self._lock = OwnedLock.new()
        self._worker_waits = False  # the worker wants the lock

    def _pump(self) -> None:
        """Move what the inbox holds now into the channel. Needs the lock."""
        inbox, pulled = self._inbox, self._pulled
        while self._refused:
            self._channel.refuse(self._refused.popleft(), "reentrant")
        if inbox:
            # In C: one step for a signal handler, and several times as fast as a loop.
            pulled.extend(islice(iter(inbox.popleft, None), len(inbox)))
            self._channel.admit(pulled)
            pulled.clear()

    def _mend(self) -> None:
        """Balance the ledger after e.g. Ctrl-C between two counts, if the counting was ours."""
        if self._lock.is_mine():
            pulled = self._pulled
            if pulled and not pulled[0].order:  # nobody accepted them yet
                self._inbox.extendleft(reversed(pulled))
            pulled.clear()
            self._channel.recount()

    @contextmanager
    def _locked(self, patience: float = -1.0) -> Iterator[bool]:
        """Hold the lock, inbox pumped; yields False if it did not come free in *patience* s.

        Also False, at once, where it never could: in code that interrupted the holder. What
        ends the block by exception, e.g. Ctrl-C between two counts, leaves the ledger balanced.
        """
        lock, held = self._lock, False
        if lock.is_mine():
            yield False
            return
        try:
            held = lock.acquire(timeout=patience)
            if held:
                self._pump()
            yield held
        except BaseException:
            self._mend()
            raise
        finally:
            if held or lock.is_mine():
                lock.release()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock as the worker, inbox pumped.

        Emitting threads stand back: they hold the GIL when the lock comes free, so a worker
        that merely waited for it would starve while they pump.
        """
        self._worker_waits = True
        with self._locked():
            self._worker_waits = False
            yield
