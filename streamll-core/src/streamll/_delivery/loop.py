"""Drives the channels of all `AsyncSink`s on one background event loop.

The loop runs on one daemon thread, started by the first event for any async sink, and ends
when the last of them is closed. The program's own event loops are never used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from streamll._delivery.actions import Done, Wait, Write
from streamll._delivery.driver import Driver
from streamll._delivery.outcome import Failure, checked, failure_of
from streamll._delivery.reentry import entering
from streamll._delivery.starter import Starter
from streamll._delivery.turn import turn_of
from streamll._log import warn

if TYPE_CHECKING:
    from streamll.sink import AsyncSink

__all__ = ["LoopWorker"]

#: Seconds between two looks of a channel that waits for its sink.
_TURN_STEP: Final = 0.01
#: Seconds to pause after a fault of our own, so that it cannot spin.
_FAULT_PAUSE: Final = 1.0


class _Loop:
    """The background loop: jobs may be handed over from anywhere `submit` may be called."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()
        self._starter = Starter("streamll-loop", self._run, lambda: bool(self._jobs))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._users: set[LoopWorker] = set()

    @property
    def is_detained(self) -> bool:
        """Whether the caller runs on the loop's thread, or interrupted its start."""
        return self._starter.is_detained

    def call(self, job: Callable[[], object]) -> bool:
        """Run *job* on the loop, soon; return False if the loop cannot start. Never waits."""
        self._jobs.append(job)
        return self.nudge()

    def nudge(self) -> bool:
        """Have waiting jobs run; return False if the loop cannot start."""
        loop = self._loop
        if loop is None:
            return self._starter.start()
        with contextlib.suppress(RuntimeError):  # it just ended, and will look again
            loop.call_soon_threadsafe(self._work)
        return True

    def part(self, seconds: float) -> None:
        """See the thread off, if it is about to end."""
        if not self._users:
            self._starter.join(seconds)

    def start(self, user: LoopWorker, run: Coroutine[Any, Any, None]) -> None:
        """Run *run* as a task of the loop, which lasts as long as any."""
        self._users.add(user)
        # A context of its own: that of whoever emitted first is the program's business.
        task = asyncio.get_running_loop().create_task(run, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as fault:  # noqa: BLE001 - e.g. SystemExit in a sink's own task
            warn(f"the loop of the async sinks ended: {type(fault).__name__}; starting another")
        finally:
            self._revive()

    def _revive(self) -> None:
        """Have the users of a loop that did not end by itself start again on another."""
        self._loop = None
        self._tasks.clear()
        users, self._users = tuple(self._users), set()
        for user in users:
            user.restart()

    async def _serve(self) -> None:
        """Run jobs and tasks until no task is left."""
        self._loop = asyncio.get_running_loop()
        self._work()
        while self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)
            self._work()
        self._loop = None

    def leave(self, user: LoopWorker) -> None:
        """Learn that *user* is about to end; the loop ends with the last one."""
        self._users.discard(user)

    def _work(self) -> None:
        while self._jobs and self._loop is not None:  # else they are for the next loop
            self._jobs.popleft()()


_shared = _Loop()


def _in_child() -> None:
    global _shared
    _shared = _Loop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class LoopWorker(Driver):
    """The task of one `AsyncSink`: it asks the channel what to do and does it."""

    _sink: AsyncSink

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._bell: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._requested = False  # the task was asked for
        self._begun = False  # and the loop knows

    def _is_started(self) -> bool:
        return self._requested

    def _rouse(self) -> bool:
        bell = self._bell
        if bell is not None:
            return _shared.call(bell.set)
        # Again for each event until it runs: Ctrl-C may have kept the loop from hearing of it.
        self._requested = True
        return _shared.call(self._begin)

    def _begin(self) -> None:
        """Start the task, on the loop, unless it was."""
        if not self._begun:
            self._begun = True
            _shared.start(self, self._run())

    def _detains_worker(self) -> bool:
        return _shared.is_detained

    def restart(self) -> None:
        """Learn that the loop is gone, and with it our task: what it wrote is unknown."""
        if self._finished:
            return
        self._abandon()
        self._opened = False
        self._bell = self._task = None
        self._begun = False
        _shared.call(self._begin)

    def _part(self, seconds: float) -> None:
        task = self._task
        if self._finished:
            _shared.part(seconds)
        elif task is not None:
            _shared.call(task.cancel)  # the write hangs; the sink is released in the background

    def _finish(self) -> None:
        _shared.leave(self)
        super()._finish()

    async def _run(self) -> None:
        turn = turn_of(self._sink)
        while not turn.acquire(False):  # noqa: ASYNC110 - its holder may be a thread
            await asyncio.sleep(_TURN_STEP)
        try:
            await self._work()
        finally:
            turn.release()

    async def _work(self) -> None:
        self._bell = asyncio.Event()
        self._task = asyncio.current_task()
        self._prepare()
        while not self._finished:
            try:
                await self._step()
            except BaseException as fault:  # noqa: BLE001 - the worker outlives everything
                self._recover(fault)
                await asyncio.sleep(_FAULT_PAUSE)

    async def _step(self) -> None:
        action = self._decide()
        if isinstance(action, Write):
            self._resolve(action, await self._attempt(action))
            await asyncio.sleep(0)  # a sink that never waits must not keep others from the loop
        elif isinstance(action, Wait):
            await self._sleep(action.seconds)
        elif isinstance(action, Done):
            await self._release_sink()
            self._finish()

    async def _sleep(self, seconds: float | None) -> None:
        bell = self._bell
        if bell is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await bell.wait()
            bell.clear()
        self._woke()

    async def _attempt(self, write: Write) -> Failure | Mapping[int, Any] | None:
        """Call the sink once; whatever it raises becomes a `Failure`."""
        try:
            with entering(self, nested=self._nesting()):
                if not self._opened:
                    await self._sink.open()
                    self._opened = True
                report = await self._sink.write(write.batch)
                return checked(report, len(write.batch))
        except BaseException as error:  # noqa: BLE001 - SystemExit in a sink is the sink's
            return failure_of(error, sent=self._opened)

    async def _release_sink(self) -> None:
        if self._opened:
            try:
                with entering(self):
                    await self._sink.close()
            except BaseException as error:  # noqa: BLE001
                warn(f"{self._name}: close raised {type(error).__name__}")
