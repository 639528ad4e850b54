"""A real cluster of three primaries and three replicas: found by asking, through a failover."""

from __future__ import annotations

import asyncio

import pytest
from redis.cluster import RedisCluster
from redis.crc import key_slot

from streamll import PermanentError, TransientError
from streamll.source import Start
from streamll_redis import RedisSink, RedisSource
from streamll_redis._address import Node
from streamll_redis._slots import Topology
from support.brokers import require
from support.events import batch_of, make_event, make_events
from support.redis_driver import Driver, is_behind, once, read_all, reading
from support.redis_server import cluster, missing_reason, wait_until
from support.truth import Truth

pytestmark = pytest.mark.broker


def executions(count, of=20):
    """Return events of so many executions in turn."""
    return [make_event(execution_id=f"{number % of:032x}") for number in range(count)]


def primary_of(servers, key):
    """Return the server that has *key* now."""
    slot = key_slot(key.encode())
    for first, last, primary, *_ in servers[-1].run("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(server for server in servers if server.port == primary[1])
    raise AssertionError(key)


@pytest.mark.parametrize("node", range(6))
def test_any_node_will_do(redis_cluster, node):
    """The URL of the seed names a cluster by one host: a replica or the wrong primary works."""
    key = f"any{node}"
    sink = RedisSink(redis_cluster[node].url, key)
    assert sink.write(batch_of(make_events(50))) is None
    assert len(read_all(redis_cluster[node].url, stream_key=key)) == 50
    sink.close()


def test_partitions_use_all_primaries_and_keep_each_execution_in_order(redis_cluster):
    """One logical stream over the shards; the read side merges it."""
    sink = RedisSink(redis_cluster[0].url, "spread", partitions=6)
    driver = Driver(sink, events=executions(2000), batch=500)
    driver.run()
    found = read_all(redis_cluster[0].url, stream_key="spread", partitions=6)
    assert driver.judge([message.body for message in found]) == Truth()
    assert len(found) == 2000
    holders = {primary_of(redis_cluster, f"spread:{n}").port for n in range(6)}
    assert len(holders) == 3
    sink.close()


def test_redirections_teach_where_keys_are(redis_cluster, monkeypatch):
    """A user that may not ask for the slots is sent around until it knows."""
    monkeypatch.setattr(Topology, "parse", classmethod(lambda cls, *_: cls()))
    sink = RedisSink(redis_cluster[0].url, "taught", partitions=6)
    driver = Driver(sink, events=executions(500))
    driver.run()
    assert driver.errors == []
    for server in redis_cluster:
        server.run("CONFIG", "RESETSTAT")
    more = executions(60)
    driver.given += more
    assert sink.write(batch_of(more)) is None
    assert not any("errorstat_MOVED" in s.run("INFO", "errorstats") for s in redis_cluster)
    monkeypatch.undo()
    found = read_all(redis_cluster[0].url, stream_key="taught", partitions=6)
    assert driver.judge([message.body for message in found]) == Truth()
    sink.close()


def test_what_was_known_is_asked_anew_when_a_part_fails(redis_cluster):
    """One shard that cannot be reached costs its events one attempt, and the others none."""
    sink = RedisSink(redis_cluster[0].url, "stale", partitions=6)
    sink.open()
    slots, gone = sink._servers._topology.slots, Node("127.0.0.1", 1)
    wrong = slots[key_slot(b"stale:0")]
    slots.update({slot: gone for slot, node in slots.items() if node == wrong})
    events = executions(60)
    report = sink.write(batch_of(events))
    assert 0 < len(report) < 60
    assert {verdict.reason for verdict in report.values()} == {"unreachable"}
    assert sink.write(batch_of([events[at] for at in sorted(report)] + executions(60))) is None
    sink.close()


def test_a_slot_that_moves_loses_and_doubles_nothing(redis_cluster):
    """ASK and MOVED in the middle of writing: the stream and its numbers move together."""
    key = "moving"
    source = primary_of(redis_cluster, key)
    target = next(server for server in redis_cluster[:3] if server is not source)
    sink = RedisSink(source.url, key, maxlen=None)
    driver = Driver(sink, 3000)
    slot = key_slot(key.encode())
    names = {s.port: s.run("CLUSTER", "MYID") for s in (source, target)}

    def begin():
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])

    def move():
        keys = source.run("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.run("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def finish():
        for server in (target, source):
            server.run("CLUSTER", "SETSLOT", slot, "NODE", names[target.port])

    steps = [once(500, begin), once(1000, move), once(2000, finish)]
    driver.run(lambda acked: [step(acked) for step in steps])
    assert driver.truth(target, key) == Truth()
    assert target.run("XLEN", key) == 3000
    sink.close()


def test_a_group_in_a_cluster_settles_over_the_shards(redis_cluster):
    """Ack, and dead letters on another shard than their stream."""

    async def settle():
        sink = RedisSink(redis_cluster[0].url, "grouped", partitions=6)
        sink.write(batch_of(executions(60)))
        options = {"stream_key": "grouped", "partitions": 6, "group": "g"}
        source = RedisSource(redis_cluster[0].url, start=Start(beginning=True), **options)
        await source.open()
        messages = await reading(source, 60)
        for message in messages[:7]:
            await source.dead_letter(message, "test")
        await source.ack(messages[7:])
        await source.close()
        sink.close()

    asyncio.run(settle())
    assert len(read_all(redis_cluster[0].url, stream_key="grouped:dead")) == 7
    for n in range(6):
        holder = primary_of(redis_cluster, f"grouped:{n}")
        assert holder.run("XPENDING", f"grouped:{n}", "g")["pending"] == 0


@pytest.fixture(scope="module")
def named_cluster(tmp_path_factory, certificates):
    """A cluster with TLS, whose nodes tell the host name that is in their certificates."""
    require(missing_reason())
    names = {
        "cluster_announce_hostname": "localhost",
        "cluster_preferred_endpoint_type": "hostname",
    }
    folder = tmp_path_factory.mktemp("named")
    with cluster(folder, replicas=0, tls=certificates, **names) as servers:
        yield servers


def test_a_cluster_with_tls_is_verified_node_by_node(named_cluster, certificates):
    """S10: right names get events of all partitions, both ways."""
    options = {"partitions": 6, "tls_ca_file": str(certificates.authority)}
    url = f"rediss://localhost:{named_cluster[0].tls_port}"
    sink = RedisSink(url, "tls", **options)
    events = executions(60)
    assert sink.write(batch_of(events)) is None
    assert len(read_all(url, stream_key="tls", **options)) == 60
    sink.close()


def test_a_node_that_tells_another_name_gets_nothing(named_cluster, certificates):
    """S10: a cluster that tells addresses, with names in its certificates, is refused by name."""
    for server in named_cluster:
        server.run("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
    sink = RedisSink(
        f"rediss://localhost:{named_cluster[0].tls_port}",
        "untold", partitions=6, tls_ca_file=certificates.authority,
    )  # fmt: skip
    with pytest.raises(PermanentError, match=r"127\.0\.0\.1.*SSLCertVerificationError"):
        sink.write(batch_of(executions(60)))
    sink.close()


def test_a_cluster_client_lends_its_servers(redis_cluster):
    """`client=RedisCluster(...)`: any of its nodes will do, though its first does not answer."""
    with RedisCluster(host="127.0.0.1", port=redis_cluster[0].port) as client:
        sink = RedisSink(client=client, stream_key="lent", partitions=6)
        assert sink.write(batch_of(executions(60))) is None
        sink.close()
        assert len(read_all(redis_cluster[1].url, stream_key="lent", partitions=6)) == 60
        client.set_default_node(client.get_node(port=redis_cluster[0].port, host="127.0.0.1"))
        with redis_cluster[0].frozen():
            late = RedisSink(client=client, stream_key="late", op_timeout=1)
            seeds = {node.port for node in late.settings.seeds}
        assert seeds >= {server.port for server in redis_cluster[:3]}


def test_a_failover_is_survived_by_sink_and_source(redis_cluster):
    """Row 29: a primary dies; both go on, in order, with no duplicate.

    What it confirmed and had not yet replicated would be lost, as Redis replicates
    asynchronously. So it dies when its replica has everything, and nothing may be lost.
    """
    address = primary_of(redis_cluster, "failing:0").url  # the one that dies
    sink = RedisSink(address, "failing", partitions=6, op_timeout=0.5, maxlen=None)
    driver = Driver(sink, events=executions(6000), pause=0.05)
    assert driver.judge(asyncio.run(_read_through(redis_cluster, driver))) == Truth()
    assert driver.errors
    sink.close()


async def _read_through(servers, driver):
    """Read while *driver* writes and the server of its first key is killed."""
    victim = primary_of(servers, "failing:0")
    source = RedisSource(
        victim.url, stream_key="failing", partitions=6, op_timeout=0.5, block=0.5,
        start=Start(beginning=True),
    )  # fmt: skip

    def die():
        victim.replicate("{failing:0}")
        victim.kill()

    writing = asyncio.create_task(asyncio.to_thread(driver.run, once(1500, die), 120))
    bodies, is_open = [], False
    while not (is_open and writing.done() and not await is_behind(source)):
        try:
            if not is_open:
                await source.open()
                is_open = True
            messages = await source.receive(0.2)
        except TransientError:
            is_open = False
            await asyncio.sleep(0.1)
            continue
        bodies += [message.body for message in messages]
    await writing
    await source.close()
    assert primary_of(servers, "failing:0") is not victim
    victim.start(wait=False)
    wait_until(victim.answers, "the killed node")
    return bodies
