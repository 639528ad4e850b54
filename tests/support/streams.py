"""Ways to cut a stream, what every parser owes, and dspy's own parse as the oracle."""

from __future__ import annotations

import copy
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import dspy
from dspy.utils.exceptions import AdapterParseError
from hypothesis import assume
from hypothesis import strategies as st

from streamll._tokens import OutputFields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamll._tokens import Parser, ParserFactory

NAMES = ("reasoning", "answer")
FIELDS = OutputFields(NAMES, NAMES)
SIGNATURE = dspy.Signature("question -> reasoning: str, answer: str")
IS_DSPY_3_0 = dspy.__version__.startswith("3.0.")
HAS_XML_TAGS = hasattr(dspy.XMLAdapter(), "field_pattern")

#: What has meaning to some adapter, to markdown, to JSON, to XML, or to `str.strip`.
FRAGMENTS = [
    *("[[ ## answer ## ]]", "[[ ## reasoning ## ]]", "[[ ## completed ## ]]", "[[ ## q ##"),
    *("[[ ## ", "[[", "[", "]]", " ## ]]", "\n[[ ## x y ## ]]", "\n  [[ ## answer ## ]]", "##"),
    *("<answer>", "</answer>", "</answe", "<reasoning>", "</reasoning>", "<think>", "</think>"),
    *("<b>bold</b>", "<br/>", "<", ">", "</", "&amp;", "&lt;", "&#233;", "&", "]]>", "<!-- c -->"),
    *('{"answer": "x"}', "{", "}", '"', "'", '",', '"}', '": "', "\\", "\\n", "\\u00e9", "//"),
    *("```json\n", "```python\nprint('é')\n```", "`", "1. a\n2. b", "| a | b |", "x", "word "),
    *(" ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\x0b", "\x0c", "\x1c", "\x1f", "\x85"),
    *(
        "\u2028",
        "\xa0",
        "\u3000",
        "é",
        "e\u0301",
        "日本語",
        "👍🏽",
        "👩\u200d👩\u200d👧",
        "\U0001f600",
        "\u202e",
        "\0",
    ),
]

#: A value that mixes such fragments with arbitrary text; empty ones included.
values = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=6).map("".join)
long_values = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=30), max_size=200).map("".join)


def every_cut(text: str) -> Iterator[list[str]]:
    """Cut *text* at every pair of positions, and into single characters."""
    for first, second in combinations_with_replacement(range(len(text) + 1), 2):
        yield [text[:first], text[first:second], text[second:]]
    yield list(text)


@st.composite
def random_cuts(draw: st.DrawFn, text: str) -> list[str]:
    """Cut *text* into chunks of 1 to some 40 characters."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    chunks, at = [], 0
    while at < len(text):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[at : at + size])
        at += size
    return chunks


def join(parser: Parser, chunks: Iterable[str]) -> dict[str, str]:
    """Stream *chunks*; return field -> joined pieces, after checking what every parser owes."""
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)]
    pieces += parser.finish()
    joined: dict[str, str] = {}
    closed: set[str] = set()
    for piece in pieces:
        assert piece.field not in closed, "a piece after the last one"
        assert piece.text or piece.is_last, "an empty piece that is not the last"
        joined[piece.field] = joined.get(piece.field, "") + piece.text
        closed |= {piece.field} if piece.is_last else set()
    assert closed == set(joined), "a field without a last piece"
    return joined


def emitted(parser: Parser, chunks: Iterable[str], field: str = "answer") -> str:
    """Stream *chunks* without finishing; return what came of *field*."""
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)]
    return "".join(piece.text for piece in pieces if piece.field == field)


def parse(adapter: dspy.Adapter, text: str) -> dict[str, str] | None:
    """What dspy makes of the whole text; None where dspy rejects it."""
    try:
        return dict(adapter.parse(SIGNATURE, text))
    except (AdapterParseError, UnicodeError):
        return None


def accepted(adapter: dspy.Adapter, text: str) -> dict[str, str]:
    """What dspy makes of *text*; leaves the hypothesis example where dspy rejects it."""
    expected = parse(adapter, text)
    assume(expected is not None)
    assert expected is not None
    return expected


def assert_every_cut(factory: ParserFactory, text: str, expected: dict[str, str]) -> None:
    """Assert that no cut of *text* changes what comes out."""
    for chunks in every_cut(text):
        assert join(factory(FIELDS), chunks) == expected, chunks


def held_back(factory: ParserFactory, text: str) -> Iterator[tuple[str, str]]:
    """Yield each beginning of *text* and what a letter after it would set free of its answer."""
    parser = factory(FIELDS)
    for end, char in enumerate(text, 1):
        emitted(parser, char)
        yield text[:end], emitted(copy.deepcopy(parser), "x").removesuffix("x")
