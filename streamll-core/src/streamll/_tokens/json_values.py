"""The values of a JSON object, each read in chunks by a reader of its own.

A reader passes what it knows to the writer and returns where the value ended, or None when
the chunk is used up before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Protocol

import attrs

from streamll._tokens import json_escapes

if TYPE_CHECKING:
    from streamll._tokens.writer import FieldWriter

__all__ = ["NestedValue", "ScalarValue", "StringValue", "Value"]

_NON_SPACE = re.compile(r"\S")
_SCALAR_END = re.compile(r"[,}]")
_MARK = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)
_SPECIAL = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}

#: What may follow the quote that ends a string, and what the comma behind that quote.
_AFTER_STRING = "}]`"
_AFTER_COMMA = "\"'}`/"


class Value(Protocol):
    """One value while it streams."""

    @property
    def cut(self) -> str:
        """The end of the last chunk, to be read again in front of the next one."""

    def read(self, text: str, at: int) -> int | None:
        """Read on from *at*; return the position behind the value, None if it goes on."""

    def finish(self) -> None:
        """Write what was held back: the stream ended inside the value."""


@attrs.define
class ScalarValue:
    """A number, true, false, null, or words that lack their quotes: raw."""

    _writer: FieldWriter
    cut: ClassVar[str] = ""

    def read(self, text: str, at: int) -> int | None:
        """Read up to a comma or a brace."""
        found = _SCALAR_END.search(text, at)
        end = found.start() if found else None
        self._writer.write(text[at:end])
        return end

    def finish(self) -> None:
        """Nothing is held back."""


@attrs.define
class NestedValue:
    """An array or an object: raw, up to its own closing bracket."""

    _writer: FieldWriter
    cut: ClassVar[str] = ""
    _depth: int = attrs.field(default=0, init=False)
    _in_string: bool = attrs.field(default=False, init=False)
    _is_escaped: bool = attrs.field(default=False, init=False)

    def read(self, text: str, at: int) -> int | None:
        """Read up to the closing bracket."""
        end = self._find_end(text, at + self._is_escaped)
        self._writer.write(text[at:end])
        return end

    def finish(self) -> None:
        """Nothing is held back."""

    def _find_end(self, text: str, at: int) -> int | None:
        self._is_escaped = False
        for mark in _MARK.finditer(text, at):
            if self._closes(mark[0]):
                return mark.end()
        return None

    def _closes(self, mark: str) -> bool:
        if mark[0] == "\\":
            self._is_escaped = mark == "\\"
        elif mark == '"':
            self._in_string = not self._in_string
        elif not self._in_string:
            self._depth += 1 if mark in "{[" else -1
            return self._depth == 0
        return False


@attrs.define
class StringValue:
    """A string: decoded. A quote ends it only if what follows a value follows the quote.

    A word may follow the comma only where the keys of the object have no quotes.
    """

    _writer: FieldWriter
    _quote: str
    _has_bare_key: bool
    cut: str = attrs.field(default="", init=False)
    _held: list[str] = attrs.field(factory=list, init=False)
    _after_comma: bool = attrs.field(default=False, init=False)
    _is_final: bool = attrs.field(default=False, init=False)

    def read(self, text: str, at: int) -> int | None:
        """Read up to the first character behind the closing quote that tells it is one."""
        self.cut = ""
        while at < len(text):
            if not self._held:
                at = self._copy(text, at)
            elif self._is_closed(text, at):
                self._writer.release()
                return at
            else:
                at = self._hold(text, at)
        return None

    def finish(self) -> None:
        """Take a cut escape as it is and a quote as the end."""
        self._is_final = True
        self.read(self.cut, 0)
        if self._held:
            self._writer.release()

    def _copy(self, text: str, at: int) -> int:
        found = _SPECIAL[self._quote].search(text, at)
        end = found.start() if found else len(text)
        self._writer.write(text[at:end])
        if found is None:
            return end
        if found[0] == "\\":
            return self._unescape(text, end)
        self._held.append(self._quote)
        return end + 1

    def _unescape(self, text: str, at: int) -> int:
        if not self._is_final and json_escapes.is_cut(text, at):
            self.cut = text[at:]
            return len(text)
        decoded, end = json_escapes.decode_escape(text, at)
        self._writer.write(decoded)
        return end

    def _is_closed(self, text: str, at: int) -> bool:
        char = text[at]
        if self._after_comma:
            return char in _AFTER_COMMA or (self._has_bare_key and char.isidentifier())
        return char in _AFTER_STRING or (char == self._quote and len(self._held) > 1)

    def _hold(self, text: str, at: int) -> int:
        """Hold what may stand between two members; anything else makes the quote text."""
        is_comma = text[at] == "," and not self._after_comma
        if is_comma or text[at].isspace():
            self._after_comma |= is_comma
            self._held.append(text[at])
            return at + 1
        self._writer.write("".join(self._held))
        self._held, self._after_comma = [], False
        return at
