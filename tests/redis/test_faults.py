"""`RedisSink` against real servers that fail, judged by what is in the stream afterwards.

Each test drives the sink the way its channel does: the same events again, at the front,
until they are confirmed.
"""

from __future__ import annotations

import os
import random
import socket
import threading

import pytest
from redis.credentials import CredentialProvider

from streamll import DeliveryError, Outcome, OutcomeUnknown, PermanentError, TransientError
from streamll_redis import RedisSink
from support.events import batch_of, make_events
from support.redis_driver import Driver, once
from support.redis_server import AOF_ALWAYS, RedisServer, wait_until
from support.tcp_proxy import TcpProxy
from support.truth import Truth

pytestmark = pytest.mark.broker

#: Seconds an attempt may take: short, as some tests wait for it to be over, and long enough for
#: a healthy attempt on a busy machine.
TIMEOUT = 1.0


def warm_up(sink, driver):
    """Confirm one more event, so that the server knows the script."""
    extra = make_events(1, execution_id="a" * 32)
    driver.given += extra
    driver.acked += extra
    assert sink.write(batch_of(extra)) is None


@pytest.fixture
def proxied(redis_server):
    """A sink behind a misbehaving proxy, and the proxy."""
    with TcpProxy(redis_server.port).running() as proxy:
        sink = RedisSink(f"redis://127.0.0.1:{proxy.port}", op_timeout=TIMEOUT, maxlen=None)
        yield sink, proxy
        sink.close()


def test_a_frozen_server_costs_its_time_limit_and_duplicates_nothing(start_redis):
    """Rows 4 and 5: attempts end in time, and after SIGCONT each event is there once."""
    server = start_redis()
    sink = RedisSink(server.url, op_timeout=TIMEOUT, maxlen=None)
    driver = Driver(sink, 300)
    warm_up(sink, driver)
    server.freeze()
    for _ in range(3):  # each comes back while the server is still frozen
        with pytest.raises(DeliveryError):
            sink.write(batch_of(driver.given[:50]))
    server.thaw()
    driver.run()
    assert driver.truth(server) == Truth()
    sink.close()


def test_connecting_to_a_frozen_server_is_bounded_and_known_to_have_failed(start_redis):
    """Row 7: the kernel accepts for a frozen server; no event has left, so it is transient."""
    server = start_redis()
    with server.frozen(), pytest.raises(TransientError):
        RedisSink(server.url, op_timeout=TIMEOUT).write(batch_of(make_events(1)))


def test_a_server_that_is_down_refuses_at_once_and_works_when_it_is_up(start_redis):
    """Row 1: nothing is lost by starting before the server."""
    server = start_redis()
    server.kill()
    sink = RedisSink(server.url)
    with pytest.raises(TransientError):
        sink.open()
    with pytest.raises(TransientError):
        sink.write(batch_of(make_events(1)))
    server.start()
    assert sink.write(batch_of(make_events(1))) is None
    sink.close()


def test_a_killed_server_loses_nothing_it_confirmed(start_redis):
    """Row 3: SIGKILL in the middle and a restart from the append-only file."""
    server = start_redis(**AOF_ALWAYS)
    sink = RedisSink(server.url, maxlen=None)
    driver = Driver(sink, 4000)

    def crash():
        server.kill()
        server.start()

    driver.run(once(1500, crash))
    assert driver.truth(server) == Truth()
    sink.close()


@pytest.mark.parametrize("lost_answers", [True, False])
def test_silence_is_unknown_and_the_retry_appends_once(proxied, redis_server, lost_answers):
    """Row 12: whether the request or only its answer vanished, each event ends up there once."""
    sink, proxy = proxied
    driver = Driver(sink, 200)
    warm_up(sink, driver)
    proxy.mute_replies, proxy.mute_requests = lost_answers, not lost_answers
    with pytest.raises(OutcomeUnknown):
        sink.write(batch_of(driver.given[:80]))
    assert (redis_server.run("XLEN", "streamll_events") == 81) == lost_answers
    proxy.mute_replies = proxy.mute_requests = False
    driver.run()
    assert driver.truth(redis_server) == Truth()


def test_a_connection_reset_in_the_middle_of_a_batch(proxied, redis_server):
    """Row 8: over and over, at any byte, nothing is lost, doubled or out of order."""
    sink, proxy = proxied
    driver = Driver(sink, 3000, batch=400)
    resets = iter(random.choices(range(1, 200_000), k=30))

    def arm(_):
        if proxy.reset_after is None:
            proxy.reset_after = next(resets, None)

    driver.run(arm)
    assert driver.errors
    assert driver.truth(redis_server) == Truth()


