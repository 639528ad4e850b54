"""Which parser decodes an adapter: the first name of its class hierarchy that is known."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from streamll._tokens.chat import ChatParser
from streamll._tokens.json import JsonParser
from streamll._tokens.raw import RawParser
from streamll._tokens.xml import XmlParser

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamll._tokens.parser import OutputFields, Parser, ParserFactory

__all__ = ["PARSERS", "select_parser"]

#: dspy's adapters by class name. Subclasses (BAMLAdapter, a user's own) decode like their base.
PARSERS: Final[Mapping[str, ParserFactory]] = MappingProxyType(
    {"ChatAdapter": ChatParser, "JSONAdapter": JsonParser, "XMLAdapter": XmlParser}
)


def select_parser(
    mro_names: Iterable[str],
    fields: OutputFields,
    extra: Mapping[str, ParserFactory] = MappingProxyType({}),
) -> Parser:
    """Return a new parser for one LM call.

    Args:
        mro_names: class names of the adapter, most derived first, e.g.
            ``["BAMLAdapter", "JSONAdapter", "ChatAdapter", "Adapter"]``.
        fields: the output fields of the call's signature.
        extra: class name -> factory, asked before the built-in ones: plugins, and
            `XmlTagParser` for the XMLAdapter of dspy before 3.3.

    Returns:
        The parser of the first known name; one that passes raw text through if none is.
    """
    for name in mro_names:
        factory = extra.get(name) or PARSERS.get(name)
        if factory is not None:
            return factory(fields)
    return RawParser(fields)
