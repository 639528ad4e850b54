"""How lines look, validated when the sink is made."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qs, urlsplit

import attrs

from streamll import ConfigurationError
from streamll.settings import reject_unknown

__all__ = ["SEVERITIES", "Severity", "TerminalSettings", "stream_of"]

Severity = Literal["debug", "info", "warn", "error"]
#: Standard streams a sink URL may name; the first is meant when none is.
_STREAMS: Final = ("stdout", "stderr")
#: Least first.
SEVERITIES: Final[tuple[str, ...]] = get_args(Severity)


def _from_text(value: Any) -> Any:
    """Read what a sink URL holds: "true", "off", "1"; the validator judges the rest."""
    with suppress(ValueError):
        return attrs.converters.to_bool(value) if isinstance(value, str) else value
    return value


def _switch(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} must be True, False or None, not {value!r}")


def _severity(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    reject_unknown([str(value)], SEVERITIES, attribute.name)


def _count(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number above 0, not {value!r}")


@attrs.frozen(kw_only=True)
class TerminalSettings:
    """How lines look. Immutable.

    Attributes:
        color: True or False decides; None colours a TTY, honouring NO_COLOR and FORCE_COLOR.
        ascii: True or False decides; None uses ASCII where the stream cannot encode the symbols.
        min_severity: the least severity shown; "debug" adds adapter formatting and parsing.
        max_chars: characters of data shown per line; longer text is cut with an ellipsis.

    Raises:
        ConfigurationError: for a bad value, naming the option.
    """

    color: bool | None = attrs.field(default=None, converter=_from_text, validator=_switch)
    ascii: bool | None = attrs.field(default=None, converter=_from_text, validator=_switch)
    min_severity: Severity = attrs.field(default="info", validator=_severity)
    max_chars: int = attrs.field(default=1_000, validator=_count)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the option names."""
        return frozenset(field.name for field in attrs.fields(cls))


def stream_of(url: str) -> str:
    """Return "stdout" or "stderr" for ``terminal://``, ``terminal://stdout``, ``terminal://stderr``.

    Raises:
        ConfigurationError: for another name or a query parameter that is not an option.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    reject_unknown(query, TerminalSettings.names(), "option of TerminalSink")
    name = f"{parts.netloc}{parts.path}".strip("/") or _STREAMS[0]
    reject_unknown([name], _STREAMS, "terminal stream")
    return name
