"""`RabbitMQTopology`: created when the sink connects, shown as text, and an example of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from streamll import ConfigurationError, PermanentError
from streamll_rabbitmq import RabbitMQQueue, RabbitMQSink, RabbitMQTopology
from support.events import batch_of, make_event
from support.rabbitmq_probe import PATIENCE, unique
from support.rabbitmq_producer import patient
from support.snippets import ROOT


@pytest.mark.broker
@pytest.mark.anyio
async def test_queues_are_there_before_the_first_event(broker, probe, exchange):
    """Of every type; each event goes where it is bound, and connecting again changes nothing."""
    names = {kind: unique(kind) for kind in ("classic", "quorum", "stream")}
    topology = RabbitMQTopology(
        [RabbitMQQueue(name, ["*.*.start", "*.*.error"], type=k) for k, name in names.items()]
    )
    sink = patient(broker.url(), exchange=exchange, topology=topology)
    for _ in range(2):
        events = [make_event(event_type="start"), make_event(event_type="error")]
        assert await sink.write(batch_of(events)) is None
        await sink.close()
    assert await probe.count(names["classic"]) == 4
    assert await probe.count(names["quorum"]) == 4
    assert len(await probe.replay(names["stream"], 4)) == 4


@pytest.mark.broker
@pytest.mark.anyio
async def test_what_expires_or_overflows_goes_to_the_dead_letters(broker, probe, exchange):
    """TTL and length limits, with the queue of dead letters they name."""
    dead, short, brief = unique("dead"), unique("short"), unique("brief")
    topology = RabbitMQTopology(
        [
            RabbitMQQueue(dead),
            RabbitMQQueue(short, "*.*.start", max_length=1, dead_letter=dead),
            RabbitMQQueue(brief, "*.*.end", message_ttl=0.05, dead_letter=dead),
        ]
    )
    sink = patient(broker.url(), exchange=exchange, topology=topology)
    kinds = ["start", "start", "start", "end"]
    assert await sink.write(batch_of([make_event(event_type=k) for k in kinds])) is None
    found = await probe.channel.get_queue(dead)
    async with asyncio.timeout(PATIENCE), found.iterator(no_ack=True) as letters:
        types = [(await anext(letters)).type for _ in range(3)]
    assert sorted(types) == ["end", "start", "start"]
    assert await probe.count(short) == 1
    await sink.close()


@pytest.mark.broker
@pytest.mark.anyio
async def test_a_queue_for_what_no_queue_takes(broker, probe, exchange):
    """Bound to the alternate exchange."""
    rest = f"{exchange}.rest"
    topology = RabbitMQTopology([RabbitMQQueue(rest, "#", exchange=rest)])
    sink = patient(broker.url(), exchange=exchange, alternate_exchange=rest, topology=topology)
    assert await sink.write(batch_of([make_event()])) is None
    assert await probe.count(rest) == 1
    await sink.close()


@pytest.mark.broker
@pytest.mark.anyio
async def test_a_queue_that_differs_is_permanent_and_named(broker, probe, exchange):
    """Nothing that is there is changed or deleted."""
    queue = await probe.bind(exchange, kind="quorum")
    topology = RabbitMQTopology([RabbitMQQueue(queue, "#")])
    sink = patient(broker.url(), exchange=exchange, topology=topology)
    with pytest.raises(PermanentError, match=f"cannot create queue '{queue}'"):
        await sink.open()
    await sink.close()


def test_it_shows_as_text():
    """One line per binding."""
    topology = RabbitMQTopology(
        [
            RabbitMQQueue("audit", ["ai.*.start", "ai.*.end"], type="quorum", dead_letter="dead"),
            RabbitMQQueue("dead", message_ttl=60, max_length=10),
        ]
    )
    assert str(topology).splitlines() == [
        "[ai.*.start] -> audit (quorum), dead letters to dead",
        "[ai.*.end] -> audit (quorum), dead letters to dead",
        "[(nothing bound)] -> dead (classic), ttl 60 s, at most 10 messages",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RabbitMQQueue("q", type="lazy"),
        lambda: RabbitMQQueue(""),
        lambda: RabbitMQQueue("q", type="quorum", durable=False),
        lambda: RabbitMQQueue("q", type="stream", max_length=1),
        lambda: RabbitMQQueue("q", message_ttl=0),
        lambda: RabbitMQTopology([RabbitMQQueue("q"), RabbitMQQueue("q")]),
        lambda: RabbitMQSink(topology=RabbitMQTopology([]), declare=False),
        lambda: RabbitMQSink(topology=["q"]),
    ],
)
def test_what_cannot_be_is_refused_at_once(make):
    """Before anything connects."""
    with pytest.raises(ConfigurationError):
        make()


@pytest.mark.broker
@pytest.mark.slow
def test_the_routing_example_runs(start_broker):
    """Audit, monitoring, alerts; retried twice, then among the dead letters."""
    command = [sys.executable, "examples/rabbitmq_routing.py", start_broker().url()]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "audit_queue: llm_call start " in lines
    tokens = [line for line in lines if line.startswith("monitoring_queue: llm_call token ")]
    assert tokens
    assert lines.count("alerts_queue: paging about llm_call") == 3
    assert any(line.startswith("alerts_queue.dead: llm_call error") for line in lines)
