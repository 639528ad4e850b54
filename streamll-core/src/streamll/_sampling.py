"""Sampling of whole executions: all of a call's tree is sent, or nothing of it.

The decision falls with an execution's first event, by its id. An execution that is not
sampled is HELD in memory where errors are to be kept, else DROPPED:

    HELD    -> SENT     an error occurs: what was held is sent, in order, and all that follows
    HELD    -> DROPPED  the root closes without one; nobody can emit into it any more; it
                        outgrows its share, or it is the oldest and room is needed
    SENT and DROPPED are final.

Without locks, as `emit` may run in a signal handler or a finaliser: who pops the one entry
of a deque has the turn, and an append is seen by whoever has it.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from streamll._spans import Span
from streamll.errors import ConfigurationError
from streamll.events import CLOSING_TYPES, Event

__all__ = ["Fate", "Held", "Sampler", "sampler_for"]

#: Room for held events, in KiB of JSON; an event takes one at least. All executions together.
ROOM: Final = 32_768
#: What one held execution may take of it.
SHARE: Final = 8_192
_KIB: Final = 1_024

Send = Callable[[Event, bytes], None]


class Fate(Enum):
    """What becomes of an execution's events."""

    SENT = auto()
    HELD = auto()
    DROPPED = auto()


class _Room:
    """A number of places, taken and given back without a lock."""

    def __init__(self, size: int) -> None:
        self._free = deque(bytes(size))

    def take(self, places: int) -> bool:
        """Take all of *places* or none."""
        taken: list[int] = []
        try:
            while len(taken) < places:
                taken.append(self._free.pop())
        except IndexError:
            self._free.extend(taken)
            return False
        return True

    def give(self, places: int) -> None:
        """Give *places* back."""
        self._free.extend(bytes(places))


class Held:
    """What sampling decided on one execution, and the events that wait for it.

    Only the execution refers to it: when that is gone, so is this, with what it held.

    Attributes:
        key: the execution's id.
        fate: what becomes of the events.
    """

    def __init__(self, key: str, fate: Fate, sampler: Sampler) -> None:
        self.key = key
        self.fate = fate
        self._sampler = sampler
        self._waiting: deque[tuple[Event, bytes, int, Send]] = deque()
        self._size = 0
        self._unsettled = deque([None] if fate is Fate.HELD else [])
        self._turn: deque[None] = deque([None])

    def take(self, event: Event, body: bytes, send: Send, *, is_root: bool) -> None:
        """Send, hold or drop the next event, one of the root span if *is_root*."""
        if self.fate is Fate.SENT and self._turn and not self._waiting:
            send(event, body)
            return
        self._judge(event, is_root)
        places = 1 + len(body) // _KIB if self.fate is Fate.HELD else 0
        self._size += places
        if self._size > self._sampler.share or not self._sampler.make_room(self, places):
            self.give_up()
            self._sampler.lost["sampled_overflow"] += 1
            return
        self._waiting.append((event, body, places, send))
        self._move()

    def _judge(self, event: Event, is_root: bool) -> None:
        if event.severity == "error" or event.event_type == "error":
            self._settle(Fate.SENT)
        elif is_root and event.event_type in CLOSING_TYPES:
            self._settle(Fate.DROPPED)

    def give_up(self) -> None:
        """Drop a held execution for want of room; counted as "sampled_overflow"."""
        if self._settle(Fate.DROPPED):
            self._drop("sampled_overflow")

    def _settle(self, fate: Fate) -> bool:
        """Leave HELD, once; return whether it was this call that did."""
        try:
            self._unsettled.pop()
        except IndexError:
            return False
        self.fate = fate
        self._sampler.forget(self)
        return True

    def _move(self) -> None:
        if self.fate is Fate.DROPPED:
            self._drop("sampled")
        while self.fate is Fate.SENT and self._waiting:
            try:
                self._turn.pop()
            except IndexError:
                return  # whoever has the turn sees our event before or after giving it back
            try:
                self._send_waiting()
            finally:
                self._turn.append(None)

    def _send_waiting(self) -> None:
        while self._waiting:
            event, body, places, send = self._waiting.popleft()
            self._sampler.room.give(places)
            send(event, body)

    def _drop(self, reason: str) -> None:
        try:
            while True:
                places = self._waiting.popleft()[2]
                self._sampler.room.give(places)
                self._sampler.lost[reason] += 1
        except IndexError:
            return

    def __del__(self) -> None:
        self._drop("sampled")


