"""The channel in front of one sink, without I/O: it decides, a driver does.

    offer(event) -> buffer --next()--> Write --> succeeded | failed
                       ^                             |
                       +------- put back ------------+

A channel knows no thread, lock, clock or socket; `now` is monotonic seconds. One driver
serialises the calls and keeps at most one `Write` open. Every method leaves the ledger
balanced. Nothing raises for what an event or a sink does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from streamll._delivery.actions import Action, Done, Load, Spill, Wait, Wake, Write
from streamll._delivery.admission import Admission
from streamll._delivery.breaker import Breaker, Change, State
from streamll._delivery.disk import Disk
from streamll._delivery.holdings import Holdings
from streamll._delivery.isolation import Isolation
from streamll._delivery.item import Item, weight_of
from streamll._delivery.ledger import Ledger
from streamll._delivery.losses import Announce, Losses, Watch
from streamll._delivery.outcome import Failure
from streamll._delivery.pace import Pace
from streamll._delivery.returns import Returns
from streamll._delivery.waiting import Waiting
from streamll.errors import Outcome
from streamll.events import Event
from streamll.sink import SinkStats

if TYPE_CHECKING:
    from streamll.settings import DeliverySettings

__all__ = ["Announce", "Channel"]


@attrs.define(eq=False)
class Channel:
    """Buffer, breaker, retry, isolation and accounting of one sink.

    Attributes:
        settings: the sink's delivery options.
        name: the sink's, for announcements.
        announce: makes announcements; the only thing in here that is not pure.
        random: floats in [0, 1), for jitter.
        ledger: the accounting.
        waiting: what waits.
        breaker: the circuit.
        disk: what the driver reports of its spool.
    """

    settings: DeliverySettings
    name: str
    announce: Announce
    random: Callable[[], float] = random.random
    ledger: Ledger = attrs.field(init=False, factory=Ledger)
    waiting: Waiting = attrs.field(init=False)
    breaker: Breaker = attrs.field(init=False)
    disk: Disk = attrs.field(init=False)
    _pace: Pace = attrs.field(init=False)
    _isolation: Isolation = attrs.field(init=False)
    _holdings: Holdings = attrs.field(init=False)
    _losses: Losses = attrs.field(init=False)
    _returns: Returns = attrs.field(init=False)
    _admission: Admission = attrs.field(init=False)
    _hurried: int = attrs.field(init=False, default=0)
    _last_error: str | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.waiting = Waiting(settings)
        self._pace = Pace(settings, self.random)
        self.breaker = self._pace.breaker
        self._isolation = Isolation(settings.batch_size, settings.max_attempts)
        self._holdings = Holdings(self.ledger, self.waiting, self._isolation)
        self._losses = Losses(self.ledger, self.name, self.announce)
        self._returns = Returns(self._holdings, self._losses)
        self._admission = Admission(settings, self._holdings, self._losses, self._pace)
        self.disk = Disk(self._holdings, self._losses)

    # -- in ---------------------------------------------------------------------------------

    def offer(self, event: Event, body: bytes, now: float) -> None:
        """Take responsibility for *event*, or count why not."""
        self.admit([Item(event, body, now, len(body))])

    def admit(self, items: Sequence[Item]) -> None:
        """Take responsibility for *items*, in order, or count why not."""
        self._admission.admit(items)

    def has_room(self, size: int, count: int) -> bool:
        """Whether *count* events of *size* bytes in all make nothing give way, now or later."""
        return self._holdings.has_room(size, count)

    def refuse(self, event: Event, reason: str) -> None:
        """Count *event* as dropped without ever holding it."""
        self._losses.refuse(event, reason)

    # -- out --------------------------------------------------------------------------------

    def next(self, now: float) -> Action:
        """Return what to do now."""
        self.tick(now)
        if self._holdings.in_flight is not None:
            return Wait(None, Wake.NEVER)
        if self.waiting.spillway.staged:
            return Spill(self.waiting.spillway.to_write())
        if not (self._holdings or self._losses):
            return Done() if self._admission.closed else Wait(None, Wake.ANY)
        return self._pause(now) or self._load() or self._begin(now)

    def tick(self, now: float) -> None:
        """Let time pass: expire events, end open periods, give up lost probes."""
        self.breaker.tick(now, free=self._holdings.in_flight is None)
        if self.settings.deadline is not None:
            expired = self._holdings.expire(now - self.settings.deadline)
            self._losses.give_up(expired, "expired")

    def _load(self) -> Load | None:
        """Return what to read back before anything younger may go out."""
        spillway = self.waiting.spillway
        if spillway.loaded or not spillway.unread:
            return None
        return Load(spillway.to_read(self.settings.batch_size))

    def _pause(self, now: float) -> Wait | None:
        """Return how long the sink, or else the batch, needs yet."""
        seconds = self._pace.wait(now)
        if seconds > 0:
            return Wait(min(seconds, self._until_expiry(now)), Wake.NEVER)
        seconds = self._until_ripe(now)
        return Wait(seconds, Wake.FULL) if seconds > 0 else None

    def _until_expiry(self, now: float) -> float:
        oldest = self.waiting.buffer.oldest
        if self.settings.deadline is None or oldest is None:
            return float("inf")
        return oldest.at + self.settings.deadline - now

    def _until_ripe(self, now: float) -> float:
        """Return the seconds the oldest event may yet wait for company."""
        oldest = self.waiting.buffer.oldest
        if self._admission.closed or oldest is None or oldest.order <= self._hurried:
            return 0.0
        if self.has_full_batch or self._isolation or self._losses or self.waiting.notices:
            return 0.0
        return oldest.at + self.settings.batch_age - now

    def _begin(self, now: float) -> Write:
        self._announce_losses()
        suspect = self._isolation.next_suspect(others=bool(self.waiting))
        items = self._take() if suspect is None else [suspect]
        self.ledger.take(weight_of(items))
        write = Write.of(items, self.breaker.attempt(now), suspect=suspect is not None)
        self._holdings.in_flight = write
        return write

    def _take(self) -> list[Item]:
        """Remove the next batch; one event only if it is a probe."""
        probing = self.breaker.state is State.HALF_OPEN
        return self.waiting.take(1 if probing else self._isolation.limit)

    # -- results ----------------------------------------------------------------------------

    def succeeded(self, write: Write, report: Mapping[int, Any] | None, now: float) -> None:
        """Report that `write` returned; *report* holds the verdicts on undelivered events."""
        if self._holdings.finish(write):
            error, clean = self._returns.reported(write, report or {})
            if error is None:
                self._isolation.succeeded()
                self._pace.progress(write.generation, now, clean=clean)
            else:
                self._setback(write, now, error)

    def failed(self, write: Write, failure: Failure, now: float) -> None:
        """Report that `open` or `write` raised: nothing is assumed delivered."""
        if self._holdings.finish(write):
            self._returns.failed(write, failure)
            permanent = failure.outcome is Outcome.REJECTED_PERMANENT
            self._setback(write, now, failure.error, permanent=permanent)

    def abandon(self, now: float) -> None:
        """Report that nobody will report on the open write any more, if there is one."""
        write = self._holdings.in_flight
        if write is not None:
            self.failed(write, Failure(Outcome.UNKNOWN, "abandoned"), now)

    def _setback(self, write: Write, now: float, error: str, *, permanent: bool = False) -> None:
        self._last_error = error
        self._pace.setback(write.generation, now, permanent=permanent)
        if self.settings.when_open == "drop" and self.breaker.state is State.OPEN:
            buffer = self.waiting.buffer
            self._losses.give_up(buffer.take(buffer.count), "breaker_open")

    def _announce_losses(self) -> None:
        """Turn losses into events, unless earlier ones are still on their way: never one each."""
        under_way = (*self.waiting.notices, *self._isolation)
        if self._losses and not any(item.is_notice for item in under_way):
            self.waiting.notices.extend(self._losses.announcements())

    # -- life cycle -------------------------------------------------------------------------

    @property
    def has_full_batch(self) -> bool:
        """Whether there is nothing to gain from waiting for company."""
        buffer = self.waiting.buffer
        full = buffer.count >= self.settings.batch_size or buffer.is_half_full
        return full or bool(self.waiting.spillway)

    @property
    def mark(self) -> int:
        """The position of the newest event, for `settled`."""
        return self.ledger.accepted

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Yield a watch that learns of losses; from any thread, without a lock."""
        watch = Watch()
        self._losses.watches.append(watch)
        try:
            yield watch
        finally:
            self._losses.watches.remove(watch)

    def hurry(self) -> None:
        """Let nothing that waits now wait for company."""
        self._hurried = self.mark

    def settled(self, mark: int) -> bool:
        """Whether every event up to *mark* has its outcome and every loss was announced."""
        told = not self._losses or self._losses.since > mark
        return told and self._holdings.passed(mark)

    def close(self, now: float) -> None:
        """Refuse events from now on and deliver what is left; an open circuit gets one try."""
        if not self._admission.closed:
            self._admission.closed = True
            self._pace.hasten(now)

    def nothing_before(self, now: float) -> float:
        """Return until when nothing can be delivered; *now* if something may be."""
        return now if self._holdings.in_flight is not None else now + self._pace.wait(now)

    @property
    def is_barred(self) -> bool:
        """Whether the last attempt showed that none can work."""
        return self._pace.is_barred

    def expire_all(self, reason: str) -> None:
        """Give up everything, in flight or not; what is on disk as well is "spooled"."""
        items, unread = self._holdings.clear()
        on_disk = unread + weight_of(item for item in items if item.row)
        if on_disk:
            self.ledger.drop_waiting("spooled", on_disk)
        self._losses.give_up([item for item in items if not item.row], reason)
        self._losses.forget()

    # -- what can be seen -------------------------------------------------------------------

    def take_changes(self) -> list[Change]:
        """Return the circuit changes since the last call."""
        return self._pace.take_changes()

    def stats(self) -> SinkStats:
        """Return the accounting."""
        return SinkStats(
            accepted=self.ledger.accepted,
            delivered=self.ledger.delivered,
            dropped=dict(self.ledger.dropped),
            queued=self.ledger.queued,
            queued_bytes=self._holdings.queued_bytes,
            in_flight=self.ledger.in_flight,
            failures=self.breaker.failures,
            circuit=self.breaker.state.value,
            retried_unknown=self.ledger.retried_unknown,
            last_error=self._last_error,
        )

    def recount(self) -> None:
        """Make the ledger agree with what is held, after an interrupted `admit`."""
        self._holdings.recount()
