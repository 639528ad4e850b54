"""One delivery and its handlers: done, tried again, or given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import attrs

from streamll.consuming._handlers import Handler
from streamll.consuming._joined import joined
from streamll.consuming._reader import Delivery, Reader
from streamll.consuming._stopper import Stopper
from streamll.events import Event

__all__ = ["Work"]

logger = logging.getLogger("streamll")


@attrs.define
class _Turn:
    """What came of calling the handlers of one event once."""

    handled: bool = False
    failed: list[Handler] = attrs.field(factory=list)
    reason: str = ""


@attrs.define(kw_only=True)
class Work:
    """What a lane does with a delivery. Never raises for what a handler does.

    Attributes:
        reader: what the delivery came from, and is settled with.
        handlers: in the order they are called.
        retries: how often a failed event is tried again.
        delay: seconds before each retry.
        stopper: ends the wait for a retry.
        sleep: waits for so many seconds.
    """

    reader: Reader
    handlers: Sequence[Handler]
    retries: int
    delay: float
    stopper: Stopper
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    _reported: set[tuple[str, str]] = attrs.field(init=False, factory=set)

    async def do(self, delivery: Delivery) -> None:
        """Handle *delivery*, and settle it; once stopped, leave it to whoever comes next."""
        if self.stopper.is_set or not self.reader.begin(delivery):
            return
        with joined(delivery.event):
            turn = await self._turn(delivery.event, self.handlers)
            if turn.failed and self.reader.acknowledges:
                self._hand_back(delivery, turn)
            elif turn.failed:
                await self._insist(delivery, turn)
            elif turn.handled:
                self.reader.finish(delivery)
            else:
                self.reader.pass_over(delivery)

    def _hand_back(self, delivery: Delivery, turn: _Turn) -> None:
        """Leave the retry to the broker, which outlives us."""
        if delivery.message.attempts > self.retries:
            self.reader.bury(delivery, turn.reason)
        else:
            self.reader.retry(delivery, self.delay)

    async def _insist(self, delivery: Delivery, turn: _Turn) -> None:
        """Try again here, only the handlers that failed: nobody delivers it again."""
        for _ in range(self.retries):
            await self.stopper.unless_stopped(self.sleep(self.delay))
            if self.stopper.is_set:
                return
            turn = await self._turn(delivery.event, turn.failed)
            if not turn.failed:
                self.reader.finish(delivery)
                return
        self.reader.bury(delivery, turn.reason)

    async def _turn(self, event: Event, handlers: Sequence[Handler]) -> _Turn:
        """Call each handler that wants *event*; one that fails never silences another."""
        turn = _Turn()
        for handler in tuple(handlers):
            try:
                turn.handled |= await handler.handle(event)
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                self._note(turn, handler, error)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the handler's, not the loop's
                self._note(turn, handler, error)
        return turn

    def _note(self, turn: _Turn, handler: Handler, error: BaseException) -> None:
        kind = type(error).__name__
        turn.failed.append(handler)
        turn.reason = turn.reason or kind
        if (handler.name, kind) not in self._reported:
            self._reported.add((handler.name, kind))
            # Where, but not the text, which may hold payload.
            place = f"{handler.name} raised {kind} at {_place(error)}"
            logger.warning("streamll: handler %s; further ones are counted", place)


def _is_cancelled() -> bool:
    """Whether somebody cancels us, rather than the handler something of its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
