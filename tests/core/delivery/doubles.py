"""Events, sinks and channels for the delivery tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamll._delivery import make_channel
from streamll._delivery.channel import Channel
from streamll.events import SCHEMA_VERSION, Batch, Event
from streamll.settings import DeliverySettings
from streamll.sink import AsyncSink, Sink

#: Seconds after which something that should have happened has not; never waited for in full.
PATIENCE = 20.0
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_event(number: int = 1, event_type: str = "custom", **fields: Any) -> Event:
    defaults: dict[str, Any] = {
        "event_id": f"id-{number}",
        "event_type": event_type,
        "operation": "llm_call",
        "timestamp": NOON,
        "sequence": number,
        "execution_id": "e" * 32,
        "trace_id": "e" * 32,
        "span_id": "5" * 16,
        "severity": "info",
        "data": {},
        "schema_version": SCHEMA_VERSION,
    }
    return Event(**{**defaults, **fields})


def token(number: int, text: str, **fields: Any) -> Event:
    data = {"token": text, "field": "answer", "channel": "content"}
    return make_event(number, "token", data={**data, **fields.pop("data", {})}, **fields)


def encode(event: Event) -> bytes:
    return msgspec.json.encode(event)


def announce(data: Mapping[str, Any]) -> tuple[Event, bytes]:
    event = make_event(0, "dropped", operation="streamll", data=dict(data), event_id="notice")
    return event, encode(event)


def is_notice(event: Event) -> bool:
    return (event.operation, event.event_type) == ("streamll", "dropped")


def make_pure(**options: Any) -> Channel:
    """A pure channel whose jitter is the middle of its range."""
    return Channel(DeliverySettings(**options), "Sink", announce, random=lambda: 0.5)


def open_channel(sink: Sink | AsyncSink, **options: Any) -> Any:
    return make_channel(sink, announce=announce, **options)


def submit(channel: Any, *events: Event) -> None:
    for event in events:
        channel.submit(event, encode(event))


def soon() -> float:
    return time.monotonic() + PATIENCE


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for *condition*; for tests of real threads only."""
    end = soon()
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def balanced(stats: Any) -> bool:
    known = stats.delivered + sum(stats.dropped.values()) + stats.queued + stats.in_flight
    return stats.accepted == known


class Recorder(Sink):
    """Keeps what it is given; *script* is called with each batch first and may raise."""

    def __init__(self, script: Callable[[Batch], Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.script = script
        self.got: list[Event] = []
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def open(self) -> None:
        self.calls.append("open")

    def write(self, batch: Batch) -> Any:
        self.calls.append("write")
        self.threads.add(threading.get_ident())
        report = self.script(batch) if self.script is not None else None
        self.got.extend(e for i, e in enumerate(batch) if not (report and i in report))
        return report

    def close(self) -> None:
        self.calls.append("close")

    @property
    def sequences(self) -> list[int]:
        return [event.sequence for event in self.got if not is_notice(event)]


class AsyncRecorder(AsyncSink):
    """The async twin of `Recorder`."""

    def __init__(self, script: Callable[[Batch], Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.script = script
        self.got: list[Event] = []
        self.calls: list[str] = []
        self.threads: set[int] = set()

    async def open(self) -> None:
        self.calls.append("open")

    async def write(self, batch: Batch) -> Any:
        self.calls.append("write")
        self.threads.add(threading.get_ident())
        report = self.script(batch) if self.script is not None else None
        self.got.extend(e for i, e in enumerate(batch) if not (report and i in report))
        return report

    async def close(self) -> None:
        self.calls.append("close")

    sequences = Recorder.sequences
