"""Adapters nobody can decode: their text passes through on the raw channel."""

from __future__ import annotations

from typing import Final

import attrs

from streamll._tokens.parser import OutputFields, Piece

__all__ = ["RawParser"]

#: The field name of the raw channel.
RAW: Final = ""


@attrs.define
class RawParser:
    """Passes every chunk through, at once and unchanged, whatever the output fields are."""

    fields: OutputFields
    _opened: bool = attrs.field(default=False, init=False)

    def feed(self, text: str) -> list[Piece]:
        """Return *text* as it came."""
        if not text:
            return []
        self._opened = True
        return [Piece(RAW, text)]

    def finish(self) -> list[Piece]:
        """Close the raw channel, if any text came."""
        return [Piece(RAW, "", is_last=True)] if self._opened else []
