"""The small parts behind the readers."""

from __future__ import annotations

import asyncio

import pytest

from streamll._spans import CURRENT
from streamll.consuming._joined import joined
from streamll.consuming._lanes import Lanes
from streamll.consuming._reader import Delivery
from streamll.consuming._stopper import Stopper
from streamll.consuming._thread import LoopThread
from streamll.source import Message
from support.events import make_event


def test_once_stopped_every_wait_ends():
    """Those that begin later too."""

    async def main():
        stopper = Stopper()
        stopper.set()
        assert await stopper.unless_stopped(asyncio.Event().wait()) is None

    asyncio.run(main())


def test_a_wait_that_is_not_stopped_returns_or_raises_what_it_waits_for():
    """And a stop after it is too late."""

    async def fail():
        raise TimeoutError("mine")

    async def main():
        stopper = Stopper()
        assert await stopper.unless_stopped(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(TimeoutError, match="mine"):
            await stopper.unless_stopped(fail())
        stopper.set()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_cancelled_wait_is_cancelled_and_not_stopped():
    """The caller sees its own cancellation."""

    async def main():
        stopper = Stopper()
        task = asyncio.ensure_future(stopper.unless_stopped(asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_stop_after_the_loop_has_ended_is_harmless():
    """A program may stop its consumer twice."""
    stopper = Stopper()
    asyncio.run(stopper.unless_stopped(asyncio.sleep(0)))
    stopper.set()
    assert stopper.is_set


def test_a_joined_trace_ends_with_the_handler():
    """The running span is what it was."""
    with joined(make_event()):
        assert CURRENT.get() is not None
    assert CURRENT.get() is None


def test_a_fault_of_ours_costs_one_delivery_and_is_logged(caplog):
    """The lane goes on."""
    done = []

    async def work(delivery):
        if not done:
            done.append("fault")
            raise RuntimeError("canary")
        done.append("next")

    async def main():
        lanes = Lanes(1, work)
        for _ in range(2):
            lanes.put(Delivery(make_event(), Message(body=b"", position="1"), 0))
        while not lanes.is_idle:
            await lanes.progress()

    asyncio.run(main())
    assert done == ["fault", "next"]
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_one_busy_execution_cannot_fill_the_memory():
    """While others could be handled, only so much waits for the one that hangs."""

    async def main():
        lanes = Lanes(2, lambda _: asyncio.Event().wait())
        count = 0
        while lanes.has_room:
            lanes.put(Delivery(make_event(), Message(body=b"", position="1"), 0))
            count += 1
        lanes.cancel()
        await lanes.join()
        assert count <= 1_001

    asyncio.run(main())


def test_a_timeout_of_the_work_itself_is_told_from_one_of_ours():
    """The caller's thread looks up twice a second; what it waits for may time out too."""

    async def work():
        raise TimeoutError("mine")

    thread = LoopThread()
    try:
        with pytest.raises(TimeoutError, match="mine"):
            thread.call(work())
    finally:
        thread.close()
