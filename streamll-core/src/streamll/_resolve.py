"""From what the user wrote, names, URLs and instances, to sinks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from streamll._plugins import registry
from streamll._urls import options_of, split_options
from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown
from streamll.sink import AsyncSink, Sink

__all__ = ["resolve_sinks"]


def resolve_sinks(wanted: Iterable[Any]) -> tuple[Sink | AsyncSink, ...]:
    """Return sink instances for instances, registered names and URLs.

    Raises:
        ConfigurationError: for anything else; the message says what to write.
    """
    if isinstance(wanted, (str, Sink, AsyncSink)):
        raise ConfigurationError("sinks must be a list, e.g. sinks=[TerminalSink()]")
    # By identity: a sink may compare by value, or have no hash.
    found = [_resolve(item) for item in _listed(wanted)]
    return tuple({id(sink): sink for sink in found}.values())


def _listed(wanted: Any) -> Iterable[Any]:
    if isinstance(wanted, type) or not isinstance(wanted, Iterable):
        shown = wanted.__name__ if isinstance(wanted, type) else type(wanted).__name__
        raise ConfigurationError(f"sinks must be a list, e.g. sinks=[TerminalSink()], not {shown}")
    return wanted


def _resolve(item: Any) -> Sink | AsyncSink:
    if isinstance(item, (Sink, AsyncSink)):
        _check_write(item)
        return item
    if isinstance(item, str):
        return _from_url(item) if "://" in item else _make(item, {})
    if isinstance(item, type) and issubclass(item, (Sink, AsyncSink)):
        raise ConfigurationError(f"{item.__name__} is a class; write {item.__name__}()")
    raise ConfigurationError(
        f"{type(item).__name__} is not a sink: pass a streamll.Sink, a registered name such as "
        f'"terminal", or a URL such as "redis://localhost:6379"'
    )


def _check_write(sink: Sink | AsyncSink) -> None:
    is_async = inspect.iscoroutinefunction(type(sink).write)
    name = type(sink).__name__
    if isinstance(sink, AsyncSink) and not is_async:
        raise ConfigurationError(f"{name}.write must be `async def`, or derive from streamll.Sink")
    if isinstance(sink, Sink) and is_async:
        raise ConfigurationError(f"{name}.write is async; derive from streamll.AsyncSink")
    if type(sink).write in (Sink.write, AsyncSink.write):
        raise ConfigurationError(f"{name} must define write(self, batch)")


def _from_url(url: str) -> Sink | AsyncSink:
    scheme = urlsplit(url).scheme
    factory = registry().sink(f"{scheme}://").resolve()
    rest, options = split_options(url, factory)
    return _construct(factory, {**options, getattr(factory, "url_parameter", "url"): rest})


def _make(name: str, options: dict[str, Any]) -> Sink | AsyncSink:
    return _construct(registry().sink(name).resolve(), options)


def _construct(factory: Callable[..., Any], options: dict[str, Any]) -> Sink | AsyncSink:
    parameters = inspect.signature(factory).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        reject_unknown(options, options_of(factory), f"option of {factory.__name__}")
    sink = factory(**options)
    if not isinstance(sink, (Sink, AsyncSink)):
        maker = getattr(factory, "__name__", "a plugin")
        made = type(sink).__name__
        raise ConfigurationError(f"{maker} made a {made}, which is not a streamll.Sink")
    _check_write(sink)
    return sink
