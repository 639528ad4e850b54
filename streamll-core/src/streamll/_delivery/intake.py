"""The hot path: from any thread, signal handler or destructor into a channel.

`submit` may interrupt itself: in a signal handler, or in the `__del__` of something that the
garbage collector finds in the middle of it. So it takes no lock that the code it interrupts
may hold. It appends to a deque, which is atomic. Whoever finds that inbox long and the lock
free moves it into the channel in bulk (flat combining); otherwise the worker does. The worker
is woken only if it says that it sleeps.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from streamll._delivery.channel import Announce, Channel
from streamll._delivery.item import Item
from streamll._delivery.lock import OwnedLock
from streamll._delivery.reentry import INSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamll.events import Event
    from streamll.sink import AsyncSink, Sink

__all__ = ["PUMP_AT", "Intake"]

#: Inbox length at which an emitting thread moves the inbox itself. Long enough to make the
#: lock negligible, short enough to cost an unlucky emit well under a millisecond.
PUMP_AT: Final = 256
#: Inbox length at which emitters give way to the holder of the lock, who may be waiting for
#: the GIL: with many busy threads the inbox would else grow for as long as that takes.
_CROWDED: Final = 8_192
#: Part of the buffer from which emitters give way to a worker that waits for the GIL.
_BEHIND: Final = 1 / 8
#: Seconds to give way: what a thread takes to wake up and take the GIL. It must be let go of
#: for as long: CPython hands it over by force only if nobody lets go of it for 5 ms, so that a
#: program that does for microseconds, as `os.urandom` does, can starve all other threads.
_GIVE_WAY: Final = 100e-6
#: Seconds between two looks of an emit that waits for room (overflow="block").
_BLOCK_STEP: Final = 0.002


class Intake(ABC):
    """Accepts events for one channel.

    Everything that touches the channel holds `_lock`. Waiting for it is safe on the worker;
    a user's thread must ask `_must_not_wait` first.
    """

    def __init__(
        self, sink: Sink | AsyncSink, *, clock: Callable[[], float], announce: Announce
    ) -> None:
        self._sink: Any = sink
        self._name = type(sink).__name__
        self._clock = clock
        self._announce = announce
        self._settings = sink.delivery
        self._blocking = self._settings.overflow == "block"
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Set up everything that belongs to one process."""
        self._channel = Channel(self._settings, self._name, self._announce)
        self._inbox: deque[Item] = deque()
        self._pulled: list[Item] = []  # on their way from the inbox into the channel
        self._refused: deque[Event] = deque()  # to be counted only
        self._lock = OwnedLock.new()
        self._asleep = True  # any event is a reason to wake the worker
        self._awaits_full = False  # a full batch is
        self._pump_at = PUMP_AT
        self._worker_waits = False  # the worker wants the lock
        self._runnable = False  # the worker wants the GIL: it neither sleeps nor writes
        self._nested = False  # the next write may carry events from inside another sink
        self._closing = False

    def submit(self, event: Event, body: bytes) -> None:
        """Hand over *event*. Never raises; never blocks, unless ``overflow="block"``."""
        special = self._blocking or INSIDE.get() is not None
        if special and self._is_seen_to(event, body):
            return
        inbox = self._inbox
        inbox.append(Item(event, body, self._clock(), len(body)))
        if self._asleep:
            self._wake()
        if len(inbox) >= self._pump_at:
            self._relieve()

    def _is_seen_to(self, event: Event, body: bytes) -> bool:
        """Whether *event* was refused, or waited for room and got it."""
        inside = INSIDE.get()
        if inside is None:
            return self._waits_for_room(event, body)
        if inside.refuses(self):
            self._refuse(event)
            return True
        self._nested = True
        return False

    def _refuse(self, event: Event) -> None:
        self._refused.append(event)
        if self._asleep:
            self._wake()
        if len(self._refused) >= PUMP_AT:
            self._relieve()

    def _relieve(self) -> None:
        """Move the inbox into the channel, if nobody else does."""
        lock, wanted, held = self._lock, False, False
        if lock.is_mine():  # we interrupted a frame that does
            return
        try:
            held = not self._worker_waits and lock.acquire(False)
            if held:
                self._pump()
                wanted = self._has_news()
        except BaseException:
            self._mend()
            raise
        finally:
            if held or lock.is_mine():
                lock.release()
        if wanted:
            self._wake()
        elif self._is_crowded():
            time.sleep(_GIVE_WAY)

    def _has_news(self) -> bool:
        """Whether the worker should know what the pump brought."""
        self._set_threshold()
        full = self._awaits_full and self._channel.has_full_batch
        return full or bool(self._channel.waiting.spillway.staged)

    def _set_threshold(self) -> None:
        """Have the inbox looked at when it could complete a batch that waits for company."""
        missing = self._settings.batch_size - self._channel.waiting.buffer.count
        self._pump_at = max(1, min(PUMP_AT, missing)) if self._awaits_full else PUMP_AT

    @property
    def is_pressed(self) -> bool:
        """Whether half of the buffer is used, as far as can be told without the lock."""
        buffer = self._channel.waiting.buffer
        waiting = buffer.count + len(self._inbox)
        return waiting * 2 >= self._settings.buffer_size or buffer.is_half_full

    def _is_crowded(self) -> bool:
        """Whether to give way to a worker, or holder of the lock, that only lacks the GIL.

        Among many busy threads it else gets too few turns to keep up.
        """
        backlog = len(self._inbox) + self._channel.waiting.buffer.count
        is_behind = self._runnable and backlog >= self._settings.buffer_size * _BEHIND
        return is_behind or len(self._inbox) > _CROWDED

    def _waits_for_room(self, event: Event, body: bytes) -> bool:
        """Wait up to `block_timeout`; False if the event has to be handed over as usual."""
        patience = self._clock() + self._settings.block_timeout
        while not self._try_offer(event, body):
            if self._closing or self._must_not_wait() or self._clock() >= patience:
                return False
            time.sleep(_BLOCK_STEP)
        if self._asleep:
            self._wake()
        return True

    def _try_offer(self, event: Event, body: bytes) -> bool:
        """Hand *event* to the channel, unless it is full or busy."""
        lock, held = self._lock, False
        if lock.is_mine():
            return False
        try:
            held = lock.acquire(False)
            return held and self._offer_if_room(event, body)
        except BaseException:
            self._mend()
            raise
        finally:
            if held or lock.is_mine():
                lock.release()

    def _offer_if_room(self, event: Event, body: bytes) -> bool:
        self._pump()
        room = self._channel.has_room(len(body))
        if room:
            self._channel.offer(event, body, self._clock())
        return room

    def _mend(self) -> None:
        """Balance the ledger after e.g. Ctrl-C between two counts, if the counting was ours."""
        if self._lock.is_mine():
            pulled = self._pulled
            if pulled and not pulled[0].order:  # nobody accepted them yet
                self._inbox.extendleft(reversed(pulled))
            pulled.clear()
            self._channel.recount()

    def _must_not_wait(self) -> bool:
        """Whether what the caller waits for cannot come while it waits."""
        return self._lock.is_mine() or self._detains_worker()

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

    @abstractmethod
    def _wake(self) -> None:
        """Wake the worker, or start it, as safely as `submit`."""

    @abstractmethod
    def _detains_worker(self) -> bool:
        """Whether the caller runs where the worker runs, or interrupted its start."""
