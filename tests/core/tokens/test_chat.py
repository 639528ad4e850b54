"""ChatParser yields what `ChatAdapter.parse` yields, however the stream is cut."""

from __future__ import annotations

import dspy
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from streamll._tokens import ChatParser, OutputFields, Piece
from support.streams import (
    FIELDS,
    accepted,
    assert_every_cut,
    held_back,
    join,
    long_values,
    parse,
    random_cuts,
    values,
)

ADAPTER = dspy.ChatAdapter()
HEADER = regex.compile(r"\[\[ ## \w+ ## \]\]")


def render(reasoning: str, answer: str) -> str:
    """The answer of a model that keeps to the format."""
    return (
        f"[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## answer ## ]]\n{answer}\n\n"
        "[[ ## completed ## ]]"
    )


@given(values, values)
@settings(max_examples=30, deadline=None)
def test_every_cut_of_a_well_formed_stream_equals_the_parsed_fields(reasoning, answer):
    """Joined pieces equal dspy's fields for every pair of cuts, markers in values included."""
    text = render(reasoning[:12], answer[:30])
    assert_every_cut(ChatParser, text, accepted(ADAPTER, text))


@given(st.data(), long_values, long_values)
@settings(max_examples=100, deadline=None)
def test_random_cuts_of_a_long_stream_equal_the_parsed_fields(data, reasoning, answer):
    """Joined pieces equal dspy's fields for long values and chunks of any size."""
    text = render(reasoning, answer)
    chunks = data.draw(random_cuts(text))
    assert join(ChatParser(FIELDS), chunks) == accepted(ADAPTER, text)


@given(st.data(), values, values, values)
@settings(max_examples=300, deadline=None)
def test_any_text_that_dspy_accepts_gives_the_same_fields(data, before, between, after):
    """Prose, indents, same-line values and repeated headers make no difference to dspy's parse."""
    text = f"{before}\n[[ ## reasoning ## ]]{between}\n[[ ## answer ## ]]{after}"
    chunks = data.draw(random_cuts(text))
    assert join(ChatParser(FIELDS), chunks) == accepted(ADAPTER, text)


@given(values)
@settings(max_examples=200, deadline=None)
def test_nothing_is_held_longer_than_a_possible_header(answer):
    """What a next letter sets free is whitespace and at most the beginning of a header."""
    for start, held in held_back(ChatParser, render("r", answer)):
        assert not held.strip() or HEADER.fullmatch(held.lstrip(), partial=True), (start, held)


@pytest.mark.parametrize(
    "text",
    [
        "[[ ## reasoning ## ]] same line  \n next\n[[ ## answer ## ]]42",
        "[[ ## reasoning ## ]]\nr\n   [[ ## answer ## ]]\nindented by three",
        "[[ ## reasoning ## ]]\nr\n" + " " * 40 + "[[ ## answer ## ]]\nindented by forty",
        "[[ ## reasoning ## ]]\nfirst\n[[ ## answer ## ]]\na\n[[ ## reasoning ## ]]\nsecond",
        "[[ ## reasoning ## ]]\nr\n[[ ## question ## ]]\nq\n[[ ## answer ## ]]\na",
        "[[ ## reasoning ## ]]\nr\n[[ ## nonsense ## ]]\nn\n[[ ## answer ## ]]\na\n[[ ## x ## ]]z",
        "[[ ## reasoning ## ]] [[ ## answer ## ]] in line\n[[ ## answer ## ]]\na [[ ## b ## ]]",
        "Sure!\n[[ ## reasoning ## ]]\n\n[[ ## answer ## ]]\n\n[[ ## completed ## ]]\nBye.",
        "[[ ## reasoning ## ]]\r\na\r\n\r\nb\rc\n[[ ## answer ## ]]\r\na\u2028b\x0bc\x85d\r",
        "[[ ## reasoning ## ]]\n[[ ## \nx\n[[ ##  y ## ]]\n[[ ## answer ## ]]\nz\n\n[[ ## compl",
        "[[ ## answer ## ]]\na\n[[ ## reasoning ## ]]\nout of order",
    ],
)
def test_the_corners_of_the_format_follow_dspy(text):
    """Each known oddity of `ChatAdapter.parse` is mirrored for every pair of cuts."""
    expected = parse(ADAPTER, text)
    assert expected is not None
    assert_every_cut(ChatParser, text, expected)


def test_an_unwanted_field_leaves_nothing():
    """Only wanted fields come out; the others are read over."""
    fields = OutputFields(("reasoning", "answer"), {"answer"})
    assert join(ChatParser(fields), [render("hidden", "shown")]) == {"answer": "shown"}


def test_the_text_comes_with_the_chunk_that_brings_it():
    """Each chunk of plain text is passed on at once; the header that follows ends the field."""
    parser = ChatParser(FIELDS)
    assert parser.feed("[[ ## answer ## ]]\nHel") == [Piece("answer", "Hel")]
    assert parser.feed("lo ") == [Piece("answer", "lo")]
    assert parser.feed("you\n\n[[ ##") == [Piece("answer", " you")]
    assert parser.feed(" completed ## ]]") == [Piece("answer", "", is_last=True)]
    assert parser.finish() == []
