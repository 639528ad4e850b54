"""The stream of dspy's `XMLAdapter` since dspy 3.3: one element per output field.

That adapter reads its input with expat, and so does this parser: entities, CDATA, comments,
line breaks and errors are expat's. From the first ill-formed character on nothing more is
returned, because `XMLAdapter.parse` rejects the whole. The value of an element is

- its text, stripped, if no element stands inside;
- its text and its children as XML again, not stripped, if one does.

Two things nobody can know while the text streams: leading whitespace that counts after all
because an element follows some text, and a field given twice, which dspy turns into the text
of a list; here the first wins. Namespaces inside a field are not written back.

Held back: what expat needs to end a token (markup, an entity, ``]``), and whitespace until
text follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.parsers import expat
from xml.sax.saxutils import escape

import attrs

from streamll._tokens.writer import FieldWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamll._tokens.parser import OutputFields, Piece

__all__ = ["XmlParser"]

_ROOT = "dspy_root"
_FIELD_DEPTH: Final = 2  # the root is at depth 1
_IN_ATTRIBUTE = {'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#09;"}


def _make_expat() -> expat.XMLParserType:
    parser = expat.ParserCreate(None, "}")
    # Newer expat may sit on a cut token to save work; old Pythons have neither.
    if hasattr(parser, "SetReparseDeferralEnabled"):
        parser.SetReparseDeferralEnabled(False)
    return parser


@attrs.define
class XmlParser:
    """Decodes `XMLAdapter` output of dspy 3.3 and later."""

    fields: OutputFields
    _writer: FieldWriter = attrs.field(init=False)
    _expat: expat.XMLParserType = attrs.field(factory=_make_expat, init=False)
    _depth: int = attrs.field(default=0, init=False)
    _has_children: bool = attrs.field(default=False, init=False)
    _open_tag: bool = attrs.field(default=False, init=False)
    _is_broken: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = FieldWriter(self.fields)
        self._expat.StartElementHandler = self._start
        self._expat.CharacterDataHandler = self._text
        self._expat.EndElementHandler = self._end
        self._parse(f"<{_ROOT}>")

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk."""
        self._parse(text)
        return self._writer.take()

    def finish(self) -> list[Piece]:
        """Close the open field, which only an ill-formed stream has."""
        self._parse(f"</{_ROOT}>")
        self._writer.close()
        return self._writer.take()

    def _parse(self, text: str) -> None:
        if self._is_broken:
            return
        try:
            self._expat.Parse(text, False)
        except (expat.ExpatError, UnicodeError):
            self._is_broken = True

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth == _FIELD_DEPTH:
            self._writer.open(attributes.get("key", tag) if tag == "entry" else tag)
            self._has_children = self._open_tag = False
        elif self._depth > _FIELD_DEPTH:
            self._start_child(tag, attributes)

    def _start_child(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._close_tag(">")
        self._writer.release()
        written = "".join(
            f' {name}="{escape(value, _IN_ATTRIBUTE)}"' for name, value in attributes.items()
        )
        self._writer.write(f"<{tag}{written}")
        self._has_children = self._open_tag = True

    def _text(self, text: str) -> None:
        if self._depth >= _FIELD_DEPTH:
            self._close_tag(">")
            self._writer.write(escape(text) if self._has_children else text)

    def _end(self, tag: str) -> None:
        if self._depth == _FIELD_DEPTH:
            self._end_field()
        elif self._depth > _FIELD_DEPTH and not self._close_tag(" />"):
            self._writer.write(f"</{tag}>")
        self._depth -= 1

    def _end_field(self) -> None:
        if self._has_children:
            self._writer.release()
        self._writer.close()

    def _close_tag(self, end: str) -> bool:
        """Write *end* behind a start tag that waits for it; tell whether one did."""
        was_open, self._open_tag = self._open_tag, False
        if was_open:
            self._writer.write(end)
        return was_open
