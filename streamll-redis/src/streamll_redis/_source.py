"""`RedisSource`: the read side of Redis Streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from streamll import ConfigurationError
from streamll.source import Message, Source, Start
from streamll_redis._address import DEFAULT_URL
from streamll_redis._finder import Finder
from streamll_redis._group_lane import GroupLane
from streamll_redis._lane import Lane, asked
from streamll_redis._positions import BEGINNING, order_of
from streamll_redis._settings import ReadSettings

if TYPE_CHECKING:
    import ssl

    from redis.credentials import CredentialProvider

    from streamll_redis._async_link import AsyncLink

__all__ = ["RedisSource"]


class RedisSource(Source):
    """Reads events from a Redis Stream: alone, or as one consumer of a group.

    Alone, every reader gets everything from its start on; `Message.position` says how far it
    came. In a group each message goes to one consumer and stays pending until it is acked.

    Args:
        url: as for `RedisSink`: a server, sentinels, or any node of a cluster.
        stream_key: of the stream; not a template.
        start: where to begin. A group that exists goes on where it is.
        group: name of the consumer group; None reads alone.
        consumer: name of this consumer; one that comes back under its name first gets what it
            had received and not acked. None makes a name up.
        partitions: keys the stream is spread over, as given to the sink.
        count: most messages a read returns per key.
        block: seconds one read waits at the server.
        reclaim_after: seconds after which messages of a silent consumer are taken over.
            Longer than a handler takes for `count` messages.
        dead_letter_key: stream for what nobody could handle; None is ``<stream_key>:dead``.
        op_timeout: seconds any other exchange with the server may take.
        username, password, credential_provider, sentinel_username, sentinel_password,
            tls_ca_file, tls_cert_file, tls_key_file, ssl_context: as for `RedisSink`.

    Raises:
        ConfigurationError: for an option or URL that cannot be used.
    """

    #: What belongs into code, not into URLs.
    code_only: ClassVar[frozenset[str]] = frozenset({
        "credential_provider", "password", "sentinel_password", "sentinel_username",
        "ssl_context", "start", "username",
    })  # fmt: skip

    def __init__(
        self,
        url: str | None = DEFAULT_URL,
        *,
        stream_key: str = "streamll_events",
        start: Start | None = None,
        group: str | None = None,
        consumer: str | None = None,
        partitions: int = 1,
        count: int = 512,
        block: float = 2.0,
        reclaim_after: float = 60.0,
        dead_letter_key: str | None = None,
        op_timeout: float = 2.0,
        username: str | None = None,
        password: str | None = None,
        credential_provider: CredentialProvider | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        tls_ca_file: str | None = None,
        tls_cert_file: str | None = None,
        tls_key_file: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = ReadSettings.of(
            url,
            stream_key=stream_key,
            start=start,
            group=group,
            consumer=consumer,
            partitions=partitions,
            count=count,
            block=block,
            reclaim_after=reclaim_after,
            dead_letter_key=dead_letter_key,
            op_timeout=op_timeout,
            username=username,
            password=password,
            credential_provider=credential_provider,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
            tls_ca_file=tls_ca_file,
            tls_cert_file=tls_cert_file,
            tls_key_file=tls_key_file,
            ssl_context=ssl_context,
        )
        self.settings.warn_if_insecure()
        self.acknowledges = group is not None
        pairs = zip(self.settings.keys, self.settings.starts, strict=True)
        kind = GroupLane if self.acknowledges else Lane
        self._lanes = {key: kind(key, position, self.settings) for key, position in pairs}
        self._finder = Finder(self.settings)
        self._reads: dict[Lane, asyncio.Task[Sequence[Message]]] = {}
        self._dead: AsyncLink | None = None

    def __repr__(self) -> str:
        return f"RedisSource({str(self.settings.address)!r}, {self.settings.stream_key!r})"

    async def open(self) -> None:
        """Connect and find the place to go on.

        Raises:
            TransientError, PermanentError: when that is not possible.
        """
        await self.close()
        try:
            await self._finder.find()
            for lane in self._lanes.values():
                await self._open(lane)
        except BaseException:
            await self.close()
            raise
        self._dead = self._finder.link(self.settings.dead_key)

    async def _open(self, lane: Lane) -> None:
        link = self._finder.link(lane.key)
        if isinstance(lane, GroupLane):
            await lane.open_group(link, self._finder.link(lane.key))
        else:
            await lane.open(link)

    async def receive(self, timeout: float) -> Sequence[Message]:  # noqa: ASYNC109 - the broker waits
        """Return the next messages, merged by age over the keys; see `Source.receive`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            messages = await self._again() or await self._fresh(end - loop.time())
            if messages or loop.time() >= end:
                return messages

    async def _again(self) -> Sequence[Message]:
        return [message for lane in self._groups for message in await lane.due()]

    async def _fresh(self, patience: float) -> Sequence[Message]:
        """Wait for any of the reads, which go on where none of them is done in time."""
        wait = min([max(0.0, patience), *(lane.wait for lane in self._groups)])
        for lane in self._lanes.values():
            if lane not in self._reads:
                self._reads[lane] = asyncio.create_task(lane.read())
        await asyncio.wait(self._reads.values(), timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        return self._collected()

    def _collected(self) -> Sequence[Message]:
        """Take what the finished reads brought."""
        before = {lane.key: lane.position or BEGINNING for lane in self._lanes.values()}
        found: list[Message] = []
        for lane in [lane for lane, read in self._reads.items() if read.done()]:
            messages = self._reads.pop(lane).result()
            if messages:
                lane.took(messages)
                found += messages
        return found if len(self._lanes) == 1 else self._merged(found, before)

    def _merged(self, messages: list[Message], at: dict[str, str]) -> list[Message]:
        """Sort by age; alone, a position also says how far the other keys were read."""
        messages.sort(key=lambda message: order_of(message.position))
        if self.acknowledges:
            return messages
        merged: list[Message] = []
        for message in messages:
            at[message.key] = message.position
            merged.append(attrs.evolve(message, position=",".join(at.values())))
        return merged

    async def ack(self, messages: Sequence[Message]) -> None:
        """Say that *messages* are dealt with; see `Source.ack`."""
        for lane in self._groups:
            mine = [message for message in messages if message.key == lane.key]
            if mine:
                await lane.ack(mine)

    async def retry(self, message: Message, delay: float) -> None:
        """Have *message* again in *delay* seconds; see `Source.retry`."""
        self._group_of(message).retry(message, delay)

    async def dead_letter(self, message: Message, reason: str) -> None:
        """Append *message* to the stream of dead letters, then ack it.

        A crash in between leaves it in both. (A transaction would not help: Redis rolls
        nothing back, so a letter that cannot be written would be acked all the same.)
        """
        lane = self._group_of(message)
        await asked(self._dead, *lane.letter(message, reason))
        await lane.ack([message])

    async def close(self) -> None:
        """Disconnect; what is not acked stays pending in the group."""
        reads, self._reads = list(self._reads.values()), {}
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        for lane in self._lanes.values():
            lane.close()
        if self._dead is not None:
            self._dead.drop()

    @property
    def _groups(self) -> list[GroupLane]:
        return [lane for lane in self._lanes.values() if isinstance(lane, GroupLane)]

    def _group_of(self, message: Message) -> GroupLane:
        lane = self._lanes.get(message.key)
        if not isinstance(lane, GroupLane):
            raise ConfigurationError("only a reader with a group can retry or give up messages")
        return lane
