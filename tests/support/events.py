"""Events and batches for tests that hand them to a sink directly."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamll import Batch, Event

__all__ = ["batch_of", "body_of", "make_event", "make_events"]

_numbers = itertools.count(1)
_json = msgspec.json.Encoder()


def make_event(**changes: Any) -> Event:
    """Return a token event, unlike all others, with *changes*."""
    number = next(_numbers)
    execution = changes.get("execution_id", "e" * 32)
    fields: dict[str, Any] = {
        "event_id": str(uuid.UUID(int=number)),
        "event_type": "token",
        "operation": "llm_call",
        "timestamp": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "sequence": number,
        "execution_id": execution,
        "trace_id": execution,
        "span_id": "5" * 16,
        "severity": "debug",
        "data": {"token": " the", "field": "answer", "index": number},
        "schema_version": "1.0",
        "module_name": "rag_pipeline",
    }
    return Event(**{**fields, **changes})


def make_events(count: int, **changes: Any) -> list[Event]:
    """Return *count* events of one call."""
    return [make_event(**changes) for _ in range(count)]


def body_of(event: Event) -> bytes:
    """Encode an event the way the core does."""
    return _json.encode(event)


def batch_of(events: list[Event], attempt: int = 1) -> Batch:
    """Return the batch a sink would be given."""
    return Batch(tuple(events), tuple(map(body_of, events)), attempt)
