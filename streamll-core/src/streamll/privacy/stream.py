"""Scrubbing a text that arrives in pieces: a secret split over tokens does not leak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from streamll.privacy.rules import CONTEXT, Rule

__all__ = ["HOLD", "WITHHELD", "StreamScrubber"]

#: Most characters that one rule holds back of one field.
HOLD: Final = 32_768
#: Stands for the rest of a text of which a rule would have to hold back more.
WITHHELD: Final = "[withheld]"


class _Stage:
    """One rule, and the text it holds back."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._text = ""
        self._pos = 0
        self._closed = False

    def take(self, piece: str, *, final: bool) -> tuple[str, bool]:
        """Return what is decided now, scrubbed, and whether anything was removed."""
        if self._closed:
            return "", False
        text = self._text + piece
        done, pos, hit = self._rule.scan(text, self._pos, final=final)
        kept = max(0, pos - CONTEXT)
        self._text, self._pos = text[kept:], pos - kept
        if not final and len(self._text) - self._pos > HOLD:
            self._closed, self._text = True, ""
            return done + WITHHELD, True
        return done, hit


class StreamScrubber:
    """Scrubs one text: what `feed` and `finish` return, joined, is the scrubbed whole.

    Text is held back while it may be the beginning of a secret: about one word with the
    pattern pack; as many characters as a match can have for an own expression; all of it
    for an own function. No more than `HOLD` characters are held: what would need more is
    replaced by "[withheld]" from there on. Belongs to one thread at a time; never raises.

    Attributes:
        redacted: whether what was returned last has something removed.
    """

    def __init__(self, rules: Sequence[Rule], on_error: Callable[[Exception], object]) -> None:
        self._stages = [_Stage(rule) for rule in rules]
        self._on_error = on_error
        self.redacted = False

    def feed(self, piece: str) -> str:
        """Take the next *piece*; return what is decided now, maybe nothing."""
        return self._take(piece, final=False)

    def finish(self) -> str:
        """Return what was held back: the text is complete. A rule that raises loses it."""
        return self._take("", final=True)

    def _take(self, piece: str, *, final: bool) -> str:
        self.redacted = False
        try:
            for stage in self._stages:
                piece, hit = stage.take(piece, final=final)
                self.redacted = self.redacted or hit
        except Exception as error:  # noqa: BLE001 - fails closed: what a rule could not see is lost
            self._on_error(error)
            return ""
        return piece
