"""Event -> AMQP routing key and properties. Pure, and total: no event makes it raise.

What a message carries, beside the JSON body:

====================  =============================================================
message_id            event_id: the deduplication key
correlation_id        execution_id
type                  event_type
timestamp             seconds of the event's timestamp
app_id                "streamll", or the sink's `app_id`
content_type          "application/json"
delivery_mode         2 (persistent) when `durable`, else 1
headers               execution_id, module_name (if any), operation, schema_version,
                      sequence, severity, span_id; with `cloudevents`, those too
====================  =============================================================

The property list is packed here and not by pamqp's generic encoder, which takes several times
as long (benchmarks/rabbitmq_publish.py); a test holds the two equal. What events of one kind
and of one span have in common is packed once.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from streamll_rabbitmq._access import SHORT_STRING
from streamll_rabbitmq._cloudevents import event_attributes, kind_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamll.events import Event
    from streamll_rabbitmq._settings import RabbitMQSettings

__all__ = ["Codec", "Message", "escape", "shorten"]

K = TypeVar("K")
V = TypeVar("V")

#: Separator and wildcards of topic exchanges, C0 and C1 control characters.
_UNSAFE: Final = re.compile(r"[.*#\x00-\x1f\x7f-\x9f]")

_FLAGS: Final = struct.pack(
    ">H",
    0x8000  # content_type
    | 0x2000  # headers
    | 0x1000  # delivery_mode
    | 0x0400  # correlation_id
    | 0x0080  # message_id
    | 0x0040  # timestamp
    | 0x0020  # type
    | 0x0008,  # app_id
)
_LENGTH: Final = struct.Struct(">I").pack
_LENGTHS: Final = tuple(bytes([n]) for n in range(SHORT_STRING + 1))
_SEQUENCE: Final = struct.Struct(">q").pack
_TIMESTAMP: Final = struct.Struct(">Q").pack
_INT64: Final = range(-(2**63), 2**63)
#: Type and length prefix of a header value of at most 255 bytes, up to its last byte.
_TEXT: Final = b"S\x00\x00\x00"
_SEQUENCE_NAME: Final = b"\x08sequencel"
_SEQUENCE_BYTES: Final = len(_SEQUENCE_NAME) + 8

#: Fields that take few values, so what depends on them alone is packed once.
_KIND_FIELDS: Final = frozenset({"operation", "event_type", "module_name", "severity"})
#: Kinds and spans remembered before starting over: user-given names must not fill the memory.
_MAX_REMEMBERED: Final = 1024


@attrs.define
class Message:
    """One event, ready for the wire. Not frozen, which would take a tenth of its time.

    Attributes:
        message_id: as sent.
        routing_key: UTF-8, at most 255 bytes.
        properties: flags and values of the content header, packed.
        body: the JSON.
    """

    message_id: bytes
    routing_key: bytes
    properties: bytes
    body: bytes


def escape(value: str) -> str:
    """Return *value* without what means something in a topic routing key."""
    return _UNSAFE.sub("_", value)


def shorten(value: str, limit: int) -> str:
    """Return *value* in at most *limit* UTF-8 bytes; a cut one ends in a hash of the whole."""
    encoded = value.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    digest = hashlib.blake2b(encoded, digest_size=4).hexdigest()
    kept = encoded[: limit - len(digest) - 1].decode("utf-8", "ignore")
    return f"{kept}_{digest}"


def _short(value: str) -> bytes:
    """Pack an AMQP short string; one that is too long is shortened."""
    encoded = value.encode("utf-8", "replace")
    if len(encoded) > SHORT_STRING:
        encoded = shorten(value, SHORT_STRING).encode()
    return _LENGTHS[len(encoded)] + encoded


def _header(name: str, value: str) -> bytes:
    """Pack a header; values are bounded so that the content header fits in one frame."""
    return _short(name) + _TEXT + _short(value)


def _headers(values: Mapping[str, str | None]) -> bytes:
    return b"".join(_header(name, value) for name, value in values.items() if value is not None)


@attrs.frozen
class _Kind:
    """What all events of one kind have in common, packed."""

    headers: bytes
    #: The properties after the timestamp.
    end: bytes
    routing_key: bytes


@attrs.frozen
class _Span:
    """What all events of one span have in common, packed."""

    headers: bytes
    correlation_id: bytes

    @classmethod
    def of(cls, event: Event) -> _Span:
        names = {"execution_id": event.execution_id, "span_id": event.span_id}
        return cls(_headers(names), _short(event.execution_id))


class Codec:
    """Makes messages of events. One per sink; used by one thread at a time."""

    def __init__(self, settings: RabbitMQSettings) -> None:
        self._template = settings.routing_key
        self._value_bytes = settings.value_bytes
        self._one_key_per_kind = _KIND_FIELDS.issuperset(settings.routing_key.fields)
        self._kinds: dict[tuple[str | None, ...], _Kind] = {}
        self._spans: dict[tuple[str, str], _Span] = {}
        self._cloudevents = settings.cloudevents
        self._app_id = settings.app_id
        self._before = _FLAGS + _short("application/json")
        self._mode = b"\x02" if settings.durable else b"\x01"

    def message(self, event: Event, body: bytes) -> Message:
        """Return what to publish for *event*."""
        kind = self._kind(event)
        key = kind.routing_key if self._one_key_per_kind else self.routing_key(event)
        message_id = _short(event.event_id)
        return Message(message_id[1:], key, self._properties(event, kind, message_id), body)

    def routing_key(self, event: Event) -> bytes:
        """Return the routing key: as many segments as the template has, at most 255 bytes."""
        return self._template.render(event, self._segment).encode("utf-8", "replace")

    def _segment(self, value: str) -> str:
        return shorten(escape(value), self._value_bytes)

    def _kind(self, event: Event) -> _Kind:
        name = (
            event.operation,
            event.event_type,
            event.module_name,
            event.severity,
            event.schema_version,
        )
        kind = self._kinds.get(name)
        if kind is None:
            kind = _remember(self._kinds, name, self._new_kind(event))
        return kind

    def _new_kind(self, event: Event) -> _Kind:
        headers: dict[str, str | None] = {
            "module_name": event.module_name,
            "operation": event.operation,
            "schema_version": event.schema_version,
            "severity": event.severity,
        }
        if self._cloudevents:
            kind = f"{escape(event.operation)}.{escape(event.event_type)}"
            headers |= kind_attributes(event, self._app_id, kind)
        end = _short(event.event_type) + _short(self._app_id)
        return _Kind(_headers(headers), end, self.routing_key(event))

    def _span(self, event: Event) -> _Span:
        name = (event.execution_id, event.span_id)
        span = self._spans.get(name)
        return _remember(self._spans, name, _Span.of(event)) if span is None else span

    def _properties(self, event: Event, kind: _Kind, message_id: bytes) -> bytes:
        span = self._span(event)
        sequence = event.sequence if event.sequence in _INT64 else 0
        own = _headers(event_attributes(event)) if self._cloudevents else b""
        size = len(kind.headers) + len(span.headers) + len(own) + _SEQUENCE_BYTES
        return b"".join(
            (
                self._before,
                _LENGTH(size),
                kind.headers,
                span.headers,
                own,
                _SEQUENCE_NAME,
                _SEQUENCE(sequence),
                self._mode,
                span.correlation_id,
                message_id,
                _TIMESTAMP(max(0, int(event.timestamp.timestamp()))),
                kind.end,
            )
        )


def _remember(known: dict[K, V], name: K, value: V) -> V:
    if len(known) >= _MAX_REMEMBERED:
        known.clear()
    known[name] = value
    return value
