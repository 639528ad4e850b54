"""The guide's Redis snippets, as printed but for host names, against a real server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor, wait

import dspy
import pytest

import streamll
from streamll.sinks import RedisSink, TerminalSink
from streamll.testing import ScriptedAnswer, ScriptedLM
from support.redis_server import wait_until
from support.snippets import ROOT, Snippet, run, snippets

pytestmark = pytest.mark.broker

GUIDE = "docs/streaming-options-guide.md"
KEY = "streamll_events"
EXECUTOR = ThreadPoolExecutor()


@pytest.fixture(autouse=True)
def _shut_down():
    yield
    streamll.shutdown(timeout=1)


def snippet(phrase: str, **hosts: str) -> Snippet:
    """Return the guide's block that contains *phrase*, host names replaced."""
    (found,) = [s for s in snippets(GUIDE) if phrase in s.code]
    code = found.code
    for name, address in hosts.items():
        assert name.replace("_", "-") in code
        code = code.replace(f"{name.replace('_', '-')}:6379", address)
    return Snippet(found.document, found.line, found.language, code)


def ask() -> None:
    """Run the guide's own program once."""

    @streamll.instrument
    class MyModule(dspy.Module):
        def forward(self, question):
            return self.llm(question)

    module = MyModule()
    module.llm = ScriptedLM([ScriptedAnswer(text="The answer is 42")], chunk="phrase")
    assert module("What is six times seven?") == ["The answer is 42"]


def types_in(server, key: str = KEY) -> list[str]:
    """Return the types of the events of the LM call in a stream."""
    events = [json.loads(f[b"event"]) for _, f in server.run("XRANGE", key, "-", "+")]
    return [e["event_type"] for e in events if e["operation"] == "llm_call"]


def test_the_sink_snippet_fills_the_stream(redis_server):
    """start, two tokens, end of the LM call."""
    code = snippet(
        "High-performance streaming to Redis", localhost=f"127.0.0.1:{redis_server.port}"
    )
    sink = run(code)["redis_sink"]
    ask()
    assert streamll.flush()
    assert types_in(redis_server) == ["start", "token", "token", "end"]
    assert (sink.delivery.failure_threshold, sink.delivery.recovery_timeout) == (3, 10.0)


@contextlib.contextmanager
def running(code: Snippet, port: int):
    """Run an endless loop in a process of its own; yields a function that reads a line."""
    prelude = f"""
        import functools, json, redis
        redis.Redis = functools.partial(redis.Redis, port={port})
    """
    text = textwrap.dedent(prelude) + code.code
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", text], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield process.stdout.readline
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("loop", ["xread({'streamll_events': '$'}", "last = newest"])
def test_a_consumer_loop_shows_what_comes(redis_server, loop):
    """The loop of the guide, which misses what comes between two reads, and the one beside it."""
    streamll.configure(sinks=[RedisSink(redis_server.url)])
    with running(snippet(loop), redis_server.port) as readline:
        line = EXECUTOR.submit(readline)
        while not line.done():
            streamll.emit("again")
            assert streamll.flush()
            wait([line], timeout=0.05)
        assert line.result() == "Event: again - custom\n"


def test_the_right_loop_misses_nothing(redis_server):
    """Many events in a row: each is printed, in order."""
    streamll.configure(sinks=[RedisSink(redis_server.url)])
    with running(snippet("last = newest"), redis_server.port) as readline:
        wait_until(lambda: redis_server.run("INFO", "clients")["blocked_clients"], "the loop")
        for number in range(300):
            streamll.emit(f"n{number}")
        assert streamll.flush()
        lines = [readline() for _ in range(300)]
    assert lines == [f"Event: n{number} - custom\n" for number in range(300)]


def test_consume_shows_what_comes(redis_server):
    """`streamll.consume` is the same loop, with decoding and reconnects."""
    streamll.configure(sinks=[RedisSink(redis_server.url)])
    code = snippet("streamll.consume(", localhost=f"127.0.0.1:{redis_server.port}")
    with running(code, redis_server.port) as readline:
        wait_until(lambda: redis_server.run("INFO", "clients")["blocked_clients"], "the loop")
        streamll.emit("first")
        assert streamll.flush()
        assert readline() == "Event: first - custom\n"


def test_the_circuit_breaker_snippet_makes_a_sink():
    """With no address: the default server."""
    sink = run(snippet("# Circuit breaker configuration"), RedisSink=RedisSink)["sink"]
    assert (sink.delivery.failure_threshold, sink.delivery.recovery_timeout) == (3, 30.0)


def test_the_health_snippet_shows_what_sinks_know(redis_server, capfd):
    """running, failures and circuit of a sink that works."""
    streamll.configure(sinks=[RedisSink(redis_server.url)])
    streamll.emit("x")
    assert streamll.flush()
    run(snippet("# Check sink status"), streamll_sinks=streamll.get_sinks())
    assert capfd.readouterr().out.splitlines()[:3] == [
        "RedisSink: running=True",
        "  Failures: 0",
        "  Circuit open: False",
    ]


def test_the_staging_snippet_takes_its_url_from_the_environment(redis_server, monkeypatch):
    """Terminal and Redis side by side."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    names = {"streamll": streamll, "os": os, "TerminalSink": TerminalSink, "RedisSink": RedisSink}
    run(snippet("# Terminal + Redis for testing integrations"), **names)
    ask()
    assert streamll.flush()
    assert types_in(redis_server) == ["start", "token", "token", "end"]


def test_the_multi_sink_snippet_on_staging(redis_server, monkeypatch):
    """ENV=staging: terminal and Redis."""
    monkeypatch.setenv("ENV", "staging")
    address = f"127.0.0.1:{redis_server.port}"
    run(snippet("# Development: Terminal only", staging_redis=address), os=os)
    ask()
    assert streamll.flush()
    assert types_in(redis_server) == ["start", "token", "token", "end"]


def test_the_multi_sink_snippet_in_production(redis_cluster, monkeypatch):
    """ENV=production: `prod-redis-cluster:6379` is a cluster, found by asking it."""
    monkeypatch.setenv("ENV", "production")
    for node in redis_cluster[:3]:
        address = f"127.0.0.1:{node.port}"
        run(snippet("# Development: Terminal only", prod_redis_cluster=address), os=os)
        (sink,) = [sink for sink in streamll.get_sinks() if isinstance(sink, RedisSink)]
        ask()
        wait_until(lambda sink=sink: sink.stats.delivered and not sink.stats.queued, "delivery")
        assert sink.stats.dropped == {}
        streamll.shutdown(timeout=0.5)
