"""How fast events get into RabbitMQ, emit to confirm, beside other ways, in one run.

    python benchmarks/rabbitmq_publish.py [--events 20000] [--rounds 5]

Starts a private broker. Every way publishes the same persistent events, with publisher
confirms, to a topic exchange with one queue bound; each round runs all ways in turn, so that a
noisy moment hits them all. The tables, one for each type of queue, show the median rate, the
quartiles, and the ratio to the raw frames.

- `raw frames`: packed in advance and pushed through a plain socket: what the broker takes.
- `sink.write`: our sink, packing included.
- `emit`: `streamll.emit` to the last confirm, buffer and channel included.
- `aio-pika, gathered`: `publish` of 1000 messages at a time.
- `aio-pika, one by one`, `pika, one by one`: each confirm awaited; fewer events.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aio_pika
import aiormq
from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave
from pamqp import commands, frame, header

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import streamll
from streamll import Batch, Event
from streamll_rabbitmq import RabbitMQSink
from streamll_rabbitmq._codec import Codec
from streamll_rabbitmq._writer import Framer
from support.events import batch_of, body_of, make_events
from support.rabbitmq_server import RabbitMQServer, missing_reason

try:
    import pika
except ImportError:  # scripts/bench installs it
    pika = None

EXCHANGE = "streamll"
KEY = "streamll.llm_call.token"
FRAME_MAX = 131_072
TOKEN = {"token": " the", "field": "answer", "index": 1}
RAW, SINK, EMIT, GATHER = "raw frames", "sink.write", "emit", "aio-pika, gathered"
Way = Callable[[RabbitMQServer, list[Event]], float]


class RawClient:
    """The least that can publish with confirms: a socket, a thread that counts acks."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb", buffering=1 << 20)
        self.socket.sendall(header.ProtocolHeader().marshal())
        self.receive()
        self.send(commands.Connection.StartOk(mechanism="PLAIN", response="\0guest\0guest"), 0)
        self.receive()
        self.send(commands.Connection.TuneOk(2047, FRAME_MAX, 0), 0)
        for method, channel in (
            (commands.Connection.Open("/"), 0),
            (commands.Channel.Open(), 1),
            (commands.Confirm.Select(), 1),
        ):
            self.send(method, channel)
            self.receive()

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


def by_raw_frames(server: RabbitMQServer, events: list[Event]) -> float:
    """Publish what was packed before the clock starts."""
    settings = RabbitMQSink(server.url()).settings
    codec, framer = Codec(settings), Framer(1, settings, FRAME_MAX)
    payload = b"".join(framer.frames(codec.message(event, body_of(event))) for event in events)
    client = RawClient(server.port)
    start = time.perf_counter()
    client.publish(payload, len(events))
    spent = time.perf_counter() - start
    client.close()
    return spent


def by_sink(server: RabbitMQServer, events: list[Event]) -> float:
    """Publish with our sink, in batches of the size it asks for."""

    async def publish() -> float:
        sink = RabbitMQSink(server.url(), op_timeout=60.0)
        await sink.open()
        start = time.perf_counter()
        for batch in batches:
            if await sink.write(batch) is not None:
                raise RuntimeError("not delivered")
        spent = time.perf_counter() - start
        await sink.close()
        return spent

    size = RabbitMQSink.delivery_defaults["batch_size"]
    batches: list[Batch] = [
        batch_of(events[first : first + size]) for first in range(0, len(events), size)
    ]
    return asyncio.run(publish())


def by_emit(server: RabbitMQServer, events: list[Event]) -> float:
    """Emit as many events of the same shape, and wait until all are confirmed."""
    sink = RabbitMQSink(server.url(), op_timeout=60.0, buffer_size=2 * len(events))
    with streamll.configure(sinks=[sink]), streamll.trace("llm_call") as span:
        streamll.flush(60)
        before = sink.stats.delivered
        start = time.perf_counter()
        for _ in events:
            span.emit("token", TOKEN)
        streamll.flush(60)
        spent = time.perf_counter() - start
        if sink.stats.delivered - before != len(events):
            raise RuntimeError("not delivered")
    return spent


