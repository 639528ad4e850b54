"""The options of the RabbitMQ sink and source: checked once, before anything connects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll import ConfigurationError, Template
from streamll.source import Start
from streamll_rabbitmq._access import (
    SHORT_STRING,
    Access,
    boolean,
    positive_int,
    short_string,
    size,
)
from streamll_rabbitmq._address import Address
from streamll_rabbitmq._topology import QUEUE_TYPES, RabbitMQTopology

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MIB", "RabbitMQSettings", "ReadSettings"]

MIB: Final = 1024 * 1024
#: Bytes of the routing key that each placeholder must at least be able to fill.
_ROOM_PER_VALUE: Final = 16


def _template(value: str | Template) -> Template:
    return value if isinstance(value, Template) else Template(value)


@attrs.frozen(kw_only=True)
class RabbitMQSettings(Access):
    """The checked options of one `RabbitMQSink`; see there. Immutable."""

    routing_key: Template = attrs.field(
        default=Template("streamll.{operation}.{event_type}"), converter=_template
    )
    durable: bool = attrs.field(default=True, validator=boolean)
    mandatory: bool = attrs.field(default=True, validator=boolean)
    declare: bool = attrs.field(default=True, validator=boolean)
    alternate_exchange: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(short_string)
    )
    topology: RabbitMQTopology | None = attrs.field(default=None)
    cloudevents: bool = attrs.field(default=False, validator=boolean)
    confirm_window: int = attrs.field(default=4096, validator=positive_int)
    max_message_size: int = attrs.field(default=16 * MIB, validator=positive_int)

    @routing_key.validator
    def _check_routing_key(self, _: Any, value: Template) -> None:
        if size(value.literal) + _ROOM_PER_VALUE * len(value.fields) > SHORT_STRING:
            raise ConfigurationError("routing_key leaves too little of 255 bytes for its values")

    @topology.validator
    def _check_topology(self, _: Any, value: RabbitMQTopology | None) -> None:
        if not isinstance(value, RabbitMQTopology | None):
            raise ConfigurationError("topology must be a RabbitMQTopology")
        if value is not None and not self.declare:
            raise ConfigurationError("topology= creates queues, declare=False creates nothing")

    @classmethod
    def of(cls, urls: str | Sequence[str], **options: Any) -> RabbitMQSettings:
        """Check the options of a sink.

        Raises:
            ConfigurationError: for a URL or option that cannot be used.
        """
        return cls(addresses=Address.parse_all(urls, _SINK_OPTIONS), **options)

    @property
    def value_bytes(self) -> int:
        """Bytes of the routing key that each placeholder may fill."""
        return (SHORT_STRING - size(self.routing_key.literal)) // max(
            1, len(self.routing_key.fields)
        )


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


_optional_name: Final = attrs.validators.optional(short_string)


@attrs.frozen(kw_only=True)
class ReadSettings(Access):
    """The checked options of one `RabbitMQSource`; see there. Immutable."""

    binding: tuple[str, ...] = attrs.field(
        default=(), converter=_names, validator=attrs.validators.deep_iterable(short_string)
    )
    queue: str | None = attrs.field(default=None, validator=_optional_name)
    queue_type: str = attrs.field(default="classic")
    durable: bool = attrs.field(default=True, validator=boolean)
    prefetch: int = attrs.field(default=512, validator=positive_int)
    dead_letter_queue: str | None = attrs.field(default=None, validator=_optional_name)
    start: Start = attrs.field(factory=Start)

    def __attrs_post_init__(self) -> None:
        if self.queue_type not in QUEUE_TYPES:
            raise ConfigurationError(f"queue_type must be one of {', '.join(QUEUE_TYPES)}")
        if self.queue is None and self.queue_type != "classic":
            raise ConfigurationError(f"a {self.queue_type} queue needs a name: queue=...")
        if not self.durable and self.queue_type != "classic":
            raise ConfigurationError(f"a {self.queue_type} queue is always durable")
        if self.prefetch > _MAX_PREFETCH:
            raise ConfigurationError(f"prefetch is at most {_MAX_PREFETCH}")
        self._check_start()

    def _check_start(self) -> None:
        start = self.start
        if self.is_stream:
            if start.position is not None and not start.position.isdecimal():
                raise ConfigurationError("a position in a stream queue is a whole number")
        elif start.time is not None or start.position is not None:
            raise ConfigurationError(
                "only a stream queue (queue_type='stream') keeps a past to read"
            )
        elif start.beginning and self.queue is None:
            raise ConfigurationError("a temporary queue has no past; name one with queue=...")

    @classmethod
    def of(
        cls,
        urls: str | Sequence[str],
        *,
        queue: str | None = None,
        group: str | None = None,
        **options: Any,
    ) -> ReadSettings:
        """Check the options of a source.

        Raises:
            ConfigurationError: for a URL or option that cannot be used.
        """
        if queue is not None and group is not None:
            raise ConfigurationError("the readers of a queue are its group; give one of the two")
        given = {name: value for name, value in options.items() if value is not None}
        name = group if queue is None else queue
        return cls(addresses=Address.parse_all(urls, _READ_OPTIONS), queue=name, **given)

    @property
    def is_stream(self) -> bool:
        """Whether the queue keeps what was read."""
        return self.queue_type == "stream"

    @property
    def target(self) -> str:
        """What is used of the broker, for messages."""
        return f"queue {self.queue!r}" if self.queue else f"a queue on exchange {self.exchange!r}"

    @property
    def rights(self) -> str:
        """Which rights are needed, for messages."""
        return "reading needs the right to read it, and to configure what is not there yet"


def _options(kind: type[Access]) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(kind)) - {"addresses"}


_SINK_OPTIONS: Final = _options(RabbitMQSettings)
_READ_OPTIONS: Final = _options(ReadSettings) | {"group"}
#: The protocol counts it in 16 bits.
_MAX_PREFETCH: Final = 65_535
