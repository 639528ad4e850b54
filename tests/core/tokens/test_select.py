"""The class hierarchy of an adapter chooses its parser."""

from __future__ import annotations

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter

from streamll._tokens import (
    ChatParser,
    JsonParser,
    RawParser,
    XmlParser,
    XmlTagParser,
    select_parser,
)
from support.streams import FIELDS


class UserAdapter(dspy.ChatAdapter):
    """An adapter of the user's own, derived from one that is known."""


class ForeignAdapter(dspy.Adapter):
    """An adapter that derives from nothing known."""


def names(adapter: type) -> list[str]:
    """The class names of the adapter's hierarchy, most derived first."""
    return [base.__name__ for base in adapter.__mro__]


@pytest.mark.parametrize(
    ("adapter", "parser"),
    [
        (dspy.ChatAdapter, ChatParser),
        (dspy.JSONAdapter, JsonParser),
        (dspy.XMLAdapter, XmlParser),
        (BAMLAdapter, JsonParser),
        (UserAdapter, ChatParser),
        (dspy.TwoStepAdapter, RawParser),
        (ForeignAdapter, RawParser),
    ],
)
def test_the_first_known_class_decides(adapter, parser):
    """Subclasses decode like their nearest known base; a stranger streams raw."""
    assert type(select_parser(names(adapter), FIELDS)) is parser


def test_a_plugin_may_bring_or_replace_a_parser():
    """An extra factory is asked before the built-in ones, name by name."""
    extra = {"ForeignAdapter": JsonParser, "XMLAdapter": XmlTagParser}
    assert type(select_parser(names(ForeignAdapter), FIELDS, extra)) is JsonParser
    assert type(select_parser(names(dspy.XMLAdapter), FIELDS, extra)) is XmlTagParser
    assert type(select_parser(names(dspy.JSONAdapter), FIELDS, extra)) is JsonParser


def test_every_call_gets_a_parser_of_its_own():
    """State belongs to one LM call."""
    first, second = (select_parser(["ChatAdapter"], FIELDS) for _ in range(2))
    first.feed("[[ ## answer ## ]]\n")
    assert second.feed("leak") == []
