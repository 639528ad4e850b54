"""RawParser passes everything through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamll._tokens import Piece, RawParser
from support.streams import FIELDS, join, random_cuts, values


@given(st.data(), values.filter(bool))
def test_the_joined_pieces_are_the_stream(data, text):
    """Not a character is added, lost or moved."""
    assert join(RawParser(FIELDS), data.draw(random_cuts(text))) == {"": text}


def test_every_chunk_leaves_at_once():
    """Nothing is held back; an empty stream yields nothing."""
    parser = RawParser(FIELDS)
    assert parser.feed(" [[ ## ") == [Piece("", " [[ ## ")]
    assert parser.feed("") == []
    assert parser.finish() == [Piece("", "", is_last=True)]
    assert RawParser(FIELDS).finish() == []
