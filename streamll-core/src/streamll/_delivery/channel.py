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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from streamll._delivery.actions import Action, Done, Load, Spill, Wait, Wake, Write
from streamll._delivery.backoff import Backoff
from streamll._delivery.breaker import Breaker, Change, State
from streamll._delivery.isolation import Isolation
from streamll._delivery.item import NOTICE, Item, rank_of
from streamll._delivery.ledger import Ledger
from streamll._delivery.losses import Announce, Losses
from streamll._delivery.outcome import Failure, verdict_at
from streamll._delivery.waiting import Waiting
from streamll.errors import Outcome
from streamll.events import Batch, Event
from streamll.sink import SinkStats, Verdict

if TYPE_CHECKING:
    from streamll._delivery.spillway import Stored
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
    """

    settings: DeliverySettings
    name: str
    announce: Announce
    random: Callable[[], float] = random.random
    ledger: Ledger = attrs.field(init=False, factory=Ledger)
    waiting: Waiting = attrs.field(init=False)
    breaker: Breaker = attrs.field(init=False)
    _backoff: Backoff = attrs.field(init=False)
    _isolation: Isolation = attrs.field(init=False)
    _losses: Losses = attrs.field(init=False)
    _in_flight: Write | None = attrs.field(init=False, default=None)
    _changes: list[Change] = attrs.field(init=False, factory=list)
    _closing: bool = attrs.field(init=False, default=False)
    _sheds: bool = attrs.field(init=False)
    _hurried: int = attrs.field(init=False, default=0)
    _setbacks: int = attrs.field(init=False, default=0)
    _not_before: float = attrs.field(init=False, default=0.0)
    _last_error: str | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.waiting = Waiting(settings)
        self._losses = Losses(self.ledger, self.name, self.announce)
        self.breaker = Breaker(
            enabled=settings.circuit_breaker,
            threshold=settings.failure_threshold,
            recovery=settings.recovery_timeout,
            random=self.random,
            observe=self._changes.append,
        )
        self._backoff = Backoff(settings.retry_delay, self.random)
        self._isolation = Isolation(settings.batch_size, settings.max_attempts)
        self._sheds = settings.when_open == "drop"

    # -- in ---------------------------------------------------------------------------------

    def offer(self, event: Event, body: bytes, now: float) -> None:
        """Take responsibility for *event*, or count why not."""
        if self._closing:
            self.refuse(event, "closed")
        elif self._sheds and self._is_open(now):
            self.refuse(event, "breaker_open")
        else:
            self.ledger.accept()
            self._hold(Item(event, body, now, self.mark, rank_of(event), len(body)))

    def refuse(self, event: Event, reason: str) -> None:
        """Count *event* as dropped without ever holding it."""
        self._losses.refuse(event, reason)

    def _hold(self, item: Item) -> None:
        if item.size > self.settings.buffer_bytes:
            self._losses.give_up((item,), "oversize")
            return
        victims = self.waiting.push(item, failing=self._setbacks > 0)
        if victims:
            self._losses.give_up(victims, "buffer_full")

    def _is_open(self, now: float) -> bool:
        self.breaker.tick(now, free=self._in_flight is None)
        return self.breaker.state is State.OPEN

    # -- out --------------------------------------------------------------------------------

    def next(self, now: float) -> Action:
        """Return what to do now."""
        self.tick(now)
        if self._in_flight is not None:
            return Wait(None, Wake.NEVER)
        if self.waiting.spillway.staged:
            return Spill(self.waiting.spillway.to_write())
        if not (self.waiting or self._isolation or self._losses):
            return Done() if self._closing else Wait(None, Wake.ANY)
        return self._pause(now) or self._load() or self._begin(now)

    def tick(self, now: float) -> None:
        """Let time pass: expire events, end open periods, give up lost probes."""
        self.breaker.tick(now, free=self._in_flight is None)
        if self.settings.deadline is not None:
            self._expire(now - self.settings.deadline)

    def _load(self) -> Load | None:
        """Return what to read back before anything younger may go out."""
        spillway = self.waiting.spillway
        if spillway.loaded or not spillway.unread:
            return None
        return Load(spillway.to_read(self.settings.batch_size))

    def _pause(self, now: float) -> Wait | None:
        """Return how long the sink, or else the batch, needs yet."""
        closed = self.breaker.state is State.CLOSED
        seconds = self._not_before - now if closed else self.breaker.wait(now)
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
        if self._closing or oldest is None or oldest.order <= self._hurried:
            return 0.0
        if self.has_full_batch or self._isolation or self._losses or self.waiting.notices:
            return 0.0
        return oldest.at + self.settings.batch_age - now

    def _begin(self, now: float) -> Write:
        self._announce_losses()
        suspect = self._isolation.next_suspect(others=bool(self.waiting))
        items = self._take() if suspect is None else [suspect]
        self.ledger.take(_weight(items))
        batch = Batch(
            tuple([item.event for item in items]),
            tuple([item.body for item in items]),
            1 + max([item.attempt for item in items]),
        )
        write = Write(batch, items, self.breaker.attempt(now), suspect is not None)
        self._in_flight = write
        return write

    def _take(self) -> list[Item]:
        """Remove the next batch; one event only if it is a probe."""
        probing = self.breaker.state is State.HALF_OPEN
        return self.waiting.take(1 if probing else self._isolation.limit)

    # -- results ----------------------------------------------------------------------------

    def succeeded(self, write: Write, report: Mapping[int, Any] | None, now: float) -> None:
        """Report that `write` returned; *report* holds the verdicts on undelivered events."""
        if not self._finish(write):
            return
        bad = {i: v for i in range(len(write.items)) if report and (v := verdict_at(report, i))}
        delivered = [item for i, item in enumerate(write.items) if i not in bad]
        self.ledger.deliver(_weight(delivered))
        self._losses.spend(delivered)
        again = [
            write.items[i] for i, verdict in bad.items() if self._retry(write.items[i], verdict)
        ]
        self._take_back(write, again, proven=bool(delivered))
        if delivered or not again:
            self._progress(write, now, clean=not again)
        else:
            self._last_error = bad[0].outcome.value
            self._setback(write, now)

    def failed(self, write: Write, failure: Failure, now: float) -> None:
        """Report that `open` or `write` raised: nothing is assumed delivered."""
        if not self._finish(write):
            return
        self._last_error = failure.error
        unknown = failure.outcome is Outcome.UNKNOWN
        self.ledger.put_back(_weight(write.items), unknown=unknown)
        permanent = failure.outcome is Outcome.REJECTED_PERMANENT
        if failure.sent and not permanent:
            self._search(write)
        else:
            self._return(write)
        self._setback(write, now, permanent=permanent)

    def _finish(self, write: Write) -> bool:
        """Close *write*; False if it was given up before, so that its result is too late."""
        if self._in_flight is not write:
            return False
        self._in_flight = None
        return True

    def _retry(self, item: Item, verdict: Verdict) -> bool:
        """Count the verdict on one event; return whether it goes back."""
        if verdict.outcome is Outcome.REJECTED_PERMANENT:
            self._losses.reject(item, verdict.reason)
            return False
        item.attempt += 1
        self.ledger.put_back(item.weight, unknown=verdict.outcome is Outcome.UNKNOWN)
        return True

    def _take_back(self, write: Write, items: list[Item], *, proven: bool) -> None:
        """Put back what verdicts asked to retry; what others outlive too often is to blame."""
        if write.suspect:
            self._isolation.readmit(items)
            return
        convicts = [item for item in items if proven and self._isolation.outlived(item)]
        self._losses.give_up(convicts, "rejected")
        self._restore([item for item in items if item not in convicts])

    def _search(self, write: Write) -> None:
        """Put back a batch that failed by exception, unless its only event is to blame."""
        items = write.items
        self._isolation.blame(items)
        if len(items) == 1 and self._isolation.convicts(items[0]):
            self._losses.give_up(items, "rejected")
        elif write.suspect:
            self._isolation.readmit(items, last=True)
        else:
            self._restore(self._isolation.failed(items, others=bool(self.waiting)))

    def _return(self, write: Write) -> None:
        """Put back a batch whose failure says nothing about its events."""
        if write.suspect:
            self._isolation.readmit(write.items)
        else:
            self._restore(write.items)

    def _restore(self, items: Sequence[Item]) -> None:
        """Put *items* in front of what waits; what no longer fits gives way by policy."""
        self._losses.give_up(self.waiting.restore(items), "buffer_full")

    def _progress(self, write: Write, now: float, *, clean: bool) -> None:
        self._setbacks = 0
        self._not_before = now if clean else now + self._backoff.delay(1)
        self._isolation.succeeded()
        self.breaker.success(write.generation, now)

    def _setback(self, write: Write, now: float, *, permanent: bool = False) -> None:
        self._setbacks += 1
        self._not_before = now + self._backoff.delay(self._setbacks)
        self.breaker.failure(write.generation, now, permanent=permanent)
        if self._sheds and self.breaker.state is State.OPEN:
            buffer = self.waiting.buffer
            self._losses.give_up(buffer.take(buffer.count), "breaker_open")

    def _announce_losses(self) -> None:
        """Turn losses into events, unless earlier ones are still on their way: never one each."""
        under_way = (*self.waiting.notices, *self._isolation)
        if self._losses and not any(item.rank == NOTICE for item in under_way):
            self.waiting.notices.extend(self._losses.announcements())

    def _expire(self, before: float) -> None:
        suspects = [item for item in self._isolation if item.at <= before and item.rank != NOTICE]
        self._isolation.discard(suspects)
        self._losses.give_up([*suspects, *self.waiting.expire(before)], "expired")

    # -- disk -------------------------------------------------------------------------------

    def adopt(self, weights: Mapping[int, int]) -> None:
        """Take responsibility for what an earlier process left on disk: row -> weight."""
        self.ledger.accept(sum(weights.values()))
        self.waiting.spillway.adopt(weights)

    def written(self, spill: Spill, rows: Sequence[int], reason: str) -> None:
        """Report that the first of `spill.items` became *rows*; *reason* cost the others."""
        self._losses.give_up(self.waiting.spillway.written(spill.items, rows), reason)

    def loaded(self, load: Load, stored: Mapping[int, Stored], now: float) -> None:
        """Report what was read of `load.rows`; what is missing was damaged."""
        for weight in self.waiting.spillway.read(load.rows, stored, now):
            self._losses.damaged(weight)
        self._losses.spent.extend(row for row in load.rows if row not in stored)

    def unsaved(self) -> list[Item]:
        """Return, in order, the events that only memory holds."""
        in_flight = self._in_flight.items if self._in_flight is not None else []
        items = (*in_flight, *self._isolation, *self.waiting)
        return [item for item in items if not item.row and item.rank != NOTICE]

    def take_spent(self) -> list[int]:
        """Return the rows that may be deleted since the last call."""
        spent, self._losses.spent[:] = list(self._losses.spent), []
        return spent

    # -- life cycle -------------------------------------------------------------------------

    @property
    def has_full_batch(self) -> bool:
        """Whether there is nothing to gain from waiting for company."""
        return self.waiting.buffer.count >= self.settings.batch_size or bool(self.waiting.spillway)

    @property
    def mark(self) -> int:
        """The position of the newest event, for `settled`."""
        return self.ledger.accepted

    def hurry(self) -> None:
        """Let nothing that waits now wait for company."""
        self._hurried = self.mark

    def settled(self, mark: int) -> bool:
        """Whether every event up to *mark* has its outcome and every loss was announced."""
        oldest = self.waiting.buffer.oldest
        waiting = [*self.waiting.notices, *self._isolation, *([oldest] if oldest else ())]
        in_flight = self._in_flight.items if self._in_flight is not None else []
        told = not self._losses or self._losses.since > mark
        done = all(item.order > mark for item in (*waiting, *in_flight))
        return told and done and not self.waiting.spillway

    def close(self, now: float) -> None:
        """Refuse events from now on and deliver what is left; an open circuit gets one try."""
        if not self._closing:
            self._closing = True
            self._not_before = now
            self.breaker.hasten(now)

    def expire_all(self, reason: str) -> None:
        """Give up everything, in flight or not; what is on disk as well is "spooled"."""
        in_flight = self._in_flight.items if self._in_flight is not None else []
        self._in_flight = None
        self.ledger.put_back(_weight(in_flight))
        waiting, unread = self.waiting.clear()
        items = [*in_flight, *self._isolation, *waiting]
        self._isolation.discard(items)
        on_disk = unread + _weight(item for item in items if item.row)
        if on_disk:
            self.ledger.drop_waiting("spooled", on_disk)
        self._losses.give_up([item for item in items if not item.row], reason)
        self._losses.forget()

    # -- what can be seen -------------------------------------------------------------------

    def take_changes(self) -> list[Change]:
        """Return the circuit changes since the last call."""
        changes, self._changes[:] = list(self._changes), []
        return changes

    def stats(self) -> SinkStats:
        """Return the accounting."""
        return SinkStats(
            accepted=self.ledger.accepted,
            delivered=self.ledger.delivered,
            dropped=dict(self.ledger.dropped),
            queued=self.ledger.queued,
            queued_bytes=self.waiting.bytes + sum(item.size for item in self._isolation),
            in_flight=self.ledger.in_flight,
            failures=self.breaker.failures,
            circuit=self.breaker.state.value,
            retried_unknown=self.ledger.retried_unknown,
            last_error=self._last_error,
        )

    def recount(self) -> None:
        """Make the ledger agree with what is held, after an interrupted `offer`."""
        self.waiting.buffer.recount()
        in_flight = self._in_flight.items if self._in_flight is not None else []
        self.ledger.settle(self.waiting.weight + _weight(self._isolation), _weight(in_flight))


def _weight(items: Iterable[Item]) -> int:
    return sum([item.weight for item in items])
