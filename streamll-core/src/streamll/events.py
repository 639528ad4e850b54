"""The event: schema 1.0, one frozen record, encoded once.

Every `start` is followed by exactly one `end`, `error` or `cancel` with the same
`span_id`. `sequence` is contiguous per `execution_id`. Unknown values are absent, never 0.
Fields may be added within 1.x; none is renamed or removed. Consumers must tolerate unknown
`event_type` and `operation` values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, overload

import attrs
import msgspec

__all__ = ["CLOSING_TYPES", "SCHEMA_VERSION", "Batch", "Event"]

SCHEMA_VERSION: Final = "1.0"

#: The event types that end a span; exactly one of them follows each "start".
CLOSING_TYPES: Final = frozenset({"end", "error", "cancel"})


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One thing that happened inside a program. Immutable and safe to share between threads.

    Attributes:
        schema_version: "1.0".
        event_id: UUIDv7 as 36 characters; unique, sortable by time; the deduplication key.
        event_type: "start", "token", "end", "error", "cancel", "reset", ... or a custom name.
        operation: "module_forward", "llm_call", "tool_call", ... or a `trace` name.
        timestamp: aware UTC wall-clock time, microseconds. Durations use the monotonic clock.
        sequence: 1, 2, 3 ... within one execution, without gaps unless a drop is announced.
        execution_id: 32 hex; one outermost program call.
        trace_id: W3C trace id, 32 hex; equals `execution_id` unless nested in a foreign trace.
        span_id: W3C span id, 16 hex; one per call.
        parent_span_id: the span this one runs in; None at the root.
        severity: "debug", "info", "warn" or "error".
        data: what is particular to the type (see docs/events.md); JSON-safe.
        module_name: snake_case class of the nearest `dspy.Module`, or `instrument(name=)`.
        module_path: attribute path from the program's root, e.g. "retriever.rerank".
        name: label for people: predictor, tool, model or user-given name.
        duration_ms: milliseconds from start to close, on closing events.
        source: service, environment, host, pid, ... of the producing process.
        context: flat map of scalars set by `context()` / `set_context()`.
        tags: labels for filters.
        redacted: JSON pointers of what a scrubber removed.
        truncated: JSON pointer -> original length of what a size cap cut.
        sampled_rate: 1 of how many executions is kept, when sampling.
        links: related spans, each with trace_id, span_id, kind.

    Pass fields by keyword; only the hot path of `emit` relies on their order.

    `omit_defaults` keeps absent values off the wire, so absent is never confused with zero.
    `gc=False` is safe because an event never refers to itself.
    """

    event_id: str
    event_type: str
    operation: str
    timestamp: datetime
    sequence: int
    execution_id: str
    trace_id: str
    span_id: str
    severity: str
    data: Mapping[str, Any]
    schema_version: str
    parent_span_id: str | None = None
    module_name: str | None = None
    module_path: str | None = None
    name: str | None = None
    duration_ms: float | None = None
    source: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    tags: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()
    truncated: Mapping[str, int] | None = None
    sampled_rate: float | None = None
    links: Sequence[Mapping[str, str]] = ()

    def replace(self, **changes: Any) -> Event:
        """Return a copy with *changes*, for `streamll_process_event` hooks.

        Raises:
            TypeError: for a name that is not a field.
        """
        return msgspec.structs.replace(self, **changes)


@attrs.frozen(eq=False)
class Batch(Sequence[Event]):
    """The events of one write attempt, oldest first: a plain sequence of `Event`.

    Attributes:
        events: the events.
        bodies: the same events as JSON (schema 1.0, UTF-8), encoded once when they were
            emitted; wire sinks send these bytes as they are.
        attempt: 1 for the first try of these events, more for a retry.
    """

    events: tuple[Event, ...]
    bodies: tuple[bytes, ...]
    attempt: int = 1

    def __len__(self) -> int:
        return len(self.events)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self.events[index]
