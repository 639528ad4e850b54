"""The stream of dspy's `ChatAdapter`: sections under ``[[ ## name ## ]]`` headers.

The rules are those of `ChatAdapter.parse`:

- a header counts at the start of a line only, behind whitespace at most;
- any header ends the section before it, known or not; the first section of a name wins;
- text on the header's line belongs to the value and is stripped by itself; the value is
  stripped as a whole; all line breaks that `str.splitlines` knows become ``\\n``;
- a header indented by k characters leaves its own last k characters in the value, because
  `parse` measures the header in the stripped line and cuts the unstripped one. The final
  value has them, so the pieces have them too.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

import attrs

from streamll._tokens.writer import FieldWriter

if TYPE_CHECKING:
    from streamll._tokens.parser import OutputFields, Piece

__all__ = ["ChatParser"]

_BREAK = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_OPENING = "[[ ## "
_CLOSING = " ## ]]"
_HEADER = re.compile(r"\[\[ ## (?:\w+) ## \]\]")


class _Line(enum.Enum):
    """How far the current line is known."""

    START = enum.auto()  # whitespace at most: a header may follow
    HEADER = enum.auto()  # what came may be the beginning of a header
    BODY = enum.auto()  # text, to its end


@attrs.define
class _Header:
    """Recognises one header, character by character."""

    chars: list[str] = attrs.field(factory=list, init=False)
    _closing: int = attrs.field(default=0, init=False)

    @property
    def text(self) -> str:
        return "".join(self.chars)

    @property
    def name(self) -> str:
        return self.text[len(_OPENING) : -len(_CLOSING)]

    @property
    def is_complete(self) -> bool:
        return self._closing == len(_CLOSING)

    def accepts(self, char: str) -> bool:
        """Add *char* if the header may go on with it."""
        at = len(self.chars)
        if at < len(_OPENING):
            fits = char == _OPENING[at]
        elif self._closing or (char == " " and at > len(_OPENING)):
            fits = char == _CLOSING[self._closing]
            self._closing += 1
        else:
            fits = char.isalnum() or char == "_"
        if fits:
            self.chars.append(char)
        return fits


@attrs.define
class ChatParser:
    """Decodes `ChatAdapter` output.

    Held back: whitespace until text follows it, and a line that may yet become a header.
    """

    fields: OutputFields
    _writer: FieldWriter = attrs.field(init=False)
    _line: _Line = attrs.field(default=_Line.START, init=False)
    _header: _Header = attrs.field(factory=_Header, init=False)
    _indent: int = attrs.field(default=0, init=False)
    _on_header_line: bool = attrs.field(default=False, init=False)
    _after_return: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = FieldWriter(self.fields)

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk."""
        line, *more = self._normalize(text).split("\n")
        self._extend(line)
        for line in more:
            self._break()
            self._extend(line)
        return self._writer.take()

    def finish(self) -> list[Piece]:
        """Close the last section; an unfinished header is text."""
        self._give_up_header()
        self._writer.close()
        return self._writer.take()

    def _normalize(self, text: str) -> str:
        """Make every line break one newline, also the ``\\r\\n`` cut in two."""
        if not text:
            return text
        rest = text.removeprefix("\n") if self._after_return else text
        self._after_return = text[-1] == "\r"
        return _BREAK.sub("\n", rest)

    def _give_up_header(self) -> None:
        """Take an unfinished header for text."""
        if self._header.chars:
            self._writer.write(self._header.text)
            self._header = _Header()

    def _break(self) -> None:
        self._give_up_header()
        if self._on_header_line:
            self._writer.discard()
        self._writer.write("\n")
        self._line, self._indent, self._on_header_line = _Line.START, 0, False

    def _extend(self, text: str) -> None:
        """Add *text*, which has no line break, to the current line."""
        if not text:
            return
        if self._line is _Line.START:
            text = self._skip_indent(text)
        if self._line is _Line.HEADER:
            text = self._match_header(text)
        if text:
            self._writer.write(text)

    def _skip_indent(self, text: str) -> str:
        body = text.lstrip()
        indent = len(text) - len(body)
        if indent:
            self._writer.write(text[:indent])
            self._indent += indent
        if body:
            self._line = _Line.HEADER
        return body

    def _match_header(self, text: str) -> str:
        """Read on in the header and return what turned out to be text."""
        whole = None if self._header.chars else _HEADER.match(text)
        if whole:  # all of it at once, as in an answer that did not stream
            self._header.chars = list(whole[0])
            return self._open_section() + text[whole.end() :]
        for at, char in enumerate(text):
            if not self._header.accepts(char):
                return self._end_header() + text[at:]
            if self._header.is_complete:
                return self._open_section() + text[at + 1 :]
        return ""

    def _end_header(self) -> str:
        text = self._header.text
        self._line, self._header = _Line.BODY, _Header()
        return text

    def _open_section(self) -> str:
        self._writer.open(self._header.name)
        self._on_header_line = True
        text = self._end_header()
        return text[max(0, len(text) - self._indent) :]
