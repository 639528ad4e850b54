"""The options every reader takes, checked at the call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs

from streamll.errors import ConfigurationError
from streamll.patterns import parse_patterns
from streamll.source import Start

__all__ = ["DEDUP", "ReadSettings", "whole_number"]

#: Ids remembered by default: about 1.5 MB, and a minute at 160 events/s.
DEDUP: Final = 10_000


def whole_number(name: str, value: Any, least: int) -> int:
    """Return *value*, or raise ConfigurationError when it is no int of at least *least*."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(
            f"{name} must be a whole number of at least {least}, not {value!r}"
        )
    return value


def _text(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError(f"{attribute.name} must be a name, not {value!r}")


def _dedup(value: Any) -> int:
    return whole_number("dedup", value, 0)


def _start(since: Any) -> Start:
    if since is not None and not isinstance(since, (str, datetime, timedelta)):
        raise ConfigurationError(
            f"since must be text, a datetime or a timedelta, not a {type(since).__name__}"
        )
    try:
        return Start.parse(since, datetime.now(UTC))
    except OverflowError:
        raise ConfigurationError("since lies before the first year") from None


@attrs.frozen
class ReadSettings:
    """What to read, and what of it to keep. Immutable.

    Attributes:
        start: where to begin; given as "beginning", "-10m", an ISO time or a position.
        group: readers of one group share the messages; None reads all, alone.
        only: globs over event type, operation and "operation.type"; None keeps all.
        execution: keep the events of this execution; None keeps all.
        dedup: event ids remembered to recognise repeats; 0 switches that off.
    """

    start: Start = attrs.field(default=None, converter=_start, alias="since")
    group: str | None = attrs.field(default=None, validator=_text)
    only: tuple[str, ...] | None = attrs.field(default=None, converter=parse_patterns)
    execution: str | None = attrs.field(default=None, validator=_text)
    dedup: int = attrs.field(default=DEDUP, converter=_dedup)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the option names."""
        return frozenset(field.alias or field.name for field in attrs.fields(cls))
