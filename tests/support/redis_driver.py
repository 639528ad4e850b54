"""A channel in miniature that drives a `RedisSink`, and what the servers hold afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from streamll import DeliveryError
from streamll.source import Message, Start
from streamll_redis import RedisSource
from streamll_redis._lane import Lane, asked
from streamll_redis._positions import BEGINNING, order_of
from support.events import batch_of, make_events
from support.truth import Truth, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamll import Event, Sink
    from support.redis_server import RedisServer

__all__ = ["Driver", "is_behind", "once", "read_all", "reading"]

#: Seconds that are enough on any machine, however busy.
PATIENCE = 60.0


class Driver:
    """First in, first out, retried until confirmed, as a channel does it."""

    def __init__(
        self, sink: Sink, count: int = 0, *, events: Sequence[Event] = (), batch: int = 100,
        pause: float = 0.02,
    ) -> None:  # fmt: skip
        self.sink, self.batch, self.pause = sink, batch, pause
        self.given = list(events) or make_events(count)
        self.acked: list[Event] = []
        self.errors: list[DeliveryError] = []

    def run(self, between: Callable[[int], Any] = lambda _: None, limit: float = PATIENCE) -> None:
        """Deliver everything; *between* is called with the number confirmed so far."""
        done = {event.event_id for event in self.acked}
        waiting = [event for event in self.given if event.event_id not in done]
        end = time.monotonic() + limit
        while waiting:
            assert time.monotonic() < end, f"{len(waiting)} left: {self.errors[-3:]}"
            between(len(self.acked))
            size = random.randint(1, self.batch)
            undelivered = self._attempt(waiting[:size])
            self.acked += [e for at, e in enumerate(waiting[:size]) if at not in undelivered]
            waiting = [e for at, e in enumerate(waiting) if at >= size or at in undelivered]

    def _attempt(self, events: Sequence[Event]) -> set[int]:
        try:
            return set(self.sink.write(batch_of(events)) or ())
        except DeliveryError as error:
            self.errors.append(error)
            time.sleep(self.pause)
            return set(range(len(events)))

    def truth(self, server: RedisServer, key: str = "streamll_events") -> Truth:
        """Judge what *server* holds under *key*."""
        return self.judge([fields[b"event"] for _, fields in server.run("XRANGE", key, "-", "+")])

    def judge(self, bodies: Sequence[bytes]) -> Truth:
        """Judge *bodies*, in the order they are there."""
        return judge(
            bodies,
            given=[event.event_id for event in self.given],
            acked=[event.event_id for event in self.acked],
        )


def once(threshold: int, action: Callable[[], Any]) -> Callable[[int], None]:
    """Call *action* once, as soon as *threshold* events are confirmed."""
    due = [True]

    def check(acked: int) -> None:
        if due[0] and acked >= threshold:
            due[0] = False
            action()

    return check


async def reading(source: RedisSource, count: int, limit: float = PATIENCE) -> list[Message]:
    """Receive from an open source until *count* messages are there; give up at *limit*."""
    found: list[Message] = []
    end = time.monotonic() + limit
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} messages"
        found += await source.receive(0.1)
    return found


def read_all(url: str, **options: Any) -> list[Message]:
    """Return what a stream holds, read from its beginning to its last entry."""

    async def read() -> list[Message]:
        source = RedisSource(url, start=Start(beginning=True), **options)
        await source.open()
        found: list[Message] = []
        while await is_behind(source):
            found += await source.receive(0.3)
        await source.close()
        return found

    return asyncio.run(read())


async def is_behind(source: RedisSource) -> bool:
    """Whether a stream has entries that the open *source*, which has no group, did not return."""
    return any([await _lane_is_behind(source, lane) for lane in source._lanes.values()])


async def _lane_is_behind(source: RedisSource, lane: Lane) -> bool:
    link = source._finder.link(lane.key)
    try:
        newest = await asked(link, b"XREVRANGE", lane.key.encode(), b"+", b"-", b"COUNT", b"1")
    finally:
        link.drop()
    position = order_of(lane.position or BEGINNING)
    return bool(newest) and position < order_of(newest[0][0].decode())
