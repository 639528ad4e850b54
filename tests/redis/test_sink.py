"""`RedisSink` against a real server that works: what is in the stream, and what is refused."""

from __future__ import annotations

import json
import os

import pytest
import redis

from streamll import Outcome, OutcomeUnknown, PermanentError, TransientError
from streamll_redis import RedisSink, _writer
from streamll_redis._append import Appender
from streamll_redis._connection import LOST
from streamll_redis._errors import Refusal
from streamll_redis._protocol import command
from support.events import batch_of, body_of, make_event, make_events
from support.rabbitmq_server import free_port
from support.redis_server import wait_until

pytestmark = pytest.mark.broker


@pytest.fixture
def opened():
    """Open sinks that are closed after the test."""
    sinks = []

    def open_sink(*args, **options):
        sink = RedisSink(*args, **options)
        sinks.append(sink)
        sink.open()
        return sink

    yield open_sink
    for sink in sinks:
        sink.close()


def bodies_in(server, key="streamll_events"):
    """Return the `event` fields of a stream, in its order."""
    return [fields[b"event"] for _, fields in server.run("XRANGE", key, "-", "+")]


def only_appender(sink):
    """Return what appends at the one server of *sink*."""
    (appender,) = sink._servers._appenders.values()
    return appender


def codes_of(report):
    """Return the outcomes and reasons in a report."""
    return {(verdict.outcome, verdict.reason) for verdict in report.values()}


def test_events_are_entries_in_order(redis_server, opened):
    """The bodies of a batch are the stream, and the flat fields are beside them."""
    events = make_events(1000)
    assert opened(redis_server.url).write(batch_of(events)) is None
    assert bodies_in(redis_server) == [body_of(event) for event in events]
    ((_, fields),) = redis_server.run("XRANGE", "streamll_events", "-", "+", "COUNT", 1)
    assert fields[b"operation"] == b"llm_call"
    assert fields[b"sequence"] == str(events[0].sequence).encode()


def test_the_consumer_of_the_seed_reads_them(redis_server, opened):
    """`json.loads(fields[b"event"])` has `event_type` and `operation`."""
    opened(redis_server.url).write(batch_of(make_events(1)))
    with redis.Redis(port=redis_server.port, protocol=2) as r:
        for _, messages in r.xread({"streamll_events": "0"}, block=1000):
            for _, fields in messages:
                event = json.loads(fields[b"event"])
                assert (event["event_type"], event["operation"]) == ("token", "llm_call")


@pytest.mark.parametrize("approximate", [True, False])
def test_a_stream_is_trimmed(redis_server, opened, approximate):
    """A stream stays near its limit for ever, or at it."""
    sink = opened(redis_server.url, maxlen=100, approximate=approximate)
    for _ in range(10):
        sink.write(batch_of(make_events(100)))
    length = redis_server.run("XLEN", "streamll_events")
    assert length == 100 if not approximate else 100 <= length <= 300


def test_a_template_makes_a_stream_for_each_tenant(redis_server, opened):
    """Each event goes to the stream of its tenant, in order; values cannot forge a key."""
    sink = opened(redis_server.url, "streamll:{context.tenant}")
    events = [make_event(context={"tenant": f"t{n % 3}:x"}) for n in range(30)]
    assert sink.write(batch_of(events)) is None
    for n in range(3):
        assert bodies_in(redis_server, f"streamll:t{n}_x") == list(map(body_of, events[n::3]))


def test_beyond_the_limit_of_keys_events_are_reported(redis_server, opened):
    """What has no key is dropped by name; what has one is delivered."""
    sink = opened(redis_server.url, "s:{context.t}", max_keys=2)
    report = sink.write(batch_of([make_event(context={"t": str(n)}) for n in range(5)]))
    assert sorted(report) == [2, 3, 4]
    assert codes_of(report) == {(Outcome.REJECTED_PERMANENT, "key_limit")}


def test_partitions_hold_everything_once(redis_server, opened):
    """The partitions of a stream together hold each event once, each execution in one."""
    events = [make_event(execution_id=f"{n % 7:032x}") for n in range(70)]
    opened(redis_server.url, partitions=4).write(batch_of(events))
    found = [body for n in range(4) for body in bodies_in(redis_server, f"streamll_events:{n}")]
    assert sorted(found) == sorted(map(body_of, events))


def without_answers(call):
    """Return *call* as it is where all answers are lost."""

    def lose(self, parts, **options):
        call(self, parts, **options)
        return dict.fromkeys(parts, LOST)

    return lose