def test_a_late_link_loses_nothing(redis_server):
    """Row 9: latency with jitter delays events and does nothing else."""
    with TcpProxy(redis_server.port, latency=0.02, jitter=0.01).running() as proxy:
        sink = RedisSink(f"redis://127.0.0.1:{proxy.port}", op_timeout=60, maxlen=None)
        driver = Driver(sink, 500)
        driver.run()
        sink.close()
    assert driver.errors == []
    assert driver.truth(redis_server) == Truth()


def test_a_thin_link_makes_progress_part_by_part(proxied, redis_server, monkeypatch):
    """Row 10: a batch too big for the time limit is confirmed in parts, never from the start."""
    monkeypatch.setattr("streamll_redis._writer.PART_BYTES", 8 * 1024)
    sink, proxy = proxied
    warm_up(sink, Driver(sink))
    proxy.mute_requests_after = 48 * 1024
    events = make_events(300)
    report = sink.write(batch_of(events))
    assert 0 < len(report) < 300
    assert {verdict.outcome for verdict in report.values()} == {Outcome.UNKNOWN}
    assert min(report) == 300 - len(report)
    proxy.mute_requests = False
    wait_until(lambda: proxy.open == 0, "the connection with answers owing to be closed")


def test_a_dripping_answer_ends_at_the_time_limit(proxied):
    """Row 11: a byte now and then does not keep an operation alive."""
    sink, proxy = proxied
    sink.open()
    proxy.drip = TIMEOUT * 0.8  # the whole answer would come, and no byte of it too late
    with pytest.raises(OutcomeUnknown):
        sink.write(batch_of(make_events(1)))


def test_name_resolution_that_hangs_is_bounded(monkeypatch):
    """Row 13: what has no timeout of its own gets one."""
    given_up, late = threading.Event(), threading.Event()

    def hang(*_):
        given_up.wait(60)
        late.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(TransientError):
        RedisSink("redis://nowhere.invalid", op_timeout=0.3).open()
    assert not late.is_set()
    given_up.set()
    assert late.wait(60)


def test_a_server_that_is_loading_refuses_for_now(start_redis):
    """Row 28: LOADING after a restart is transient, and ends by itself."""
    server = start_redis()
    with server.client() as client:
        client.mset({f"k{n}": os.urandom(2000) for n in range(300)})
        client.save()
    server.kill()
    delay = {"key-load-delay": 5000, "loading-process-events-interval-bytes": 1024}
    slow = RedisServer(server.folder, delay, port=server.port)
    sink = RedisSink(server.url)
    slow.start(wait=False)
    try:
        driver = Driver(sink, 10)
        driver.run()
        assert any("LOADING" in str(error) for error in driver.errors)
        assert all(type(error) is TransientError for error in driver.errors)
        assert driver.truth(slow) == Truth()
    finally:
        sink.close()
        slow.stop()


def test_a_wrong_password_is_tried_once_per_attempt(start_redis):
    """Row 18: permanent, so the circuit opens at once and no account is locked."""
    server = start_redis(requirepass="right")
    sink = RedisSink(server.url, password="wrong")
    for attempt in (1, 2):
        with pytest.raises(PermanentError, match="AuthenticationError"):
            sink.write(batch_of(make_events(1)))
        assert _auth_failures(server) == attempt


def _auth_failures(server):
    stats = server.run("INFO", "commandstats", password="right")
    return stats["cmdstat_auth"]["failed_calls"]


def test_a_rotated_password_is_picked_up(start_redis):
    """Row 19: the provider is asked at each connect, so a new password just works."""

    class Vault(CredentialProvider):
        password = "old"

        def get_credentials(self):
            return ("app", self.password)

    server = start_redis(user="app on >old ~* +@all")
    vault = Vault()
    sink = RedisSink(server.url, credential_provider=vault)
    assert sink.write(batch_of(make_events(1))) is None
    server.run("ACL", "SETUSER", "app", "resetpass", ">new")
    server.run("CLIENT", "KILL", "USER", "app")
    with pytest.raises(PermanentError):
        sink.write(batch_of(make_events(1)))
    vault.password = "new"
    assert sink.write(batch_of(make_events(1))) is None
    sink.close()


def test_a_late_answer_is_never_taken_for_a_later_one(proxied):
    """After a timeout the connection is closed, so the answer has nowhere to arrive."""
    sink, proxy = proxied
    sink.open()
    proxy.mute_replies = True
    with pytest.raises(OutcomeUnknown):
        sink.write(batch_of(make_events(3)))
    wait_until(lambda: proxy.open == 0, "the connection to be closed")
