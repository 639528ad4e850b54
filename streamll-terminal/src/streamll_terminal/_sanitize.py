"""Text that cannot steer a terminal. Pure.

Models, tools and retrieved documents write what ends up in a line, so every character that a
terminal acts on is escaped on its own: C0, DEL and C1 controls, line separators, bidirectional
overrides. No state is kept between calls, so an escape sequence split over several tokens
stays in pieces. Lone surrogates are escaped too, because no encoding can write them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["json_text", "plain", "quoted"]

_CONTROLS: Final = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE: Final = re.compile(f"[{_CONTROLS}]")
_UNSAFE_IN_QUOTES: Final = re.compile(rf"[{_CONTROLS}\\']")
_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", "'": r"\'"}
_LATIN_1: Final = 0x100


def plain(text: str) -> str:
    r"""Return *text* on one line, controls as in a Python literal (``\n``, ``\x1b``)."""
    return _UNSAFE.sub(_python_escape, text)


def quoted(text: str) -> str:
    """Return *text* as a Python literal in single quotes; `ast.literal_eval` gives it back."""
    return f"'{_UNSAFE_IN_QUOTES.sub(_python_escape, text)}'"


def json_text(text: str) -> str:
    r"""Return JSON *text* with the controls JSON lets through as ``\uXXXX``: still JSON."""
    return _UNSAFE.sub(_json_escape, text)


def _python_escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < _LATIN_1 else f"\\u{code:04x}")


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
