"""Several events at once, but one after the other within an execution."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final
from zlib import crc32

from streamll.consuming._reader import Delivery

__all__ = ["Lanes"]

logger = logging.getLogger("streamll")

#: Deliveries that may wait for lanes that are busy, while others are idle.
_MOST_WAITING: Final = 1_000


class Lanes:
    """*count* queues, each worked off in order by one task. One execution, one lane."""

    def __init__(self, count: int, work: Callable[[Delivery], Awaitable[None]]) -> None:
        self._work = work
        self._queues: tuple[deque[Delivery], ...] = tuple(deque() for _ in range(count))
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._progress = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being worked on."""
        return not self._tasks

    @property
    def has_room(self) -> bool:
        """Whether some lane has nothing to do, and not too much waits for the others."""
        waiting = sum(map(len, self._queues))
        return len(self._tasks) < len(self._queues) and waiting < _MOST_WAITING

    def put(self, delivery: Delivery) -> None:
        """Queue *delivery* in the lane of its execution."""
        lane = crc32(delivery.event.execution_id.encode()) % len(self._queues)
        self._queues[lane].append(delivery)
        if lane not in self._tasks:
            self._tasks[lane] = asyncio.create_task(self._run(lane))

    async def _run(self, lane: int) -> None:
        queue = self._queues[lane]
        try:
            while queue:
                await self._one(queue.popleft())
                self._progress.set()
        finally:
            del self._tasks[lane]
            self._progress.set()

    async def _one(self, delivery: Delivery) -> None:
        try:
            await self._work(delivery)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not stop the lane
            logger.warning("streamll: fault in consuming: %s", type(error).__name__)

    async def progress(self) -> bool:
        """Return when a delivery was dealt with since the last call."""
        await self._progress.wait()
        self._progress.clear()
        return True

    async def join(self) -> None:
        """Wait until every lane is through with its queue; cancelled, interrupt them."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def cancel(self) -> None:
        """Interrupt the current deliveries; they stay unacked."""
        for task in self._tasks.values():
            task.cancel()
