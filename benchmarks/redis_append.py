"""How fast events get into a Redis Stream, beside other ways, in one run.

    python benchmarks/redis_append.py [--events 100000] [--rounds 5]

Starts a private redis-server. Every way appends the same events, with the same fields, to a
trimmed stream; each round runs all ways in turn, so that a noisy moment hits them all. The
table shows the median rate, the quartiles, and the ratio to a redis-py pipeline.

- `redis-benchmark`: the same XADD from C, 100 at a time: what the server can take.
- `bare RESP`: the same XADDs packed in advance, sent by a plain socket.
- `one XADD per call`: redis-py as most code uses it.
- `emit to stream`: `streamll.emit` in a loop until the last event is confirmed: making the
  event, encoding, buffer and sink, all in one process.
- `sink.write`: our sink alone, packing included, each event once under retry.
- `field event alone`: the same without the fields of the head; the difference is their cost.
- `16 keys`: the same over a key template with 16 tenants; `16 partitions`: one stream over 16
  keys, by execution.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import streamll
from streamll import Batch, Event
from streamll_redis import RedisSink, _codec, _writer
from streamll_redis._protocol import command
from support.events import batch_of, body_of, make_event
from support.redis_server import RedisServer

BATCH = 512
MAXLEN = 100_000
Way = Callable[[RedisServer, list[Batch]], float]
PEER = "redis-py pipeline"


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds *run* takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def xadd(event: Event, body: bytes) -> tuple[bytes, ...]:
    """Return one XADD with all fields of an entry."""
    return (b"XADD", b"bench", b"MAXLEN", b"~", b"%d" % MAXLEN, b"*", *_codec.entry(event, body))


def by_redis_benchmark(server: RedisServer, batches: list[Batch]) -> float:
    """Let redis-benchmark append as many events."""
    count = sum(map(len, batches))
    sample = [part.decode() for part in xadd(batches[0][0], batches[0].bodies[0])]
    options = ["-p", str(server.port), "-n", str(count), "-P", "100", "-c", "1", "--csv"]
    output = subprocess.run(
        ["redis-benchmark", *options, *sample], capture_output=True, text=True, check=True
    ).stdout
    rate = re.findall(r'"([\d.]+)"', output.splitlines()[-1])[-7]  # then six latencies
    return count / float(rate)


def by_bare_resp(server: RedisServer, batches: list[Batch]) -> float:
    """Send packed XADDs and count the replies."""
    packed = [
        b"".join(command(*xadd(*pair)) for pair in zip(batch, batch.bodies, strict=True))
        for batch in batches
    ]
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        return timed(lambda: [_send(sock, data, BATCH) for data in packed])


def _send(sock: socket.socket, data: bytes, replies: int) -> None:
    sock.sendall(data)
    reader = hiredis.Reader()
    while replies:
        reader.feed(sock.recv(65_536))
        while reader.gets() is not False:
            replies -= 1


def by_pipeline(server: RedisServer, batches: list[Batch]) -> float:
    """Append with a redis-py pipeline per batch."""
    with server.client() as client:
        return timed(lambda: [_pipeline(client, batch) for batch in batches])


def _pipeline(client: Any, batch: Batch) -> None:
    pipeline = client.pipeline(transaction=False)
    for event, body in zip(batch, batch.bodies, strict=True):
        flat = _codec.entry(event, body)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        pipeline.xadd("bench", fields, maxlen=MAXLEN, approximate=True)
    pipeline.execute()


def by_single_calls(server: RedisServer, batches: list[Batch]) -> float:
    """Append one event per round trip; a tenth of the events, scaled."""
    some = batches[: max(1, len(batches) // 10)]
    with server.client() as client:
        pairs = [pair for batch in some for pair in zip(batch, batch.bodies, strict=True)]
        spent = timed(lambda: [client.execute_command(*xadd(*pair)) for pair in pairs])
    return spent * len(batches) / len(some)


def by_emit(server: RedisServer, batches: list[Batch]) -> float:
    """Emit as many events; the buffer is the default one, and emit waits when it is full."""
    sink = RedisSink(server.url, "bench", maxlen=MAXLEN, op_timeout=30,
                     overflow="block", block_timeout=60)  # fmt: skip
    with streamll.configure(sinks=[sink]), streamll.trace("llm_call") as span:
        spent = timed(lambda: _emit_all(span, sum(map(len, batches))))
        if sink.stats.dropped:
            raise RuntimeError("not delivered")
    return spent


def _emit_all(span: Any, count: int) -> None:
    for index in range(count):
        span.emit("token", {"token": " the", "field": "answer", "index": index})
    streamll.flush(60)


def by_sink(
    server: RedisServer, batches: list[Batch], key: str = "bench", partitions: int = 1
) -> float:
    """Append with our sink."""
    sink = RedisSink(server.url, key, maxlen=MAXLEN, op_timeout=30, partitions=partitions)
    sink.open()
    try:
        return timed(lambda: [_write(sink, batch) for batch in batches])
    finally:
        sink.close()


def _write(sink: RedisSink, batch: Batch) -> None:
    if sink.write(batch) is not None:
        raise RuntimeError("not delivered")


@contextlib.contextmanager
def body_only() -> Iterator[None]:
    """Leave the flat fields of the head out, to see what they cost."""
    original, _writer.head_of = _writer.head_of, lambda _: (None,)
    try:
        yield
    finally:
        _writer.head_of = original


def by_sink_without_flat_fields(server: RedisServer, batches: list[Batch]) -> float:
    """Append with our sink, field `event` (and time and sequence) alone."""
    with body_only():
        return by_sink(server, batches)


def keys(count: int) -> Way:
    """Append with our sink to one of *count* streams each."""
    return lambda server, batches: by_sink(server, _tenants(batches, count), "b:{context.t}")


def partitions(count: int) -> Way:
    """Append with our sink to one stream over *count* keys."""
    return lambda server, batches: by_sink(server, _executions(batches, 64), partitions=count)


def _executions(batches: list[Batch], count: int) -> list[Batch]:
    names = [f"{n:032x}" for n in range(count)]
    made = [
        [event.replace(execution_id=names[n % count]) for n, event in enumerate(batch)]
        for batch in batches
    ]
    return [batch_of(events) for events in made]


def _tenants(batches: list[Batch], count: int) -> list[Batch]:
    contexts = [{"t": f"t{n}"} for n in range(count)]  # shared by the events of a request
    made = [
        [event.replace(context=contexts[n % count]) for n, event in enumerate(batch)]
        for batch in batches
    ]
    return [batch_of(events) for events in made]


def main() -> None:
    """Run all ways in turn and print the table and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    heading("Events into a Redis Stream, one process", ["redis", "hiredis"])
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), arguments.events, arguments.rounds)
    report(rates)


