"""Ctrl-C in `run_sync`, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

PROGRAM = """
import asyncio, signal, sys, threading
sys.path.insert(0, {tests!r})
from support.events import make_events
from streamll.consuming import EventConsumer
from streamll.testing._source import MemorySource

source = MemorySource(make_events(3), group="g")
consumer = EventConsumer(source)
before = signal.getsignal(signal.SIGINT)
stopped = threading.Event()

def ctrl_c():
    assert signal.getsignal(signal.SIGINT) is before
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

class Noted(type(consumer._stopper)):
    def set(self):
        super().set()
        stopped.set()

consumer._stopper.__class__ = Noted

{handler}

try:
    consumer.run_sync()
except KeyboardInterrupt:
    alive = [t.name for t in threading.enumerate() if t.name == "streamll-consume"]
    print(source.stream.unacked("g"), source.is_open, alive)
"""

ONCE = """
@consumer.on()
def handler(event):
    ctrl_c()
    assert stopped.wait(30)
"""

TWICE = """
@consumer.on()
async def handler(event):
    ctrl_c()
    assert await asyncio.to_thread(stopped.wait, 30)
    ctrl_c()
    await asyncio.Event().wait()
"""


def outcome(handler):
    """What the program prints: what is unacked, whether connected, which threads are left."""
    program = PROGRAM.format(tests=str(Path(__file__).parents[2]), handler=handler)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return run.stdout.strip() or run.stderr


def test_ctrl_c_finishes_the_event_in_hand_and_is_raised_again():
    """Acked, disconnected, no thread left, no signal handler touched."""
    assert outcome(ONCE) == "['00000002', '00000003'] False []"


def test_a_second_ctrl_c_interrupts_the_handler():
    """Its event stays unacked; disconnected all the same."""
    assert outcome(TWICE) == "['00000001', '00000002', '00000003'] False []"
