"""`EventConsumer`: handlers for events, with retry and dead letters."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from streamll.consuming._handlers import Handler, Predicate, predicate
from streamll.consuming._lanes import Lanes
from streamll.consuming._link import Link
from streamll.consuming._reader import Reader
from streamll.consuming._resolve import resolve
from streamll.consuming._settings import whole_number
from streamll.consuming._stats import ReadStats, Tally
from streamll.consuming._stopper import Stopper
from streamll.consuming._thread import LoopThread, refuse_running_loop, result_of
from streamll.consuming._work import Work
from streamll.errors import ConfigurationError, StreamllError
from streamll.source import Source

__all__ = ["EventConsumer"]

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds the broker waits for the next message before it is asked again.
_WAIT: Final = 1.0
#: The same while handlers are busy, whose acks wait that long at most.
_BUSY_WAIT: Final = 0.05


class EventConsumer:
    """Calls handlers for the events of a stream until stopped. One `run` per consumer.

    Delivery is at-least-once: with a group or a queue, an event is acked after its handlers
    returned, so what a crash or a cancellation interrupted is delivered again; handlers should
    recognise an `event_id` they have dealt with. An event whose handler raised is delivered
    again, to all its handlers, and after *retries* put among the dead letters with the type
    name of the exception; retried events come out of order. Without a group or queue the
    failed handlers are called again on the spot, then the event is counted as dead.

    Args:
        url: as for `consume`, like `since`, `group`, `only`, `execution`, `dedup`.
        since: where to begin.
        group: readers of one group share the messages.
        only: globs over event type, operation and "operation.type".
        execution: handle the events of this execution only.
        dedup: how many event ids are remembered to leave out repeats (10,000).
        retries: how often an event whose handler raised is tried again.
        retry_delay: seconds before each retry.
        concurrency: events handled at a time; those of one execution always in order.
        **source_options: the plugin's, e.g. `exchange` or `queue`.

    Raises:
        ConfigurationError: an option cannot be used.
    """

    def __init__(
        self,
        url: str | Source,
        *,
        since: str | datetime | timedelta | None = None,
        group: str | None = None,
        only: str | Iterable[str] | None = None,
        execution: str | None = None,
        dedup: int | None = None,
        retries: int = 3,
        retry_delay: float = 1.0,
        concurrency: int = 1,
        **source_options: Any,
    ) -> None:
        given = {
            "since": since,
            "group": group,
            "only": only,
            "execution": execution,
            "dedup": dedup,
        }
        self._handlers: list[Handler] = []
        self._stopper = Stopper()
        self._was_run = False
        lanes = whole_number("concurrency", concurrency, 1)
        tries, delay = whole_number("retries", retries, 0), _seconds("retry_delay", retry_delay)
        source, settings = resolve(url, given, source_options)
        tally = Tally()
        self._reader = Reader(Link(source, tally), settings, tally)
        self._work = Work(
            reader=self._reader,
            handlers=self._handlers,
            retries=tries,
            delay=delay,
            stopper=self._stopper,
        )
        self._lanes = Lanes(lanes, self._work.do)

    @property
    def stats(self) -> ReadStats:
        """What became of the messages so far; callable from any thread."""
        return self._reader.tally.snapshot()

    def on(self, *wanted: str | Predicate) -> Callable[[F], F]:
        """Return a decorator that registers a handler: ``@consumer.on("error", "llm_call.end")``.

        Handlers of one event are called in the order of registration, one that raises does not
        keep the event from the next. Sync handlers run in a thread with the context variables
        of the loop, so they may block. Spans begun in a handler join the event's trace.

        Args:
            *wanted: globs over event type, operation and "operation.type", or predicates that
                take the event; any of them suffices, and none means all events.
        """
        wants = predicate(wanted)

        def register(function: F) -> F:
            self._handlers.append(Handler(function, wants))
            return function

        return register

    async def run(self) -> None:
        """Handle events until `stop`. Cancelled, it interrupts the handlers, whose events stay
        unacked; sync handlers run on in their threads.

        Raises:
            PermanentError: the source cannot work as configured.
            StreamllError: it was run before, or has no handler.
        """
        self._begin()
        try:
            while not self._stopper.is_set:
                await self._step()
        except asyncio.CancelledError:
            self._lanes.cancel()
            raise
        finally:
            self.stop()
            try:
                await self._lanes.join()
            finally:
                await self._reader.close()

    def _begin(self) -> None:
        if not self._handlers:
            raise StreamllError("nothing to call; register a handler with @consumer.on(...)")
        if self._was_run:
            raise StreamllError("a consumer runs once; make another")
        self._was_run = True

    async def _step(self) -> None:
        """Settle, then wait for messages or, when all lanes are busy, for one of those."""
        if self._lanes.has_room:
            await self._reader.settle()
            wait = _WAIT if self._lanes.is_idle else _BUSY_WAIT
            await self._stopper.unless_stopped(self._reader.fetch(wait))
            self._hand_out()
        else:
            await self._stopper.unless_stopped(self._lanes.progress())
            if self._reader.is_due:
                await self._reader.settle()

    def _hand_out(self) -> None:
        while not self._stopper.is_set and (delivery := self._reader.take()) is not None:
            self._lanes.put(delivery)

    def run_sync(self) -> None:
        """`run` for code without an event loop, which is given one on a thread of its own.

        Ctrl-C finishes the events being handled, disconnects and is raised again; a second one
        interrupts them. No signal handler is installed.

        Raises:
            StreamllError: this thread runs an event loop.
        """
        refuse_running_loop("await consumer.run()")
        thread = LoopThread()
        try:
            running = thread.submit(self.run())
            try:
                result_of(running)
            except KeyboardInterrupt:
                self.stop()
                result_of(running)
                raise
        finally:
            thread.close()

    def stop(self) -> None:
        """Let `run` return after the events being handled. Safe from any thread."""
        self._stopper.set()


def _seconds(name: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ConfigurationError(f"{name} must be a number of at least 0, not {value!r}")
    return float(value)
