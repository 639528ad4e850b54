"""Pure incremental parsers: the text stream of one LM call in, decoded field pieces out."""

from __future__ import annotations

from streamll._tokens.chat import ChatParser
from streamll._tokens.json import JsonParser
from streamll._tokens.parser import OutputFields, Parser, ParserFactory, Piece
from streamll._tokens.raw import RawParser
from streamll._tokens.select import PARSERS, select_parser
from streamll._tokens.xml import XmlParser
from streamll._tokens.xml_tags import XmlTagParser

__all__ = [
    "PARSERS",
    "ChatParser",
    "JsonParser",
    "OutputFields",
    "Parser",
    "ParserFactory",
    "Piece",
    "RawParser",
    "XmlParser",
    "XmlTagParser",
    "select_parser",
]
