"""The read side of a plugin: what `consume` and `EventConsumer` need of a broker.

A source only moves messages; decoding, filters, deduplication, handlers, retries, reconnects
and the sync face are `streamll.consuming`'s, the same for every broker.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from streamll.errors import ConfigurationError

__all__ = ["Message", "Source", "Start"]


@attrs.frozen(kw_only=True)
class Message:
    """One message as the broker has it.

    Attributes:
        body: the event as JSON (schema 1.0) or whatever else somebody put there.
        position: where it is, as text: a Redis entry id, an AMQP delivery tag, a stream
            offset. Sorts as the source delivers.
        attempts: 1 for the first delivery to this group or queue, more for a redelivery.
        key: stream key or routing key.
    """

    body: bytes
    position: str
    attempts: int = 1
    key: str = ""


@attrs.frozen(kw_only=True)
class Start:
    """Where reading begins; one of them is set, none means "from now".

    Attributes:
        beginning: the oldest message there is.
        time: the first message at or after this aware time.
        position: the first message after this `Message.position`.
    """

    beginning: bool = False
    time: datetime | None = None
    position: str | None = None

    @classmethod
    def parse(cls, since: str | datetime | timedelta | None, now: datetime) -> Start:
        """Read *since*: None or "now", "beginning", "-10m", an ISO time, or a position.

        Raises:
            ConfigurationError: for a span that cannot be read.
        """
        if since is None or since == "now":
            return cls()
        if since == "beginning":
            return cls(beginning=True)
        if isinstance(since, timedelta):
            return cls(time=now - abs(since))
        if isinstance(since, datetime):
            return cls(time=since if since.tzinfo else since.astimezone())
        return cls._parse_text(since, now)

    @classmethod
    def _parse_text(cls, since: str, now: datetime) -> Start:
        if not since:
            raise ConfigurationError("since='' says nothing; leave it out to read from now on")
        if since.startswith("-"):
            return cls(time=_before(now, since))
        if since[:-1].isdecimal() and since[-1] in _UNITS:
            raise ConfigurationError(f"since={since!r} lies ahead; write '-{since}'")
        if "T" in since or since.count("-") == 2:  # noqa: PLR2004 - an ISO date has two dashes
            try:
                return cls.parse(datetime.fromisoformat(since), now)
            except ValueError:
                return cls(position=since)
        return cls(position=since)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _before(now: datetime, since: str) -> datetime:
    try:
        return now - timedelta(seconds=float(since[1:-1]) * _UNITS[since[-1:]])
    except (KeyError, ValueError, OverflowError):
        raise ConfigurationError(
            f"since={since!r} is not a span; write e.g. '-90s', '-10m', '-2h', '-1d'"
        ) from None


class Source:
    """Base class of the read sides. All methods run on one event loop, never concurrently.

    Its constructor takes ``(url, *, start: Start, group: str | None, **options)`` and raises
    `ConfigurationError` for what it cannot do. Methods raise `TransientError` when the
    connection is lost (the consumer closes, waits with backoff, opens again and goes on where
    it was) and `PermanentError` when trying again is pointless.
    """

    #: Whether messages are acked one by one (a group, a queue): what was not acked is then
    #: delivered again, `retry` and `dead_letter` work, and a lost connection voids what was
    #: received by it and not acked. Set by the constructor.
    acknowledges: bool = False

    async def open(self) -> None:
        """Connect; after a lost connection, go on after the last position received."""

    async def receive(self, timeout: float) -> Sequence[Message]:  # noqa: ASYNC109 - the broker waits
        """Return the next messages, oldest first; none after about *timeout* seconds.

        May be cancelled, e.g. by a caller's own time limit: what was not returned is then
        returned by the next call.
        """
        raise NotImplementedError

    async def ack(self, messages: Sequence[Message]) -> None:
        """Say that *messages* are dealt with; without a group there is nothing to say."""

    async def retry(self, message: Message, delay: float) -> None:
        """Have *message* delivered again after about *delay* seconds, counted in `attempts`."""
        raise NotImplementedError

    async def dead_letter(self, message: Message, reason: str) -> None:
        """Put *message* where people look for what nobody could handle, and ack it."""
        raise NotImplementedError

    async def close(self) -> None:
        """Disconnect, also after a failed `open`; harmless when repeated.

        What was received and not acked is delivered again to the group.
        """
