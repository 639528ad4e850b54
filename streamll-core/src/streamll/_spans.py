"""Where we are: the running span, its execution, and the ambient context.

All three travel in context variables, so they follow `await`, tasks and
`asyncio.to_thread` by themselves; `dspy.Parallel` is taught by `streamll._dspy`, other
thread pools by `streamll.bound`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from streamll import _ids

__all__ = ["CONTEXT", "CURRENT", "LISTENER", "Execution", "Span"]


class Execution:
    """One outermost call: the scope of `sequence`.

    Attributes:
        execution_id: 32 hex.
        trace_id: `execution_id`, or the id of the foreign trace this call is part of.
        next_sequence: returns 1, 2, 3 ...; atomic under the GIL and in free-threaded builds.
    """

    __slots__ = (
        "execution_id",
        "held",
        "next_sequence",
        "root",
        "sampled_rate",
        "trace_id",
    )

    def __init__(self, trace_id: str | None = None) -> None:
        self.execution_id = _ids.trace_id()
        self.trace_id = trace_id or self.execution_id
        self.next_sequence: Callable[[], int] = itertools.count(1).__next__
        self.sampled_rate: float | None = None
        self.held: Any = None
        self.root: Any = None


class Span:
    """One call in progress. Owned by the thread or task that runs the call.

    Attributes:
        owner: the `Trace` that entered it; None for a DSPy call.
        result: more data for the end event of a `Trace`.
        sinks: routes to the sinks of this call, or None for the configured ones.
        is_closed: whether the call has ended.
    """

    __slots__ = (
        "details",
        "execution",
        "is_closed",
        "module_name",
        "module_path",
        "name",
        "operation",
        "options",
        "owner",
        "parent",
        "previous",
        "result",
        "severity",
        "sinks",
        "span_id",
        "started",
        "tokens",
    )

    def __init__(
        self,
        operation: str,
        *,
        parent: Span | None,
        execution: Execution,
        name: str | None = None,
        severity: str = "info",
    ) -> None:
        self.operation = operation
        self.parent = parent
        self.execution = execution
        self.name = name
        self.severity = severity
        self.span_id = _ids.span_id()
        self.module_name: str | None = parent.module_name if parent else None
        self.module_path: str | None = parent.module_path if parent else None
        self.options: Any = parent.options if parent else None
        self.sinks: tuple[Any, ...] | None = parent.sinks if parent else None
        self.owner: Any = None
        self.result: dict[str, Any] = {}
        self.is_closed = False
        self.details: Any = None
        self.previous: Span | None = None
        self.tokens: list[int] = []
        self.started = time.perf_counter()

    @property
    def duration_ms(self) -> float:
        """Milliseconds since the start, by the monotonic clock."""
        return round((time.perf_counter() - self.started) * 1000, 3)

    def ancestors(self) -> Iterator[Span]:
        """Yield the enclosing spans, nearest first."""
        span = self.parent
        while span is not None:
            yield span
            span = span.parent

    def enter(self) -> None:
        """Make this the running span of the current context."""
        self.previous = CURRENT.get()
        CURRENT.set(self)

    def exit(self) -> None:
        """Give the context back to the span that ran before."""
        self.is_closed = True
        if CURRENT.get() is self:  # else another one runs, e.g. of an interleaved generator
            CURRENT.set(self._still_open())

    def _still_open(self) -> Span | None:
        span = self.previous
        while span is not None and span.is_closed:
            span = span.previous
        return span


CURRENT: ContextVar[Span | None] = ContextVar("streamll_span", default=None)
#: Is given every event emitted in this context, in the emitting thread (`streamll.stream`).
LISTENER: ContextVar[Callable[[Any], None] | None] = ContextVar("streamll_listener", default=None)
#: Never mutated: every change sets a new mapping, so events share it without copying.
CONTEXT: ContextVar[Mapping[str, Any] | None] = ContextVar("streamll_context", default=None)
