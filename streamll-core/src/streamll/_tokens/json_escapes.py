"""Escapes inside JSON strings, decoded as far as a chunk shows them."""

from __future__ import annotations

import re

__all__ = ["decode", "decode_escape", "is_cut"]

#: A surrogate pair, a code unit, a byte (json_repair knows it), or any other character.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}"
    r"|\\u[\da-fA-F]{4}|\\x[\da-fA-F]{2}|\\.",
    re.DOTALL,
)

#: The beginning of an escape at the end of the text; a high surrogate may be half a pair.
_CUT = re.compile(
    r"\\(?:x[\da-fA-F]?|u[\da-fA-F]{0,3}"
    r"|u[dD][89abAB][\da-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][\da-fA-F]?)?)?)?)?)?\Z"
)

_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_VERBATIM = "\"'\\/"
_SHORT = 2  # the length of a backslash and one character


def is_cut(text: str, at: int) -> bool:
    """Whether the escape at *at* may go on in the next chunk; 11 characters at most."""
    return _CUT.match(text, at) is not None


def decode_escape(text: str, at: int) -> tuple[str, int]:
    """Decode the escape at *at* as json and json_repair do; return its text and its end.

    An unknown escape stands for itself, and so does a backslash at the end.
    """
    found = _ESCAPE.match(text, at)
    if found is None:
        return "\\", at + 1
    escape = found[0]
    if len(escape) > _SHORT:
        return _decode_units(escape), found.end()
    if escape[1] in _VERBATIM:
        return escape[1], found.end()
    return _SIMPLE.get(escape[1], escape), found.end()


def _decode_units(escape: str) -> str:
    """Join a surrogate pair; leave a lone surrogate as it is, like `json.loads`."""
    units = [int(unit[1:], 16) for unit in escape.split("\\")[1:]]
    if len(units) == 1:
        return chr(units[0])
    high, low = units
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def decode(text: str) -> str:
    """Decode a whole string, without its quotes."""
    parts = []
    at = 0
    while (escape := text.find("\\", at)) >= 0:
        part, end = decode_escape(text, escape)
        parts += [text[at:escape], part]
        at = end
    return "".join(parts) + text[at:]
