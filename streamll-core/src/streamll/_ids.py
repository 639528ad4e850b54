"""Identifiers: UUIDv7 event ids (RFC 9562) and W3C trace and span ids.

A private random generator, so that a program's own `random.seed()` neither repeats our ids
nor sees its sequence disturbed. Reseeded in a forked child.
"""

from __future__ import annotations

import itertools
import os
import random
import time

_random = random.Random()  # noqa: S311 - identifiers, not secrets
_prefix = ""
_counter = itertools.count()


def _reseed() -> None:
    """Start a new id space: 26 + 48 random bits, then a counter in the last 48."""
    global _prefix, _counter
    _random.seed(os.urandom(16))
    _prefix = f"-7{_random.getrandbits(12):03x}-{0x8000 | _random.getrandbits(14):04x}-"
    _counter = itertools.count(_random.getrandbits(47))


_reseed()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


def event_id() -> str:
    """Return a UUIDv7: millisecond time, then bits unique to this process and call."""
    millis = time.time_ns() // 1_000_000
    return "%08x-%04x%s%012x" % (
        millis >> 16,
        millis & 0xFFFF,
        _prefix,
        next(_counter) & 0xFFFFFFFFFFFF,
    )


def trace_id() -> str:
    """Return a W3C trace id: 32 hex digits, never all zero."""
    return f"{_random.getrandbits(128) or 1:032x}"


def span_id() -> str:
    """Return a W3C span id: 16 hex digits, never all zero."""
    return f"{_random.getrandbits(64) or 1:016x}"
