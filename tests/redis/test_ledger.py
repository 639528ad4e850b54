"""The numbers of events: whatever the network does, nothing is lost and nothing doubled."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamll import Event
from streamll_redis._keys import Stream
from streamll_redis._ledger import Ledger
from streamll_redis._sink import NOTICE, _parts
from streamll_redis._writer import Part
from support.events import batch_of, make_event


def made(name: str) -> Event:
    """Return the event of a name."""
    return make_event(event_id=name, operation=NOTICE if "notice" in name else "llm_call")


class Server:
    """What the append script does, in Python."""

    def __init__(self) -> None:
        self.last: Counter[bytes] = Counter()
        self.stream: list[str] = []

    def apply(self, request: list[Part]) -> None:
        for part in request:
            last = self.last[part.stream.numbers_key]
            if last < part.after:
                continue
            for number, event in enumerate(part.events, part.first):
                if number > last:
                    self.stream.append(event.event_id)
            self.last[part.stream.numbers_key] = max(last, part.last)


class Delivery(RuleBasedStateMachine):
    """A channel (first in, first out), a network that loses, delays and repeats, a server.

    The channel puts notices of drops in front, and a retry of them may be smaller than the batch
    that failed: what is new may then stand before what is repeated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream, self.server = Stream.of("s", "p"), Server()
        self.names = map(str, itertools.count())
        self.waiting: list[str] = []
        self.acked: set[str] = set()
        self.on_the_way: list[list[Part]] = []

    @rule(count=st.integers(1, 4))
    def emit(self, count: int) -> None:
        self.waiting += itertools.islice(self.names, count)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 6), fate=st.sampled_from(["answered", "no answer", "late", "gone"]))
    def write(self, count: int, fate: str) -> None:
        ids = self.waiting[:count]
        batch = batch_of([made(name) for name in ids])
        request = list(_parts(self.stream, range(len(ids)), batch))
        assert sorted(at for part in request for at in part.positions) == list(range(len(ids)))
        if fate in ("answered", "no answer"):
            self.server.apply(request)
        if fate == "late":
            self.on_the_way.append(request)
        if fate == "answered":
            for part in request:
                part.stream.ledger.confirm(part.last)
            self.acked.update(ids)
            self.waiting = self.waiting[count:]

    @precondition(lambda self: self.on_the_way)
    @rule(pick=st.randoms(use_true_random=False))
    def arrive_late(self, pick) -> None:
        self.server.apply(self.on_the_way.pop(pick.randrange(len(self.on_the_way))))

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 3))
    def overflow(self, count: int) -> None:
        self.waiting = self.waiting[count:]

    @precondition(lambda self: not any("notice" in name for name in self.waiting))
    @rule()
    def announce(self) -> None:
        self.waiting.insert(0, f"notice {next(self.names)}")

    @rule()
    def forget(self) -> None:
        """The server restarts with what it had on disk, or its memory of us expires."""
        self.on_the_way.clear()

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        assert self.acked <= set(self.server.stream)

    @invariant()
    def nothing_is_doubled(self) -> None:
        assert len(self.server.stream) == len(set(self.server.stream))

    @invariant()
    def order_is_kept(self) -> None:
        events = [name for name in self.server.stream if "notice" not in name]
        assert events == sorted(events, key=int)

    @invariant()
    def memory_is_bounded(self) -> None:
        for stream in (self.stream, self.stream.aside):
            assert len(stream.ledger._pending) <= 6 + len(self.waiting)


TestDelivery = Delivery.TestCase


def test_an_event_that_was_jumped_over_is_appended_when_it_comes_back():
    """Out of order retries may double an event, but never lose one (rule 3)."""
    stream, server = Stream.of("s", "p"), Server()
    for names, is_lost in (("a", True), ("bc", False), ("a", False)):
        batch = batch_of([make_event(event_id=name) for name in names])
        request = list(_parts(stream, range(len(batch)), batch))
        server.apply([] if is_lost else request)
    assert server.stream == ["b", "c", "a"]


def test_a_shrunk_retry_keeps_the_numbers_of_the_rest():
    """Events left out of a smaller retry are still recognised afterwards."""
    ledger = Ledger()
    assert list(ledger.assign(list(map(made, ["a", "b", "c"])))) == [1, 2, 3]
    assert list(ledger.assign(list(map(made, ["a"])))) == [1]
    assert list(ledger.assign(list(map(made, ["b", "c", "d"])))) == [2, 3, 4]


def test_what_is_new_does_not_renumber_what_is_repeated():
    """A notice in front of a repeated batch, or another order, changes no number."""
    ledger = Ledger()
    assert list(ledger.assign(list(map(made, ["a", "b"])))) == [1, 2]
    assert list(ledger.assign(list(map(made, ["notice", "b", "a"])))) == [3, 2, 1]
