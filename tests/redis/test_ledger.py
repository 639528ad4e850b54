"""The numbers of events: whatever the network does, nothing is lost and nothing doubled."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamll_redis._ledger import Ledger


def runs(ids: list[str], numbers: list[int]) -> list[tuple[int, int, list[str]]]:
    """Cut one write the way the writer does: (first number, number before or 0, ids)."""
    cut: list[tuple[int, int, list[str]]] = []
    for name, number in zip(ids, numbers, strict=True):
        if cut and number == cut[-1][0] + len(cut[-1][2]):
            cut[-1][2].append(name)
        else:
            after = cut[-1][0] + len(cut[-1][2]) - 1 if cut else 0
            cut.append((number, after, [name]))
    return cut


class Server:
    """What the append script does, in Python."""

    def __init__(self) -> None:
        self.last = 0
        self.stream: list[str] = []

    def apply(self, request: list[tuple[int, int, list[str]]]) -> None:
        for first, after, ids in request:
            if self.last < after:
                continue
            for number, name in enumerate(ids, first):
                if number > self.last:
                    self.stream.append(name)
            self.last = max(self.last, first + len(ids) - 1)


class Delivery(RuleBasedStateMachine):
    """A channel (first in, first out), a network that loses, delays and repeats, a server."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.server = Ledger(), Server()
        self.names = map(str, itertools.count())
        self.waiting: list[str] = []
        self.acked: set[str] = set()
        self.on_the_way: list[list[tuple[int, int, list[str]]]] = []

    @rule(count=st.integers(1, 4))
    def emit(self, count: int) -> None:
        self.waiting += itertools.islice(self.names, count)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 6), fate=st.sampled_from(["answered", "no answer", "late", "gone"]))
    def write(self, count: int, fate: str) -> None:
        ids = self.waiting[:count]
        numbers = self.ledger.assign(ids)
        request = runs(ids, numbers)
        if fate in ("answered", "no answer"):
            self.server.apply(request)
        if fate == "late":
            self.on_the_way.append(request)
        if fate == "answered":
            self.ledger.confirm(numbers[-1])
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
        assert self.server.stream == sorted(self.server.stream, key=int)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.ledger._pending) <= 6 + len(self.waiting)


TestDelivery = Delivery.TestCase


def test_an_event_that_was_jumped_over_is_appended_when_it_comes_back():
    """Out of order retries may double an event, but never lose one (rule 3)."""
    ledger, server = Ledger(), Server()
    ledger.assign(["a"])  # lost on the way
    server.apply(runs(["b"], ledger.assign(["b"])))
    server.apply(runs(["a"], ledger.assign(["a"])))
    assert server.stream == ["b", "a"]


def test_a_shrunk_retry_keeps_the_numbers_of_the_rest():
    """Events left out of a smaller retry are still recognised afterwards."""
    ledger = Ledger()
    assert ledger.assign(["a", "b", "c"]) == [1, 2, 3]
    assert ledger.assign(["a"]) == [1]
    assert ledger.assign(["b", "c", "d"]) == [2, 3, 4]


def test_events_that_come_back_in_another_order_get_rising_numbers():
    """Within a write numbers rise, whatever order the events had before (rule 2)."""
    ledger = Ledger()
    assert ledger.assign(["a", "b"]) == [1, 2]
    assert ledger.assign(["b", "a"]) == [2, 3]
