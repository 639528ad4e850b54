"""Ctrl-C in `run_sync`, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, threading
sys.path.insert(0, {tests!r})
from support.events import make_events
from streamll.consuming import EventConsumer
from streamll.testing._source import MemorySource

before = signal.getsignal(signal.SIGINT)
source = MemorySource(make_events(3), group="g")
consumer = EventConsumer(source)

@consumer.on()
def handler(event):
    assert signal.getsignal(signal.SIGINT) is before
    for _ in range({times}):
        os.kill(os.getpid(), signal.SIGINT)
        interrupted.wait({patience})
        interrupted.clear()

interrupted = threading.Event()
stop = consumer.stop
def noted():
    stop()
    interrupted.set()
consumer.stop = noted

try:
    consumer.run_sync()
except KeyboardInterrupt:
    alive = [t.name for t in threading.enumerate() if t.name == "streamll-consume"]
    print(source.stream.unacked("g"), source.is_open, alive)
"""


def outcome(times, patience):
    """What the program prints."""
    tests = str(Path(__file__).parents[2])
    program = PROGRAM.format(tests=tests, times=times, patience=patience)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return run.stdout.strip() or run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_finishes_the_event_in_hand_and_is_raised_again():
    """Acked, disconnected, no thread left, no signal handler touched."""
    assert outcome(1, 30) == "['00000002', '00000003'] False []"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_second_ctrl_c_interrupts_the_handler():
    """Its event stays unacked."""
    assert outcome(2, 1) == "['00000001', '00000002', '00000003'] False []"
