"""The stream of dspy's `JSONAdapter` and its kin: one JSON object, a key per output field.

What stands before the object (prose, a code fence) and behind it is skipped. Strings are
decoded; every other value is passed on as its own JSON text. For valid JSON the pieces equal
what `JSONAdapter.parse` returns for a string, with two exceptions that nobody can know while
the text streams: of a key given twice dspy takes the last (here the first wins), and dspy 3.0
cuts its input at the first balanced brace, even inside a string.

dspy repairs invalid JSON (json_repair) with knowledge of all that follows. Mirrored here is
what can be known in time: raw line breaks, unknown escapes, unescaped quotes, single quotes,
bare keys and values, missing and trailing commas, a missing end.

Held back: whitespace in a string until text follows it (a missing end would strip it), a
quote until what follows tells whether it ends the string, and an escape cut in two.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

import attrs

from streamll._tokens import json_escapes
from streamll._tokens.json_values import NestedValue, ScalarValue, StringValue, Value
from streamll._tokens.writer import FieldWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamll._tokens.parser import OutputFields, Piece

__all__ = ["JsonParser"]


class _State(enum.Enum):
    """What the next character belongs to.

    PROSE -{-> MEMBER -quote-> KEY -quote-> COLON -:-> START -> VALUE -> MEMBER;
    MEMBER -word-> BARE_KEY -> COLON; MEMBER -}-> DONE, or PROSE if the braces held no key.
    """

    PROSE = enum.auto()
    MEMBER = enum.auto()
    KEY = enum.auto()
    BARE_KEY = enum.auto()
    COLON = enum.auto()
    START = enum.auto()
    VALUE = enum.auto()
    DONE = enum.auto()


_NON_SPACE = re.compile(r"\S")
_MEMBER = re.compile(r"[\"'}\w]")
_BARE_KEY = re.compile(r"[\w-]*")
_SPECIAL = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}


@attrs.define
class JsonParser:
    """Decodes `JSONAdapter` output."""

    fields: OutputFields
    _writer: FieldWriter = attrs.field(init=False)
    _state: _State = attrs.field(default=_State.PROSE, init=False)
    _value: Value = attrs.field(init=False)
    _key: str = attrs.field(default="", init=False)
    _quote: str = attrs.field(default='"', init=False)
    _has_bare_key: bool = attrs.field(default=False, init=False)
    _is_escaped: bool = attrs.field(default=False, init=False)
    _found_key: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = FieldWriter(self.fields)
        self._value = ScalarValue(self._writer)

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk."""
        text, at = self._value.cut + text, 0
        while at < len(text):
            at = _STEPS[self._state](self, text, at)
        return self._writer.take()

    def finish(self) -> list[Piece]:
        """Close the open value where the stream ended."""
        if self._state is _State.VALUE:
            self._value.finish()
        self._writer.close()
        return self._writer.take()

    def _skip_prose(self, text: str, at: int) -> int:
        brace = text.find("{", at)
        if brace < 0:
            return len(text)
        self._state = _State.MEMBER
        return brace + 1

    def _find_member(self, text: str, at: int) -> int:
        found = _MEMBER.search(text, at)
        if found is None:
            return len(text)
        self._key, self._has_bare_key = "", False
        if found[0] == "}":
            self._state = _State.DONE if self._found_key else _State.PROSE
        elif found[0] in _SPECIAL:
            self._quote, self._state = found[0], _State.KEY
        else:
            self._has_bare_key, self._state = True, _State.BARE_KEY
            return found.start()
        return found.end()

    def _read_key(self, text: str, at: int) -> int:
        found = _SPECIAL[self._quote].search(text, at + self._is_escaped)
        end = found.end() if found else len(text)
        self._key += text[at:end]
        self._is_escaped = found is not None and found[0] == "\\"
        if found is not None and not self._is_escaped:
            self._key = json_escapes.decode(self._key[:-1])
            self._state = _State.COLON
        return end

    def _read_bare_key(self, text: str, at: int) -> int:
        end = _BARE_KEY.match(text, at).end()  # type: ignore[union-attr]  # matches nothing too
        self._key += text[at:end]
        if end < len(text):
            self._state = _State.COLON
        return end

    def _expect_colon(self, text: str, at: int) -> int:
        """Go on to the value; without a colon this was no key, so look for the next one."""
        found = _NON_SPACE.search(text, at)
        if found is None:
            return len(text)
        if found[0] != ":":
            self._state = _State.MEMBER
            return found.start()
        self._found_key, self._state = True, _State.START
        return found.end()

    def _start_value(self, text: str, at: int) -> int:
        found = _NON_SPACE.search(text, at)
        if found is None:
            return len(text)
        self._writer.open(self._key)
        self._state = _State.VALUE
        self._value = self._reader(found[0])
        return found.end() if found[0] in _SPECIAL else found.start()

    def _reader(self, first: str) -> Value:
        if first in _SPECIAL:
            self._writer.release()  # what leads in a string belongs to it
            return StringValue(self._writer, first, self._has_bare_key)
        return NestedValue(self._writer) if first in "{[" else ScalarValue(self._writer)

    def _read_value(self, text: str, at: int) -> int:
        end = self._value.read(text, at)
        if end is None:
            return len(text)
        self._writer.close()
        self._state = _State.MEMBER
        return end


#: How each state reads on from a position; the result is where the next one begins.
_STEPS: Final[dict[_State, Callable[[JsonParser, str, int], int]]] = {
    _State.PROSE: JsonParser._skip_prose,
    _State.MEMBER: JsonParser._find_member,
    _State.KEY: JsonParser._read_key,
    _State.BARE_KEY: JsonParser._read_bare_key,
    _State.COLON: JsonParser._expect_colon,
    _State.START: JsonParser._start_value,
    _State.VALUE: JsonParser._read_value,
    _State.DONE: lambda _parser, text, _at: len(text),
}
