"""Bulk publish: one batch -> frames -> one cumulative wait for the broker's confirms.

aio-pika's `publish` awaits the socket and a future per message. Here the frames of a whole
batch go through the connection's write queue in chunks, and confirms are counted by number
(`_window`), which costs some microseconds an event instead of a hundred.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.exceptions import InvalidFrameError
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from streamll_rabbitmq._window import Answer, Window

if TYPE_CHECKING:
    from streamll_rabbitmq._client import BrokerConnection
    from streamll_rabbitmq._codec import Message
    from streamll_rabbitmq._settings import RabbitMQSettings

__all__ = ["ConfirmChannel", "Framer", "publish"]

#: Bytes handed to the socket at a time: large enough to be cheap, small enough to interleave.
_CHUNK_BYTES: Final = 64 * 1024
#: Unconfirmed bytes at most, whatever the number of events: bounds memory on a slow link.
_WINDOW_BYTES: Final = 8 * 1024 * 1024

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC: Final = 60
_BASIC_PUBLISH: Final = b"\x00\x3c\x00\x28\x00\x00"
_FRAME_END: Final = b"\xce"
_FRAME_OVERHEAD: Final = 8
#: Type, channel and size: what a frame begins with.
_FRAME: Final = struct.Struct(">BHI").pack
#: The same of a content header, with its class, weight and the size of the body.
_CONTENT: Final = struct.Struct(">BHIHHQ").pack
_CONTENT_BYTES: Final = 12
#: The end of one frame and the beginning of the next.
_NEXT: Final = struct.Struct(">BBHI").pack
#: Distinct routing keys remembered before starting over.
_MAX_KEYS: Final = 1024


class Framer:
    """Packs messages into AMQP frames for one channel. Pure."""

    def __init__(self, channel: int, settings: RabbitMQSettings, frame_max: int) -> None:
        name = settings.exchange.encode()
        self._channel = channel
        self._publish = _BASIC_PUBLISH + len(name).to_bytes() + name
        self._bits = b"\x01" if settings.mandatory else b"\x00"
        self._body_bytes = frame_max - _FRAME_OVERHEAD
        #: Routing key -> the frame of the method.
        self._methods: dict[bytes, bytes] = {}

    def frames(self, message: Message) -> bytes:
        """Return the frames of one message: method, header, body in as many as it takes."""
        properties, body, channel = message.properties, message.body, self._channel
        size = len(body)
        method = self._methods.get(message.routing_key) or self._method(message.routing_key)
        header = _CONTENT(_HEADER, channel, _CONTENT_BYTES + len(properties), _BASIC, 0, size)
        if not 0 < size <= self._body_bytes:
            return b"".join((method, header, properties, _FRAME_END, *self._bodies(body)))
        return b"".join(
            (method, header, properties, _NEXT(0xCE, _BODY, channel, size), body, _FRAME_END)
        )

    def _method(self, key: bytes) -> bytes:
        if len(self._methods) >= _MAX_KEYS:
            self._methods.clear()
        method = self._publish + len(key).to_bytes() + key + self._bits
        frame = self._methods[key] = b"".join(self._frame(_METHOD, method))
        return frame

    def _bodies(self, body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), self._body_bytes):
            yield from self._frame(_BODY, body[start : start + self._body_bytes])

    def _frame(self, kind: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
        return _FRAME(kind, self._channel, len(payload)), payload, _FRAME_END


class ConfirmChannel(Channel):
    """aiormq's channel with the confirms of `Window` in place of a future per message."""

    connection: BrokerConnection

    def __init__(
        self, connection: BrokerConnection, number: int, settings: RabbitMQSettings
    ) -> None:
        super().__init__(connection, number, publisher_confirms=True)
        self.window = Window()
        self.framer = Framer(number, settings, connection.connection_tune.frame_max)
        #: Set whenever the broker answered or the channel closed.
        self.progress = asyncio.Event()
        self._waiting_since = self.loop.time()
        # One observer for the channel's life: aiormq keeps callbacks of every one it hands out.
        self.closed = self.closing
        self.closed.add_done_callback(lambda _: self.progress.set())

    @property
    def close_reason(self) -> BaseException | None:
        """Why the channel closed; None while it is open."""
        return self.closed.exception() if self.closed.done() else None

    def silence(self) -> float:
        """Return for how many seconds publishes have waited without any answer."""
        return self.loop.time() - self._waiting_since if self.window.pending else 0.0

    async def send(self, chunk: Sequence[tuple[Message, bytes]]) -> None:
        """Hand messages and their frames to the connection."""
        payload = b"".join(frames for _, frames in chunk)
        await self.write_queue.put(ChannelFrame(payload=payload, should_close=False))
        if not self.window.pending:
            self._waiting_since = self.loop.time()
        for message, frames in chunk:
            self.window.publish(message, len(frames))

    async def _on_confirm_frame(self, frame: Basic.Ack | Basic.Nack | Basic.Reject) -> None:
        confirmed = isinstance(frame, Basic.Ack)
        multiple = bool(getattr(frame, "multiple", False))
        self.window.answered(frame.delivery_tag or 0, multiple=multiple, confirmed=confirmed)
        self._waiting_since = self.loop.time()
        self.progress.set()

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            raise InvalidFrameError(frame)
        await self._read_content(frame, header)
        message_id = header.properties.message_id or ""
        if not self.window.returned(message_id.encode()):
            # It belongs to a publish we cannot name: none on this channel can be trusted now.
            raise InvalidFrameError(frame)


