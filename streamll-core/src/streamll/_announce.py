"""What streamll says of itself: announced drops, circuit changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamll import _ids, _runtime
from streamll._plugins import registry
from streamll.events import SCHEMA_VERSION, Event

__all__ = ["dropped_event", "tell_circuit_change"]

logger = logging.getLogger("streamll")


def dropped_event(data: Mapping[str, Any]) -> tuple[Event, bytes]:
    """Return the `streamll.dropped` event that announces a loss, and its body."""
    pipeline = _runtime.current()
    execution = _ids.trace_id()
    event = Event(
        event_id=_ids.event_id(),
        event_type="dropped",
        operation="streamll",
        timestamp=datetime.now(UTC),
        sequence=1,
        execution_id=execution,
        trace_id=execution,
        span_id=_ids.span_id(),
        severity="warn",
        data=data,
        schema_version=SCHEMA_VERSION,
        source=pipeline.source.describe() if pipeline else None,
    )
    return event, msgspec.json.encode(event)


def tell_circuit_change(sink: Any, old: str, new: str) -> None:
    """Tell plugins that the circuit of *sink* changed. Called from the sink's worker."""
    for hook in registry().hooks("streamll_sink_changed"):
        try:
            hook(sink, old, new)
        except Exception as error:  # noqa: BLE001 - plugins never break delivery
            logger.warning("streamll: a streamll_sink_changed hook raised %s", type(error).__name__)
