"""The contract of a parser: text of one LM call in, decoded pieces of its fields out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

__all__ = ["OutputFields", "Parser", "ParserFactory", "Piece"]


@attrs.frozen(slots=True)
class Piece:
    """Decoded text of one output field; the pieces of a field, joined, are its value.

    Attributes:
        field: name of the output field; "" is the raw channel.
        text: the next part of the value, without anything of the adapter's template. May be
            empty on the last piece only.
        is_last: whether the value is complete. Exactly one piece of a field has it.
    """

    field: str
    text: str
    is_last: bool = False


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _set(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@attrs.frozen(slots=True)
class OutputFields:
    """What a parser must know of a signature.

    Attributes:
        names: all output fields, in the order of the signature.
        wanted: those whose pieces are asked for.
    """

    names: tuple[str, ...] = attrs.field(converter=_names)
    wanted: frozenset[str] = attrs.field(converter=_set)


class Parser(Protocol):
    """Decodes the stream of one LM call, one choice, one attempt. Not thread-safe.

    Never raises on any text: what the adapter's own `parse` would reject ends a field early
    or yields nothing.
    """

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk, of any size, and return what it settles, in stream order."""

    def finish(self) -> list[Piece]:
        """Return what was held back, closing an open field. Called once, after the last chunk."""


#: Makes the parser of one LM call.
ParserFactory = Callable[[OutputFields], Parser]
