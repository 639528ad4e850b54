"""From `streamll.emit` to the stream and back, over real servers that fail, judged by the truth.

Accounting: ``accepted == delivered + dropped + queued + in_flight`` holds whenever it is asked.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time

import pytest

import streamll
from streamll_redis import RedisSink
from support.brokers import require
from support.invariants import i1_accounting, i7_truth
from support.redis_driver import read_all
from support.redis_server import AOF_ALWAYS, RedisServer, wait_until
from support.truth import Truth, judge

pytestmark = pytest.mark.broker

#: A sink that tries again soon, and keeps whatever a fast machine emits meanwhile.
PATIENT = {
    "recovery_timeout": 0.3,
    "retry_delay": 0.05,
    "op_timeout": 0.5,
    "maxlen": None,
    "buffer_size": 1_000_000,
    "buffer_bytes": 1 << 30,
}
#: Seconds that are enough on any machine, however busy.
PATIENCE = 60


@pytest.fixture(autouse=True)
def _shut_down():
    yield
    streamll.shutdown(timeout=1)


class Program:
    """Emits all the time, from a thread of its own, and measures how long that takes."""

    def __init__(self, sink, pause=0.001):
        self.sink, self.pause, self.emitted, self.slowest = sink, pause, 0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        streamll.configure(sinks=[sink])

    def _run(self):
        while not self._stop.is_set():
            before = time.perf_counter()
            streamll.emit("tick", {"number": self.emitted})
            self.slowest = max(self.slowest, time.perf_counter() - before)
            self.emitted += 1
            time.sleep(self.pause)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def numbers(url, **options):
    """Return the numbers of the ticks in a stream, in its order."""
    return [json.loads(message.body)["data"]["number"] for message in read_all(url, **options)]


def frozen_for(server, seconds):
    """Freeze *server* under a running program; returns it and what it emitted meanwhile."""
    sink = RedisSink(server.url, **PATIENT)
    with Program(sink) as program:
        wait_until(lambda: sink.stats.delivered > 100, "the first events")
        server.freeze()
        before = program.emitted
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            i1_accounting(sink.stats)
            time.sleep(0.05)
        assert sink.circuit_open or sink.failures
        meanwhile = program.emitted - before
        server.thaw()
        wait_until(lambda: not sink.circuit_open and not sink.failures, "recovery")
    assert streamll.flush(PATIENCE)
    return program, meanwhile


@pytest.mark.parametrize("seconds", [2.5, pytest.param(12, marks=pytest.mark.slow)])
def test_a_frozen_server_delays_and_nothing_else(start_redis, seconds):
    """Rows 4 and 5: SIGSTOP and SIGCONT; each event once, in order, and the program goes on."""
    server = start_redis()
    program, meanwhile = frozen_for(server, seconds)
    assert numbers(server.url) == list(range(program.emitted))
    assert program.sink.stats.dropped == {}
    assert meanwhile > 10
    assert program.slowest < seconds  # no emit waited for the server


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_what_a_full_buffer_drops_doubles_nothing(start_redis, overflow):
    """Row 5: unknown batches, drops and their notices; whatever is there is there once."""
    server = start_redis()
    full = {**PATIENT, "buffer_size": 200, "batch_size": 64, "overflow": overflow}
    sink = RedisSink(server.url, **full, block_timeout=PATIENCE)
    with Program(sink, pause=0.0002):
        for _ in range(3):
            goal = sink.stats.delivered + 500
            wait_until(lambda goal=goal: sink.stats.delivered > goal, "some events")
            with server.frozen():
                wait_until(lambda: sink.failures, "the failure")
                wait_until(lambda: sink.stats.queued >= 200, "a full buffer")
            wait_until(lambda: not sink.failures, "recovery")
            i1_accounting(sink.stats)
    assert streamll.flush(PATIENCE)
    ids = [json.loads(message.body)["event_id"] for message in read_all(server.url)]
    assert len(ids) == len(set(ids))
    dropped_too = len(ids) - sink.stats.delivered  # sent with unknown outcome, then given up
    assert 0 <= dropped_too <= sum(sink.stats.dropped.values())


def test_a_killed_server_loses_nothing_that_was_confirmed(start_redis):
    """Row 3: SIGKILL in the middle and a restart from the append-only file."""
    server = start_redis(**AOF_ALWAYS)
    sink = RedisSink(server.url, **PATIENT)
    with Program(sink) as program:
        for _ in range(2):
            goal = sink.stats.delivered + 200
            wait_until(lambda goal=goal: sink.stats.delivered > goal, "some events")
            server.kill()
            wait_until(lambda: sink.failures or sink.circuit_open, "the failure")
            server.start()
    assert streamll.flush(PATIENCE)
    assert numbers(server.url) == list(range(program.emitted))


def test_a_server_that_starts_late_gets_everything(start_redis):
    """Row 1: configure succeeds, events wait, and are delivered once it is up."""
    server = start_redis()
    server.kill()
    sink = RedisSink(server.url, **PATIENT)
    with Program(sink) as program:
        wait_until(lambda: sink.circuit_open, "the circuit to open")
        server.start()
        wait_until(lambda: sink.stats.delivered, "delivery")
    assert streamll.flush(PATIENCE)
    assert numbers(server.url) == list(range(program.emitted))


def test_a_full_disk_is_waited_out(tmp_path, start_redis):
    """Row 16: MISCONF while the append-only file cannot grow; nothing confirmed is lost."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(disk)]
    done = subprocess.run(mount, check=False, capture_output=True)
    require("a small file system cannot be mounted here" if done.returncode else None)
    server = RedisServer(disk / "redis", {**AOF_ALWAYS, "appendfsync": "everysec",
                                          "auto-aof-rewrite-percentage": 0})  # fmt: skip
    filler = disk / "filler"
    filler.write_bytes(bytes(127 * 1024 * 1024))
    try:
        server.start()
        sink = RedisSink(server.url, **PATIENT)
        with Program(sink, pause=0.0002) as program:
            wait_until(lambda: sink.failures or sink.circuit_open, "the disk to be full")
            filler.unlink()
            wait_until(lambda: not (sink.failures or sink.circuit_open), "recovery")
        assert streamll.flush(PATIENCE)
        assert numbers(server.url) == list(range(program.emitted))
    finally:
        streamll.shutdown(timeout=1)
        server.stop()
        subprocess.run(["umount", str(disk)], check=True)


