"""Sinks from URLs: ``"redis://localhost:6379?stream_key=x"`` -> ``RedisSink(url, stream_key="x")``.

Query parameters that name an option of the sink become keywords of the right type; the
others stay in the URL for the sink to judge. Messages never repeat the URL, which may hold
a password.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from streamll.errors import ConfigurationError
from streamll.settings import DeliverySettings

__all__ = ["options_of", "split_options"]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def options_of(factory: Callable[..., Any]) -> Mapping[str, Any]:
    """Return option name -> default (or `inspect.Parameter.empty`) of a sink class."""
    parameters = inspect.signature(factory).parameters.values()
    named = {
        p.name: p.default for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    delivery = DeliverySettings()
    return {**{name: getattr(delivery, name) for name in DeliverySettings.names()}, **named}


def split_options(url: str, factory: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """Return *url* without the query parameters that are options, and those as keywords.

    Raises:
        ConfigurationError: for a value that does not fit its option.
    """
    parts = urlsplit(url)
    code_only: frozenset[str] = getattr(factory, "code_only", frozenset())
    options = {k: v for k, v in options_of(factory).items() if k not in code_only}
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in pairs if key not in options]
    taken = {key: _typed(key, value, options[key]) for key, value in pairs if key in options}
    return urlunsplit(parts._replace(query=urlencode(kept))), taken


def _typed(name: str, text: str, default: Any) -> Any:
    """Read *text* as the type of the option's default."""
    try:
        if isinstance(default, bool):
            return _boolean(text)
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float) or name == "deadline":
            return float(text)
    except ValueError:
        raise ConfigurationError(
            f"{name}={text!r} in the URL is not a {type(default).__name__}"
        ) from None
    return text


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)
