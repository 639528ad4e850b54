"""Merging tokens so that a full buffer keeps all of the text."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.delivery.doubles import encode, make_event, token
from core.delivery.test_buffer import fill, item, sequences
from streamll._delivery.buffer import Buffer
from streamll.events import Event
from streamll.settings import MIB


def texts(buffer: Buffer) -> list[str]:
    return [entry.event.data["token"] for entry in buffer.take(buffer.count)]


def test_tokens_of_one_field_merge_only_under_pressure() -> None:
    """While there is room every token stays as it came."""
    buffer = Buffer(10, MIB, "coalesce")
    fill(buffer, *(token(n, "x") for n in range(1, 9)))
    assert texts(buffer) == ["x"] * 8


def test_a_merged_token_says_what_it_stands_for() -> None:
    """It keeps the first identity and number, counts its parts, and its body agrees."""
    buffer = Buffer(1, MIB, "coalesce")
    assert fill(buffer, *(token(n, f"{n} ") for n in range(1, 6))) == []
    (first, *rest) = buffer.take(10)
    assert rest == []
    assert first.weight == 5
    assert first.event.event_id == "id-1"
    assert first.event.sequence == 1
    assert first.event.data["token"] == "1 2 3 4 5 "
    assert first.event.data["coalesced"] == 5
    assert first.event.data["last_sequence"] == 5
    assert msgspec.json.decode(first.body, type=Event) == first.event


def test_other_spans_and_fields_stay_apart() -> None:
    """Only adjacent tokens of one field of one span are parts of one text."""
    buffer = Buffer(4, MIB, "coalesce")
    a, b = {"span_id": "a"}, {"span_id": "b"}
    events = [token(1, "a1", **a), token(2, "b1", **b), token(3, "a2", **a), token(4, "b2", **b)]
    other_field = token(5, "z", data={"field": "reasoning"}, **a)
    assert fill(buffer, *events, other_field) == []
    assert sorted(texts(buffer)) == ["a1a2", "b1b2", "z"]


def test_an_event_of_the_span_between_two_tokens_keeps_them_apart() -> None:
    """A reset between tokens must not end up behind the text it discards."""
    buffer = Buffer(3, MIB, "coalesce")
    events = [token(1, "a"), token(2, "b"), make_event(3, "reset"), token(4, "c"), token(5, "d")]
    assert fill(buffer, *events) == []
    assert [entry.event.data.get("token") for entry in buffer.take(9)] == ["ab", None, "cd"]


def test_what_may_have_arrived_is_not_changed() -> None:
    """A token that was tried already keeps its text: a reader would drop the longer repeat."""
    buffer = Buffer(2, MIB, "coalesce")
    fill(buffer, token(1, "a"))
    (tried,) = buffer.take(1)
    tried.attempt = 1
    buffer.restore([tried])
    fill(buffer, token(2, "b"), token(3, "c"))
    assert texts(buffer) == ["a", "bc"]


def test_when_nothing_can_merge_the_oldest_token_goes() -> None:
    """The buffer stays bounded when every token is of another span."""
    buffer = Buffer(2, MIB, "coalesce")
    assert fill(buffer, *(token(n, "x", span_id=f"{n}") for n in (1, 2, 3))) == [1]


@given(st.lists(st.text(max_size=20), max_size=80), st.integers(2, 9))
def test_no_text_is_ever_lost(parts: list[str], size: int) -> None:
    """However many tokens of one field meet a small buffer, their text arrives whole."""
    buffer = Buffer(size, MIB, "coalesce")
    assert fill(buffer, *(token(n, text) for n, text in enumerate(parts, 1))) == []
    assert buffer.weight == len(parts)
    assert "".join(texts(buffer)) == "".join(parts)


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=5)), max_size=80))
def test_interleaved_spans_keep_their_text(parts: list[tuple[int, str]]) -> None:
    """Each of a few interleaved spans keeps its own text in order."""
    buffer = Buffer(5, MIB, "coalesce")
    events = [token(n, text, span_id=str(span)) for n, (span, text) in enumerate(parts, 1)]
    assert fill(buffer, *events) == []
    joined = {str(span): "" for span in range(4)}
    for entry in buffer.take(buffer.count):
        joined[entry.event.span_id] += entry.event.data["token"]
    expected = {str(s): "".join(text for span, text in parts if span == s) for s in range(4)}
    assert joined == expected


def test_merged_tokens_survive_a_failed_write() -> None:
    """A merged token that comes back keeps its text and its weight."""
    buffer = Buffer(1, MIB, "coalesce")
    fill(buffer, *(token(n, str(n)) for n in range(1, 5)))
    buffer.restore(buffer.take(5))
    assert buffer.weight == 4
    assert sequences(buffer.take(5)) == [1]


def test_sizes_are_close_to_what_is_sent() -> None:
    """The bytes counted for a merged token are within its marks of the real ones."""
    buffer = Buffer(1, MIB, "coalesce")
    fill(buffer, *(token(n, '"\n\x01é' * 9) for n in range(1, 50)))
    counted = buffer.bytes
    (merged,) = buffer.take(5)
    assert len(merged.body) <= counted <= len(merged.body) + 64
    assert item(merged.event).size == len(encode(merged.event))
