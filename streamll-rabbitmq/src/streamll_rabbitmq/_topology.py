"""`RabbitMQTopology`: the queues that belong to a sink's exchange, as data.

A dead letter goes through the default exchange straight to the queue named by `dead_letter`: a
queue needs no exchange of its own for it. A queue to retry from is one with `message_ttl` whose
`dead_letter` is the queue to come back to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll import ConfigurationError
from streamll_rabbitmq._access import boolean, positive, positive_int, short_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["QUEUE_TYPES", "RabbitMQQueue", "RabbitMQTopology"]

QUEUE_TYPES: Final = ("classic", "quorum", "stream")

_optional_int: Final = attrs.validators.optional(positive_int)


def _keys(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen
class RabbitMQQueue:
    """One queue and what is routed to it.

    Attributes:
        name: of the queue.
        binding: topic patterns such as "ai.*.error"; one or several. None of them: only dead
            letters, or what is published to it by name.
        type: "classic", "quorum" (replicated) or "stream" (keeps what was read).
        durable: survives a restart of the broker; only a classic queue may do without.
        exchange: to bind to; None is the sink's. Another one must exist, e.g. the sink's
            `alternate_exchange`.
        dead_letter: queue for messages that are rejected, expire, or exceed `max_length`.
        message_ttl: seconds after which a message expires.
        max_length: messages the queue keeps; the oldest go first. Not for streams.
        max_bytes: bytes of bodies it keeps; of a stream, the only limit by size.

    Raises:
        ConfigurationError: for what the type of queue does not have.
    """

    name: str = attrs.field(validator=short_string)
    binding: tuple[str, ...] = attrs.field(
        default=(), converter=_keys, validator=attrs.validators.deep_iterable(short_string)
    )
    type: str = attrs.field(default="classic", kw_only=True)
    durable: bool = attrs.field(default=True, kw_only=True, validator=boolean)
    exchange: str | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(short_string)
    )
    dead_letter: str | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(short_string)
    )
    message_ttl: float | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(positive)
    )
    max_length: int | None = attrs.field(default=None, kw_only=True, validator=_optional_int)
    max_bytes: int | None = attrs.field(default=None, kw_only=True, validator=_optional_int)

    def __attrs_post_init__(self) -> None:
        if self.type not in QUEUE_TYPES:
            raise ConfigurationError(f"type of a queue is one of {', '.join(QUEUE_TYPES)}")
        if self.type != "classic" and not self.durable:
            raise ConfigurationError(f"a {self.type} queue is always durable")
        if self.type == "stream" and (self.dead_letter or self.message_ttl or self.max_length):
            raise ConfigurationError(
                "a stream queue has neither dead_letter nor message_ttl nor max_length; "
                "bound it with max_bytes"
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of its declaration."""
        found = {
            "x-queue-type": self.type,
            "x-dead-letter-exchange": None if self.dead_letter is None else "",
            "x-dead-letter-routing-key": self.dead_letter,
            "x-message-ttl": None if self.message_ttl is None else round(self.message_ttl * 1000),
            "x-max-length": self.max_length,
            "x-max-length-bytes": self.max_bytes,
        }
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        limits = {
            "dead letters to": self.dead_letter,
            "ttl": None if self.message_ttl is None else f"{self.message_ttl:g} s",
            "at most": None if self.max_length is None else f"{self.max_length} messages",
            "at most, in bytes": self.max_bytes,
        }
        told = [f"{name} {value}" for name, value in limits.items() if value is not None]
        kind = self.type if self.durable else f"{self.type}, not durable"
        return ", ".join([f"{self.name} ({kind})", *told])


def _all(queues: Iterable[RabbitMQQueue]) -> tuple[RabbitMQQueue, ...]:
    return tuple(queues)


@attrs.frozen
class RabbitMQTopology:
    """The queues of one exchange; `str` shows them as text, one line per binding.

    Given to `RabbitMQSink(topology=...)`, it is applied whenever the sink connects: what is
    missing is created, what is there must be as described. Nothing is ever removed.

    Attributes:
        queues: names are unique.
    """

    queues: tuple[RabbitMQQueue, ...] = attrs.field(
        converter=_all,
        validator=attrs.validators.deep_iterable(attrs.validators.instance_of(RabbitMQQueue)),
    )

    def __attrs_post_init__(self) -> None:
        names = [queue.name for queue in self.queues]
        if len(set(names)) != len(names):
            raise ConfigurationError("two queues of a topology have the same name")

    def __str__(self) -> str:
        return "\n".join(line for queue in self.queues for line in _lines(queue))


def _lines(queue: RabbitMQQueue) -> Iterator[str]:
    for key in queue.binding or ("(nothing bound)",):
        yield f"{queue.exchange or ''}[{key}] -> {queue}"
