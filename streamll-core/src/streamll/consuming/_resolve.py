"""From what the user wrote to a source: a URL and options, or an instance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from streamll._plugins import registry
from streamll._urls import split_options
from streamll.consuming._settings import ReadSettings
from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown
from streamll.source import Source

__all__ = ["resolve"]

#: What a source is given by us, not by the user.
_OURS: Final = frozenset({"url", "start"})


def resolve(
    url: str | Source, given: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Source, ReadSettings]:
    """Return the source and what to keep of it, from the keywords of `consume`.

    Args:
        url: where to read, or a source.
        given: the keywords that are `ReadSettings`; None means not given.
        options: all others, for the source.

    Raises:
        ConfigurationError: for anything that cannot be used; the message never holds the URL.
        PluginError: when the plugin of the URL scheme is broken.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    if isinstance(url, Source):
        return _as_given(url, wanted, options)
    if not isinstance(url, str) or "://" not in url:
        raise ConfigurationError(
            'consume needs a URL such as "redis://localhost:6379", or a Source'
        )
    factory = registry().source(f"{urlsplit(url).scheme}://").resolve()
    rest, from_url = _split(url, factory)
    wanted, options = {**from_url, **wanted}, {**from_url, **options}
    settings = ReadSettings(**{k: v for k, v in wanted.items() if k in ReadSettings.names()})
    return _made(factory, rest, settings, _without_ours(options)), settings


def _as_given(
    source: Source, wanted: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Source, ReadSettings]:
    for name in (*wanted.keys() & {"since", "group"}, *options):
        raise ConfigurationError(f"{name} is for URLs; give it to {type(source).__name__} itself")
    return source, ReadSettings(**wanted)


def _split(url: str, factory: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """Take our options and the source's out of the query of *url*."""
    rest, theirs = split_options(url, factory)
    rest, ours = split_options(rest, ReadSettings)
    return rest, {**ours, **theirs}


def _without_ours(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k not in ReadSettings.names()}


def _made(
    factory: Callable[..., Any], url: str, settings: ReadSettings, options: dict[str, Any]
) -> Source:
    name = getattr(factory, "__name__", "a plugin")
    parameters = inspect.signature(factory).parameters.values()
    known = {p.name for p in parameters} | ReadSettings.names()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        known |= options.keys()  # the source judges them
    reject_unknown(options, known - _OURS, f"option of {name}")
    source = factory(url, start=settings.start, group=settings.group, **options)
    if not isinstance(source, Source):
        raise ConfigurationError(f"{name} made a {type(source).__name__}, which is no Source")
    return source
