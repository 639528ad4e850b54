"""Which stream an event goes to: a key template, partitions, and a limit on how many. Pure.

Every stream has a second key that holds the last number of this producer (see `_ledger`). A
script may use both only if they share a Redis Cluster hash slot, so the second key carries
the hash tag of the first: braces are reserved for hash tags.
"""

from __future__ import annotations

import hashlib
import re
from binascii import crc32
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import attrs

from streamll import ConfigurationError, Event, Template
from streamll_redis._ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

__all__ = ["Router", "Stream", "escape", "fixed_keys"]

#: Bytes of one escaped value; longer ones are cut and marked with a hash.
VALUE_BYTES: Final = 128

_UNSAFE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f:*?\[\]\\^{}\ud800-\udfff]")
_TAG: Final = re.compile(r"[^{}]*(\{[^{}]+\}[^{}]*)?")

_SAMPLE: Final = Event(
    event_id="", event_type="end", operation="op", timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    sequence=1, execution_id="0", trace_id="0", span_id="0", severity="info", data={},
    schema_version="1.0",
)  # fmt: skip


def escape(value: str) -> str:
    """Make *value* safe inside a key: no separators, hash tags, globs or control characters."""
    safe = _UNSAFE.sub("_", value)
    encoded = safe.encode()
    if len(encoded) <= VALUE_BYTES:
        return safe
    mark = hashlib.blake2b(encoded, digest_size=4).hexdigest()
    return f"{encoded[: VALUE_BYTES - 9].decode(errors='ignore')}-{mark}"


@attrs.define(eq=False)
class Stream:
    """One stream key, the key of this producer's last number, and the numbers given out.

    Attributes:
        key: of the stream.
        numbers_key: of the last number the server has.
        ledger: the numbers given out.
        aside: the same stream with other numbers, for notices (`_ledger`, rule 4).
    """

    key: bytes
    numbers_key: bytes
    ledger: Ledger = attrs.field(factory=Ledger)
    aside: Stream | None = None

    @classmethod
    def of(cls, key: str, producer: str) -> Stream:
        """Name the keys of a stream."""
        tagged = key if "{" in key else f"{{{key}}}"
        own, other = (f"{tagged}:streamll:{producer}{end}".encode() for end in ("", "-2"))
        return cls(key.encode(), own, aside=cls(key.encode(), other))


class Router:
    """Sorts the events of a batch by stream; remembers every stream it has named."""

    def __init__(self, template: str, partitions: int, max_keys: int, producer: str) -> None:
        self._template = Template(template)
        self._partitions = partitions
        self._limit = max_keys * partitions
        self._producer = producer
        self._streams: dict[str, Stream] = {}
        self._trait = _trait(self._template.fields, partitions)
        _check_braces(self._template.render(_SAMPLE, escape))

    @property
    def is_constant(self) -> bool:
        """Whether all events go to one stream."""
        return self._template.is_constant and self._partitions == 1

    @property
    def only_key(self) -> str | None:
        """The one stream's key; None if there may be several."""
        return self._template.render(_SAMPLE, escape) if self.is_constant else None

    def route(self, events: Sequence[Event]) -> tuple[dict[Stream, Sequence[int]], list[int]]:
        """Return the positions of *events* by stream, and those beyond the limit of keys."""
        if self.is_constant:
            stream = self._stream(self._template.render(_SAMPLE, escape))
            return ({stream: range(len(events))} if stream else {}), []
        routed: dict[Stream, list[int]] = {}
        refused: list[int] = []
        lists: dict[Hashable, list[int]] = {}  # many events of a batch have one key
        for position, (trait, event) in enumerate(
            zip(map(self._trait, events), events, strict=True)
        ):
            if trait not in lists:
                stream = self._stream(self._key(event))
                lists[trait] = refused if stream is None else routed.setdefault(stream, [])
            lists[trait].append(position)
        return dict(routed), refused

    def _key(self, event: Event) -> str:
        key = self._template.render(event, escape)
        if self._partitions == 1:
            return key
        return _partition(key, crc32(event.execution_id.encode()) % self._partitions)

    def _stream(self, key: str) -> Stream | None:
        found = self._streams.get(key)
        if found is None and len(self._streams) < self._limit:
            found = self._streams[key] = Stream.of(key, self._producer)
        return found


def fixed_keys(stream_key: str, partitions: int) -> tuple[str, ...]:
    """Return the keys of one stream, for reading.

    Raises:
        ConfigurationError: when *stream_key* stands for many streams.
    """
    template = Template(stream_key)
    if not template.is_constant:
        raise ConfigurationError(
            "stream_key: a reader reads one stream; write the key of the one you mean, "
            f"not the template {stream_key!r}"
        )
    key = template.render(_SAMPLE, escape)
    _check_braces(key)
    return tuple(_partition(key, n) for n in range(partitions)) if partitions > 1 else (key,)


def _trait(fields: Sequence[str], partitions: int) -> Callable[[Event], Hashable]:
    """Return what is equal for two events of a batch only if they have one key.

    A context, which cannot be hashed, is taken by identity: that of its batch keeps it alive.
    """
    names = {name for name in fields if "." not in name}
    names |= {"execution_id"} if partitions > 1 else set()
    own = attrgetter(*names) if names else lambda _: None
    if any("." in name for name in fields):
        return lambda event: (id(event.context), own(event))
    return own


def _partition(key: str, number: int) -> str:
    return f"{key}:{number}"


def _check_braces(key: str) -> None:
    if not _TAG.fullmatch(key):
        raise ConfigurationError("stream_key: braces may only mark one hash tag, as in '{{app}}:x'")
