"""The delivery options every sink takes, validated when the sink is made."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

import attrs

from streamll._checks import check, flag, not_negative, positive, positive_int
from streamll.errors import ConfigurationError
from streamll.patterns import parse_patterns

__all__ = ["DeliverySettings", "Overflow", "WhenOpen", "reject_unknown"]

MIB: Final = 1024 * 1024

Overflow = Literal["drop_oldest", "drop_newest", "block", "coalesce"]
WhenOpen = Literal["buffer", "drop"]


def reject_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ConfigurationError for the first name in *given* that is not *known*, with a hint."""
    names = sorted(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
            raise ConfigurationError(f"unknown {what} {name!r}; {hint}")


def _path(value: Any) -> str | None:
    """Return a path as absolute text; None, which means none, stays."""
    if value is None:
        return None
    path = os.fsdecode(value) if isinstance(value, (str, os.PathLike)) else ""
    ok = path and "\0" not in path and not os.path.isdir(path)
    check(bool(ok), f"spool must be the path of a file, such as 'events.spool', not {value!r}")
    return os.path.abspath(path)


def _one_of(choices: tuple[str, ...]) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            reject_unknown([str(value)], choices, attribute.name)

    return check


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """How events reach one sink; every sink takes these as keywords. Immutable.

    Attributes:
        circuit_breaker: stop trying a failing sink for a while; False never opens.
        failure_threshold: consecutive failures that open the circuit.
        recovery_timeout: seconds until an open circuit lets one probe through; grows with
            jitter while probes fail (see `streamll._delivery.breaker`).
        when_open: "buffer" keeps events while the circuit is open; "drop" drops at once.
        buffer_size: events that may wait.
        buffer_bytes: encoded bytes that may wait.
        overflow: what gives way when the buffer is full.
        block_timeout: seconds `overflow="block"` waits for room before it drops.
        batch_size: most events in one `write`.
        batch_age: seconds an event may wait for company; 0 writes as soon as the sink is free.
        retry_delay: seconds before the first retry; doubles with jitter up to 30 s.
        deadline: seconds an event may stay undelivered before it is dropped as "expired";
            None keeps it as long as the buffer can. What is on disk is looked at when it is
            read back; what another process left there gets a deadline of its own.
        max_attempts: tries after which an event that fails alone, while others get through,
            is dropped as "rejected".
        spool: path of a disk spool for what the buffer cannot hold while the circuit is open.
        spool_bytes: most bytes the spool may hold.
        only: keep events whose type, operation or "operation.type" matches one of these
            globs; None keeps all. A comma-separated string works too.
    """

    circuit_breaker: bool = attrs.field(default=True, validator=flag)
    failure_threshold: int = attrs.field(default=3, validator=positive_int)
    recovery_timeout: float = attrs.field(default=30.0, validator=positive)
    when_open: WhenOpen = attrs.field(default="buffer", validator=_one_of(get_args(WhenOpen)))
    buffer_size: int = attrs.field(default=10_000, validator=positive_int)
    buffer_bytes: int = attrs.field(default=32 * MIB, validator=positive_int)
    overflow: Overflow = attrs.field(default="drop_oldest", validator=_one_of(get_args(Overflow)))
    block_timeout: float = attrs.field(default=1.0, validator=positive)
    batch_size: int = attrs.field(default=512, validator=positive_int)
    batch_age: float = attrs.field(default=0.0, validator=not_negative)
    retry_delay: float = attrs.field(default=0.1, validator=positive)
    deadline: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(positive)
    )
    max_attempts: int = attrs.field(default=5, validator=positive_int)
    spool: str | None = attrs.field(default=None, converter=_path)
    spool_bytes: int = attrs.field(default=256 * MIB, validator=positive_int)
    only: tuple[str, ...] | None = attrs.field(default=None, converter=parse_patterns)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the option names."""
        return frozenset(field.name for field in attrs.fields(cls))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], what: str = "option") -> DeliverySettings:
        """Build settings from keywords.

        Raises:
            ConfigurationError: for an unknown name, with a suggestion, or a bad value.
        """
        reject_unknown(options, cls.names(), what)
        return cls(**options)
