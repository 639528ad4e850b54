"""The waiting room: bounded, ordered, ranked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.delivery.doubles import encode, make_event, token
from streamll._delivery.buffer import Buffer
from streamll._delivery.item import Item
from streamll.events import Event
from streamll.settings import MIB, Overflow

TYPES = ("token", "progress", "custom", "start", "end", "error", "cancel")


def item(event: Event, order: int | None = None, at: float = 0.0) -> Item:
    body = encode(event)
    return Item(event, body, at, len(body), order or event.sequence)


def fill(buffer: Buffer, *events: Event) -> list[int]:
    """Push *events*; return the sequences of what gave way."""
    return [gone.event.sequence for event in events for gone in buffer.push([item(event)])]


def sequences(items: list[Item]) -> list[int]:
    return [entry.event.sequence for entry in items]


def test_order_is_kept_across_ranks() -> None:
    """Ranks decide who gives way, never who goes out first."""
    buffer = Buffer(100, MIB, "drop_oldest")
    fill(buffer, *(make_event(n, TYPES[n % len(TYPES)]) for n in range(1, 51)))
    assert sequences(buffer.take(20)) == list(range(1, 21))
    assert sequences(buffer.take(100)) == list(range(21, 51))


def test_tokens_give_way_first_and_span_ends_last() -> None:
    """Tokens, then debug events, then others; start, end, error and cancel last."""
    buffer = Buffer(4, MIB, "drop_oldest")
    debug = make_event(3, "metric", severity="debug")
    fill(buffer, make_event(1, "start"), make_event(2, "metric"), debug, token(4, "x"))
    newcomers = [make_event(n, "end") for n in (5, 6, 7, 8)]
    assert fill(buffer, *newcomers) == [4, 3, 2, 1]


def test_drop_oldest_gives_up_the_oldest_of_a_rank() -> None:
    """Among equals the oldest goes."""
    buffer = Buffer(2, MIB, "drop_oldest")
    assert fill(buffer, *(make_event(n) for n in (1, 2, 3))) == [1]


@pytest.mark.parametrize("overflow", ["drop_newest", "block"])
def test_drop_newest_refuses_the_newcomer(overflow: Overflow) -> None:
    """Among equals the newest goes; a more important newcomer still displaces a token."""
    buffer = Buffer(2, MIB, overflow)
    assert fill(buffer, *(token(n, "x") for n in (1, 2, 3))) == [3]
    assert fill(buffer, make_event(4, "error")) == [2]


def test_a_token_does_not_displace_what_matters_more() -> None:
    """A token that finds a buffer of span ends gives way itself."""
    buffer = Buffer(2, MIB, "drop_oldest")
    assert fill(buffer, make_event(1, "start"), make_event(2, "end"), token(3, "x")) == [3]


def test_bytes_are_bounded_too() -> None:
    """One large event makes as many others give way as it needs."""
    small = len(encode(make_event(1)))
    buffer = Buffer(1000, small * 10, "drop_oldest")
    fill(buffer, *(make_event(n) for n in range(1, 10)))
    gone = fill(buffer, make_event(10, data={"x": "y" * small * 5}))
    assert gone == list(range(1, len(gone) + 1))
    assert len(gone) >= 4
    assert buffer.bytes <= small * 10


def test_what_comes_back_is_in_front_again() -> None:
    """Restored items go out before everything that came later, in their order."""
    buffer = Buffer(100, MIB, "drop_oldest")
    fill(buffer, *(make_event(n) for n in range(1, 11)))
    taken = buffer.take(5)
    assert not buffer.restore(taken)
    assert sequences(buffer.take(100)) == list(range(1, 11))


def test_only_what_is_old_expires() -> None:
    """`expire` removes by age, from every rank."""
    buffer = Buffer(100, MIB, "drop_oldest")
    for n in range(1, 11):
        buffer.push([item(make_event(n, TYPES[n % len(TYPES)]), at=float(n))])
    assert sorted(sequences(buffer.expire(4.0))) == [1, 2, 3, 4]
    assert sequences(buffer.take(100)) == list(range(5, 11))


@given(
    st.sampled_from(["drop_oldest", "drop_newest", "block", "coalesce"]),
    st.integers(1, 8),
    st.integers(300, 3000),
    st.lists(
        st.tuples(st.sampled_from(TYPES), st.integers(0, 400), st.integers(0, 3)), max_size=60
    ),
)
def test_bounds_and_counts_hold_after_every_call(
    overflow: Overflow, size: int, max_bytes: int, script: list[tuple[str, int, int]]
) -> None:
    """Whatever comes and goes: both bounds hold, and nothing is lost or counted twice."""
    buffer, taken, weight = Buffer(size, max_bytes, overflow), [], 0
    for number, (kind, length, action) in enumerate(script, 1):
        event = make_event(number, kind, data={"token": "x" * length, "field": "f"})
        if len(encode(event)) > max_bytes:
            continue
        gone = [*buffer.push([item(event)])]
        if action == 1:
            gone += buffer.take(2)
        elif action == 2:
            gone += buffer.restore(buffer.take(3))
        taken += gone
        weight += 1
        assert buffer.count <= size
        assert buffer.bytes <= max_bytes
        assert sum(entry.weight for entry in taken) + buffer.weight == weight
    rest = buffer.take(buffer.count)
    assert sequences(rest) == sorted(sequences(rest))
    assert (buffer.count, buffer.bytes, buffer.weight) == (0, 0, 0)


KINDS = st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 40)), max_size=30)


@given(st.lists(KINDS, max_size=8), st.sampled_from(["drop_oldest", "drop_newest", "coalesce"]))
def test_events_that_come_together_are_held_as_if_one_by_one(
    batches: list[list[tuple[str, int]]], overflow: Overflow
) -> None:
    """`extend`, with `push` where it says no, leaves what `push` alone would."""
    together, single = (Buffer(20, 8_000, overflow) for _ in range(2))
    number = 0
    for batch in batches:
        events = []
        for kind, size in batch:
            number += 1
            events.append(make_event(number, kind, data={"token": "x" * size, "field": "f"}))
        items = [item(event) for event in events]
        if not together.extend(items):
            fill(together, *events)
        fill(single, *events)
        assert (together.count, together.bytes) == (single.count, single.bytes)
        assert sequences(together.take(number % 7)) == sequences(single.take(number % 7))
    assert sequences(together.take(100)) == sequences(single.take(100))
    assert together.count == together.bytes == together.weight == 0
