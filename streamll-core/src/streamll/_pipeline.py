"""Event -> processors -> one channel per sink. Runs in the emitting thread, never raises.

Order of an emit: level, sampling, snapshot, processors (may change or veto; fails closed),
scrubber, sequence number, one encoding, listener, every channel, observers. The number is
given after the filters so that what arrives has no gaps. The scrubber is the last to change
an event, so that no processor can put a secret in behind it. Between listener and channels
the events of an execution that is not sampled wait for an error.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

import attrs

from streamll import _ids
from streamll._capture import CaptureOptions
from streamll._checks import text
from streamll._log import warn
from streamll._sampling import Fate, Held, Sampler
from streamll._snapshot import Limits, snapshot
from streamll._spans import CONTEXT, LISTENER, Span
from streamll.encoding import encode
from streamll.events import SCHEMA_VERSION, Event
from streamll.patterns import Patterns
from streamll.privacy import Scrubber, StreamScrubber

__all__ = ["Pipeline", "Route", "Source"]

SEVERITIES: Final = {"debug": 0, "info": 1, "warn": 2, "error": 3}

Processor = Callable[[Event], Event | None]
Observer = Callable[[Event], Any]
_now = datetime.now

#: The empty payload is shared: nobody mutates an event's data.
_EMPTY: Final[Mapping[str, Any]] = {}
_URLS_ONLY: Final = Scrubber()


class _Channel(Protocol):
    @property
    def is_pressed(self) -> bool: ...

    def submit(self, event: Event, body: bytes) -> None: ...


class Route:
    """A channel and the filter in front of it (`only=`)."""

    __slots__ = ("accepts", "channel", "sink", "submit")

    def __init__(self, sink: Any, channel: _Channel, only: tuple[str, ...] | None) -> None:
        self.sink = sink
        self.channel = channel
        self.submit = channel.submit
        #: Whether an event passes the filter; None for all of them.
        self.accepts = None if only is None else Patterns(only).accepts


@attrs.frozen(kw_only=True)
class Source:
    """What the producing process says of itself; part of every event."""

    service: str = attrs.field(validator=text)
    environment: str | None = attrs.field(default=None, validator=text)
    release: str | None = attrs.field(default=None, validator=text)

    def describe(self) -> Mapping[str, Any]:
        """Return the `source` of the events of this process."""
        fields = attrs.asdict(self, filter=lambda _, value: value is not None)
        return {**fields, "host": socket.gethostname(), "pid": os.getpid()}


@attrs.define(kw_only=True)
class Pipeline:
    """Where events go, fixed at configure time; replaced as a whole, never changed.

    Attributes:
        routes: one per sink.
        processors: called in order; may replace or veto an event; one that raises vetoes.
        observers: see every accepted event.
        source: who we are.
        level: least severity that is emitted.
        limits: sizes.
        tags: put on every event.
        capture: what is captured where `instrument` does not say otherwise.
        capture_all: whether programs that nobody marked are captured too.
        parsers: adapter class name -> parser factory of plugins.
        scrubber: removes secrets behind the processors; None for URL passwords only.
        sampler: chooses the executions that are sent; None for all.
        lost: why events did not become accepted: reason -> count.
    """

    routes: tuple[Route, ...]
    source: Source
    processors: tuple[Processor, ...] = ()
    observers: tuple[Observer, ...] = ()
    level: str = "debug"
    limits: Limits = attrs.field(factory=Limits)
    tags: tuple[str, ...] = ()
    capture: CaptureOptions = attrs.field(factory=CaptureOptions)
    capture_all: bool = False
    parsers: Mapping[str, Any] = attrs.field(factory=dict)
    scrubber: Scrubber | None = None
    sampler: Sampler | None = None
    lost: Counter[str] = attrs.field(factory=Counter)
    _source: Mapping[str, Any] = attrs.field(init=False)
    _least: int = attrs.field(init=False)
    _filters: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._least = SEVERITIES[self.level]
        self._filters = bool(self.processors) or self.scrubber is not None
        self.renew_source()

    def renew_source(self) -> None:
        """Describe the process again, e.g. with a forked child's pid."""
        self._source = self.source.describe()

    def emit(  # noqa: C901 - see below
        self,
        span: Span,
        event_type: str,
        data: Mapping[str, Any] = _EMPTY,
        *,
        severity: str | None = None,
        duration_ms: float | None = None,
        trusted: bool = False,
        tags: tuple[str, ...] = (),
        redacted: tuple[str, ...] = (),
    ) -> None:
        """Accept one event of *span*.

        *trusted* data is ours: JSON-safe, never changed, and already scrubbed where it holds
        text (see `text_scrubber`); *redacted* says what that removed.
        """
        severity = severity or span.severity
        if SEVERITIES[severity] < self._least:
            return
        # In one piece and by position: more calls and keywords would cost half as much again.
        try:
            execution, parent = span.execution, span.parent
            held = execution.held if self.sampler is None else self._held(span, self.sampler)
            if held is not None and held.fate is Fate.DROPPED and LISTENER.get() is None:
                self.lost["sampled"] += 1
                return
            truncated: Mapping[str, int] | None = None
            if not trusted:
                data, truncated, redacted = snapshot(data, self.limits)
            event = Event(
                _ids.event_id(),
                event_type,
                span.operation,
                _now(UTC),
                0 if self._filters else execution.next_sequence(),
                execution.execution_id,
                execution.trace_id,
                span.span_id,
                severity,
                data,
                SCHEMA_VERSION,
                None if parent is None else parent.span_id,
                span.module_name,
                span.module_path,
                span.name,
                duration_ms,
                self._source,
                CONTEXT.get(),
                self.tags + tags if tags else self.tags,
                redacted,
                truncated or None,
                execution.sampled_rate,
            )
            if self._filters:
                processed = self._process(event, trusted)
                if processed is None:
                    return
                event = processed.replace(sequence=execution.next_sequence())
            event, body = encode(event, self.limits)
            listener = LISTENER.get()
            if listener is not None:
                listener(event)
            if held is None:
                self._send(span.sinks, event, body)
            else:
                held.take(event, body, partial(self._send, span.sinks), is_root=parent is None)
        except Exception as error:  # noqa: BLE001 - observing never fails the program
            self._report("emit_error", error)

    def _held(self, span: Span, sampler: Sampler) -> Held | None:
        """Return what sampling decided on the execution of *span*, now if it has not yet."""
        return span.execution.held or sampler.decide(span)

    def _process(self, event: Event, trusted: bool) -> Event | None:
        current: Event | None = event
        for processor in self.processors:
            if current is not None:
                current = self._apply(processor, current)
        if self.scrubber is None or current is None:
            return current
        is_clean = trusted and current.data is event.data
        return self._apply(self.scrubber.envelope if is_clean else self.scrubber, current)

    def _apply(self, processor: Processor, event: Event) -> Event | None:
        try:
            processed = processor(event)
        except Exception as error:  # noqa: BLE001 - fails closed: a raising redactor leaks nothing
            self._report("processor_error", error)
            return None
        if processed is None:
            self.lost["vetoed"] += 1
        elif not isinstance(processed, Event):
            self._report("processor_error", TypeError("not an Event"))
            return None
        return processed

    def text_scrubber(self) -> StreamScrubber:
        """Return a scrubber for one text that is emitted in pieces, as trusted data."""
        return (self.scrubber or _URLS_ONLY).stream(partial(self._report, "processor_error"))

    def is_pressed(self, span: Span) -> bool:
        """Whether a sink of *span* is so far behind that it should be given less."""
        routes = self.routes if span.sinks is None else span.sinks
        return any(route.channel.is_pressed for route in routes)

    def _send(self, sinks: tuple[Route, ...] | None, event: Event, body: bytes) -> None:
        for route in self.routes if sinks is None else sinks:
            accepts = route.accepts
            if accepts is None or accepts(event):
                route.submit(event, body)
        for observer in self.observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - one observer never silences another
                self._report("observer_error", error)

    def _report(self, reason: str, error: Exception) -> None:
        """Count, and log the first of each reason: by type name, never with payload."""
        self.lost[reason] += 1
        if self.lost[reason] == 1:
            warn(f"{reason} ({type(error).__name__}); further ones are counted")
