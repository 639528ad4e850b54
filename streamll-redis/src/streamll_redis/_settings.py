"""The options of the Redis sink and source: checked once, before anything connects."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any, Final

import attrs

from streamll import ConfigurationError
from streamll.source import Start
from streamll_redis._access import Access, positive, positive_int
from streamll_redis._address import DEFAULT_URL, Address
from streamll_redis._keys import fixed_keys
from streamll_redis._positions import start_ids

__all__ = ["DEFAULT_MAXLEN", "ReadSettings", "RedisSettings"]

#: Entries a stream keeps; about 80 MB at 800 bytes an event (a token with its flat fields).
DEFAULT_MAXLEN: Final = 100_000


@attrs.frozen(kw_only=True)
class RedisSettings(Access):
    """The checked options of one `RedisSink`; see there. Immutable."""

    stream_key: str = "streamll_events"
    maxlen: int | None = attrs.field(default=DEFAULT_MAXLEN)
    approximate: bool = True
    partitions: int = attrs.field(default=1, validator=positive_int)
    max_keys: int = attrs.field(default=1000, validator=positive_int)

    @maxlen.validator
    def _check_maxlen(self, attribute: attrs.Attribute[Any], value: int | None) -> None:
        if value is not None:
            positive_int(self, attribute, value)

    @classmethod
    def of(cls, url: str | None, **options: Any) -> RedisSettings:
        """Check the options of a sink.

        Raises:
            ConfigurationError: for a URL or option that cannot be used.
        """
        return cls(address=Address.parse(url or DEFAULT_URL, _SINK_OPTIONS), **options)


def _consumer_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _name(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{attribute.name} must be a name, not {value!r}")


@attrs.frozen(kw_only=True)
class ReadSettings(Access):
    """The checked options of one `RedisSource`; see there. Immutable.

    Attributes:
        keys: the streams to read.
        starts: the id to read after, for each of `keys`; None for "from now".
    """

    stream_key: str = "streamll_events"
    partitions: int = attrs.field(default=1, validator=positive_int)
    start: Start = attrs.field(factory=Start)
    group: str | None = attrs.field(default=None, validator=attrs.validators.optional(_name))
    consumer: str = attrs.field(factory=_consumer_name, validator=_name)
    count: int = attrs.field(default=512, validator=positive_int)
    block: float = attrs.field(default=2.0, validator=positive)
    reclaim_after: float = attrs.field(default=60.0, validator=positive)
    dead_letter_key: str = attrs.field(default="", kw_only=True)
    keys: tuple[str, ...] = attrs.field(init=False)
    starts: tuple[str | None, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        keys = fixed_keys(self.stream_key, self.partitions)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "starts", tuple(start_ids(self.start, len(keys))))

    @classmethod
    def of(cls, url: str | None, **options: Any) -> ReadSettings:
        """Check the options of a source.

        Raises:
            ConfigurationError: for a URL or option that cannot be used.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return cls(address=Address.parse(url or DEFAULT_URL, _READ_OPTIONS), **given)

    @property
    def dead_key(self) -> str:
        """Where messages go that nobody could handle."""
        return self.dead_letter_key or f"{fixed_keys(self.stream_key, 1)[0]}:dead"


def _options(kind: type[Access]) -> frozenset[str]:
    fields = attrs.fields(kind)
    return frozenset(field.name for field in fields if field.init) - {"address"}


_SINK_OPTIONS: Final = _options(RedisSettings)
_READ_OPTIONS: Final = _options(ReadSettings)