def test_a_repeated_batch_is_appended_once(redis_server, opened, monkeypatch):
    """While nothing was confirmed, sending again, less or more adds only what is missing."""
    sink = opened(redis_server.url)
    events = make_events(10)
    with monkeypatch.context() as patch:
        patch.setattr(Appender, "_call", without_answers(Appender._call))
        for size in (6, 3, 8):
            with pytest.raises(OutcomeUnknown):
                sink.write(batch_of(events[:size], attempt=2))
    assert sink.write(batch_of(events)) is None
    assert bodies_in(redis_server) == list(map(body_of, events))


def test_a_notice_in_front_of_a_repeated_batch_doubles_nothing(redis_server, opened, monkeypatch):
    """What a channel announces after a drop takes nobody's number."""
    sink = opened(redis_server.url)
    events, notice = make_events(6), make_event(operation="streamll", event_type="dropped")
    with monkeypatch.context() as patch:
        patch.setattr(Appender, "_call", without_answers(Appender._call))
        with pytest.raises(OutcomeUnknown):
            sink.write(batch_of(events))
    for repeated in ([notice, *events[:2]], events[2:]):  # a channel repeats less at first
        assert sink.write(batch_of(repeated)) is None
    assert sorted(bodies_in(redis_server)) == sorted(map(body_of, [notice, *events]))


def test_a_part_never_overtakes_the_one_before(redis_server, opened, monkeypatch):
    """When the server refuses the middle of a batch, what is behind it waits for it."""
    monkeypatch.setattr(_writer, "PART_BYTES", 1)
    sink = opened(redis_server.url)
    events = make_events(5)
    call = _writer.Part.call

    def refused_once(part, *args, **options):
        request = call(part, *args, **options)
        return command(b"NOSUCH") if part.events[0] is events[2] else request

    sink.write(batch_of(make_events(1)))
    monkeypatch.setattr(only_appender(sink), "_without_scripts", lambda parts: dict.fromkeys(
        [at for part in parts for at in part.positions], Refusal("ERR")))  # fmt: skip
    monkeypatch.setattr(_writer.Part, "call", refused_once)
    report = sink.write(batch_of(events))
    assert sorted(report) == [2, 3, 4]
    monkeypatch.setattr(_writer.Part, "call", call)
    assert sink.write(batch_of(events[2:], attempt=2)) is None
    assert bodies_in(redis_server)[1:] == list(map(body_of, events))


def test_two_sinks_never_skip_each_others_events(redis_server, opened):
    """Numbers belong to a producer: a second process on the stream starts its own."""
    first, second = opened(redis_server.url), opened(redis_server.url)
    assert first.write(batch_of(make_events(5))) is None
    assert second.write(batch_of(make_events(5))) is None
    assert redis_server.run("XLEN", "streamll_events") == 10


def test_a_forked_child_is_another_producer(redis_server, opened):
    """A child that inherits an open sink loses nothing and disturbs nothing."""
    sink = opened(redis_server.url)
    assert sink.write(batch_of(make_events(5))) is None
    child = os.fork()
    if not child:
        os._exit(sink.write(batch_of(make_events(3))) is not None)
    assert os.waitpid(child, 0)[1] == 0
    assert sink.write(batch_of(make_events(2))) is None
    assert redis_server.run("XLEN", "streamll_events") == 10


def test_the_servers_script_cache_may_be_flushed(redis_server, opened):
    """NOSCRIPT is answered with the script, in the same attempt."""
    sink = opened(redis_server.url)
    for _ in range(3):
        assert sink.write(batch_of(make_events(3))) is None
        redis_server.run("SCRIPT", "FLUSH")
    assert redis_server.run("XLEN", "streamll_events") == 9


@pytest.mark.parametrize("part_bytes", [1, 100_000])
def test_one_key_of_the_wrong_type_costs_no_other(
    redis_server, opened, monkeypatch, caplog, part_bytes
):
    """Row 27: WRONGTYPE on one key is permanent for its events, and the others are delivered."""
    monkeypatch.setattr(_writer, "PART_BYTES", part_bytes)
    redis_server.run("SET", "s:1", "not a stream")
    sink = opened(redis_server.url, "s:{context.t}")
    events = [make_event(context={"t": str(n % 3)}) for n in range(9)]
    report = sink.write(batch_of(events))
    assert sorted(report) == [1, 4, 7]
    assert codes_of(report) == {(Outcome.REJECTED_PERMANENT, "wrongtype")}
    assert sink.write(batch_of([events[1]])) is not None
    told = [r.getMessage() for r in caplog.records if r.name == "streamll.redis"]
    assert ["refuses key 's:1': WRONGTYPE (it holds" in line for line in told] == [True]
    assert [len(bodies_in(redis_server, f"s:{n}")) for n in (0, 2)] == [3, 3]


