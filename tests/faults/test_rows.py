"""Rows of the fault matrix that concern the whole library, not one sink."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request

import pytest

import streamll
from streamll._plugins import Registry
from streamll.testing import FlakySink, MemorySink
from support.invariants import (
    emit_times,
    i1_accounting,
    i2_never_blocks,
    i4_memory,
    i5_closes_within,
    i6_isolated,
    i8_leaves_nothing,
)
from support.plugins import distribution, entry_points, plugin_module


class AsyncMemory(streamll.AsyncSink):
    """Keeps events, on streamll's own loop."""

    def __init__(self, **delivery):
        super().__init__(**delivery)
        self.events = []

    async def write(self, batch):
        await asyncio.sleep(0)
        self.events.extend(batch)


class Hanging(streamll.Sink):
    """Never returns from write until released."""

    def __init__(self, **delivery):
        super().__init__(**delivery)
        self.release = threading.Event()

    def write(self, batch):
        self.release.wait()


def test_row_41_a_blocked_application_loop_does_not_hold_up_an_async_sink():
    """Async sinks run on a loop of their own."""
    sink = AsyncMemory()
    streamll.configure(sinks=[sink])

    async def blocked():
        streamll.emit("x")
        assert streamll.flush(10)  # blocks the application's loop
        return len(sink.events)

    assert asyncio.run(blocked()) == 1


def test_rows_42_and_43_broken_neighbours_cost_neither_time_nor_events():
    """A raising and a hanging sink beside a healthy one: I1, I2, I3, I5, I6, I8."""
    healthy, raising, hanging = MemorySink(), FlakySink(), Hanging(buffer_size=100)
    with i8_leaves_nothing():
        streamll.configure(sinks=[MemorySink()])
        baseline = emit_times(2_000)
        streamll.configure(sinks=[healthy, raising, hanging])
        faulty = emit_times(2_000)
        i2_never_blocks(baseline, faulty)
        with i5_closes_within(1.0):
            assert not streamll.shutdown(1.0)
        hanging.release.set()
    i6_isolated(healthy, 2_000)
    for sink in (healthy, raising, hanging):
        i1_accounting(sink.stats)
        assert sink.stats.queued == sink.stats.in_flight == 0


def test_row_50_a_plugin_that_fails_or_is_of_the_wrong_type_disables_itself_only(tmp_path):
    """Import errors, exits at import, wrong hook signatures: the others load."""

    def wrong(unknown_argument):
        """A hook with an argument that does not exist."""

    plugin_module("row50_wrong", streamll_register_sinks=wrong)
    plugin_module(
        "row50_good", streamll_register_sinks=lambda register: register("good50", MemorySink)
    )
    registry = Registry(
        entry_points(
            distribution(tmp_path, "pkg-missing", "missing", "row50_not_there"),
            distribution(tmp_path, "pkg-wrong", "wrong", "row50_wrong"),
            distribution(tmp_path, "pkg-good", "good50", "row50_good"),
        )
    )
    status = {plugin.name: plugin.status for plugin in registry.plugins}
    assert status == {"missing": "broken", "wrong": "broken", "good50": "loaded"}
    assert registry.sink("good50").resolve() is MemorySink


def test_row_50_import_streamll_never_runs_a_plugin(tmp_path):
    """A booby-trapped entry point is not executed by importing streamll."""
    distribution(tmp_path, "pkg-trap", "trap", "row50_trap")
    (tmp_path / "row50_trap.py").write_text("raise SystemExit('executed')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import streamll, streamll.sinks"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_row_51_duplicate_plugin_names_are_refused_independent_of_order(tmp_path):
    """The message names both distributions whichever is found first."""
    points = entry_points(
        distribution(tmp_path / "a", "pkg-a", "twin", "x"),
        distribution(tmp_path / "b", "pkg-b", "twin", "y"),
    )
    messages = set()
    for order in (points, points[::-1]):
        with pytest.raises(streamll.PluginError, match="pkg-a and pkg-b") as caught:
            Registry(order)
        messages.add(str(caught.value))
    assert len(messages) == 1


APP = """
    import os, streamll

    class File(streamll.Sink):
        def write(self, batch):
            with open(os.environ["OUT"], "a") as out:
                out.writelines(f"{os.getpid()} {event.event_type}\\n" for event in batch)

    streamll.configure(sinks=[File()])
    streamll.emit("preloaded")
    streamll.flush()

    def app(environ, start_response):
        streamll.emit("request")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


@pytest.mark.slow
def test_row_34_gunicorn_with_preload_and_four_workers_delivers_from_every_worker(tmp_path):
    """Configured before the fork, without any hook in the server's configuration."""
    pytest.importorskip("gunicorn")
    (tmp_path / "row34.py").write_text(textwrap.dedent(APP))
    out, log = tmp_path / "out", tmp_path / "log"
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--bind", "127.0.0.1:0",
        "--chdir", str(tmp_path), "--log-file", str(log), "--no-control-socket", "row34:app",
    ]  # fmt: skip
    help_text = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, check=True)
    if "--no-control-socket" not in help_text.stdout:
        command.remove("--no-control-socket")
    process = subprocess.Popen(command, env={"OUT": str(out), "PATH": "/usr/bin:/bin"})
    try:
        url = _listening(log)
        seen = set()
        for _ in range(400):
            with urllib.request.urlopen(url, timeout=10) as reply:
                seen.add(reply.read().decode())
            if len(seen) == 4:
                break
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    lines = [line.split() for line in out.read_text().splitlines()]
    assert {pid for pid, kind in lines if kind == "request"} >= seen
    assert [kind for _, kind in lines].count("preloaded") == 1


def _listening(log):
    """The address gunicorn says it listens at."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        text = log.read_text() if log.exists() else ""
        if "Listening at: " in text and text.count("Booting worker") == 4:
            return text.split("Listening at: ")[1].split()[0]
        time.sleep(0.02)  # another process: there is nothing to wait on
    raise AssertionError(text)


@pytest.mark.parametrize("kind", ["fails", "hangs"])
def test_a_dead_sink_costs_no_more_memory_than_its_buffer(kind):
    """A burst of 200,000 events into a sink that takes none: bounded, and each is counted."""
    limit = 4 * 1024 * 1024
    options = {"buffer_bytes": limit, "buffer_size": 1_000_000}
    sink = FlakySink(**options) if kind == "fails" else Hanging(**options)
    streamll.configure(sinks=[sink])
    with i4_memory(limit):
        for n in range(200_000):
            streamll.emit("burst", n=n, text="x" * 100)
    i1_accounting(sink.stats)
    if kind == "hangs":
        sink.release.set()
    streamll.shutdown(5)
    i1_accounting(sink.stats)
    assert sum(sink.stats.dropped.values()) > 100_000
