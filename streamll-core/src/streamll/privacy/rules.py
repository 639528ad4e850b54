"""Rules remove secrets from a text that may still grow.

``scan(text, pos, final=...)`` looks at *text* from *pos* on and returns what is decided of
it, scrubbed; the position up to which it is decided; and whether anything was removed. What
no continuation of the text can change is decided; with ``final=True`` no more text comes and
everything is. Scrubbing a whole text and scrubbing a stream are therefore one algorithm.
`CONTEXT` characters in front of *pos* are enough for all later decisions.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import Final, Protocol

from streamll.privacy.patterns import Pattern

__all__ = ["CONTEXT", "Expression", "Function", "Pack", "Rule"]

#: Characters in front of a position that a rule may look at.
CONTEXT: Final = 3
#: What takes the place of a match of a user's own expression.
_LABEL: Final = "[redacted]"
#: Widest match of a user's own expression that a stream waits for, in characters.
_WIDEST: Final = 256
#: How far `$` looks beyond a match: a newline, and the end behind it.
_LOOK: Final = 2

Scanned = tuple[str, int, bool]


class Rule(Protocol):
    """One way to remove secrets. Immutable; safe to share between threads.

    Attributes:
        needs_all: whether it decides nothing before the text is complete.
    """

    needs_all: bool

    def scan(self, text: str, pos: int, *, final: bool) -> Scanned:
        """Scrub what is decided of *text* from *pos* on."""


class Pack:
    """Patterns of the pack, in order of precedence where two start at one place."""

    needs_all = False

    def __init__(self, patterns: Iterable[Pattern], needle: str = "") -> None:
        self._patterns = tuple(patterns)
        self._needle = needle
        self._whole = re.compile(_any(self._patterns, attrgetter("whole")))
        self._beginning = re.compile(_any(self._patterns, attrgetter("beginning")))

    def scan(self, text: str, pos: int, *, final: bool) -> Scanned:
        """Scrub up to where the first secret may be beginning."""
        if self._needle not in text:
            return text[pos:], len(text), False
        done: list[str] = []
        end = self._undecided(text, pos, final)
        while (found := self._next(text, pos, end)) is not None:
            start, stop, label = found
            done += (text[pos:start], label)
            pos = stop
            if pos > end:
                end = self._undecided(text, pos, final)
        done.append(text[pos:end])
        return "".join(done), end, len(done) > 1

    def _undecided(self, text: str, pos: int, final: bool) -> int:
        """Return the first place where more text could make a difference."""
        match = None if final else self._beginning.search(text, pos)
        return match.start() if match else len(text)

    def _next(self, text: str, pos: int, end: int) -> tuple[int, int, str] | None:
        """Return start, stop and label of the first secret that starts before *end*."""
        while (match := self._whole.search(text, pos)) and match.start() < end:
            start = match.start()
            for pattern in self._patterns:
                length = pattern.length_at(text, start)
                if length:
                    return start, start + length, pattern.label
            pos = start + 1
        return None


def _any(patterns: Iterable[Pattern], which: Callable[[Pattern], str]) -> str:
    """Return one expression for all; of those with one look-behind, it is tried once."""
    groups = [(behind, list(found)) for behind, found in groupby(patterns, attrgetter("behind"))]
    return "|".join(
        f"{behind}(?={'|'.join(first for p in found for first in p.firsts)})"
        f"(?:{'|'.join(map(which, found))})"
        for behind, found in groups
    )


class Expression:
    """A user's own regular expression.

    A stream waits for as many characters as a match can have. Where that is unknown, above
    256, or the expression looks around itself, it waits for the end of the text.
    """

    def __init__(self, expression: re.Pattern[str]) -> None:
        self._expression = expression
        self._width = _width(expression)
        self.needs_all = self._width is None

    def scan(self, text: str, pos: int, *, final: bool) -> Scanned:
        """Scrub up to where the rest is too short to hold a whole match."""
        if not final and self._width is None:
            return "", pos, False
        end = len(text) if final else max(pos, len(text) - (self._width or 0) - _LOOK)
        done: list[str] = []
        for match in self._expression.finditer(text, pos):
            if match.start() >= end:
                break
            if match[0]:
                done += (text[pos : match.start()], _LABEL)
                pos = match.end()
        end = max(pos, end)
        done.append(text[pos:end])
        return "".join(done), end, len(done) > 1


def _width(expression: re.Pattern[str]) -> int | None:
    """Return the length of the longest match, or None where it is not known to be small."""
    if "(?=" in expression.pattern or "(?!" in expression.pattern or "(?<" in expression.pattern:
        return None
    # Python has no public way to ask; without it we only wait longer.
    with contextlib.suppress(Exception):
        parser = importlib.import_module("re._parser")
        widest = parser.parse(expression.pattern, expression.flags).getwidth()[1]
        return int(widest) if widest <= _WIDEST else None
    return None


class Function:
    """A user's own function. Nothing is known of how far it looks: it gets whole texts."""

    needs_all = True

    def __init__(self, function: Callable[[str], str]) -> None:
        self._function = function

    def scan(self, text: str, pos: int, *, final: bool) -> Scanned:
        """Call the function once the text is complete.

        Raises:
            TypeError: when it returns anything but a string. And whatever it raises.
        """
        if not final:
            return "", pos, False
        scrubbed = self._function(text[pos:])
        if not isinstance(scrubbed, str):
            raise TypeError("a scrub function must return a str")
        return scrubbed, len(text), scrubbed != text[pos:]
