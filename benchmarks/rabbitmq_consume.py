"""How fast events get out of RabbitMQ, and how late: emit to consumer, in one run.

    python benchmarks/rabbitmq_consume.py [--events 20000] [--seconds 5] [--rounds 5]

Starts a private broker.

Latency: a program emits 1,000 events a second; a reader in a process of its own waits for them
and compares the clock that both share (CLOCK_MONOTONIC of one machine) with the time in the
event. Emitting, the channel, the sink, the broker and the reader are in it. Beside it a bare
client, aio-pika, does the same, with publisher confirms; all messages are persistent.

Throughput: a filled classic queue is read by one process, each message acked. Each round runs
all ways in turn; the table shows medians, quartiles and the ratio to aio-pika.

- `aio-pika`: a queue iterator, prefetch 512, nothing done with the messages.
- `aio-pika, json.loads`: the least a consumer of events does.
- `RabbitMQSource`: messages, not decoded.
- `consume`: events, decoded, filtered and checked for repeats.
- `EventConsumer`: a handler called for each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import streamll
from streamll_rabbitmq import RabbitMQSink, RabbitMQSource
from support.events import batch_of, make_events
from support.rabbitmq_server import RabbitMQServer, missing_reason

EXCHANGE = "streamll"
QUEUE = "audit"
PREFETCH = 512
RATE = 1000
PEER = "aio-pika"
Way = Callable[[str, int], Coroutine[Any, Any, None]]


async def by_aio_pika(url: str, count: int, decode: Callable[[bytes], object]) -> None:
    """Read with aio-pika's iterator."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.get_queue(QUEUE)
    seen = 0
    async with queue.iterator() as messages:
        async for message in messages:
            decode(message.body)
            await message.ack()
            seen += 1
            if seen == count:
                break
    await connection.close()


async def by_source(url: str, count: int) -> None:
    """Read with the source alone."""
    source = RabbitMQSource(url, queue=QUEUE, prefetch=PREFETCH)
    await source.open()
    seen = 0
    while seen < count:
        messages = await source.receive(1)
        await source.ack(messages)
        seen += len(messages)
    await source.close()


async def by_consume(url: str, count: int) -> None:
    """Read with `consume`."""
    seen = 0
    async with streamll.consume(url, queue=QUEUE) as events:
        async for _ in events:
            seen += 1
            if seen == count:
                break


async def by_consumer(url: str, count: int) -> None:
    """Read with a handler."""
    consumer = streamll.EventConsumer(url, queue=QUEUE)
    seen = 0

    @consumer.on()
    async def handle(_: streamll.Event) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            consumer.stop()

    await consumer.run()


WAYS: dict[str, Way] = {
    PEER: partial(by_aio_pika, decode=bytes),
    "aio-pika, json.loads": partial(by_aio_pika, decode=json.loads),
    "RabbitMQSource": by_source,
    "consume": by_consume,
    "EventConsumer": by_consumer,
}


def throughput(server: RabbitMQServer, count: int, rounds: int) -> None:
    """Fill a queue and read it, in all ways, and print the table."""

    def rate(way: Way) -> float:
        asyncio.run(_fill(server.url(), count))
        start = time.perf_counter()
        asyncio.run(way(server.url(), count))
        return count / (time.perf_counter() - start) / 1000

    subjects = {name: partial(rate, way) for name, way in WAYS.items()}
    rates = {name: Samples(found) for name, found in interleave(subjects, rounds).items()}
    rows = [(n, spread(f, 1), times(f.over(rates[PEER]).median)) for n, f in rates.items()]
    table(["way", "k events/s [quartiles]", f"to {PEER}"], rows)