@pytest.mark.parametrize("gone", ["streamll_events", "{streamll_events}:streamll:*"])
def test_what_somebody_deletes_is_begun_anew(redis_server, opened, gone):
    """Row 27: without the stream, or what the server remembers of us, nothing is skipped."""
    sink = opened(redis_server.url)
    assert sink.write(batch_of(make_events(5))) is None
    redis_server.run("DEL", *redis_server.run("KEYS", gone))
    events = make_events(5)
    assert sink.write(batch_of(events)) is None
    assert bodies_in(redis_server)[-5:] == list(map(body_of, events))


def test_a_cluster_that_is_down_refuses_for_now(start_redis, opened):
    """Row 28: CLUSTERDOWN is transient, and the same events get through once it is up."""
    server = start_redis(cluster_enabled="yes", cluster_port=free_port())
    sink = opened(server.url)
    events = make_events(3)
    with pytest.raises(TransientError, match="CLUSTERDOWN"):
        sink.write(batch_of(events))
    server.run("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: server.run("CLUSTER INFO")["cluster_state"] == "ok", "the cluster")
    assert sink.write(batch_of(events, attempt=2)) is None
    assert bodies_in(server) == list(map(body_of, events))


def test_the_only_key_of_the_wrong_type_opens_the_circuit(redis_server, opened):
    """With one fixed key it is a mistake in the configuration, so events wait."""
    redis_server.run("SET", "streamll_events", "not a stream")
    with pytest.raises(PermanentError, match=r"'streamll_events': WRONGTYPE .*check stream_key"):
        opened(redis_server.url).write(batch_of(make_events(3)))


def test_a_full_server_refuses_for_now(start_redis, opened):
    """Row 17: OOM is transient, and what was appended before it is not appended again."""
    server = start_redis(maxmemory="3mb", maxmemory_policy="noeviction")
    sink = opened(server.url, maxlen=None)
    given, refused = [], None
    for _ in range(2000):
        events = make_events(50)
        try:
            assert sink.write(batch_of(events)) is None
        except TransientError as error:
            refused = error
            break
        given += events
    assert "OOM" in str(refused)
    server.run("CONFIG", "SET", "maxmemory", "0")
    assert sink.write(batch_of(events, attempt=2)) is None
    assert bodies_in(server) == [body_of(event) for event in given + events]


def test_a_replica_refuses_for_now(start_redis, opened):
    """Row 28: READONLY after a failover is transient, and the connection is made anew."""
    primary, other = start_redis(), start_redis()
    sink = opened(primary.url)
    assert sink.write(batch_of(make_events(1))) is None
    primary.run("REPLICAOF", "127.0.0.1", other.port)
    with pytest.raises(TransientError, match="READONLY"):
        sink.write(batch_of(make_events(1)))
    primary.run("REPLICAOF", "NO", "ONE")
    assert sink.write(batch_of(make_events(1))) is None


def test_a_unix_socket_works(start_redis, opened, tmp_path):
    """`unix://` reaches a server that listens on no port of interest."""
    path = tmp_path / "r.sock"
    server = start_redis(unixsocket=path)
    assert opened(f"unix://{path}?db=3").write(batch_of(make_events(2))) is None
    assert server.run("XLEN", "streamll_events", db=3) == 2


def test_a_client_lends_its_settings_and_nothing_else(start_redis, opened):
    """`client=` gives server, database and login; its connections stay its own."""
    server = start_redis(requirepass="secret")
    with server.client(password="secret", db=2, decode_responses=True) as client:
        assert opened(client=client).write(batch_of(make_events(2))) is None
        assert client.connection_pool._available_connections == []
        assert client.xlen("streamll_events") == 2


def test_the_server_may_restart_between_batches(start_redis, opened):
    """A connection that died idle is noticed before it is used: no attempt is wasted."""
    server = start_redis(appendonly="yes")
    sink = opened(server.url)
    assert sink.write(batch_of(make_events(1))) is None
    server.kill()
    server.start()
    assert sink.write(batch_of(make_events(1))) is None
    assert server.run("XLEN", "streamll_events") == 2
