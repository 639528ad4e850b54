"""What one event costs the program: streamll beside logging's QueueHandler and an OTel span.

Every subject hands records to a background thread that discards them. A round emits
`EVENTS` of them as fast as it can, then waits until all are delivered; no buffer is small
enough to drop one, for a dropped record would look cheap. Three figures per record:

- wall: time until the emitting threads are done, over the number of records. With more than
  one thread it is the throughput of all, turned round. Other load on the machine shows here.
- program CPU: CPU time of the emitting threads; what the program pays.
- all CPU: CPU time of the whole process, delivery in the background included.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from queue import Queue
from typing import Final

import attrs
from _discard import DiscardingExporter, DiscardingHandler, DiscardingSink, batching_provider
from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave
from opentelemetry.sdk.trace import TracerProvider

import streamll
from streamll import _runtime
from streamll._spans import Execution, Span

EVENTS: Final = 6_400
ROUNDS: Final = 15
THREADS: Final = (1, 8, 64)
_PEER: Final = "logging QueueHandler"
_OURS: Final = "token event, 1 sink"
_COLUMNS: Final = ("", "wall", "program CPU", "all CPU", "wall*", "program CPU*", "missing")


@attrs.frozen
class Probe:
    """One way to emit a record.

    Attributes:
        emit: emits one record; called from many threads.
        drain: returns when all records are delivered.
        missing: emitted -> records that were expected at a receiver and did not arrive.
    """

    emit: Callable[[], object]
    drain: Callable[[], object] = lambda: None
    missing: Callable[[int], int] = lambda _: 0


@attrs.frozen
class Cost:
    """What one round cost, in µs per record, and how many records did not arrive."""

    wall: float
    program: float
    everything: float
    missing: int


Subject = Callable[[], AbstractContextManager[Probe]]


@contextmanager
def _streamll(sinks: int, emit: Callable[[], Callable[[], object]]) -> Iterator[Probe]:
    receivers = [DiscardingSink() for _ in range(sinks)]
    with streamll.configure(sinks=receivers), streamll.trace("benchmark"):
        streamll.flush(10)
        before = [receiver.received for receiver in receivers]

        def missing(emitted: int) -> int:
            arrived = [r.received - b for r, b in zip(receivers, before, strict=True)]
            return sum(emitted - count for count in arrived)

        yield Probe(emit(), partial(streamll.flush, 10), missing)


def _custom() -> Callable[[], object]:
    """An event of the application's own, inside a running span, with a small payload."""
    return streamll.bound(lambda: streamll.emit("docs_found", count=3, source="wiki"))


def _token() -> Callable[[], object]:
    """A token as the capture of an LM call emits it, below the public API."""
    pipeline = _runtime.current()
    assert pipeline is not None
    span = Span("llm_call", parent=None, execution=Execution(), name="benchmark/model")

    def emit() -> None:
        data = {
            "token": " word",
            "field": "answer",
            "channel": "content",
            "index": 7,
            "offset": 31,
            "attempt": 1,
            "choice_index": 0,
            "origin": "live",
        }
        pipeline.emit(span, "token", data, trusted=True)

    return emit


@contextmanager
def _not_configured() -> Iterator[Probe]:
    yield Probe(lambda: streamll.emit("docs_found", count=3, source="wiki"))


@contextmanager
def _logging() -> Iterator[Probe]:
    queue: Queue[logging.LogRecord] = Queue(-1)
    receiver = DiscardingHandler()
    listener = QueueListener(queue, receiver)
    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [QueueHandler(queue)]
    listener.start()
    # stop() returns when the queue is empty, and the next round starts a new listener.
    yield Probe(
        emit=lambda: logger.info("token %s", " word"),
        drain=listener.stop,
        missing=lambda emitted: emitted - receiver.received,
    )


@contextmanager
def _opentelemetry(*, export: bool) -> Iterator[Probe]:
    receiver = DiscardingExporter()
    provider = batching_provider(receiver, 2 * EVENTS) if export else TracerProvider()
    tracer = provider.get_tracer("benchmark")
    attributes = {"token": " word", "field": "answer", "index": 7}
    yield Probe(
        emit=lambda: tracer.start_span("token", attributes=attributes).end(),
        drain=provider.force_flush,
        missing=lambda emitted: emitted - receiver.received if export else 0,
    )
    provider.shutdown()


SUBJECTS: Final[Mapping[str, Subject]] = {
    "emit(), not configured": _not_configured,
    "emit(), 0 sinks": partial(_streamll, 0, _custom),
    "emit(), 1 sink": partial(_streamll, 1, _custom),
    "emit(), 3 sinks": partial(_streamll, 3, _custom),
    "token event, 0 sinks": partial(_streamll, 0, _token),
    _OURS: partial(_streamll, 1, _token),
    "token event, 3 sinks": partial(_streamll, 3, _token),
    _PEER: _logging,
    "OTel span, no processor": partial(_opentelemetry, export=False),
    "OTel span, batch processor": partial(_opentelemetry, export=True),
}


def _run_threads(emit: Callable[[], object], threads: int, each: int) -> tuple[float, float]:
    """Return wall and CPU seconds of *threads* threads that emit from a common start."""
    barrier = threading.Barrier(threads + 1)
    spent: list[float] = []

    def work() -> None:
        barrier.wait()
        started = time.thread_time()
        for _ in range(each):
            emit()
        spent.append(time.thread_time() - started)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    started = time.perf_counter()
    barrier.wait()
    for worker in workers:
        worker.join()
    return time.perf_counter() - started, sum(spent)


def measure(subject: Subject, threads: int) -> Cost:
    """Measure one round of one subject."""
    scale = 1e6 / EVENTS
    with subject() as probe:
        before = time.process_time()
        wall, program = _run_threads(probe.emit, threads, EVENTS // threads)
        probe.drain()
        everything = time.process_time() - before
        return Cost(wall * scale, program * scale, everything * scale, probe.missing(EVENTS))


def report(threads: int) -> Goal:
    """Measure all subjects with *threads* threads, print them, return how the goal stands."""
    turns = {name: partial(measure, subject, threads) for name, subject in SUBJECTS.items()}
    costs = interleave(turns, ROUNDS)
    wall = {name: Samples([cost.wall for cost in costs[name]]) for name in costs}
    program = {name: Samples([cost.program for cost in costs[name]]) for name in costs}
    rows = [
        (
            name,
            spread(wall[name]),
            spread(program[name]),
            f"{Samples([cost.everything for cost in costs[name]]).median:.2f}",
            times(wall[name].over(wall[_PEER]).median),
            times(program[name].over(program[_PEER]).median),
            str(sum(cost.missing for cost in costs[name])),
        )
        for name in costs
    ]
    show(
        f"\n{threads} thread(s), {EVENTS} records a round, {ROUNDS} rounds; median [quartiles], µs"
    )
    table(_COLUMNS, rows)
    ratio = wall[_OURS].over(wall[_PEER]).median
    return Goal(f"{_OURS}, {threads} thread(s), wall beside {_PEER}", ratio, 1 / 3)


def main() -> None:
    """Print the tables, then the goals."""
    heading("Cost of one event", ["msgspec", "opentelemetry-sdk"])
    goals = [report(threads) for threads in THREADS]
    show(f"* to {_PEER}, the median of the ratios of the rounds", *goals)


if __name__ == "__main__":
    main()
