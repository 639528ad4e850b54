"""`consume`: the events of a stream as a plain loop, sync or async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from streamll.consuming._link import Link
from streamll.consuming._pull import Pull
from streamll.consuming._reader import Reader
from streamll.consuming._resolve import resolve
from streamll.consuming._stats import ReadStats, Tally
from streamll.consuming._thread import LoopGone, LoopThread, refuse_running_loop
from streamll.errors import StreamllError
from streamll.events import Event
from streamll.source import Source

__all__ = ["EventStream", "consume"]


def consume(
    url: str | Source,
    *,
    since: str | datetime | timedelta | None = None,
    group: str | None = None,
    only: str | Iterable[str] | None = None,
    execution: str | None = None,
    dedup: int | None = None,
    **source_options: Any,
) -> EventStream:
    """Read events from a broker, in ``for`` or ``async for``, for ever or until a ``break``::

        async for event in streamll.consume("redis://localhost:6379", since="-10m"):
            print(event.operation, event.event_type)

    Delivery is at-least-once. With a *group* (or a queue), an event is acked when the next one
    is asked for, or when a ``with`` block is left without an exception. The event at which the
    loop broke off, by ``break`` or by a crash, is delivered again, and so may be what was
    consumed in the 0.1 s before a crash. A lost connection is replaced, with backoff, for as
    long as it takes.

    Args:
        url: where to read, e.g. "redis://localhost:6379"; query parameters that are options
            are taken as such. A `Source` works too.
        since: where to begin: "beginning", "-10m" (s, m, h, d), a time, a timedelta, a
            `Message.position`. None is from now on, now being when the loop or ``with`` begins.
        group: readers of one group share the messages; None reads all of them, alone.
        only: globs over event type, operation and "operation.type", e.g. ["token", "*.error"].
        execution: keep the events of this execution only.
        dedup: how many event ids are remembered to leave out repeats (10,000); 0 leaves none
            out.
        **source_options: the plugin's, e.g. `stream_key` or `queue`.

    Raises:
        ConfigurationError: an option cannot be used; here, not at the first event.
        PermanentError: while iterating, when trying again is pointless (credentials, ...).
    """
    given = {
        "since": since,
        "group": group,
        "only": only,
        "execution": execution,
        "dedup": dedup,
    }
    source, settings = resolve(url, given, source_options)
    tally = Tally()
    return EventStream(Pull(Reader(Link(source, tally), settings, tally)))


class EventStream:
    """Events as they come: an iterator or an async iterator, whichever is used first.

    Connects at the first event, or when entered by ``with``. A loop that ends, by ``break``
    too, closes it, unless a ``with`` block will; ``next()`` and ``anext()`` do not. One thread
    or task iterates; `close` may come from any.
    """

    def __init__(self, pull: Pull) -> None:
        self._pull = pull
        self._thread: LoopThread | None = None
        self._entered = False

    @property
    def stats(self) -> ReadStats:
        """What became of the messages so far."""
        return self._pull.reader.tally.snapshot()

    async def _events(self) -> AsyncIterator[Event]:
        try:
            while (event := await self._pull.next()) is not None:
                yield event
        finally:
            if not self._entered:
                await self.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def __anext__(self) -> Event:
        event = await self._pull.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        self._entered = True
        await self._pull.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._pull.finish()
        await self.aclose()

    async def aclose(self) -> None:
        """End the iteration, ack what was consumed and disconnect. Harmless when repeated."""
        if self._thread is None:
            await self._pull.close()
        else:
            await asyncio.to_thread(self.close)

    def __iter__(self) -> Iterator[Event]:
        try:
            while (event := self._next()) is not None:
                yield event
        finally:
            if not self._entered:
                self.close()

    def __next__(self) -> Event:
        event = self._next()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        self._entered = True
        self._on_thread().call(self._pull.open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._pull.finish()
        self.close()

    def close(self) -> None:
        """As `aclose`, for sync code. Safe from any thread.

        Raises:
            StreamllError: an event loop reads it: use `aclose`.
        """
        if self._thread is None and self._pull.is_open:
            raise StreamllError("an event loop reads it; use `await stream.aclose()`")
        self._pull.stop()
        if self._thread is not None:
            self._thread.finish(self._pull.close())

    def _next(self) -> Event | None:
        if self._thread is None and self._pull.is_stopped:
            return None
        thread = self._on_thread()
        event = self._pull.at_hand()
        if event is not None or self._pull.is_stopped:
            return event
        try:
            return thread.call(self._pull.next())
        except LoopGone:
            if self._pull.is_stopped:  # by another thread, just now
                return None
            raise

    def _on_thread(self) -> LoopThread:
        if self._thread is None:
            refuse_running_loop("async for event in consume(...)")
            if self._pull.is_open:
                raise StreamllError("an event loop reads it; use `async for`")
            self._thread = LoopThread()
        return self._thread