def by_aio_pika(server: RabbitMQServer, events: list[Event], at_once: int) -> float:
    """Publish with aio-pika, *at_once* gathered."""

    async def publish() -> float:
        connection = await aio_pika.connect(server.url())
        exchange = await (await connection.channel()).get_exchange(EXCHANGE)
        messages = [_aio_message(event) for event in events]
        start = time.perf_counter()
        for first in range(0, len(messages), at_once):
            part = messages[first : first + at_once]
            await asyncio.gather(*(exchange.publish(message, KEY) for message in part))
        spent = time.perf_counter() - start
        await connection.close()
        return spent

    return asyncio.run(publish())


def _aio_message(event: Event) -> aio_pika.Message:
    """Return the message a careful user of aio-pika would send."""
    return aio_pika.Message(
        body_of(event),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=event.event_id,
        correlation_id=event.execution_id,
        type=event.event_type,
        timestamp=event.timestamp,
    )


def by_pika(server: RabbitMQServer, events: list[Event]) -> float:
    """Publish with pika's blocking connection."""
    connection = pika.BlockingConnection(pika.URLParameters(server.url(vhost="%2F")))
    channel = connection.channel()
    channel.confirm_delivery()
    start = time.perf_counter()
    for event in events:
        properties = pika.BasicProperties(
            content_type="application/json", delivery_mode=2, message_id=event.event_id
        )
        channel.basic_publish(EXCHANGE, KEY, body_of(event), properties, mandatory=True)
    spent = time.perf_counter() - start
    connection.close()
    return spent


#: Way -> the part of the events it publishes.
WAYS: dict[str, tuple[Way, float]] = {
    RAW: (by_raw_frames, 1.0),
    SINK: (by_sink, 1.0),
    EMIT: (by_emit, 1.0),
    GATHER: (partial(by_aio_pika, at_once=1000), 0.5),
    "aio-pika, one by one": (partial(by_aio_pika, at_once=1), 0.05),
    "pika, one by one": (by_pika, 0.05),
}


async def prepare(server: RabbitMQServer, queue_type: str) -> None:
    """Bind one fresh queue."""
    connection = await aiormq.connect(server.url())
    channel = await connection.channel()
    await channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    await channel.queue_delete("audit")
    await channel.queue_declare("audit", durable=True, arguments={"x-queue-type": queue_type})
    await channel.queue_bind("audit", EXCHANGE, "#")
    await connection.close()


def measure(server: RabbitMQServer, queue_type: str, count: int, rounds: int) -> dict[str, Samples]:
    """Return thousands of events per second of each way, round by round."""

    def rate(way: Way, part: float) -> float:
        events = make_events(max(200, int(count * part)))
        asyncio.run(prepare(server, queue_type))
        return len(events) / way(server, events) / 1000

    ways = {name: way for name, way in WAYS.items() if pika or way[0] is not by_pika}
    subjects = {name: partial(rate, *way) for name, way in ways.items()}
    return {name: Samples(found) for name, found in interleave(subjects, rounds).items()}


def report(queue_type: str, rates: dict[str, Samples]) -> None:
    """Print medians with quartiles, ratios, and how the goals stand."""
    rows = [
        (name, spread(found, 1), times(found.over(rates[RAW]).median))
        for name, found in rates.items()
    ]
    table([f"{queue_type} queue", "k events/s [quartiles]", f"to {RAW}*"], rows)
    show(f"* the median of the ratios of {rates[RAW].n} rounds")
    for name in (SINK, EMIT):
        show(Goal(f"{RAW} over {name}", rates[RAW].over(rates[name]).median, 1 / 0.9))
        show(Goal(f"{GATHER} over {name}", rates[GATHER].over(rates[name]).median, 1 / 4))


def main() -> None:
    """Start the broker, run all ways in turn, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queues", default="quorum,classic,stream")
    arguments = parser.parse_args()
    if reason := missing_reason():
        sys.exit(reason)
    heading("Events into RabbitMQ, emit to confirm", ["aio-pika", "aiormq", "pika"])
    show(f"{arguments.events} persistent events of {len(body_of(make_events(1)[0]))} bytes")
    server = RabbitMQServer()
    try:
        server.start()
        for queue_type in arguments.queues.split(","):
            report(queue_type, measure(server, queue_type, arguments.events, arguments.rounds))
    finally:
        server.close()


if __name__ == "__main__":
    main()