class Sampler:
    """Decides which executions are sent. Thread-safe.

    Args:
        rate: share of the executions that is sent, 0 to 1.
        keep_errors: whether those with an error are sent as well.
        lost: counts what is dropped.
    """

    def __init__(
        self,
        rate: float,
        *,
        keep_errors: bool,
        lost: Counter[str],
        room: int = ROOM,
        share: int = SHARE,
    ) -> None:
        self.lost = lost
        self.room = _Room(room)
        self.share = share
        self._rate = rate
        self._keep_errors = keep_errors
        self._since = time.perf_counter()
        self._sent = Held("", Fate.SENT, self)
        self._dropped = Held("", Fate.DROPPED, self)
        self._holding: dict[str, weakref.ref[Held]] = {}

    def decide(self, span: Span) -> Held:
        """Return what becomes of the execution of *span*, and note it there."""
        execution = span.execution
        if _root(span).started < self._since:
            fate = self._sent  # part of it was sent before sampling was configured
        elif self._sampled(execution.execution_id):
            fate = self._sent
            execution.sampled_rate = 1 / self._rate
        elif self._keep_errors:
            fate = self._hold(execution.execution_id)
            execution.sampled_rate = 1.0
        else:
            fate = self._dropped
        execution.held = fate
        return fate

    def _sampled(self, execution_id: str) -> bool:
        """Return the same answer for one id everywhere; ids are uniformly random."""
        return int(execution_id[-16:], 16) < self._rate * 2**64

    def _hold(self, key: str) -> Held:
        # Two threads may be first: both get what was put there first.
        mine = Held(key, Fate.HELD, self)
        forget = self._holding.pop
        known = self._holding.setdefault(key, weakref.ref(mine, lambda _: forget(key, None)))
        return known() or mine

    def make_room(self, held: Held, places: int) -> bool:
        """Take *places* for *held*, at the cost of the oldest; False if that is itself."""
        while not self.room.take(places):
            oldest = self._oldest()
            if oldest is None:
                return False
            oldest.give_up()
            if oldest is held:
                return False
        return True

    def _oldest(self) -> Held | None:
        while self._holding:
            try:
                key = next(iter(self._holding))
            except (RuntimeError, StopIteration):  # another thread changed it meanwhile
                continue
            found = self._holding.get(key)
            held = found() if found is not None else None
            if held is not None:
                return held
            self._holding.pop(key, None)
        return None

    def forget(self, held: Held) -> None:
        """Stop counting *held* among those that may have to give way."""
        self._holding.pop(held.key, None)


def _root(span: Span) -> Span:
    for ancestor in span.ancestors():
        span = ancestor
    return span


def sampler_for(rate: float, keep_errors: bool, lost: Counter[str]) -> Sampler | None:
    """Return the sampler for the options `sample` and `sample_errors`; None to send all.

    Raises:
        ConfigurationError: for a rate that is not a number from 0 to 1.
    """
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not number or not 0 <= rate <= 1:
        raise ConfigurationError(f"sample must be a number from 0 to 1, not {rate!r}")
    if not isinstance(keep_errors, bool):
        raise ConfigurationError(f"sample_errors must be True or False, not {keep_errors!r}")
    return None if rate == 1 else Sampler(rate, keep_errors=keep_errors, lost=lost)
