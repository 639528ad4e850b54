"""XmlParser yields what `XMLAdapter.parse` of dspy 3.3 and later yields, however cut."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

import dspy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamll._tokens import OutputFields, Piece, XmlParser
from support.streams import (
    FIELDS,
    HAS_XML_TAGS,
    accepted,
    assert_every_cut,
    emitted,
    join,
    long_values,
    parse,
    random_cuts,
    values,
)

pytestmark = pytest.mark.skipif(HAS_XML_TAGS, reason="this dspy finds XML by regular expression")
ADAPTER = dspy.XMLAdapter()
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

#: Text that XML can carry, escaped as `XMLAdapter.format` asks the model to.
texts = values.map(lambda value: escape(FORBIDDEN.sub("", value)))
long_texts = long_values.map(lambda value: escape(FORBIDDEN.sub("", value)))
#: What may stand in a field besides text. Comments vanish, the rest is written again.
markup = st.sampled_from(
    [
        "<b>x</b>",
        "<b a='1\"&lt;'>\n</b>",
        "<br/>",
        "<i></i>",
        "<![CDATA[a<b&]]>",
        "<!-- c -->",
        "&#233;",
    ]
)


def render(reasoning: str, answer: str) -> str:
    """The answer of a model that keeps to the format."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n\n<answer>\n{answer}\n</answer>"


@given(texts, texts)
@settings(max_examples=30, deadline=None)
def test_every_cut_of_a_well_formed_stream_equals_the_parsed_fields(reasoning, answer):
    """Joined pieces equal dspy's fields for every pair of cuts, entities cut in two included."""
    text = render(reasoning, answer)
    assume(len(text) < 120)
    assert_every_cut(XmlParser, text, accepted(ADAPTER, text))


@given(st.data(), long_texts, long_texts)
@settings(max_examples=100, deadline=None)
def test_random_cuts_of_a_long_stream_equal_the_parsed_fields(data, reasoning, answer):
    """Joined pieces equal dspy's fields for long values and chunks of any size."""
    text = render(reasoning, answer)
    chunks = data.draw(random_cuts(text))
    assert join(XmlParser(FIELDS), chunks) == accepted(ADAPTER, text)


@given(st.data(), st.lists(texts | markup, max_size=6))
@settings(max_examples=200, deadline=None)
def test_elements_inside_a_field_are_written_as_dspy_writes_them(data, parts):
    """Children, attributes, CDATA and comments come out as `XMLAdapter.parse` puts them."""
    text = f"<reasoning>r</reasoning><answer>x{''.join(parts)}</answer>"
    chunks = data.draw(random_cuts(text))
    assert join(XmlParser(FIELDS), chunks) == accepted(ADAPTER, text)


@given(st.text(st.sampled_from("ab .,]é😀\n \t"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_nothing_is_held_longer_than_a_possible_end(answer):
    """Of plain text only trailing whitespace and a possible ``]]>`` wait."""
    parser, got = XmlParser(FIELDS), ""
    parser.feed("<answer>")
    for end, char in enumerate(answer, 1):
        start = answer[:end]
        got += emitted(parser, char)
        assert start.strip().startswith(got)
        assert re.fullmatch(r"\s*\]{0,2}\s*", start.lstrip()[len(got) :]), (start, got)


@pytest.mark.parametrize(
    "text",
    [
        "Sure! <reasoning>r</reasoning> then <answer> a </answer> bye",
        "<think>plan <answer>draft</answer></think><reasoning>r</reasoning><answer>a</answer>",
        "<reasoning>r</reasoning><answer>\n<b>first</b> tail \n</answer>",
        "<reasoning>r</reasoning><answer>a &lt; b &amp;&amp; c&#x1F600;</answer>",
        "<reasoning>a\r\nb\rc</reasoning><answer/>",
        "<reasoning>r</reasoning><entry key='answer'>by key</entry>",
        "<reasoning id='1'>r</reasoning><answer><a><b/></a> &gt; </answer>",
    ],
)
def test_the_corners_of_the_format_follow_dspy(text):
    """Each known rule of `XMLAdapter.parse` is mirrored for every pair of cuts."""
    expected = parse(ADAPTER, text)
    assert expected is not None
    assert_every_cut(XmlParser, text, expected)


@pytest.mark.parametrize("broken", ["< b", "&T", "&nbsp;", "</wrong>", "\0", "\ud800"])
def test_ill_formed_text_ends_the_stream_quietly(broken):
    """Where dspy will reject the answer, the text before the fault is all that comes."""
    text = f"<reasoning>r</reasoning><answer>good {broken} lost</answer>"
    assert parse(ADAPTER, text) is None
    assert join(XmlParser(FIELDS), text) == {"reasoning": "r", "answer": "good"}


def test_leading_whitespace_before_a_late_element_is_not_streamed():
    """dspy keeps it only because of the element, which comes after the first text has left."""
    text = "<reasoning>r</reasoning><answer>\n a <b>b</b> </answer>"
    expected = parse(ADAPTER, text)
    assert expected is not None
    assert expected["answer"] == "\n a <b>b</b> "
    assert join(XmlParser(FIELDS), text)["answer"] == "a <b>b</b> "


def test_an_unwanted_field_leaves_nothing():
    """Only wanted fields come out; the others are read over."""
    fields = OutputFields(("reasoning", "answer"), {"answer"})
    assert join(XmlParser(fields), [render("<b>hidden</b>", "shown")]) == {"answer": "shown"}


def test_the_text_comes_with_the_chunk_that_brings_it():
    """Each chunk of plain text is passed on at once; the end tag ends the field."""
    parser = XmlParser(FIELDS)
    assert parser.feed("<answer>\nHel") == [Piece("answer", "Hel")]
    assert parser.feed("lo &l") == [Piece("answer", "lo")]
    assert parser.feed("t; you\n</ans") == [Piece("answer", " < you")]
    assert parser.feed("wer>") == [Piece("answer", "", is_last=True)]
    assert parser.finish() == []
