"""`SinkContract`: the suite that makes a sink production-ready.

Subclass it in your tests, say how to make your sink and how to read back what it delivered::

    class TestWebhookSink(SinkContract):
        def make_sink(self):
            return WebhookSink(self.server.url)

        def read(self, sink):
            return self.server.received          # the events, or their JSON bodies

    # optional: make_unreachable_sink(), for the rules about failure

Each test is a rule; a failure prints the rule as a sentence. Works for `Sink` and `AsyncSink`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

import msgspec

from streamll import _ids
from streamll._config import configure
from streamll._lifecycle import flush
from streamll._snapshot import Limits, json_safe
from streamll._tracing import emit
from streamll.encoding import encode
from streamll.errors import DeliveryError
from streamll.events import SCHEMA_VERSION, Batch, Event
from streamll.sink import AsyncSink, Report, Sink
from streamll.testing._sinks import FlakySink, MemorySink

__all__ = ["SinkContract", "make_batch"]

#: Events the accounting test emits: 250 from each of four threads.
_EMITTED = 1_000

#: Payloads that broke somebody's client once.
HOSTILE: tuple[dict[str, Any], ...] = (
    {},
    {"text": "nul \x00 esc \x1b[31m bell \x07 del \x7f"},
    {"text": "\u202e right to left \U0001f600 e\u0301 \ufeff \ufffd"},
    {"text": "quotes \" ' ` braces {} [] ${x} %s \\ \r\n"},
    {"nested": [[[[{"a": None}]]]], "empty": "", "zero": 0, "no": False},
    {"text": "x" * 100_000},
    {"numbers": [2**63, -(2**63), 1e308, -0.0]},
    {"": "empty key", "\U0001f600": 1, "a.b": 2, "*#": 3},
)


def make_batch(payloads: Iterable[dict[str, Any]], *, attempt: int = 1) -> Batch:
    """Return a batch of custom events of one execution, one per payload, as a channel would."""
    execution, span = _ids.trace_id(), _ids.span_id()
    pairs = []
    for number, payload in enumerate(payloads, 1):
        event = Event(
            event_id=_ids.event_id(),
            event_type="contract",
            operation="contract",
            timestamp=datetime.now(UTC),
            sequence=number,
            execution_id=execution,
            trace_id=execution,
            span_id=span,
            severity="info",
            data=json_safe(payload)[0],
            schema_version=SCHEMA_VERSION,
        )
        pairs.append(encode(event, Limits()))
    return Batch(tuple(e for e, _ in pairs), tuple(b for _, b in pairs), attempt)


class SinkContract:
    """Rules every sink keeps. Override `make_sink` and `read`."""

    #: Seconds `flush` may take in these tests.
    patience: float = 30.0

    def make_sink(self) -> Sink | AsyncSink:
        """Return a new sink that can deliver."""
        raise NotImplementedError("override make_sink(): return a sink that can deliver")

    def read(self, sink: Any) -> Sequence[Any]:
        """Return what arrived at the other end, oldest first: events, bodies, or see `key`."""
        raise NotImplementedError("override read(sink): return what arrived, oldest first")

    def key(self, item: Any) -> Any:
        """Return what identifies an event, and what `read` returned of it, when compared.

        Override it where the other end does not keep the whole event.
        """
        event = item if isinstance(item, Event) else msgspec.json.decode(item, type=Event)
        return event.event_id, event.sequence, event.data

    def make_unreachable_sink(self) -> Sink | AsyncSink | None:
        """Return a sink whose other end is down, or None when there is no such thing."""
        return None

    # -- the sink alone: one attempt at a time -----------------------------------------------

    def test_a_batch_is_delivered_whole_and_in_order(self) -> None:
        """What `write` accepted arrives, in the order of the batch, unchanged."""
        batch = make_batch({"n": n} for n in range(50))
        with self._driven(self.make_sink()) as drive:
            report = drive.write(batch)
            self._holds(not report, f"write() reported {report} for a batch it could deliver")
            self._same(batch.events, drive.sink, "write() changed, lost or reordered events")

    def test_batches_of_any_size_are_delivered(self) -> None:
        """One event, and as many as `batch_size` allows."""
        sink = self.make_sink()
        batches = [
            make_batch([{"n": 1}]),
            make_batch({"n": n} for n in range(sink.delivery.batch_size)),
        ]
        with self._driven(sink) as drive:
            for batch in batches:
                drive.write(batch)
            expected = [event for batch in batches for event in batch]
            self._same(expected, sink, "a batch of one, or a full batch, did not arrive whole")

    def test_hostile_events_cost_nobody_but_themselves(self) -> None:
        """An event the other end cannot take is reported by a verdict; its neighbours arrive."""
        batch = make_batch(HOSTILE)
        with self._driven(self.make_sink()) as drive:
            refused = set(drive.write(batch) or {})
            kept = [event for n, event in enumerate(batch) if n not in refused]
            self._same(kept, drive.sink, "an event that write() did not refuse is missing")

    def test_a_retry_of_an_answered_batch_is_allowed(self) -> None:
        """After an unknown outcome the same batch comes again, with `attempt` raised."""
        first = make_batch([{"n": 1}, {"n": 2}])
        again = Batch(first.events, first.bodies, attempt=2)
        with self._driven(self.make_sink()) as drive:
            drive.write(first)
            drive.write(again)
            got, known = self._keys(self.read(drive.sink)), self._keys(first)
            invented = [key for key in got if key not in known]
            missing = [key for key in known if key not in got]
            rule = "a repeated batch brought events nobody sent, or lost some"
            self._holds(not invented and not missing, rule)

    def test_closing_twice_is_fine(self) -> None:
        """`close` is called again after a failed close; it must not raise."""
        with self._driven(self.make_sink()) as drive:
            drive.write(make_batch([{}]))
            drive.close()
            drive.close()

    def test_closing_a_sink_that_was_never_opened_is_fine(self) -> None:
        """A program may end before the first event."""
        sink = self.make_sink()
        with _Drive(sink) as drive:
            drive.close()

    def test_a_closed_sink_can_be_opened_again(self) -> None:
        """Reconfiguring, and a forked child, open the same sink anew."""
        with self._driven(self.make_sink()) as drive:
            drive.close()
            drive.open()
            batch = make_batch([{"n": 1}])
            drive.write(batch)
            self._same(batch.events, drive.sink, "a sink that was closed and opened lost an event")

    def test_a_failure_is_told_and_never_swallowed(self) -> None:
        """With the other end down, `open` or `write` raises or reports: no silent success."""
        sink = self.make_unreachable_sink()
        if sink is None:
            return
        told = False
        with _Drive(sink) as drive:
            try:
                drive.open()
                told = bool(drive.write(make_batch([{}])))
            except Exception as error:  # noqa: BLE001 - any exception tells
                told = True
                rule = "raise TransientError, PermanentError or OutcomeUnknown, not "
                self._holds(isinstance(error, DeliveryError), rule + type(error).__name__)
        self._holds(told, "the other end is down, yet open() and write() told of no failure")

    # -- the sink behind its channel: what users see -----------------------------------------

    def test_emitted_events_all_arrive_and_the_accounting_says_so(self) -> None:
        """Through the channel: every event, in order, from several threads."""
        sink, witness = self.make_sink(), MemorySink()
        with configure([sink, witness]):
            threads = [threading.Thread(target=self._emit, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._holds(flush(self.patience), "flush() could not deliver everything in time")
            stats = sink.stats
            balanced = stats.accepted == stats.delivered == _EMITTED
            self._holds(balanced, f"accounting is off: {stats}")
            got = self._keys(self.read(sink))
        for number in range(4):
            sent = [e for e in witness.events if e.event_type == f"thread{number}"]
            sent.sort(key=lambda event: event.data["n"])
            expected = self._keys(sent)
            mine = [key for key in got if key in expected]
            self._holds(mine == expected, "the events of one thread are not whole and in order")

    def _emit(self, number: int) -> None:
        for n in range(250):
            emit(f"thread{number}", n=n, thread=number)

    def test_a_failing_neighbour_costs_this_sink_nothing(self) -> None:
        """Sinks are isolated from each other."""
        sink = self.make_sink()
        with configure([FlakySink(buffer_size=10), sink]):
            for n in range(100):
                emit("neighbour", n=n)
            flush(1.0)
            self._holds(sink.stats.delivered >= 100, "a failing neighbour held this sink back")  # noqa: PLR2004

    def test_after_close_nothing_is_accepted_and_nothing_raises(self) -> None:
        """Programs go on emitting while they shut down."""
        sink = self.make_sink()
        with configure([sink]):
            emit("before")
        emit("after")
        self._holds(not sink.is_running, "is_running is True after the sink was closed")
        self._holds(len(self.read(sink)) == 1, "an event emitted after close was delivered")

    # -- helpers -------------------------------------------------------------------------------

    @contextmanager
    def _driven(self, sink: Sink | AsyncSink) -> Iterator[_Drive]:
        with _Drive(sink) as drive:
            drive.open()
            yield drive
            drive.close()

    def _keys(self, items: Iterable[Any]) -> list[Any]:
        return [self.key(item) for item in items]

    def _same(self, expected: Iterable[Event], sink: Any, rule: str) -> None:
        wanted, got = self._keys(expected), self._keys(self.read(sink))
        self._holds(got == wanted, f"{rule}: {len(got)} of {len(wanted)} events match in place")

    def _holds(self, holds: bool, rule: str) -> None:
        if not holds:
            raise AssertionError(f"{type(self).__name__} breaks the sink contract: {rule}")


class _Drive:
    """Calls a sink as its channel does: sync directly, async on one loop of its own."""

    def __init__(self, sink: Sink | AsyncSink) -> None:
        self.sink = sink
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def _call(self, method: Any, *args: Any) -> Any:
        return (
            self._runner.run(method(*args)) if isinstance(self.sink, AsyncSink) else method(*args)
        )

    def open(self) -> None:
        self._call(self.sink.open)

    def write(self, batch: Batch) -> Report | None:
        report: Report | None = self._call(self.sink.write, batch)
        return report

    def close(self) -> None:
        self._call(self.sink.close)