def measure(folder: Path, count: int, rounds: int) -> dict[str, Samples]:
    """Return thousands of events per second of each way, round by round."""
    events = [make_event() for _ in range(BATCH)]
    batches = [batch_of(events) for _ in range(max(1, count // BATCH))]
    show(f"{len(batches) * BATCH} events of {len(body_of(events[0]))} bytes, batches of {BATCH}")
    server = RedisServer(folder).start()
    subjects = {name: partial(_rate, way, server, batches) for name, way in WAYS.items()}
    try:
        return {name: Samples(found) for name, found in interleave(subjects, rounds).items()}
    finally:
        server.stop()


def _rate(way: Way, server: RedisServer, batches: list[Batch]) -> float:
    server.run("FLUSHALL")
    return len(batches) * BATCH / way(server, batches) / 1000


def report(rates: dict[str, Samples]) -> None:
    """Print medians with quartiles, ratios, and how the goals stand."""
    beside = rates[PEER]
    rows = [
        (name, spread(found, 0), times(found.over(beside).median)) for name, found in rates.items()
    ]
    table(["way", "k events/s [quartiles]", f"to {PEER}*"], rows)
    show(f"* the median of the ratios of {beside.n} rounds")
    for name in ("emit to stream", "sink.write"):
        ours = rates[name]
        slower = Samples([1 / rate for rate in ours.over(beside).values])
        show(Goal(f"200 k/s over {name}", 200 / ours.median, 1.0))
        show(Goal(f"{PEER} over {name}", slower.median, 0.5))


WAYS: dict[str, Way] = {
    "redis-benchmark -P 100": by_redis_benchmark,
    "bare RESP, packed in advance": by_bare_resp,
    PEER: by_pipeline,
    "one XADD per call": by_single_calls,
    "emit to stream": by_emit,
    "sink.write": by_sink,
    "sink.write, field event alone": by_sink_without_flat_fields,
    "sink.write, 4 keys": keys(4),
    "sink.write, 16 keys": keys(16),
    "sink.write, 4 partitions": partitions(4),
    "sink.write, 16 partitions": partitions(16),
}


if __name__ == "__main__":
    main()
