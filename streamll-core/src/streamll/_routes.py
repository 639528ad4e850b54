"""From what the user wrote to open channels: names, URLs and instances -> sinks -> routes."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs

from streamll._delivery import Channel, make_channel
from streamll._pipeline import Route
from streamll._plugins import registry
from streamll._urls import options_of, split_options
from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown
from streamll.sink import AsyncSink, Sink

__all__ = ["Channels", "resolve_sinks"]


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


@attrs.define
class Channels:
    """The open channels of the process, one per sink. Thread-safe.

    A channel that is to close is *leaving* until it is done, so that whoever flushes or shuts
    down meanwhile waits for it as well.
    """

    announce: Callable[..., Any]
    on_change: Callable[..., Any]
    _open: dict[int, tuple[Any, Channel]] = attrs.field(init=False, factory=dict)
    _lasting: set[int] = attrs.field(init=False, factory=set)
    _leaving: list[Channel] = attrs.field(init=False, factory=list)
    _lock: threading.RLock = attrs.field(init=False, factory=threading.RLock)

    def routes(
        self, sinks: Sequence[Sink | AsyncSink], *, lasting: bool = False
    ) -> tuple[Route, ...]:
        """Return a route to each sink, opening channels that are not open.

        *lasting* ones stay open until `close`, whatever else is configured.
        """
        with self._lock:
            if lasting:
                self._lasting.update(map(id, sinks))
            return tuple(Route(sink, self._channel(sink), sink.delivery.only) for sink in sinks)

    def _channel(self, sink: Sink | AsyncSink) -> Channel:
        known = self._open.get(id(sink))
        if known is None or not known[1].is_running:
            channel = make_channel(sink, announce=self.announce, on_change=self.on_change)
            known = self._open[id(sink)] = (sink, channel)
        return known[1]

    def flush(self, deadline: float) -> bool:
        """Wait until *deadline* (monotonic seconds) for every channel to be empty."""
        with self._lock:
            channels = [*(channel for _, channel in self._open.values()), *self._leaving]
        return all([channel.flush(deadline) for channel in channels])  # noqa: C419 - flush every one

    def detach(self, keep: Iterable[Any]) -> list[Channel]:
        """Take out the channels of all sinks but *keep* and the lasting ones, to `drain` them."""
        with self._lock:
            return self._detach({id(sink) for sink in keep} | self._lasting)

    def _detach(self, kept: set[int]) -> list[Channel]:
        going = [self._open.pop(key)[1] for key in tuple(self._open) if key not in kept]
        self._leaving += going
        return going

    def drain(self, channels: Sequence[Channel], deadline: float) -> bool:
        """Close detached *channels*, in parallel, until *deadline*."""
        for channel in channels:
            channel.begin_close(deadline)
        done = all([channel.close(deadline) for channel in channels])  # noqa: C419 - close every one
        with self._lock:
            self._leaving = [channel for channel in self._leaving if channel not in channels]
        return done

    def close(self, deadline: float) -> bool:
        """Close all channels; wait, as long, for those that somebody else is closing."""
        with self._lock:
            others, going = tuple(self._leaving), self._detach(set())
            self._lasting.clear()
        done = self.drain(going, deadline)
        return all([channel.flush(deadline) for channel in others]) and done  # noqa: C419

    def after_fork(self) -> None:
        """Forget, in a forked child, who held the lock and who was closing."""
        self._lock = threading.RLock()
        self._leaving = []
