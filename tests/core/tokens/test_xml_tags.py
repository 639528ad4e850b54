"""XmlTagParser yields what `XMLAdapter.parse` before dspy 3.3 yields, however cut."""

from __future__ import annotations

import re

import dspy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamll._tokens import OutputFields, Piece, XmlTagParser
from support.streams import (
    FIELDS,
    HAS_XML_TAGS,
    NAMES,
    assert_every_cut,
    held_back,
    join,
    long_values,
    parse,
    random_cuts,
    values,
)

#: The rule of dspy 3.0 to 3.2, word for word.
FIELD_PATTERN = re.compile(r"<(?P<name>\w+)>((?P<content>.*?))</\1>", re.DOTALL)


def oracle(text: str) -> dict[str, str] | None:
    """The fields by that rule, checked against the installed dspy where it is an old one."""
    fields: dict[str, str] = {}
    for match in FIELD_PATTERN.finditer(text):
        if match["name"] in NAMES:
            fields.setdefault(match["name"], match["content"].strip())
    expected = fields if len(fields) == len(NAMES) else None
    if HAS_XML_TAGS:
        assert parse(dspy.XMLAdapter(), text) == expected
    return expected


def accepted(text: str) -> dict[str, str]:
    """The fields; leaves the hypothesis example where dspy would reject the text."""
    expected = oracle(text)
    assume(expected is not None)
    assert expected is not None
    return expected


def render(reasoning: str, answer: str) -> str:
    """The answer of a model that keeps to the format."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n\n<answer>\n{answer}\n</answer>"


@given(values, values)
@settings(max_examples=30, deadline=None)
def test_every_cut_of_a_well_formed_stream_equals_the_parsed_fields(reasoning, answer):
    """Joined pieces equal dspy's fields for every pair of cuts, tags in values included."""
    text = render(reasoning[:12], answer[:30])
    assert_every_cut(XmlTagParser, text, accepted(text))


@given(st.data(), long_values, long_values)
@settings(max_examples=100, deadline=None)
def test_random_cuts_of_a_long_stream_equal_the_parsed_fields(data, reasoning, answer):
    """Joined pieces equal dspy's fields for long values and chunks of any size."""
    text = render(reasoning, answer)
    chunks = data.draw(random_cuts(text))
    assert join(XmlTagParser(FIELDS), chunks) == accepted(text)


@given(st.data(), values, values, values)
@settings(max_examples=300, deadline=None)
def test_any_text_that_dspy_accepts_gives_the_same_fields(data, before, between, after):
    """Prose, unknown and unclosed elements and repeated fields make no difference."""
    text = f"{before}<reasoning>{between}</reasoning>{before}<answer>{after}</answer>{between}"
    chunks = data.draw(random_cuts(text))
    assert join(XmlTagParser(FIELDS), chunks) == accepted(text)


@given(values)
@settings(max_examples=200, deadline=None)
def test_nothing_is_held_longer_than_a_possible_end(answer):
    """What a next letter sets free is whitespace and at most the beginning of the end tag."""
    for start, held in held_back(XmlTagParser, f"<answer>{answer}</answer>"):
        assert "</answer>".startswith(held.lstrip()), (start, held)


@pytest.mark.parametrize(
    "text",
    [
        "Sure! <reasoning>r</reasoning> then <answer> a </answer> bye",
        "<think>plan <answer>draft</answer></think><reasoning>r</reasoning><answer>a</answer>",
        "a <b> never closed <reasoning>r</reasoning><i><answer>a <br> b</answer> </b",
        "<reasoning>r</reasoning><answer>first</answer><answer>second</answer>",
        "<reasoning>r</reasoning><answer>a <answer> b &lt; </answer> c</answer>",
        "<reasoning>r</reasoning><answer></answer>",
        "<reasoning id='1'>no</reasoning><reasoning>r</reasoning>< <<answer>a</answe</answer>",
    ],
)
def test_the_corners_of_the_format_follow_dspy(text):
    """Each known rule of the old `XMLAdapter.parse` is mirrored for every pair of cuts."""
    expected = oracle(text)
    assert expected is not None
    assert_every_cut(XmlTagParser, text, expected)


def test_an_unwanted_field_leaves_nothing():
    """Only wanted fields come out; the others are read over."""
    fields = OutputFields(NAMES, {"answer"})
    assert join(XmlTagParser(fields), [render("<b>hidden</b>", "shown")]) == {"answer": "shown"}


def test_the_text_comes_with_the_chunk_that_brings_it():
    """Each chunk of plain text is passed on at once; the end tag ends the field."""
    parser = XmlTagParser(FIELDS)
    assert parser.feed("<answer>\nHel") == [Piece("answer", "Hel")]
    assert parser.feed("lo <") == [Piece("answer", "lo")]
    assert parser.feed("you\n</ans") == [Piece("answer", " <you")]
    assert parser.feed("wer>") == [Piece("answer", "", is_last=True)]
    assert parser.finish() == []
