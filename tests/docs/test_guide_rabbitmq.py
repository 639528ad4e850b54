"""The guide's RabbitMQ snippets, as printed but for host names, against a real broker."""

from __future__ import annotations

import functools
import json
import os

import dspy
import pytest

import streamll
from streamll.sinks import RabbitMQSink, RedisSink
from streamll.testing import ScriptedAnswer, ScriptedLM
from support.rabbitmq_probe import PATIENCE, Queues
from support.snippets import Snippet, run, snippets

pytestmark = pytest.mark.broker

GUIDE = "docs/streaming-options-guide.md"


@pytest.fixture(autouse=True)
def _shut_down():
    yield
    streamll.shutdown(timeout=1)


def snippet(phrase: str, **hosts: str) -> Snippet:
    """Return the guide's block that contains *phrase*, ``host:port`` of *hosts* replaced."""
    (found,) = [s for s in snippets(GUIDE) if phrase in s.code]
    code = found.code
    for printed, address in hosts.items():
        assert printed in code
        code = code.replace(printed, address)
    return Snippet(found.document, found.line, found.language, code)


@streamll.instrument
class RAGPipeline(dspy.Module):
    """The program of the guide's routing example."""

    def __init__(self, *answers):
        super().__init__()
        self.llm = ScriptedLM(list(answers), chunk="phrase")

    def forward(self, question):
        return self.llm(question)


def ask(*answers) -> None:
    """Run the program once; it fails where its model does."""
    RAGPipeline(*answers or [ScriptedAnswer(text="The answer is 42")])("What is six times seven?")


def types_in(queues, queue) -> list[str]:
    """Return the types of the events of the LM call in a queue."""
    events = [json.loads(message.body) for message in queues.messages(queue)]
    return [event["event_type"] for event in events if event["operation"] == "llm_call"]


def address(broker) -> str:
    return f"127.0.0.1:{broker.port}"


def test_the_sink_snippet_fills_a_queue(broker):
    """User, password, exchange and routing key of the guide; all that is bound arrives."""
    queues = Queues(broker.url(), "ai_events")
    queue = queues.bind("dspy.llm_call.*")
    code = snippet("Enterprise message queuing", **{"rabbitmq.company.com:5672": address(broker)})
    sink = run(code)["rabbitmq_sink"]
    ask()
    streamll.flush(PATIENCE)
    assert types_in(queues, queue) == ["start", "token", "token", "end"]
    assert queues.keys(queue)[1] == "dspy.llm_call.token"
    assert sink.settings.durable
    assert sink.delivery.circuit_breaker


def test_the_routing_snippet_delivers_to_three_queues(broker):
    """As its comments say: start to audit, tokens to monitoring, errors to alerts."""
    queues = Queues(broker.url(), "ai_events")
    code = snippet("# Route different events to different queues")
    promised = {
        kind: queues.bind(f"ai.rag_pipeline.{kind}")
        for kind in ("start", "token", "error")
        if f"# ai.rag_pipeline.{kind} →" in code.code
    }
    made = []
    run(code, RabbitMQSink=lambda **given: made.append(RabbitMQSink(broker.url(), **given)))
    streamll.configure(sinks=made)
    ask()
    with pytest.raises(Exception, match="down"):
        ask(ValueError("down"))
    streamll.flush(PATIENCE)
    assert len(promised) == 3
    for kind, queue in promised.items():
        assert set(queues.keys(queue)) == {f"ai.rag_pipeline.{kind}"}
        bodies = [json.loads(message.body) for message in queues.messages(queue)]
        assert {body["event_type"] for body in bodies} == {kind}
        assert {body["module_name"] for body in bodies} == {"rag_pipeline"}
    tokens = [json.loads(message.body) for message in queues.messages(promised["token"])]
    assert "".join(token["data"]["token"] for token in tokens) == "The answer is 42"


def test_the_multi_sink_snippet_in_production(broker, redis_server, monkeypatch):
    """ENV=production: the same events in Redis and in RabbitMQ, by module and operation."""
    monkeypatch.setenv("ENV", "production")
    queues = Queues(broker.url(), "production_ai")
    queue = queues.bind("ai.rag_pipeline.llm_call")
    hosts = {
        "prod-rabbit-cluster:5672": address(broker),
        "prod-redis-cluster:6379": f"127.0.0.1:{redis_server.port}",
    }
    run(snippet("# Development: Terminal only", **hosts), os=os)
    ask()
    streamll.flush(PATIENCE)
    assert types_in(queues, queue) == ["start", "token", "token", "end"]
    kept = redis_server.run("XRANGE", "prod_ai_events", "-", "+")
    assert [message.body for message in queues.messages(queue)] == [
        fields[b"event"] for _, fields in kept if fields[b"operation"] == b"llm_call"
    ]


def test_the_production_snippet_takes_its_urls_from_the_environment(
    broker, redis_server, monkeypatch
):
    """The "Best Practices" block."""
    monkeypatch.setenv("REDIS_CLUSTER_URL", redis_server.url)
    monkeypatch.setenv("RABBITMQ_CLUSTER_URL", broker.url())
    queues = Queues(broker.url(), "production_ai_events")
    queue = queues.bind("ai.#")
    names = {"streamll": streamll, "os": os, "RabbitMQSink": RabbitMQSink, "RedisSink": RedisSink}
    run(snippet("# Redis for real-time + RabbitMQ for durability"), **names)
    ask()
    assert streamll.flush(PATIENCE)
    assert types_in(queues, queue) == ["start", "token", "token", "end"]
    assert all(sink.stats.dropped == {} for sink in streamll.get_sinks())


def test_the_circuit_breaker_snippet_goes_for_rabbitmq_too(broker):
    """The options of the block are the same for both sinks."""
    sink = run(
        snippet("# Circuit breaker configuration"),
        RedisSink=functools.partial(RabbitMQSink, broker.url()),
    )["sink"]
    assert (sink.delivery.failure_threshold, sink.delivery.recovery_timeout) == (3, 30.0)


def test_the_health_snippet_shows_the_connection(broker, capfd):
    """Connected while it is open, not before and not after."""
    Queues(broker.url(), "health").bind()
    sink = RabbitMQSink(broker.url(), exchange="health")
    code = snippet("# Check sink status")
    run(code, streamll_sinks=[sink])
    before = capfd.readouterr().out.splitlines()
    streamll.configure(sinks=[sink])
    streamll.emit("x")
    assert streamll.flush(PATIENCE)
    run(code, streamll_sinks=streamll.get_sinks())
    during = capfd.readouterr().out.splitlines()
    assert before[0] == "RabbitMQSink: running=False"
    assert before[-1] == "  Connected: None"
    assert during == [
        "RabbitMQSink: running=True",
        "  Failures: 0",
        "  Circuit open: False",
        "  Connected: True",
    ]
