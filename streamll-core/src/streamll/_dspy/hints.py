"""Telling, once, why a field that was asked for did not stream."""

from __future__ import annotations

import logging
from typing import Final

from streamll._dspy.tokens import TokenStream
from streamll._spans import Span

__all__ = ["hint_silence"]

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
        place = (span.module_path, name)
        if place not in _told and len(_told) < _MOST:
            _told.add(place)
            logger.warning(
                "streamll: field %r of %s did not stream: %s",
                name,
                _who(span),
                _why(span, cached=cached),
            )


def _who(span: Span) -> str:
    return span.module_path or span.module_name or span.operation


def _why(span: Span, *, cached: bool) -> str:
    if cached and span.options.replay_cached == "off":
        return "the answer came from the cache and replay_cached is 'off'"
    return "the answer has no text for it, or its adapter cannot be decoded (see channel 'raw')"
