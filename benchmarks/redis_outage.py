"""A burst of events while Redis does not answer: time, memory, and what became of each event.

    python benchmarks/redis_outage.py [--events 1000000] [--rounds 3]

Starts a private redis-server. A process of its own emits the events as fast as it can, once with
the server well, once frozen (SIGSTOP), once dead; each round runs all three in turn. The buffer
is the default one (10,000 events, 32 MiB), so nearly all events of an outage are dropped, each of
them counted.

- `us per emit`, `slowest`: of one `emit` call; an outage must not show in the program.
- `RSS growth`: the most memory the process had, less what it had before the first event.
- `off by`: accepted - delivered - dropped - queued - in flight; 0 is exact.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from _report import Goal, heading, show, spread, table
from _rounds import Samples, interleave

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import streamll
from streamll_redis import RedisSink
from support.redis_server import RedisServer

MIB = 1024 * 1024
#: Of DESIGN: 1.5 x the buffer's byte limit + 32 MiB.
MEMORY_GOAL = 1.5 * 32 + 32
STATES = ("well", "frozen", "dead")


def memory(name: str) -> float:
    """Return VmRSS (now) or VmHWM (the most so far) of this process, in MiB."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def burst(url: str, count: int) -> dict[str, float]:
    """Emit *count* events to the server at *url* and return the figures."""
    sink = RedisSink(url)
    streamll.configure(sinks=[sink])
    streamll.emit("warm_up")
    streamll.flush(1)
    before, slowest, start = memory("VmRSS"), 0.0, time.perf_counter()
    last = start
    for index in range(count):
        streamll.emit("token", {"token": " the", "field": "answer", "index": index})
        now = time.perf_counter()
        slowest, last = max(slowest, now - last), now
    stats = sink.stats
    dropped = sum(stats.dropped.values())
    known = stats.delivered + dropped + stats.queued + stats.in_flight
    return {
        "us": (last - start) / count * 1e6,
        "slowest": slowest * 1e3,
        "growth": memory("VmHWM") - before,
        "dropped": dropped / count * 100,
        "off": stats.accepted - known,
    }


@contextmanager
def state(server: RedisServer, name: str) -> Iterator[None]:
    """Bring *server* into a state for the length of a block."""
    if name == "frozen":
        with server.frozen():
            yield
    elif name == "dead":
        server.stop()
        yield
        server.start()
    else:
        yield


def measured(server: RedisServer, count: int, name: str) -> dict[str, Any]:
    """Run the burst in a process of its own, with the server in a state."""
    command = [sys.executable, __file__, "--burst", server.url, "--events", str(count)]
    with state(server, name):
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return dict(json.loads(done.stdout))


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Print a row for each state of the server, and the goals."""
    figures = {
        name: {key: Samples([run[key] for run in runs]) for key in runs[0]}
        for name, runs in found.items()
    }
    rows = [
        (f"server {name}", spread(of["us"], 1), spread(of["slowest"], 0), spread(of["growth"], 0),
         f"{of['dropped'].median:.1f}", f"{max(map(abs, of['off'].values)):.0f}")
        for name, of in figures.items()
    ]  # fmt: skip
    table(["", "us per emit", "slowest, ms", "RSS growth, MiB", "dropped, %", "off by"], rows)
    for name in ("frozen", "dead"):
        grown = max(figures[name]["growth"].values)
        show(Goal(f"most RSS growth, server {name}", grown, MEMORY_GOAL, " MiB"))


def main() -> None:
    """Measure, and print the table and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.burst:
        print(json.dumps(burst(arguments.burst, arguments.events)))
        streamll.shutdown(timeout=0)
        return
    heading(f"{arguments.events} events while Redis does not answer", ["redis"])
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        subjects = {name: partial(measured, server, arguments.events, name) for name in STATES}
        try:
            report(interleave(subjects, arguments.rounds))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
