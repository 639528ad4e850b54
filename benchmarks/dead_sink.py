"""What a dead sink costs the program: memory and time of a burst, and the tail of `emit`.

    python benchmarks/dead_sink.py

1. A burst of 10^6 token events, each round in a process of its own, into a sink that fails
   every attempt, one that never returns, and one that works. Memory is the growth of the
   peak of the resident set over what was there before the burst. The identity must hold:
   accepted == delivered + dropped + queued + in_flight.
2. Single `emit` calls, timed one by one, while the sink is frozen with its buffer full, and
   while it works. Each round runs both.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave

import streamll
from streamll import _runtime
from streamll._spans import Execution, Span

BURST: Final = 1_000_000
CALLS: Final = 20_000
ROUNDS: Final = 5
MIB: Final = 1024 * 1024
#: Growth that the byte limit of the buffer allows.
LIMIT: Final = 1.5 * 32 + 32
_STOP: Final = 0.1


class Healthy(streamll.Sink):
    """Takes everything."""

    def write(self, batch: streamll.Batch) -> None:
        """Deliver nothing, at once."""


class Dead(streamll.Sink):
    """Refuses everything."""

    def write(self, batch: streamll.Batch) -> None:
        """Fail, as a broker that is down."""
        raise streamll.TransientError("down")


class Frozen(streamll.Sink):
    """Never returns."""

    def write(self, batch: streamll.Batch) -> None:
        """Hang, as a broker that was stopped."""
        threading.Event().wait()


SINKS: Final[dict[str, type[streamll.Sink]]] = {
    "fails": Dead,
    "frozen": Frozen,
    "healthy": Healthy,
}


@attrs.frozen
class Burst:
    """What one burst came to: seconds, MiB, and whether the accounting was exact."""

    seconds: float
    growth: float
    kept: int
    exact: bool


def token_emitter() -> Callable[[], None]:
    """Return a function that emits one token as the capture of an LM call does."""
    pipeline = _runtime.current()
    assert pipeline is not None
    span = Span("llm_call", parent=None, execution=Execution(), name="benchmark/model")

    def emit() -> None:
        data = {"token": " word", "field": "answer", "channel": "content", "index": 7}
        pipeline.emit(span, "token", data, trusted=True)

    return emit


def peak() -> float:
    """Return the highest resident set of this process so far, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def burst(kind: str) -> None:
    """Emit the burst into a new sink in this process, and print what it came to."""
    sink = SINKS[kind]()
    with streamll.configure(sinks=[sink]):
        emit = token_emitter()
        emit()
        before, started = peak(), time.perf_counter()
        for _ in range(BURST):
            emit()
        seconds, stats = time.perf_counter() - started, sink.stats
        growth = peak() - before
        known = stats.delivered + sum(stats.dropped.values()) + stats.queued + stats.in_flight
        exact = stats.accepted == known >= BURST
        show(json.dumps([seconds, growth, stats.queued, exact]))
        streamll.shutdown(_STOP)


def in_a_process(kind: str) -> Burst:
    """Run `burst` in a new interpreter."""
    command = [sys.executable, "-W", "ignore", __file__, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return Burst(*json.loads(done.stdout))


def latencies(kind: str) -> list[float]:
    """Return the µs of single calls, once the buffer is as full as it will be."""
    sink = SINKS[kind]()
    with streamll.configure(sinks=[sink]):
        emit, spent = token_emitter(), []
        for _ in range(sink.delivery.buffer_size + 1_000):
            emit()
        for _ in range(CALLS):
            started = time.perf_counter_ns()
            emit()
            spent.append((time.perf_counter_ns() - started) / 1000)
        streamll.shutdown(_STOP)
    return statistics.quantiles(spent, n=1000)


def report_bursts() -> list[Goal]:
    """Print the bursts; return how the goals stand."""
    runs = interleave({kind: partial(in_a_process, kind) for kind in SINKS}, ROUNDS)
    seconds = {kind: Samples([run.seconds for run in runs[kind]]) for kind in runs}
    growth = {kind: Samples([run.growth for run in runs[kind]]) for kind in runs}
    show(f"\nBurst of {BURST:,} token events, {ROUNDS} rounds; median [quartiles]")
    rows = [
        (
            kind,
            spread(seconds[kind]),
            times(seconds[kind].over(seconds["healthy"]).median),
            spread(growth[kind], 1),
            str(max(run.kept for run in runs[kind])),
            "exact" if all(run.exact for run in runs[kind]) else "WRONG",
        )
        for kind in runs
    ]
    table(("sink", "seconds", "to healthy", "RSS growth, MiB", "kept", "accounting"), rows)
    return [
        Goal(f"RSS growth, sink {kind}", max(growth[kind].values), LIMIT, " MiB")
        for kind in ("fails", "frozen")
    ]


def report_latencies() -> None:
    """Print the tails of `emit`."""
    rounds = interleave({kind: partial(latencies, kind) for kind in SINKS}, ROUNDS)
    show(f"\nSingle emit calls, {CALLS:,} a round, {ROUNDS} rounds; µs, median [quartiles]")
    columns = {"p50": 499, "p99": 989, "p99.9": 998}
    found = {
        kind: {name: Samples([cut[at] for cut in rounds[kind]]) for name, at in columns.items()}
        for kind in rounds
    }
    rows = [
        (
            kind,
            *(spread(found[kind][name], 1) for name in columns),
            times(found[kind]["p99"].over(found["healthy"]["p99"]).median),
        )
        for kind in rounds
    ]
    table(("sink", *columns, "p99 to healthy"), rows)


def main() -> None:
    """Print both tables, then the goals."""
    if len(sys.argv) > 1:
        burst(sys.argv[1])
        return
    heading("A dead sink", ["msgspec"])
    goals = report_bursts()
    report_latencies()
    show(*goals)


if __name__ == "__main__":
    main()
