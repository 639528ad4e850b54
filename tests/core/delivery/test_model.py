"""The channel against everything that can happen, in any order, on a fake clock.

After every step: the identity holds, the bounds hold, and each event that was handed over is
known to be in exactly one place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.delivery.doubles import announce, encode, is_notice, make_event
from streamll._delivery.actions import Done, Load, Spill, Wait, Write
from streamll._delivery.breaker import PROBE_LIMIT, State
from streamll._delivery.channel import Channel
from streamll._delivery.item import Item
from streamll._delivery.outcome import failure_of
from streamll._delivery.spillway import Stored
from streamll.errors import Outcome, OutcomeUnknown, PermanentError, TransientError
from streamll.settings import DeliverySettings
from streamll.sink import Verdict

TYPES = ["token", "progress", "start", "end", "error"]
ERRORS = [TransientError, PermanentError, OutcomeUnknown, ValueError, SystemExit]
VERDICTS = [
    Verdict(Outcome.DELIVERED),
    Verdict(Outcome.REJECTED_TRANSIENT),
    Verdict(Outcome.REJECTED_TRANSIENT, "unsent"),
    Verdict(Outcome.REJECTED_PERMANENT, "unroutable"),
    Verdict(Outcome.UNKNOWN),
]
OPTIONS = st.fixed_dictionaries(
    {
        "buffer_size": st.integers(1, 12),
        "buffer_bytes": st.integers(600, 6000),
        "overflow": st.sampled_from(["drop_oldest", "drop_newest", "block", "coalesce"]),
        "when_open": st.sampled_from(["buffer", "drop"]),
        "batch_size": st.integers(1, 8),
        "batch_age": st.sampled_from([0.0, 0.5]),
        "deadline": st.sampled_from([None, 20.0]),
        "failure_threshold": st.integers(1, 3),
        "max_attempts": st.integers(1, 3),
        "circuit_breaker": st.booleans(),
        "spool": st.sampled_from([None, "spool.db"]),
    }
)


class ChannelModel(RuleBasedStateMachine):
    """One channel, its scripted sink, its disk, and the children it was forked into."""

    @initialize(options=OPTIONS)
    def configure(self, options: dict[str, Any]) -> None:
        self.now = 100.0
        self.number = 0
        self.options = options
        self.disk: dict[int, Stored] = {}
        self.rows = 0
        self.begin()

    def begin(self) -> None:
        """Start a process, with what is on disk."""
        self.channel = Channel(DeliverySettings(**self.options), "Sink", announce, lambda: 0.5)
        self.write: Write | None = None
        self.spill: Spill | None = None
        self.offered = len(self.disk)
        self.delivered = Counter[str]()
        self.closed = False
        self.channel.disk.adopt(dict.fromkeys(self.disk, 1))
        self.parent: Channel | None = None

    @rule(kind=st.sampled_from(TYPES), size=st.integers(0, 1500), times=st.integers(1, 5))
    def emit(self, kind: str, size: int, times: int) -> None:
        items = []
        for _ in range(times):
            self.number += 1
            data = {"token": "x" * size, "field": "answer"}
            event = make_event(self.number, kind, data=data, severity="info")
            body = encode(event)
            items.append(Item(event, body, self.now, len(body)))
        self.channel.admit(items)
        self.offered += times

    @rule()
    def refuse(self) -> None:
        self.channel.refuse(make_event(self.number), "reentrant")
        self.offered += 1

    @precondition(lambda self: self.write is None and self.spill is None)
    @rule(damaged=st.booleans())
    def ask(self, *, damaged: bool) -> None:
        self.advance(damaged=damaged)

    def advance(self, *, damaged: bool = False) -> Any:
        """Do what the channel wants next, and return what that was."""
        action = self.channel.next(self.now)
        if isinstance(action, Write):
            self.begin_write(action)
        elif isinstance(action, Spill):
            self.spill = action
        elif isinstance(action, Load):
            found = {row: self.disk[row] for row in action.rows}
            if damaged:
                del found[action.rows[0]]
            self.channel.disk.loaded(action, found, self.now)
        elif isinstance(action, Wait):
            assert action.seconds is None or action.seconds > 0
        else:
            assert self.closed
            assert not self.channel.ledger.outstanding
        self.delete_spent()
        return action

    def begin_write(self, write: Write) -> None:
        circuit = self.channel.breaker.state
        assert circuit is not State.OPEN
        assert 1 <= len(write.batch) <= self.options["batch_size"]
        assert len(write.batch) == 1 or circuit is State.CLOSED
        self.write = write

    @precondition(lambda self: self.spill is not None)
    @rule(room=st.integers(0, 12))
    def end_spill(self, room: int = 12) -> None:
        """The disk has room for some of what it was given; time went by, or the end came."""
        spill, self.spill = self.spill, None
        assert spill is not None
        rows = [self.store(item) for item in spill.items[:room]]
        self.channel.disk.written(spill, rows, "spool_full")

    @precondition(lambda self: self.write is not None)
    @rule()
    def ask_again(self) -> None:
        """There is never a second write while one is open."""
        assert not isinstance(self.channel.next(self.now), (Write, Done))

    def delete_spent(self) -> None:
        for row in self.channel.disk.take_spent():
            del self.disk[row]

    def store(self, item: Any) -> int:
        self.rows += 1
        self.disk[self.rows] = Stored(self.rows, item.event, item.body, item.at)
        return self.rows

    @precondition(lambda self: self.write is not None)
    @rule()
    def succeed(self) -> None:
        write, self.write = self.write, None
        assert write is not None
        self.channel.succeeded(write, None, self.now)
        self.delivered.update(event.event_id for event in write.batch if not is_notice(event))

    @precondition(lambda self: self.write is not None)
    @rule(error=st.sampled_from(ERRORS), sent=st.booleans())
    def fail(self, error: type[BaseException], *, sent: bool) -> None:
        write, self.write = self.write, None
        assert write is not None
        self.channel.failed(write, failure_of(error(), sent=sent), self.now)

    @precondition(lambda self: self.write is not None)
    @rule(verdicts=st.lists(st.sampled_from(VERDICTS), min_size=8, max_size=8))
    def fail_partly(self, verdicts: list[Verdict]) -> None:
        write, self.write = self.write, None
        assert write is not None
        report = dict(enumerate(verdicts[: len(write.batch)]))
        self.channel.succeeded(write, report, self.now)
        self.delivered.update(
            event.event_id
            for event, verdict in zip(write.batch, verdicts, strict=False)
            if verdict.outcome is Outcome.DELIVERED and not is_notice(event)
        )

    @precondition(lambda self: self.write is not None)
    @rule()
    def hang(self) -> None:
        """The sink does not come back for longer than a probe may take."""
        self.now += PROBE_LIMIT + 1
        self.channel.tick(self.now)
        assert self.channel.breaker.state is not State.HALF_OPEN

    @rule(seconds=st.sampled_from([0.01, 0.5, 5.0, 40.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.channel.tick(self.now)

    @rule()
    def hurry(self) -> None:
        self.channel.hurry()

    @rule()
    def fork(self) -> None:
        """The child starts from nothing; what waits stays the parent's."""
        parent, before = self.channel, self.channel.stats()
        child = Channel(parent.settings, "Sink", announce, lambda: 0.5)
        child.offer(make_event(1), encode(make_event(1)), self.now)
        assert child.ledger.accepted == 1
        assert child.ledger.balances
        assert parent.stats() == before

    @rule()
    def close(self) -> None:
        self.channel.close(self.now)
        self.closed = True

    @precondition(lambda self: self.closed)
    @rule()
    def reach_the_deadline(self) -> None:
        self.channel.expire_all("shutdown_timeout")
        assert not self.channel.ledger.outstanding
        late, self.write = self.write, None
        if late is not None:
            self.channel.succeeded(late, None, self.now)
        if self.spill is not None:
            self.end_spill()

    @precondition(lambda self: self.closed)
    @rule(options=OPTIONS)
    def reconfigure(self, options: dict[str, Any]) -> None:
        self.reach_the_deadline()
        self.everything_holds()
        self.delete_spent()
        if options["spool"] is None:
            self.disk.clear()
        self.options = options
        self.begin()

    @invariant()
    def everything_holds(self) -> None:
        if not hasattr(self, "channel"):
            return
        self.check_the_identity()
        self.check_the_bounds()

    def check_the_identity(self) -> None:
        ledger, channel = self.channel.ledger, self.channel
        assert ledger.balances
        held = channel.waiting.weight + sum(item.weight for item in channel._isolation)
        assert ledger.queued == held
        in_flight = (
            channel._holdings.in_flight.items if channel._holdings.in_flight is not None else []
        )
        assert ledger.in_flight == sum(item.weight for item in in_flight)
        assert ledger.accepted >= self.offered
        assert (
            min(ledger.queued, ledger.in_flight, ledger.delivered, *ledger.dropped.values(), 0) == 0
        )

    def check_the_bounds(self) -> None:
        buffer = self.channel.waiting.buffer
        assert buffer.count <= self.options["buffer_size"]
        assert buffer.bytes <= self.options["buffer_bytes"]
        assert len(self.channel.waiting.notices) <= 33 * 8
        assert len(self.channel._isolation) <= 8
        assert max(self.delivered.values(), default=0) <= 1, "delivered twice without a retry"

    def teardown(self) -> None:
        """Whatever happened: a sink that works gets the rest, and the channel ends."""
        if not hasattr(self, "channel"):
            return
        if self.write is not None:
            self.succeed()
        if self.spill is not None:
            self.end_spill()
        self.close()
        for _ in range(2000):
            self.now += 100.0
            if isinstance(self.advance(), Done):
                return
            if self.spill is not None:
                self.end_spill()
            if self.write is not None:
                self.succeed()
            self.everything_holds()
        raise AssertionError("it never came to rest")


TestModel = ChannelModel.TestCase
#: 250 runs of 60 steps are 15,000 steps, each checked.
TestModel.settings = settings(max_examples=250, stateful_step_count=60, deadline=None)
