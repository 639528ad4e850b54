"""How fast events get out of a Redis Stream, and how late: emit to consumer, in one run.

    python benchmarks/redis_consume.py [--events 50000] [--seconds 2] [--rounds 5]

Starts a private redis-server.

Latency: a program emits 1,000 events a second; a reader in a process of its own blocks for them
and compares the clock that both share (CLOCK_MONOTONIC of one machine) with the time in the
event. Emitting, the channel, the sink, the server and the reader are in it. Beside it, in turn,
a bare client does the same with XADD and XREAD. The table shows the median round.

Throughput: a filled stream is read from its beginning, by one process. Each round runs all ways
in turn; the table shows medians, quartiles and the ratio to redis-py.

- `redis-py XREAD`: 512 entries a read, nothing done with them.
- `redis-py XREAD, json.loads`: what the loop of the guide does.
- `RedisSource`: messages, not decoded.
- `consume`: events, decoded, filtered and checked for repeats.
- `consume, group`: the same for a group, each event acked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import streamll
from streamll.consuming import consume
from streamll.source import Start
from streamll_redis import RedisSink, RedisSource
from support.events import batch_of, make_events
from support.redis_server import RedisServer, wait_until

KEY = "streamll_events"
RATE = 1000
Way = Callable[[RedisServer, int], int]
PEER = "redis-py XREAD"


def by_client(server: RedisServer, count: int, decode: Callable[[bytes], object]) -> int:
    """Read with redis-py, a read at a time."""
    seen, last = 0, b"0"
    with server.client() as client:
        while seen < count:
            for _, entries in client.xread({KEY: last}, count=512):
                for last, fields in entries:  # noqa: B007 - goes on after the last
                    decode(fields[b"event"])
                    seen += 1
    return seen


def by_source(server: RedisServer, count: int) -> int:
    """Read with the source alone."""

    async def read() -> int:
        source = RedisSource(server.url, start=Start(beginning=True))
        await source.open()
        seen = 0
        while seen < count:
            seen += len(await source.receive(1))
        await source.close()
        return seen

    return asyncio.run(read())


def by_consume(server: RedisServer, count: int, group: str | None = None) -> int:
    """Read with `consume`, in an async loop."""

    async def read() -> int:
        seen = 0
        async for _ in consume(server.url, since="beginning", group=group):
            seen += 1
            if seen == count:
                break
        return seen

    return asyncio.run(read())


def by_group(server: RedisServer, count: int) -> int:
    """Read with `consume` for a new group."""
    return by_consume(server, count, f"g{time.monotonic_ns()}")


WAYS: dict[str, Way] = {
    PEER: partial(by_client, decode=bytes),
    "redis-py XREAD, json.loads": partial(by_client, decode=json.loads),
    "RedisSource": by_source,
    "consume": by_consume,
    "consume, group": by_group,
}


def throughput(server: RedisServer, count: int, rounds: int) -> None:
    """Fill a stream, read it in all ways, and print the table."""
    sink = RedisSink(server.url, maxlen=None, op_timeout=30)
    for _ in range(count // 500):
        sink.write(batch_of(make_events(500)))
    sink.close()
    subjects = {name: partial(_rate, way, server, count) for name, way in WAYS.items()}
    rates = {name: Samples(found) for name, found in interleave(subjects, rounds).items()}
    rows = [(n, spread(f, 1), times(f.over(rates[PEER]).median)) for n, f in rates.items()]
    table(["way", "k events/s [quartiles]", f"to {PEER}"], rows)


def _rate(way: Way, server: RedisServer, count: int) -> float:
    start = time.perf_counter()
    seen = way(server, count)
    return seen / (time.perf_counter() - start) / 1000


KINDS = {"emit -> consume": "ours", "bare XADD -> XREAD": "bare"}
PERCENTS = (50, 90, 99, 100)


def latency(server: RedisServer, seconds: float, rounds: int) -> None:
    """Print how late events are, by streamll and by a bare client."""
    subjects = {name: partial(_measured, server, seconds, kind) for name, kind in KINDS.items()}
    found = interleave(subjects, rounds)
    late = {
        (name, percent): Samples([_percentile(events, percent) for events in found[name]])
        for name in KINDS
        for percent in PERCENTS
    }
    rows = [(name, *(spread(late[name, percent]) for percent in PERCENTS)) for name in KINDS]
    table([f"at {RATE}/s, ms [quartiles]", "p50", "p90", "p99", "max"], rows)
    for percent, goal in ((50, 0.5), (99, 2.0)):
        median = late["emit -> consume", percent].median
        show(Goal(f"emit to consumer, p{percent}", median, goal, " ms"))


def _measured(server: RedisServer, seconds: float, kind: str) -> list[float]:
    server.run("FLUSHALL")
    count = int(seconds * RATE)
    command = [sys.executable, __file__, "--reader", kind, str(server.port), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        wait_until(lambda: server.run("INFO", "clients")["blocked_clients"], "the reader")
        (_emit_ours if kind == "ours" else _emit_bare)(server, count)
        output, _ = reader.communicate(timeout=60)
    return [late * 1000 for late in json.loads(output)][RATE // 2 :]  # without warming up


def _paced(count: int) -> Iterable[float]:
    """Yield the time now, so many times, at an even pace."""
    start = time.monotonic()
    for number in range(count):
        rest = start + number / RATE - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        yield time.monotonic()


def _emit_ours(server: RedisServer, count: int) -> None:
    streamll.configure(sinks=[RedisSink(server.url)])
    for now in _paced(count):
        streamll.emit("tick", {"at": now})
    streamll.shutdown()


def _emit_bare(server: RedisServer, count: int) -> None:
    with server.client() as client:
        for now in _paced(count):
            client.xadd(KEY, {"event": json.dumps({"data": {"at": now}})})


def read_ours(port: int, count: int) -> list[float]:
    """Return how late each of *count* events is, read with `consume`."""

    async def read() -> list[float]:
        late: list[float] = []
        async for event in consume(f"redis://127.0.0.1:{port}"):
            late.append(time.monotonic() - event.data["at"])
            if len(late) == count:
                break
        return late

    return asyncio.run(read())


def read_bare(port: int, count: int) -> list[float]:
    """The same with redis-py."""
    late: list[float] = []
    last = b"0"
    with RedisServer(Path(), port=port).client() as client:
        while len(late) < count:
            for _, entries in client.xread({KEY: last}, block=5000):
                for last, fields in entries:  # noqa: B007 - goes on after the last
                    at = json.loads(fields[b"event"])["data"]["at"]
                    late.append(time.monotonic() - at)
    return late


def _percentile(values: list[float], percent: int) -> float:
    if percent == 100:
        return max(values)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Measure, and print the tables and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reader:
        kind, port, count = arguments.reader
        print(json.dumps((read_ours if kind == "ours" else read_bare)(int(port), int(count))))
        return
    heading("Events out of a Redis Stream", ["redis", "hiredis"])
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder)).start()
        try:
            latency(server, arguments.seconds, arguments.rounds)
            throughput(server, arguments.events, arguments.rounds)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
