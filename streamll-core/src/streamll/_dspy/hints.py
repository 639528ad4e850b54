"""Telling, once, why a field that was asked for did not stream."""

from __future__ import annotations

import logging
from typing import Final

from streamll._dspy.names import fields_of
from streamll._dspy.tokens import TokenStream
from streamll._spans import Span

__all__ = ["hint_silence", "hint_unknown"]

logger = logging.getLogger("streamll")

_MOST: Final = 1_000
_told: set[tuple[str | None, str]] = set()


def hint_silence(
    span: Span, stream: TokenStream, *, cached: bool, error: BaseException | None
) -> None:
    """Log one line per module path and field of `stream_fields` that gave no token."""
    if span.options.stream_fields is None or error is not None:
        return
    for name in stream.silent():
        _hint(span, name, _why(span, cached=cached))


def hint_unknown(span: Span, *, error: BaseException | None) -> None:
    """At the end of a program: log one line per `stream_fields` that no module of it has."""
    chosen = span.options.stream_fields
    is_outermost = span.parent is None or span.parent.options is not span.options
    known = fields_of(span)
    if chosen is None or error is not None or not is_outermost or not known:
        return
    for name in sorted(chosen - known):
        _hint(span, name, f"no module had it as an output; there were {', '.join(sorted(known))}")


def _hint(span: Span, name: str, why: str) -> None:
    place = (span.module_path or span.module_name, name)
    if place not in _told and len(_told) < _MOST:
        _told.add(place)
        logger.warning("streamll: field %r of %s did not stream: %s", name, _who(span), why)


def _who(span: Span) -> str:
    return span.module_path or span.module_name or span.operation


def _why(span: Span, *, cached: bool) -> str:
    if cached and span.options.replay_cached == "off":
        return "the answer came from the cache and replay_cached is 'off'"
    return "the answer has no text for it, or its adapter cannot be decoded (see channel 'raw')"
