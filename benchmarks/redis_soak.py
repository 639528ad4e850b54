"""Many events through one process and one server, with faults: is memory flat, each event once?

    python benchmarks/redis_soak.py [--events 20000000]      (or: make soak EVENTS=1000000)

Starts a private redis-server. Executions of 1,000 tokens are emitted as fast as the sink takes
them (`overflow="block"`) into a stream that is trimmed to 100,000 entries. Every tenth of the
events something happens to the server, in turn: all its connections are killed, it is frozen for
a second, its script cache is flushed.

Fails unless the accounting is exact at every line and the server has appended each event that was
not dropped exactly once (`entries-added` of XINFO STREAM, which trimming does not lower). Memory
is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import attrs
from _report import Goal, heading, show, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import streamll
from streamll_redis import RedisSink
from support.redis_server import RedisServer

KEY = "soak"
TOKENS = 1000
LINES = 20


@attrs.frozen
class Line:
    """How things stand after so many events; memory in MiB."""

    events: int
    seconds: float
    process: float
    server: float
    off_by: int
    dropped: int


def execution() -> None:
    """Emit the events of one answer."""
    with streamll.trace("answer") as span:
        for index in range(TOKENS):
            span.emit("token", {"token": " the", "field": "answer", "index": index})


def freeze(server: RedisServer) -> None:
    """Stop the server for a second: attempts stay without an answer and are repeated."""
    with server.frozen():
        time.sleep(1)


FAULTS: Sequence[Callable[[RedisServer], object]] = (
    lambda server: server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
    freeze,
    lambda server: server.run("SCRIPT", "FLUSH"),
)


def line(server: RedisServer, sink: RedisSink, started: float) -> Line:
    """Measure where things stand."""
    stats = sink.stats
    dropped = sum(stats.dropped.values())
    known = stats.delivered + dropped + stats.queued + stats.in_flight
    return Line(
        events=stats.accepted,
        seconds=time.monotonic() - started,
        process=_memory(),
        server=server.run("INFO", "memory")["used_memory"] / 1024**2,
        off_by=stats.accepted - known,
        dropped=dropped,
    )


def _memory() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    (found,) = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(found.split()[1]) / 1024


def soak(server: RedisServer, count: int) -> tuple[list[Line], int]:
    """Emit *count* events; return the lines and how many entries the server has appended."""
    sink = RedisSink(
        server.url, KEY, op_timeout=0.5, retry_delay=0.05, recovery_timeout=0.2,
        overflow="block", block_timeout=60,
    )  # fmt: skip
    streamll.configure(sinks=[sink])
    faults, lines, started = cycle(FAULTS), [], time.monotonic()
    for number in range(1, LINES + 1):
        for _ in range(count // TOKENS // LINES):
            execution()
        lines.append(line(server, sink, started))
        if number % 2:
            next(faults)(server)
    streamll.flush(60)
    lines.append(line(server, sink, started))
    streamll.shutdown()
    with server.client() as client:
        return lines, int(client.xinfo_stream(KEY)["entries-added"])


def report(lines: Sequence[Line], appended: int) -> bool:
    """Print the table and return whether every event is there once."""
    rows = [
        (f"{at.events:,}", f"{at.events / at.seconds / 1000:.0f}", f"{at.process:.1f}",
         f"{at.server:.1f}", str(at.dropped), str(at.off_by))
        for at in lines
    ]  # fmt: skip
    table(["events", "k/s so far", "process, MiB", "server, MiB", "dropped", "off by"], rows)
    last, early = lines[-1], lines[LINES // 5]
    show(f"accepted {last.events:,}, dropped {last.dropped:,}, appended by the server {appended:,}")
    show(Goal("process memory, end over one fifth", last.process / early.process, 1.05))
    show(Goal("server memory, end over one fifth", last.server / early.server, 1.05))
    return appended == last.events - last.dropped and not any(at.off_by for at in lines)


def main() -> int:
    """Run, print the figures, and return 1 if any event is missing or there twice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000_000)
    count = max(parser.parse_args().events, LINES * TOKENS)
    heading(f"{count:,} events through one process and one Redis", ["redis", "hiredis"])
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        try:
            exact = report(*soak(server, count))
        finally:
            server.stop()
    show("each delivered event once" if exact else "NOT exact")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
