"""Sentinels: the primary is found by asking them, before and after a failover."""

from __future__ import annotations

import asyncio

import pytest
from redis.sentinel import Sentinel

from streamll import ConfigurationError, DeliveryError, TransientError
from streamll.source import Start
from streamll_redis import RedisSink, RedisSource
from streamll_redis._address import Node
from support.events import batch_of, make_events
from support.redis_driver import Driver, once, read_all
from support.redis_server import RedisServer
from support.truth import Truth

pytestmark = pytest.mark.broker


def test_the_primary_is_found_by_its_name(redis_sentinels):
    """Sink and source need the sentinels' addresses only."""
    sink = RedisSink(redis_sentinels.url, "named")
    assert sink.write(batch_of(make_events(20))) is None
    assert redis_sentinels.primary.run("XLEN", "named") == 20
    assert len(read_all(redis_sentinels.url, stream_key="named")) == 20
    sink.close()


def test_a_dead_sentinel_costs_nothing(redis_sentinels):
    """The next one is asked."""
    dead = "redis+sentinel://127.0.0.1:1," + redis_sentinels.url.split("://")[1]
    sink = RedisSink(dead, "dead")
    assert sink.write(batch_of(make_events(1))) is None
    sink.close()


def test_a_sentinel_that_is_behind_is_not_believed(redis_sentinels, monkeypatch):
    """Whoever it names must say itself that it is the primary."""
    replica = Node("127.0.0.1", redis_sentinels.replica.port)
    monkeypatch.setattr("streamll_redis._discovery.primary_of", lambda _: replica)
    with pytest.raises(TransientError, match="no longer the primary"):
        RedisSink(redis_sentinels.url).open()


def test_an_unknown_service_is_for_now(redis_sentinels):
    """A name no sentinel knows may be there soon, and is told."""
    url = redis_sentinels.url.replace("/main", "/other")
    with pytest.raises(TransientError, match="other"):
        RedisSink(url).open()


def test_tls_reaches_sentinel_and_server(start_redis, certificates):
    """S10: `rediss+sentinel://` verifies both, by the names the sentinel tells."""
    server = start_redis(tls=certificates, tls_replication="yes")
    watch = (
        f"resolve-hostnames yes|sentinel announce-hostnames yes"
        f"|sentinel monitor main localhost {server.tls_port} 1"
    )
    options = {"sentinel": watch, "tls-replication": "yes"}
    sentinel = RedisServer(server.folder / "s", options, tls=certificates, program=["--sentinel"])
    sentinel.start()
    try:
        url = f"rediss+sentinel://localhost:{sentinel.tls_port}/main"
        sink = RedisSink(url, tls_ca_file=certificates.authority)
        assert sink.write(batch_of(make_events(3))) is None
        assert len(read_all(url, tls_ca_file=str(certificates.authority))) == 3
        sink.close()
        with pytest.raises(DeliveryError):  # an unknown authority: neither is asked
            RedisSink(url).open()
    finally:
        sentinel.stop()


def test_a_client_of_a_sentinel_is_refused_with_what_to_write(redis_sentinels):
    """It names no server; it must not end up at localhost."""
    sentinel = Sentinel([("127.0.0.1", redis_sentinels.sentinels[0].port)])
    with pytest.raises(ConfigurationError, match=r"redis\+sentinel://"):
        RedisSink(client=sentinel.master_for("main"))


def test_a_failover_leads_to_the_new_primary(redis_sentinels):
    """Row 30: the primary dies; sink and source find its successor, each event is there once."""
    sink = RedisSink(redis_sentinels.url, "failing", op_timeout=0.5, maxlen=None)
    driver = Driver(sink, 3000, pause=0.05)

    def die():
        redis_sentinels.primary.replicate()  # what is not there is lost: asynchronous replication
        redis_sentinels.primary.kill()

    driver.run(once(1000, die))
    assert driver.errors
    assert driver.truth(redis_sentinels.replica, "failing") == Truth()
    assert asyncio.run(_first(redis_sentinels.url))
    sink.close()


async def _first(url):
    source = RedisSource(url, stream_key="failing", start=Start(beginning=True))
    await source.open()
    try:
        return await source.receive(2)
    finally:
        await source.close()