HOSTILE = {
    "surrogate": "a\ud800b",
    "bytes": b"\xff\x00",
    "nan": float("nan"),
    "huge int": 10**400,
    "object": object(),
    "oversized": "x" * 2_000_000,
    "keys": {1: 2, None: 3, ("a",): 4},
}


def test_a_hostile_value_costs_its_neighbours_nothing(redis_server):
    """Rows 25 and 26: every other event arrives; the hostile one as a stand-in or counted."""
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    sink = RedisSink(redis_server.url)
    streamll.configure(sinks=[sink])
    hostile = {**HOSTILE, "cycle": cycle, "depth": deep}
    for name, value in hostile.items():
        streamll.emit("good", {"number": name})
        streamll.emit("hostile", {"number": "-", "value": value})
    streamll.emit("good", {"number": "last"})
    assert streamll.flush()
    found = numbers(redis_server.url)
    assert [name for name in found if name != "-"] == [*hostile, "last"]
    assert len(found) == 2 * len(hostile) + 1
    assert all(len(message.body) < 300_000 for message in read_all(redis_server.url))


def test_the_truth_of_a_run_is_clean(redis_server):
    """With ids instead of numbers: what the judge of all sinks says."""
    sink = RedisSink(redis_server.url)
    ids = []

    def remember(event):
        ids.append(event.event_id)
        return event

    streamll.configure(sinks=[sink], processors=[remember])
    for number in range(2000):
        streamll.emit("tick", {"number": number})
    assert streamll.flush()
    found = [message.body for message in read_all(redis_server.url)]
    truth = judge(found, given=ids, acked=ids)
    i7_truth(truth, retried_unknown=0)
    assert truth == Truth()
    assert sink.stats.delivered == 2000
