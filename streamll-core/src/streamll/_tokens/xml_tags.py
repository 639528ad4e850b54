"""The stream of dspy's `XMLAdapter` before dspy 3.3: tags found by a regular expression.

There, parsing is ``<(\\w+)>(.*?)</\\1>`` over the whole text: no entities, no attributes, no
nesting; the first element of a name wins, its content is stripped, and whatever stands inside
another element (known or not) is not looked at.

An unknown element may turn out never to be closed, and then its inside counts. Text is
kept for that case and read again at the end. All else is held back only while it may be part
of a tag, or is whitespace that no text has followed yet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from streamll._tokens.writer import FieldWriter

if TYPE_CHECKING:
    from streamll._tokens.parser import OutputFields, Piece

__all__ = ["XmlTagParser"]

_TAG = re.compile(r"<(\w+)>")
_CUT_TAG = re.compile(r"<\w*\Z")


@attrs.define
class XmlTagParser:
    """Decodes `XMLAdapter` output of dspy 3.0 to 3.2."""

    fields: OutputFields
    _writer: FieldWriter = attrs.field(init=False)
    _pending: set[str] = attrs.field(init=False)
    _end_tag: str = attrs.field(default="", init=False)
    _held: str = attrs.field(default="", init=False)
    _skipped: list[str] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = FieldWriter(self.fields)
        self._pending = set(self.fields.names)

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk."""
        self._read(text)
        return self._writer.take()

    def finish(self) -> list[Piece]:
        """Close the open field; look into elements that were never closed."""
        while self._skipped is not None:
            skipped = "".join(self._skipped)
            self._skipped, self._end_tag, self._held = None, "", ""
            self._read(skipped)
        self._writer.close()
        return self._writer.take()

    def _read(self, text: str) -> None:
        text, self._held = self._held + text, ""
        at = 0
        while at < len(text):
            at = self._read_content(text, at) if self._end_tag else self._find_tag(text, at)

    def _find_tag(self, text: str, at: int) -> int:
        found = _TAG.search(text, at)
        if found is None:
            cut = _CUT_TAG.search(text, at)
            self._held = cut[0] if cut else ""
            return len(text)
        self._enter(found[1])
        return found.end()

    def _enter(self, name: str) -> None:
        self._end_tag = f"</{name}>"
        if name in self._pending:
            self._pending.discard(name)
            self._writer.open(name)
        else:
            self._skipped = []

    def _read_content(self, text: str, at: int) -> int:
        end = text.find(self._end_tag, at)
        if end < 0:
            self._hold(text, at)
            return len(text)
        self._writer.write(text[at:end])
        self._writer.close()
        at = end + len(self._end_tag)
        self._end_tag, self._skipped = "", None
        return at

    def _hold(self, text: str, at: int) -> None:
        """Write all but what may be the beginning of the end tag."""
        cut = text.rfind("<", at)
        if cut < 0 or not self._end_tag.startswith(text[cut:]):
            cut = len(text)
        self._write(text[at:cut])
        self._held = text[cut:]

    def _write(self, text: str) -> None:
        if self._skipped is None:
            self._writer.write(text)
        else:
            self._skipped.append(text)
