"""Events and batches as the core would hand them to the sink."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamll import Batch, Event

if TYPE_CHECKING:
    from collections.abc import Mapping

WHEN = datetime(2025, 3, 1, 16, 31, 42, 156_789, tzinfo=UTC)
SPAN = "a1b2c3d4e5f60718"


def make_event(
    event_type: str,
    data: Mapping[str, Any] | None = None,
    *,
    operation: str = "llm_call",
    severity: str = "info",
    **fields: Any,
) -> Event:
    """Return an event with everything else filled in."""
    return Event(
        event_id="0195a1b2-0000-7000-8000-000000000000",
        event_type=event_type,
        operation=operation,
        timestamp=WHEN,
        sequence=1,
        execution_id="e" * 32,
        trace_id="e" * 32,
        span_id=SPAN,
        severity=severity,
        data=data or {},
        schema_version="1.0",
        **fields,
    )


def make_batch(*events: Event) -> Batch:
    """Return *events* as one batch; the terminal reads no bodies."""
    return Batch(events=events, bodies=(b"{}",) * len(events))


def token(text: str) -> Event:
    """Return a token event."""
    return make_event("token", {"token": text})
