"""AMQP messages <-> `Message`. Pure.

What a retry or dead letter says of itself, in headers beside the event's own:

=======================  ==========================================================
streamll-attempts        deliveries so far
streamll-routing-key     the routing key it was published with
streamll-queue           the queue it was read from (dead letters)
streamll-reason          why nobody could handle it (dead letters)
=======================  ==========================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pamqp.commands import Basic

from streamll.source import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiormq.abc import DeliveredMessage

__all__ = ["is_of_stream", "letter_of", "message_of", "offset_of", "retry_of"]

_ATTEMPTS: Final = "streamll-attempts"
_KEY: Final = "streamll-routing-key"
_QUEUE: Final = "streamll-queue"
_REASON: Final = "streamll-reason"
#: Written by the broker, in messages of a stream queue.
_OFFSET: Final = "x-stream-offset"
#: Characters of a reason that are kept.
_REASON_CHARS: Final = 500
_PERSISTENT: Final = 2


def message_of(delivered: DeliveredMessage, position: str) -> Message:
    """Return what the consumer gets."""
    headers = _headers(delivered)
    return Message(
        body=delivered.body,
        position=position,
        attempts=_attempts(delivered, headers),
        key=_key(delivered),
    )


def is_of_stream(delivered: DeliveredMessage) -> bool:
    """Whether it comes from a stream queue."""
    return _OFFSET in _headers(delivered)


def offset_of(delivered: DeliveredMessage) -> int:
    """Return the offset in a stream queue."""
    offset = _headers(delivered).get(_OFFSET, 0)
    return offset if isinstance(offset, int) else 0


def retry_of(delivered: DeliveredMessage, attempts: int) -> Basic.Properties:
    """Return the properties of the copy that comes again."""
    return _copied(delivered, {_ATTEMPTS: attempts, _KEY: _key(delivered)})


def letter_of(delivered: DeliveredMessage, attempts: int, queue: str, reason: str) -> Any:
    """Return the properties of the copy for people."""
    told = {_ATTEMPTS: attempts, _KEY: _key(delivered), _QUEUE: queue}
    return _copied(delivered, {**told, _REASON: reason[:_REASON_CHARS]})


def _copied(delivered: DeliveredMessage, changes: Mapping[str, Any]) -> Basic.Properties:
    kept = delivered.header.properties
    # The broker's own notes are about the message it was, not about the copy.
    ours = {k: v for k, v in _headers(delivered).items() if not k.startswith("x-")}
    return Basic.Properties(
        content_type=kept.content_type,
        headers={**ours, **changes},
        delivery_mode=_PERSISTENT,
        correlation_id=kept.correlation_id,
        message_id=kept.message_id,
        timestamp=kept.timestamp,
        message_type=kept.message_type,
        app_id=kept.app_id,
    )


def _headers(delivered: DeliveredMessage) -> dict[str, Any]:
    return dict(delivered.header.properties.headers or {})


def _key(delivered: DeliveredMessage) -> str:
    found = _headers(delivered).get(_KEY)
    return found if isinstance(found, str) else delivered.routing_key or ""


def _attempts(delivered: DeliveredMessage, headers: Mapping[str, Any]) -> int:
    """Count what the headers say, and redeliveries; a classic queue only tells there was one."""
    before = _count(headers.get(_ATTEMPTS, 0))
    again = _count(headers.get("x-delivery-count", int(bool(delivered.redelivered))))
    return 1 + before + again


def _count(value: Any) -> int:
    """Anybody may have written it."""
    return value if isinstance(value, int) and value >= 0 else 0
