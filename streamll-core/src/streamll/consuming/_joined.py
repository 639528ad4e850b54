"""A handler's own events belong to the trace of the event it handles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamll._spans import CURRENT, Execution, Span
from streamll.events import Event

__all__ = ["joined"]


@contextmanager
def joined(event: Event) -> Iterator[None]:
    """Let spans begun inside be children of the span of *event*, in an execution of their own.

    `trace` and DSPy programs inside get ``trace_id == event.trace_id`` and ``parent_span_id ==
    event.span_id``; `emit` adds to the span of *event* itself.
    """
    token = CURRENT.set(_span_of(event))
    try:
        yield
    finally:
        CURRENT.reset(token)


def _span_of(event: Event) -> Span:
    """Return the running span of another process as one of ours."""
    execution = Execution(trace_id=event.trace_id)
    parent = None
    if event.parent_span_id is not None:
        parent = Span(event.operation, parent=None, execution=execution)
        parent.span_id = event.parent_span_id
    span = Span(event.operation, parent=parent, execution=execution)
    span.span_id = event.span_id
    return span
