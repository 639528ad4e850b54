"""A channel that is read from: what the broker delivers, kept in order until it is taken.

aiormq starts a task per message, which neither keeps their order nor stops anybody; here they
are put in a list, which `prefetch` bounds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from aiormq.channel import Channel
from aiormq.exceptions import InvalidFrameError
from pamqp.commands import Basic
from pamqp.header import ContentHeader

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiormq.abc import DeliveredMessage

    from streamll_rabbitmq._client import BrokerConnection

__all__ = ["Inbox"]


class Inbox(Channel):
    """aiormq's channel with a list of messages in place of a task per message."""

    connection: BrokerConnection

    def __init__(self, connection: BrokerConnection, number: int) -> None:
        super().__init__(connection, number, publisher_confirms=False)
        self._messages: deque[DeliveredMessage] = deque()
        #: Delivery tags that are not settled, oldest first.
        self._unsettled: dict[int, None] = {}
        self._news = asyncio.Event()
        self._cancelled = False
        self.closed = self.closing
        self.closed.add_done_callback(lambda _: self._news.set())
        self.on_consumer_cancel_callbacks.add(self._on_cancelled)

    @property
    def is_lost(self) -> bool:
        """Whether nothing comes any more."""
        return self._cancelled or self.is_closed or self.closed.done()

    @property
    def close_reason(self) -> BaseException | None:
        """Why the channel closed; None while it is open."""
        return self.closed.exception() if self.closed.done() else None

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - the broker waits
        """Return when there is a message or the channel is lost, after *timeout* at most."""
        while not self._messages and not self.is_lost:
            self._news.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
            except TimeoutError:
                return

    def take(self) -> list[DeliveredMessage]:
        """Return what has come, oldest first."""
        messages, self._messages = list(self._messages), deque()
        return messages

    async def settle(self, tags: Collection[int]) -> None:
        """Ack *tags*: at once where they are the oldest there are, else one by one."""
        mine = [tag for tag in tags if tag in self._unsettled]
        if not mine:
            return
        for tag in mine:
            del self._unsettled[tag]
        newest = max(mine)
        if newest < next(iter(self._unsettled), newest + 1):
            await self.basic_ack(newest, multiple=True)
            return
        for tag in mine:
            await self.basic_ack(tag, wait=tag == mine[-1])  # all are written when the last is

    async def _on_deliver_frame(self, frame: Basic.Deliver) -> None:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            raise InvalidFrameError(frame)
        message = await self._read_content(frame, header)
        self._messages.append(message)  # found only now: `take` may have come in between
        self._unsettled[frame.delivery_tag or 0] = None
        self._news.set()

    def _on_cancelled(self, _: Any) -> None:
        """The broker ends the reading: the queue was deleted, or its leader is gone."""
        self._cancelled = True
        self._news.set()
