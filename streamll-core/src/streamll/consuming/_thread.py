"""A private event loop for callers that have none."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from streamll.errors import StreamllError

__all__ = ["LoopGone", "LoopThread", "refuse_running_loop", "result_of"]

T = TypeVar("T")

#: Seconds after which a signal is seen at the latest: one that arrives just before a thread
#: begins to wait does not wake it, and on Windows none does.
_LOOK_UP: Final = 0.5


def refuse_running_loop(instead: str) -> None:
    """Raise StreamllError when the calling thread runs an event loop, which must not block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise StreamllError(f"this thread runs an event loop, which would stand still; use `{instead}`")


def result_of(future: Future[T]) -> T:
    """Return the result of *future*; Ctrl-C is seen meanwhile, whatever the platform."""
    while True:
        try:
            return future.result(_LOOK_UP)
        except TimeoutError:
            if future.done():
                return future.result()


class LoopGone(StreamllError):
    """The loop is closed, or stayed behind in the parent of this process."""


class LoopThread:
    """One event loop on one daemon thread, from construction to `close`.

    A loop that runs on while the caller is busy keeps heartbeats going.
    """

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._is_closed = False
        #: What is submitted before the loop is told to end, it ends; later is refused.
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="streamll-consume", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._ready.set()
        await self._closing.wait()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start *work* on the loop, in the caller's context.

        Raises:
            LoopGone: nobody would run it.
        """
        with self._guard:
            if self._thread.is_alive() and not self._is_closed:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise LoopGone("the event loop of this reader is gone: closed, or the process forked")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* returns; when the caller is interrupted, cancel it."""
        future = self.submit(work)
        try:
            return result_of(future)
        except BaseException:
            future.cancel()
            raise

    def finish(self, work: Coroutine[Any, Any, object]) -> None:
        """Run *work* as the last, then `close`. Harmless when repeated, from any thread."""
        try:
            with contextlib.suppress(LoopGone):
                self.call(work)
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what runs, end loop and thread. Harmless when repeated, from any thread."""
        with self._guard:
            if not self._is_closed and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._closing.set)
            self._is_closed = True
        self._thread.join()
