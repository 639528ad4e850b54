"""The hot path: from any thread, signal handler or destructor into a channel.

`submit` may interrupt itself: in a signal handler, or in the `__del__` of something that the
garbage collector finds in the middle of it. So it takes no lock that the code it interrupts
may hold. It appends to a deque, which is atomic. Whoever finds that inbox long and the lock
free moves it into the channel in bulk (flat combining); otherwise the worker does. The worker
is woken only if it says that it sleeps.
"""

from __future__ import annotations

import _thread
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from streamll._delivery.inbox import Inbox
from streamll._delivery.item import Item
from streamll._delivery.reentry import INSIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamll.events import Event

__all__ = ["PUMP_AT", "Intake"]

#: Inbox length at which an emitting thread moves the inbox itself. Long enough to make the
#: lock negligible, short enough to cost an unlucky emit well under a millisecond.
PUMP_AT: Final = 256
#: Inbox length at which emitters give way to the holder of the lock, who may be waiting for
#: the GIL: with many busy threads the inbox would else grow for as long as that takes.
_CROWDED: Final = 8_192
#: Events, or an eighth of a smaller buffer, from which emitters give way to a busy worker.
_BEHIND: Final = 1_024
#: Seconds to give way: what a thread takes to wake up and take the GIL. It must be let go of
#: for as long: CPython hands it over by force only if nobody lets go of it for 5 ms, so that a
#: program that does for microseconds, as `os.urandom` does, can starve all other threads.
_GIVE_WAY: Final = 100e-6
#: Seconds after which a write lasts so long that it hardly waits for the GIL.
_STALLED: Final = 0.05
#: Seconds between two looks of an emit that waits for room (overflow="block").
_BLOCK_STEP: Final = 0.002
#: Free places from which nobody asks for room: what may come between two pumps, twice.
_ROOM: Final = 2 * PUMP_AT
#: Bytes an event may have for that.
_ROOM_EACH: Final = 4_096


class Intake(Inbox, ABC):
    """Accepts events for one channel.

    Waiting for the lock is safe on the worker; a user's thread must ask `_must_not_wait` first.
    """

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._blocking = self._settings.overflow == "block"
        self._is_roomy = False  # no event has to wait for room
        self._line: deque[int] = deque()  # threads that wait for room, in order
        self._enough = max(1, self._settings.buffer_size // 8)  # places that end a wait
        self._asleep = True  # any event is a reason to wake the worker
        self._awaits_full = False  # a full batch is
        self._pump_at = PUMP_AT
        self._works = False  # the worker does not sleep, so it may want the GIL
        self._last_step = float("-inf")  # when it asked the channel what to do
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
            return not self._is_room_for(body) and self._waits_for_room(event, body)
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
        settings = self._settings
        enough = min(settings.batch_size, (settings.buffer_size + 1) // 2)
        missing = enough - self._channel.waiting.buffer.count
        self._pump_at = max(1, min(PUMP_AT, missing)) if self._awaits_full else PUMP_AT

    @property
    def is_pressed(self) -> bool:
        """Whether half of the buffer is used, as far as can be told without the lock."""
        buffer = self._channel.waiting.buffer
        waiting = buffer.count + len(self._inbox)
        return waiting * 2 >= self._settings.buffer_size or buffer.is_half_full

    def _is_crowded(self) -> bool:
        """Whether to give way to a worker, or holder of the lock, that may only lack the GIL.

        Beside a busy program it else gets too few turns to keep up. A worker that has made no
        step for long waits for the sink, not for us.
        """
        backlog = len(self._inbox) + self._channel.waiting.buffer.count
        if backlog < min(_BEHIND, self._settings.buffer_size // 8):
            return False
        is_busy = self._works and self._clock() - self._last_step < _STALLED
        return is_busy or len(self._inbox) > _CROWDED

    # -- overflow="block" -------------------------------------------------------------------

    def _is_room_for(self, body: bytes) -> bool:
        """Whether there is room for sure; as of the last pump, which was not long ago."""
        free = self._is_roomy and not self._line
        return free and len(self._inbox) < PUMP_AT and len(body) <= _ROOM_EACH

    def _pump(self) -> None:
        super()._pump()
        if self._blocking:
            self._is_roomy = self._channel.has_room(_ROOM * _ROOM_EACH, _ROOM)

    def _waits_for_room(self, event: Event, body: bytes) -> bool:
        """Wait up to `block_timeout`; False if the event has to be handed over as usual."""
        me = _thread.get_ident()
        # Nobody who comes now takes what those who wait are waiting for.
        places = 1 if self._is_first(me) else self._enough + len(self._line)
        taken = self._try_offer(event, body, places)
        if not taken:
            with self._in_line(me):
                taken = self._waits_its_turn(event, body, me)
        if taken and self._asleep:
            self._wake()
        elif taken and (self._awaits_full or self._settings.spool is not None):
            self._relieve()
        return taken

    def _is_first(self, me: int) -> bool:
        """Whether nobody else waits for longer."""
        try:
            return self._line[0] == me
        except IndexError:
            return True

    @contextmanager
    def _in_line(self, me: int) -> Iterator[None]:
        """Wait behind those who came before."""
        self._line.append(me)
        try:
            yield
        finally:
            self._line.remove(me)

    def _waits_its_turn(self, event: Event, body: bytes, me: int) -> bool:
        """Look for room, now and then; whoever began to wait waits for more than one place."""
        patience = self._clock() + self._settings.block_timeout
        places = self._enough if len(self._line) == 1 else 1
        while not (self._closing or self._must_not_wait() or self._clock() >= patience):
            time.sleep(_BLOCK_STEP)
            if self._is_first(me) and self._try_offer(event, body, places):
                return True
        return False

    def _try_offer(self, event: Event, body: bytes, places: int) -> bool:
        """Hand *event* to the channel, unless that has fewer *places*, or is busy."""
        lock, held = self._lock, False
        if lock.is_mine():
            return False
        try:
            held = lock.acquire(False)
            return held and self._offer_if_room(event, body, places)
        except BaseException:
            self._mend()
            raise
        finally:
            if held or lock.is_mine():
                lock.release()

    def _offer_if_room(self, event: Event, body: bytes, places: int) -> bool:
        self._pump()
        size = len(body)
        room = self._channel.has_room(size, places) or size > self._settings.buffer_bytes
        if room:
            self._channel.offer(event, body, self._clock())
        return room

    # -- what differs -----------------------------------------------------------------------

    def _must_not_wait(self) -> bool:
        """Whether what the caller waits for cannot come while it waits."""
        return self._lock.is_mine() or self._detains_worker()

    @abstractmethod
    def _wake(self) -> None:
        """Wake the worker, or start it, as safely as `submit`."""

    @abstractmethod
    def _detains_worker(self) -> bool:
        """Whether the caller runs where the worker runs, or interrupted its start."""
