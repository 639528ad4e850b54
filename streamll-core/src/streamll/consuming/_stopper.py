"""Ending waits early, from any thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["Stopper"]

T = TypeVar("T")


class Stopper:
    """Set once, from any thread; then every `unless_stopped` ends at once, and for good."""

    def __init__(self) -> None:
        self.is_set = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits: set[asyncio.Timeout] = set()

    def set(self) -> None:
        """End what waits, and what would. Safe from any thread and from a signal handler."""
        self.is_set = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits
                loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        for wait in self._waits:
            wait.reschedule(0)
        self._waits.clear()

    async def unless_stopped(self, work: Awaitable[T]) -> T | None:
        """Return what *work* returns; when stopped, cancel it and return None."""
        self._loop = asyncio.get_running_loop()
        wait = asyncio.timeout(0 if self.is_set else None)
        try:
            async with wait:
                self._waits.add(wait)
                return await work
        except TimeoutError:
            if not wait.expired():
                raise
            return None
        finally:
            self._waits.discard(wait)
