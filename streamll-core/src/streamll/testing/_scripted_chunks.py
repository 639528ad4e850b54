"""Cutting a text into the chunks a model would stream; joined, they are the text again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown

__all__ = ["Chunk", "check_chunk", "cut"]

Chunk = Literal["word", "phrase"] | int | Callable[[str], Iterable[str]]

# White space leads its word, as in the vocabularies of most models: "The", " answer".
_WORD: Final = re.compile(r"\s*\S+|\s+\Z")
# Up to three words that share a line: "The answer is", " 42".
_PHRASE: Final = re.compile(r"\s*\S+(?:[^\S\n]+\S+){0,2}|\s+\Z")
_PATTERNS: Final = {"word": _WORD, "phrase": _PHRASE}


def check_chunk(chunk: Chunk) -> Chunk:
    """Return *chunk* if `cut` can use it.

    Raises:
        ConfigurationError: for an unknown name or a size below 1.
    """
    if isinstance(chunk, str):
        reject_unknown([chunk], _PATTERNS, "chunk")
    elif not callable(chunk) and (isinstance(chunk, bool) or chunk < 1):
        raise ConfigurationError(f"chunk must be at least 1 character, not {chunk!r}")
    return chunk


def cut(text: str, chunk: Chunk) -> Sequence[str]:
    """Cut *text* by word, by phrase, by a number of characters, or by a function."""
    if isinstance(chunk, str):
        return _PATTERNS[chunk].findall(text)
    if callable(chunk):
        return list(chunk(text))
    return [text[start : start + chunk] for start in range(0, len(text), chunk)]
