"""The way out of every parser: first field wins, unwanted ones vanish, edges are stripped."""

from __future__ import annotations

import attrs

from streamll._tokens.parser import OutputFields, Piece

__all__ = ["FieldWriter"]


@attrs.define
class FieldWriter:
    """Turns "open, write, close" into pieces, stripping values as `str.strip` would.

    Leading whitespace is dropped, trailing whitespace is held until more text follows; both
    only until `release` says that it belongs to the value.
    """

    fields: OutputFields
    _field: str | None = attrs.field(default=None, init=False)
    _seen: set[str] = attrs.field(factory=set, init=False)
    _started: bool = attrs.field(default=False, init=False)
    _space: list[str] = attrs.field(factory=list, init=False)
    _parts: list[str] = attrs.field(factory=list, init=False)
    _pieces: list[Piece] = attrs.field(factory=list, init=False)

    def open(self, name: str) -> None:
        """Begin the value of *name*; it is skipped when unwanted or when it came before."""
        self.close()
        if name in self.fields.wanted and name not in self._seen:
            self._field = name
            self._started = False
            self._seen.add(name)

    def write(self, text: str) -> None:
        """Add *text* to the open value, if there is one."""
        if self._field is None:
            return
        body = text.rstrip()
        if body:
            self._add(body, text[len(body) :])
        elif text:
            self._space.append(text)

    def _add(self, body: str, space: str) -> None:
        if self._started:
            self._parts += self._space
        else:
            body = body.lstrip()
            self._started = True
        self._space = [space] if space else []
        self._parts.append(body)

    def release(self) -> None:
        """Make the held whitespace part of the value, and keep what leads from now on."""
        self._parts += self._space
        self._started = True
        self._space = []

    def discard(self) -> None:
        """Forget the held whitespace."""
        self._space = []

    def close(self) -> None:
        """End the open value, if there is one, without its trailing whitespace."""
        if self._field is not None:
            self._pieces.append(Piece(self._field, "".join(self._parts), is_last=True))
            self._field, self._parts, self._space = None, [], []

    def take(self) -> list[Piece]:
        """Return the pieces since the last call, one per field."""
        if self._parts and self._field is not None:
            self._pieces.append(Piece(self._field, "".join(self._parts)))
            self._parts = []
        pieces, self._pieces = self._pieces, []
        return pieces
