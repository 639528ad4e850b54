"""`RedisSink`: events to Redis Streams, each once even when an answer is lost."""

from __future__ import annotations

import logging
import os
import secrets
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Final

from streamll import Report, Sink
from streamll_redis._address import DEFAULT_URL
from streamll_redis._append import Problems
from streamll_redis._errors import Refusal
from streamll_redis._keys import Router, Stream
from streamll_redis._servers import Servers
from streamll_redis._settings import DEFAULT_MAXLEN, RedisSettings
from streamll_redis._verdicts import KEY_LIMIT, failure_of, verdicts
from streamll_redis._writer import Part, parts, trim_arguments

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence

    from redis import Redis, RedisCluster
    from redis.credentials import CredentialProvider

    from streamll import Batch, Event

__all__ = ["RedisSink"]

_log: Final = logging.getLogger("streamll.redis")

#: Keys that cannot be used and are told of, one by one.
_MOST_TOLD: Final = 10
#: Operation of the events with which a channel announces drops, in front of a batch.
NOTICE: Final = "streamll"


class RedisSink(Sink):
    """Appends events to a Redis Stream, at most `maxlen` of them kept.

    Delivered means: in the memory of the primary. Whether it survives a restart or a failover
    is up to the server (AOF, replicas), and trimming does not wait for readers.

    A batch is one call of a Lua script that remembers the last event of this producer, so a
    batch that is sent again after a lost answer is not appended twice. Where scripts are
    refused, events are appended one by one and such a repeat can duplicate them. The order of
    one producer's events in a stream is the order they were emitted in.

    Args:
        url: ``redis://``, ``rediss://`` (TLS, verified), ``unix://`` or
            ``redis+sentinel://host,host/service``; None is the default. Any node of a cluster
            will do: the servers are asked what they are.
        stream_key: the stream's key, or a template over event fields such as
            ``streamll:{context.tenant}``; see `streamll.templates`.
        maxlen: entries a stream keeps; None keeps all.
        approximate: trim in whole nodes, a few entries late; far cheaper than to the entry.
        partitions: keys one stream is spread over, by execution.
        max_keys: streams one sink may create; events for more are dropped as "key_limit".
        op_timeout: seconds one attempt may take, connecting included.
        client: a `redis.Redis` or `redis.RedisCluster` whose servers, login and TLS settings
            to use instead of *url*; its connections and its retry policy are not used.
        username, password: login; preferred over what the URL holds.
        credential_provider: redis-py's source of changing passwords, asked at each connect.
        sentinel_username, sentinel_password: login at the sentinels, which have their own.
        tls_ca_file: authorities to trust instead of the system's.
        tls_cert_file, tls_key_file: client certificate.
        ssl_context: full control over TLS; the only way not to verify the server.
        delivery: see `streamll.settings.DeliverySettings`.

    Raises:
        ConfigurationError: for an option or URL that cannot be used.
    """

    #: Larger than usual: a batch costs a few turns at the GIL, whatever its size. One that a
    #: slow link does not get through within `op_timeout` is confirmed in part.
    delivery_defaults: ClassVar[Mapping[str, Any]] = {"batch_size": 2048}
    #: See `Sink`: what belongs into code, not into URLs.
    code_only: ClassVar[frozenset[str]] = frozenset({
        "client", "credential_provider", "password", "sentinel_password", "sentinel_username",
        "ssl_context", "username",
    })  # fmt: skip

    def __init__(
        self,
        url: str | None = DEFAULT_URL,
        stream_key: str = "streamll_events",
        *,
        maxlen: int | None = DEFAULT_MAXLEN,
        approximate: bool = True,
        partitions: int = 1,
        max_keys: int = 1000,
        op_timeout: float = 2.0,
        client: Redis | RedisCluster | None = None,
        username: str | None = None,
        password: str | None = None,
        credential_provider: CredentialProvider | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
        tls_ca_file: str | None = None,
        tls_cert_file: str | None = None,
        tls_key_file: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        **delivery: Any,
    ) -> None:
        super().__init__(**delivery)
        self.settings = RedisSettings.of(
            url,
            stream_key=stream_key,
            maxlen=maxlen,
            approximate=approximate,
            partitions=partitions,
            max_keys=max_keys,
            op_timeout=op_timeout,
            client=client,
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
        self._renew()

    def __repr__(self) -> str:
        return f"RedisSink({str(self.settings.address)!r}, {self.settings.stream_key!r})"

    def open(self) -> None:
        """Connect and log in.

        Raises:
            TransientError, PermanentError: when that is not possible.
        """
        self.close()
        self._renew()
        self._servers.begin()
        self._servers.connect()

    def write(self, batch: Batch) -> Report | None:
        """Append *batch*, in at most `op_timeout` seconds; see `Sink.write`."""
        if os.getpid() != self._pid:
            self._renew()
        self._servers.begin()
        self._servers.connect()
        streams, beyond_limit = self._router.route(batch.events)
        pieces = [part for stream, at in streams.items() for part in _parts(stream, at, batch)]
        problems = self._servers.append(pieces)
        if problems and len(problems) == len(batch):
            self._raise_failure(problems)
        if problems:
            self._tell_refused(pieces, problems)
        return verdicts(problems) | dict.fromkeys(beyond_limit, KEY_LIMIT) or None

    def close(self) -> None:
        """Close the connection."""
        self._servers.drop()

    def _raise_failure(self, problems: Problems) -> None:
        where, key = str(self.settings.address), self._router.only_key
        failure = failure_of(problems, where, self._servers.failure, key=key)
        if failure is not None:
            self._servers.drop()  # perhaps this server is no longer the right one
            raise failure

    def _tell_refused(self, pieces: Sequence[Part], problems: Problems) -> None:
        """Log, once for each key, why it cannot be used; its events are counted by reason."""
        for part in pieces:
            reply, key = problems.get(part.positions[0]), part.stream.key
            is_new = key not in self._told and len(self._told) < _MOST_TOLD
            if is_new and isinstance(reply, Refusal) and reply.is_permanent:
                self._told.add(key)
                where = f"Redis at {self.settings.address}"
                _log.warning("%s refuses key %r: %s", where, key.decode(), reply.explained)

    def _renew(self) -> None:
        """Become a new producer: its numbers are nobody else's, not even a forked parent's."""
        settings = self.settings
        self._pid = os.getpid()
        self._told = set[bytes]()
        trim = trim_arguments(settings.maxlen, approximate=settings.approximate)
        self._servers = Servers(settings, trim)
        self._router = Router(
            settings.stream_key, settings.partitions, settings.max_keys, secrets.token_hex(8)
        )


def _parts(stream: Stream, positions: Sequence[int], batch: Batch) -> Iterator[Part]:
    """Number one stream's share of *batch* and cut it into calls."""
    events = batch.events
    count = sum(1 for _ in takewhile(lambda at: events[at].operation == NOTICE, positions))
    if count and stream.aside is not None:
        yield from _numbered(stream.aside, positions[:count], batch)
        positions = positions[count:]
    if positions:
        yield from _numbered(stream, positions, batch)


def _numbered(stream: Stream, positions: Sequence[int], batch: Batch) -> Iterator[Part]:
    events: Sequence[Event] = batch.events
    bodies: Sequence[bytes] = batch.bodies
    if positions != range(len(batch)):
        events, bodies = [events[at] for at in positions], [bodies[at] for at in positions]
    numbers = stream.ledger.assign(events)
    if not isinstance(numbers, range):  # some are repeated, and go first
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        numbers, positions = [numbers[at] for at in order], [positions[at] for at in order]
        events, bodies = [events[at] for at in order], [bodies[at] for at in order]
    return parts(stream, numbers, positions, events, bodies)
