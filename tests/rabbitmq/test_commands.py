"""``streamll rabbitmq topology``: prints what a sink needs, and creates it."""

from __future__ import annotations

import sys

import pytest

from streamll_terminal import cli
from support.rabbitmq_probe import unique

DESCRIBED = """
from streamll_rabbitmq import RabbitMQQueue, RabbitMQSink, RabbitMQTopology

topology = RabbitMQTopology([RabbitMQQueue("audit", "ai.*.start", type="quorum")])
sink = RabbitMQSink(
    "amqp://localhost:1/", exchange="ai_events", topology=topology, alternate_exchange="rest"
)
something = 7
"""


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the command in a folder with a module `described`; return exit code and output."""
    (tmp_path / "described.py").write_text(DESCRIBED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "described", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["streamll", "rabbitmq", "topology", *arguments])
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code, capsys.readouterr()
        return 0, capsys.readouterr()

    return run


def test_a_topology_is_printed(run):
    """From `module:attribute`, for an exchange of choice."""
    code, said = run("described:topology", "--exchange", "ai_events")
    assert code == 0
    assert said.out.splitlines() == [
        "exchange ai_events (topic)",
        "[ai.*.start] -> audit (quorum)",
    ]


def test_a_sink_says_its_own_exchange(run):
    """And its alternate exchange."""
    _, said = run("described:sink")
    assert said.out.splitlines() == [
        "exchange ai_events (topic)",
        "exchange rest (fanout) takes what no queue takes",
        "[ai.*.start] -> audit (quorum)",
    ]


def test_one_queue_is_described_by_options(run):
    """With several bindings, limits and a queue for its dead letters."""
    _, said = run(
        *("--queue", "alerts", "--binding", "ai.*.error", "--binding", "ai.*.cancel"),
        *("--dead-letter", "alerts.dead", "--message-ttl", "60", "--max-length", "9"),
    )
    limits = "dead letters to alerts.dead, ttl 60 s, at most 9 messages"
    assert said.out.splitlines() == [
        "exchange streamll (topic)",
        f"[ai.*.error] -> alerts (classic), {limits}",
        f"[ai.*.cancel] -> alerts (classic), {limits}",
        "[(nothing bound)] -> alerts.dead (classic)",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuch:thing"], "cannot load"),
        (["described:nothing"], "cannot load"),
        (["described"], "write module:attribute, e.g. described:topology"),
        (["described:something"], "neither a RabbitMQTopology nor a RabbitMQSink"),
        (["described:sink", "--queue", "q"], "either module:attribute or --queue"),
        (["--max-length", "3"], "need its name"),
        (["--queue", "q", "--queue-type", "lazy"], "type of a queue"),
        (["--url", "http://x"], "URL scheme"),
    ],
)
def test_what_the_user_can_correct_is_one_line(run, arguments, says):
    """Exit code 2, nothing on stdout."""
    code, said = run(*arguments)
    assert (code, said.out) == (2, "")
    assert says in said.err
    assert said.err.count("\n") == 1


def test_a_broker_that_is_not_there_is_one_line(run):
    """Exit code 1, and what would have been created is shown."""
    code, said = run("described:sink", "--apply")
    assert code == 1
    assert said.err.startswith("streamll: cannot connect to RabbitMQ at localhost:1")


@pytest.mark.broker
def test_what_is_missing_is_created(run, broker):
    """Applying twice is the same as once; what differs is refused and named."""
    exchange, queue = unique("exchange"), unique("queue")
    options = ["--url", broker.url(), "--exchange", exchange, "--queue", queue, "--apply"]
    options += ["--binding", "ai.#", "--alternate-exchange", f"{exchange}.rest"]
    for _ in range(2):
        code, said = run(*options, "--dead-letter", f"{queue}.dead", "--max-length", "9")
        assert code == 0, said.err
    bound = broker.ctl("list_bindings", "source_name", "destination_name", "routing_key")
    assert f"{exchange}\t{queue}\tai.#" in bound
    assert f"{exchange}.rest" in broker.ctl("list_exchanges", "name")
    assert f"{queue}.dead" in broker.ctl("list_queues", "name")
    code, said = run(*options, "--max-length", "10")
    assert code == 1
    assert f"cannot create queue '{queue}'" in said.err
    assert "guest" not in said.err + said.out
