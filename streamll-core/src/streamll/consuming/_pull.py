"""One event at a time, acked when the next is asked for."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

import attrs

from streamll.consuming._link import State
from streamll.consuming._reader import Delivery, Reader
from streamll.consuming._stopper import Stopper
from streamll.events import Event

__all__ = ["Pull"]

#: Seconds the broker waits for the next message before it is asked again.
_WAIT: Final = 1.0


@attrs.define
class Pull:
    """The state behind `EventStream`. One task asks for events; `stop` may come from any thread.

    Attributes:
        reader: where the events come from.
    """

    reader: Reader
    _stopper: Stopper = attrs.field(init=False, factory=Stopper)
    _current: Delivery | None = attrs.field(init=False, default=None)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    #: Between a thread that takes what is at hand and one that stops it.
    _guard: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    @property
    def is_open(self) -> bool:
        """Whether a connection is there or sought."""
        return self.reader.link.state is not State.CLOSED

    @property
    def is_stopped(self) -> bool:
        """Whether there will be no further event."""
        return self._stopper.is_set

    async def open(self) -> None:
        """Connect now; raises PermanentError."""
        async with self._lock:
            await self._stopper.unless_stopped(self.reader.link.open())

    def at_hand(self) -> Event | None:
        """Return the next event if that needs no broker; callable while no `next` runs."""
        with self._guard:
            self._end_current()
            return None if self.is_stopped or self.reader.is_due else self._take()

    async def next(self) -> Event | None:
        """Return the next event, or None when stopped; raises PermanentError."""
        async with self._lock:
            while (event := self.at_hand()) is None and not self.is_stopped:
                # While it waits it may be stopped, while it settles it may not.
                await self.reader.settle()
                if not self.reader.has_more:
                    await self._stopper.unless_stopped(self.reader.fetch(_WAIT))
            return event

    def _take(self) -> Event | None:
        while (delivery := self.reader.take()) is not None:
            if self.reader.begin(delivery):
                self._current = delivery
                return delivery.event
        return None

    def _end_current(self) -> None:
        if self._current is not None:
            self.reader.finish(self._current)
            self._current = None

    def finish(self) -> None:
        """Take the event in the program's hands for consumed."""
        with self._guard:
            self._end_current()

    def stop(self) -> None:
        """Let `next` return None from now on, also where it waits. Safe from any thread."""
        with self._guard:
            self._stopper.set()

    async def close(self) -> None:
        """Stop, settle and disconnect."""
        self.stop()
        async with self._lock:
            await self.reader.close()
