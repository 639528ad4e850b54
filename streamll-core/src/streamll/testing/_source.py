"""A broker in memory, and the source that reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import attrs
import msgspec

from streamll.errors import PermanentError, TransientError
from streamll.events import Event
from streamll.source import Message, Source, Start

__all__ = ["MemorySource", "MemoryStream"]

_encode = msgspec.json.Encoder().encode


@attrs.define
class _Group:
    """What one group of readers has been given."""

    cursor: int
    again: deque[Message] = attrs.field(factory=deque)
    pending: dict[str, tuple[Message, object]] = attrs.field(factory=dict)


class MemoryStream:
    """Stands in for a broker: messages, groups, dead letters. One event loop at a time.

    Attributes:
        messages: all of them, oldest first.
        dead: dead letters, each with the reason.
        delays: seconds asked for by each retry. They are not waited for.
        groups: name -> what its readers have been given.
    """

    def __init__(self, bodies: Iterable[Event | bytes] = ()) -> None:
        self.messages: list[Message] = []
        self.dead: list[tuple[Message, str]] = []
        self.delays: list[float] = []
        self.groups: dict[str, _Group] = {}
        self._times: list[datetime] = []
        for body in bodies:
            self.add(body)

    def add(self, body: Event | bytes) -> Message:
        """Append an event, or the bytes somebody put there, and return the message."""
        if isinstance(body, Event):
            return self._append(_encode(body), body.timestamp)
        return self._append(body, datetime.now(UTC))

    def _append(self, body: bytes, time: datetime) -> Message:
        message = Message(body=body, position=f"{len(self.messages) + 1:08d}")
        self.messages.append(message)
        self._times.append(time)
        return message

    def unacked(self, group: str) -> list[str]:
        """Return the positions that *group* was given, or is to be given again, oldest first."""
        held = self.groups[group]
        return sorted({*held.pending, *(message.position for message in held.again)})

    def index(self, start: Start) -> int:
        """Return the index of the first message to read."""
        if start.beginning:
            return 0
        if start.time is not None:
            return sum(time < start.time for time in self._times)
        if start.position is not None:
            return sum(message.position <= start.position for message in self.messages)
        return len(self.messages)


class MemorySource(Source):
    """Reads a `MemoryStream`, and holds its caller to the contract of `Source`.

    It raises when two methods run at once, when it is used while closed, and when something
    is acked that was not received by the open connection.

    Args:
        stream: what to read; events and bytes make a stream of their own.
        start: where to begin.
        group: readers of one group share the messages.
        batch: most messages of one `receive`.
        fails: (method name, number of that call: 1, 2 ...) -> the exception to raise, True for
            a `TransientError`, or a false value to succeed. It fails before it does anything.
        on_idle: called by each `receive` that finds nothing, e.g. ``consumer.stop``.

    Attributes:
        calls: method name -> number of calls.
        is_open: whether it is connected.
    """

    def __init__(
        self,
        stream: MemoryStream | Iterable[Event | bytes] = (),
        *,
        start: Start | None = None,
        group: str | None = None,
        batch: int = 100,
        fails: Callable[[str, int], BaseException | bool | None] = lambda *_: None,
        on_idle: Callable[[], object] | None = None,
    ) -> None:
        self.stream = stream if isinstance(stream, MemoryStream) else MemoryStream(stream)
        self.acknowledges = group is not None
        self.calls: Counter[str] = Counter()
        self.is_open = False
        self.on_idle = on_idle
        self._start = start or Start(beginning=True)
        self._group = group
        self._batch = batch
        self._fails = fails
        self._busy = False
        self._held: _Group | None = None

    async def open(self) -> None:
        """Connect; begins at the start the first time, and where it was later."""
        with self._call("open", needs_open=False):
            if self._held is None:
                self._held = self._join()
            self.is_open = True

    def _join(self) -> _Group:
        fresh = _Group(self.stream.index(self._start))
        if self._group is None:
            return fresh
        return self.stream.groups.setdefault(self._group, fresh)

    async def receive(self, timeout: float) -> Sequence[Message]:  # noqa: ASYNC109 - as the contract
        """Return what is there, at once; with nothing there, call `on_idle` and return nothing."""
        with self._call("receive"):
            messages = self._next()
            if not messages:
                if self.on_idle is not None:
                    self.on_idle()
                await asyncio.sleep(0)
            return messages

    def _next(self) -> list[Message]:
        held = self._mine
        messages = [held.again.popleft() for _ in range(min(self._batch, len(held.again)))]
        fresh = self.stream.messages[held.cursor : held.cursor + self._batch - len(messages)]
        held.cursor += len(fresh)
        messages += fresh
        if self.acknowledges:
            held.pending.update({message.position: (message, self) for message in messages})
        return messages

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget them."""
        with self._call("ack"):
            for message in messages:
                self._settle(message)

    async def retry(self, message: Message, delay: float) -> None:
        """Deliver it again, at once; the delay is noted."""
        with self._call("retry"):
            self._settle(message)
            self.stream.delays.append(delay)
            self._mine.again.append(_once_more(message))

    async def dead_letter(self, message: Message, reason: str) -> None:
        """Move it to the dead letters."""
        with self._call("dead_letter"):
            self._settle(message)
            self.stream.dead.append((message, reason))

    async def close(self) -> None:
        """Disconnect; what is unacked is delivered again, first."""
        with self._call("close", needs_open=False):
            self.is_open = False
            if self._held is not None and self.acknowledges:
                self._give_back(self._held)

    def _give_back(self, held: _Group) -> None:
        mine = [message for message, owner in held.pending.values() if owner is self]
        for message in mine:
            del held.pending[message.position]
        held.again.extendleft(_once_more(message) for message in reversed(mine))

    @property
    def _mine(self) -> _Group:
        if self._held is None:
            raise RuntimeError("open it first")
        return self._held

    def _settle(self, message: Message) -> None:
        """Take it from what is pending, as strictly as AMQP."""
        if self._mine.pending.pop(message.position, (None, None))[1] is not self:
            raise PermanentError(f"{message.position} was not received by this connection")

    @contextlib.contextmanager
    def _call(self, method: str, *, needs_open: bool = True) -> Iterator[None]:
        """Count the call, hold it to the contract, and fail it when it is to fail."""
        self.calls[method] += 1
        if self._busy:
            raise RuntimeError(f"{method} while another method runs")
        if needs_open and not self.is_open:
            raise RuntimeError(f"{method} on a closed source")
        failure = self._fails(method, self.calls[method])
        if failure:
            raise failure if isinstance(failure, BaseException) else TransientError("scripted")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


def _once_more(message: Message) -> Message:
    return attrs.evolve(message, attempts=message.attempts + 1)
