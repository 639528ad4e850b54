"""RabbitMQ publish throughput, emit side only: events confirmed per second, side by side.

One private broker, persistent 230-byte events, publisher confirms, one bound queue. Each
contender runs once per round, in turn, so that noise of the machine falls on all of them.

    raw           frames built beforehand, pushed through a plain socket: what the broker takes
    sink          RabbitMQSink.write in batches, from events
    gather        aio-pika publish, gathered by 1000
    sequential    aio-pika publish, one at a time

Run: python benchmarks/rabbitmq_publish.py [--rounds 5] [--events 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import struct
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import aiormq
from pamqp import commands, frame, header

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from streamll.events import Batch, Event
from streamll_rabbitmq import RabbitMQSink
from streamll_rabbitmq._address import Address
from streamll_rabbitmq._codec import Codec, Message
from streamll_rabbitmq._settings import RabbitMQSettings
from streamll_rabbitmq._writer import Framer
from support.rabbitmq_server import RabbitMQServer, missing_reason

BODY = b'{"pad":"' + b"x" * 220 + b'"}'
EXCHANGE = "streamll"
FRAME_MAX = 131_072


def make_events(count: int) -> tuple[Event, ...]:
    """Build *count* token events of one execution."""
    execution, now = uuid.uuid4().hex, datetime.now(UTC)
    return tuple(
        Event(
            event_id=str(uuid.uuid4()),
            event_type="token",
            operation="llm_call",
            timestamp=now,
            sequence=number,
            execution_id=execution,
            trace_id=execution,
            span_id=execution[:16],
            severity="info",
            data={},
            schema_version="1.0",
            module_name="rag_pipeline",
        )
        for number in range(1, count + 1)
    )


def make_messages(url: str, events: tuple[Event, ...]) -> tuple[RabbitMQSettings, list[Message]]:
    """Encode *events* as the sink does."""
    settings = RabbitMQSettings(addresses=Address.parse_all(url))
    codec = Codec(settings)
    return settings, [codec.message(event, BODY) for event in events]


class RawClient:
    """The least that can publish with confirms: a socket, a thread that counts acks."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb", buffering=1 << 20)
        self.socket.sendall(header.ProtocolHeader().marshal())
        self._step(commands.Connection.StartOk(mechanism="PLAIN", response="\0guest\0guest"))
        self.receive()
        self.send(commands.Connection.TuneOk(2047, FRAME_MAX, 0), 0)
        self.send(commands.Connection.Open("/"), 0)
        self.receive()
        self.send(commands.Channel.Open(), 1)
        self.receive()
        self.send(commands.Confirm.Select(), 1)
        self.receive()

    def _step(self, answer: object) -> None:
        self.receive()
        self.send(answer, 0)

    def send(self, method: object, channel: int) -> None:
        """Send one method."""
        self.socket.sendall(frame.marshal(method, channel))

    def receive(self) -> bytes:
        """Return the payload of the next frame."""
        _, _, size = struct.unpack(">BHI", self.input.read(7))
        return self.input.read(size + 1)[:-1]

    def publish(self, payload: bytes, count: int) -> None:
        """Send *payload*, which holds *count* messages, and wait for their confirms."""
        sender = threading.Thread(target=self.socket.sendall, args=(payload,))
        sender.start()
        answered, ahead = 0, set[int]()
        while answered < count:
            tag, multiple = struct.unpack(">QB", self.receive()[4:13])
            ahead.add(tag)
            answered = max(answered, tag) if multiple else answered
            while answered + 1 in ahead:
                answered += 1
        sender.join()

    def close(self) -> None:
        """Hang up."""
        self.input.close()
        self.socket.close()


async def run_raw(server: RabbitMQServer, events: tuple[Event, ...]) -> float:
    """Measure the raw client."""
    settings, messages = make_messages(server.url(), events)
    framer = Framer(1, settings, FRAME_MAX)
    payload = b"".join(map(framer.frames, messages))
    client = RawClient(server.port)
    rate = await timed(lambda: asyncio.to_thread(client.publish, payload, len(events)), events)
    client.close()
    return rate


async def run_sink(server: RabbitMQServer, events: tuple[Event, ...]) -> float:
    """Measure our sink."""
    sink = RabbitMQSink(server.url(), op_timeout=30.0)
    await sink.open()
    size = sink.delivery.batch_size
    batches = [
        Batch(part, (BODY,) * len(part))
        for part in (events[i : i + size] for i in range(0, len(events), size))
    ]

    async def publish() -> None:
        for batch in batches:
            report = await sink.write(batch)
            assert report is None, report

    rate = await timed(publish, events)
    await sink.close()
    return rate


async def run_aio_pika(server: RabbitMQServer, events: tuple[Event, ...], at_once: int) -> float:
    """Measure aio-pika's own publish, *at_once* gathered."""
    connection = await aio_pika.connect(server.url())
    channel = await connection.channel()
    exchange = await channel.get_exchange(EXCHANGE)

    async def publish() -> None:
        for start in range(0, len(events), at_once):
            part = events[start : start + at_once]
            await asyncio.gather(*(exchange.publish(aio_message(e), routing_key(e)) for e in part))

    rate = await timed(publish, events)
    await connection.close()
    return rate


def aio_message(event: Event) -> aio_pika.Message:
    """Return the message a careful user of aio-pika would send."""
    return aio_pika.Message(
        BODY,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=event.event_id,
        correlation_id=event.execution_id,
        type=event.event_type,
        timestamp=event.timestamp,
    )


def routing_key(event: Event) -> str:
    """Return the default routing key."""
    return f"streamll.{event.operation}.{event.event_type}"


async def timed(run: Callable[[], Awaitable[object]], events: tuple[Event, ...]) -> float:
    """Return events per second of *run*."""
    start = time.perf_counter()
    await run()
    return len(events) / (time.perf_counter() - start)


async def prepare(server: RabbitMQServer, queue: str) -> None:
    """Bind one fresh queue of the given type."""
    connection = await aiormq.connect(server.url())
    channel = await connection.channel()
    await channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    await channel.queue_delete("audit")
    arguments = {"x-queue-type": queue}
    await channel.queue_declare("audit", durable=True, arguments=arguments)
    await channel.queue_bind("audit", EXCHANGE, "#")
    await connection.close()


async def measure(server: RabbitMQServer, queue: str, rounds: int, count: int) -> None:
    """Run every contender *rounds* times against a queue of one type and print the table."""
    few = max(200, count // 20)
    contenders: dict[str, Callable[[], Awaitable[float]]] = {
        "raw": lambda: run_raw(server, make_events(count)),
        "sink": lambda: run_sink(server, make_events(count)),
        "gather": lambda: run_aio_pika(server, make_events(count // 2), 1000),
        "sequential": lambda: run_aio_pika(server, make_events(few), 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            await prepare(server, queue)
            rates[name].append(await run())
    base = statistics.median(rates["raw"])
    print(f"\n{queue} queue, events/s, median of {rounds} (lowest - highest), ratio to raw")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(
            f"  {name:<11}{middle:>9,.0f}  ({min(values):,.0f} - {max(values):,.0f})"
            f"  {middle / base:.2f}"
        )


def main() -> None:
    """Start the broker and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--queues", default="classic,quorum")
    options = parser.parse_args()
    if reason := missing_reason():
        sys.exit(reason)
    server = RabbitMQServer()
    try:
        server.start()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {len(BODY)}-byte bodies")
        for queue in options.queues.split(","):
            asyncio.run(measure(server, queue, options.rounds, options.events))
    finally:
        server.close()


if __name__ == "__main__":
    main()