async def _fill(url: str, count: int) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.queue_delete(QUEUE)
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    queue = await channel.declare_queue(QUEUE, durable=True)
    await queue.bind(exchange, "#")
    await connection.close()
    sink = RabbitMQSink(url, op_timeout=60)
    for _ in range(count // 1000):
        if await sink.write(batch_of(make_events(1000))) is not None:
            raise RuntimeError("not delivered")
    await sink.close()


def latency(server: RabbitMQServer, seconds: float) -> None:
    """Print how late events are, by streamll and by a bare client."""
    ours = _measured(server, seconds, "ours")
    bare = _measured(server, seconds, "bare")
    rows = [(name, str(len(found)), *_percentiles(found)) for name, found in
            (("emit -> consume", ours), ("aio-pika -> aio-pika", bare))]  # fmt: skip
    table([f"at {RATE}/s, ms", "n", "p50", "p90", "p99", "max"], rows)
    show(Goal("emit to consumer, p50", statistics.median(ours), 1.5, " ms"))
    show(Goal("emit to consumer, p99", _percentile(ours, 99), 8.0, " ms"))


def _measured(server: RabbitMQServer, seconds: float, kind: str) -> list[float]:
    count = int(seconds * RATE)
    command = [sys.executable, __file__, "--reader", kind, server.url(), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        asyncio.run(_until_bound(server.url()))
        if kind == "ours":
            asyncio.run(_emit_ours(server.url(), count))
        else:
            asyncio.run(_emit_bare(server.url(), count))
        output, _ = reader.communicate(timeout=60)
    return [late * 1000 for late in json.loads(output)][RATE // 2 :]  # without warming up


async def _until_bound(url: str) -> None:
    """Wait until the exchange has a queue: the reader is there."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel(on_return_raises=True)
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    while True:
        try:
            await exchange.publish(aio_pika.Message(b"{}"), "probe")
        except aio_pika.exceptions.DeliveryError:
            await asyncio.sleep(0.05)
        else:
            break
    await connection.close()


async def _paced(count: int) -> AsyncIterator[float]:
    """Yield the time now, so many times, at an even pace."""
    start = time.monotonic()
    for number in range(count):
        await asyncio.sleep(start + number / RATE - time.monotonic())
        yield time.monotonic()


async def _emit_ours(url: str, count: int) -> None:
    streamll.configure(sinks=[RabbitMQSink(url)])
    async for now in _paced(count):
        streamll.emit("tick", {"at": now})
    await asyncio.to_thread(streamll.shutdown)


async def _emit_bare(url: str, count: int) -> None:
    connection = await aio_pika.connect(url)
    exchange = await (await connection.channel()).get_exchange(EXCHANGE)
    sending = set[asyncio.Task[Any]]()
    async for now in _paced(count):
        body = json.dumps({"data": {"at": now}}).encode()
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        task = asyncio.create_task(exchange.publish(message, "tick"))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)
    await connection.close()


async def read_ours(url: str, count: int) -> list[float]:
    """Return how late each of *count* events is, read with `consume`."""
    late: list[float] = []
    async with streamll.consume(url) as events:
        async for event in events:
            late.append(time.monotonic() - event.data["at"])
            if len(late) == count:
                break
    return late


async def read_bare(url: str, count: int) -> list[float]:
    """The same with aio-pika."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "#")
    late: list[float] = []
    async with queue.iterator() as messages:
        async for message in messages:
            found = json.loads(message.body)
            await message.ack()
            if "data" in found:
                late.append(time.monotonic() - found["data"]["at"])
            if len(late) == count:
                break
    await connection.close()
    return late


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _percentiles(values: list[float]) -> list[str]:
    return [f"{_percentile(values, p):.2f}" for p in (50, 90, 99)] + [f"{max(values):.2f}"]


def main() -> None:
    """Measure, and print the tables and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reader:
        kind, url, count = arguments.reader
        read = read_ours if kind == "ours" else read_bare
        print(json.dumps(asyncio.run(read(url, int(count)))))
        return
    if reason := missing_reason():
        sys.exit(reason)
    heading("Events out of RabbitMQ", ["aio-pika", "aiormq"])
    server = RabbitMQServer()
    try:
        server.start()
        latency(server, arguments.seconds)
        throughput(server, arguments.events, arguments.rounds)
    finally:
        server.close()


if __name__ == "__main__":
    main()
