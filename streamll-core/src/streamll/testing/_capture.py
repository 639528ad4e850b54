"""Capturing events in a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streamll._config import configure
from streamll._lifecycle import flush
from streamll.events import Event
from streamll.testing._sinks import MemorySink

__all__ = ["capture_events"]


@contextmanager
def capture_events(**options: Any) -> Iterator[list[Event]]:
    """Collect the events of the block in a list, complete when the block ends.

    Captures every DSPy program (``capture="all"``) when dspy is installed and *options*, those
    of `streamll.configure`, do not say otherwise; restores the configuration that was there.
    """
    sink = MemorySink(buffer_size=1_000_000, buffer_bytes=1 << 30)
    events: list[Event] = []
    with configure([sink], **{"capture": "all", **options}):
        try:
            yield events
        finally:
            flush(30)
            events.extend(sink.events)
