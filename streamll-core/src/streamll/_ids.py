"""Identifiers: UUIDv7 event ids (RFC 9562) and W3C trace and span ids.

A private random generator, so that a program's own `random.seed()` neither repeats our ids
nor sees its sequence disturbed. Reseeded in a forked child.
"""

from __future__ import annotations

import itertools
import os
import random
from time import time_ns

_random = random.Random()  # noqa: S311 - identifiers, not secrets
_prefix = ""
_next = itertools.count().__next__
#: A millisecond and how its ids begin: writing that out would be half of the cost of an id.
_head = (0, "")


def _reseed() -> None:
    """Start a new id space: 26 + 48 random bits, then a counter in the last 48."""
    global _prefix, _next, _head
    _random.seed(os.urandom(16))
    _prefix = f"-7{_random.getrandbits(12):03x}-{0x8000 | _random.getrandbits(14):04x}-"
    _next = itertools.count(_random.getrandbits(47)).__next__
    _head = (0, "")


_reseed()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


def event_id() -> str:
    """Return a UUIDv7: millisecond time, then bits unique to this process and call."""
    global _head
    millis = time_ns() // 1_000_000
    known, head = _head
    if millis != known:
        head = f"{millis >> 16:08x}-{millis & 0xFFFF:04x}{_prefix}"
        _head = (millis, head)
    return head + "%012x" % _next()


def random_bits(count: int) -> int:
    """Return a number of *count* random bits."""
    return _random.getrandbits(count)


def trace_id() -> str:
    """Return a W3C trace id: 32 hex digits, never all zero."""
    return f"{_random.getrandbits(128) or 1:032x}"


def span_id() -> str:
    """Return a W3C span id: 16 hex digits, never all zero."""
    return f"{_random.getrandbits(64) or 1:016x}"