async def publish(
    channel: ConfirmChannel,
    messages: Iterable[Message],
    *,
    confirm_window: int,
    send_by: float,
    answer_by: float,
) -> list[Answer | None]:
    """Publish *messages* and wait for the answers; return them, None for what was not sent.

    Messages are taken one by one, so the broker works while the next is made. Sending stops at
    *send_by* and waiting at *answer_by* (loop time), or when the channel closes: there are
    fewer answers than messages then, or they are `Answer.PENDING`.
    """
    taken: list[Message] = []
    channel.window.begin()
    with suppress(TimeoutError):
        async with asyncio.timeout_at(send_by):
            await _send(channel, _noted(messages, taken), confirm_window)
    with suppress(TimeoutError):
        async with asyncio.timeout_at(answer_by):
            await _until(channel, lambda: channel.window.is_answered)
    return channel.window.take(taken)


def _noted(messages: Iterable[Message], taken: list[Message]) -> Iterator[Message]:
    for message in messages:
        taken.append(message)
        yield message


async def _send(channel: ConfirmChannel, messages: Iterable[Message], limit: int) -> None:
    fresh = filter(channel.window.admit, messages)
    for chunk in _chunks(channel.framer, fresh, limit):
        # Returns at once unless the broker has blocked publishers for lack of memory or disk.
        await channel.connection.ready()
        await _until(channel, partial(channel.window.has_room, len(chunk), limit, _WINDOW_BYTES))
        if channel.is_closed:
            return
        await channel.send(chunk)
        await asyncio.sleep(0)  # lets the connection write


async def _until(channel: ConfirmChannel, done: Callable[[], bool]) -> None:
    """Wait until *done*, looked at whenever the broker answers, or the channel has closed."""
    while not done() and not channel.is_closed:
        channel.progress.clear()
        await channel.progress.wait()


def _chunks(
    framer: Framer, messages: Iterable[Message], limit: int
) -> Iterator[list[tuple[Message, bytes]]]:
    """Pack *messages* in chunks of `_CHUNK_BYTES` or *limit*, with no id twice in a chunk."""
    chunk: dict[bytes, tuple[Message, bytes]] = {}
    size = 0
    for message in messages:
        if message.message_id in chunk:
            continue
        frames = framer.frames(message)
        if chunk and (size + len(frames) > _CHUNK_BYTES or len(chunk) >= limit):
            yield list(chunk.values())
            chunk, size = {}, 0
        chunk[message.message_id] = (message, frames)
        size += len(frames)
    if chunk:
        yield list(chunk.values())
