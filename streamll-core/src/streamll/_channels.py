"""The open channels of the process, one per sink, and those that are closing."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from streamll._delivery import Channel, make_channel
from streamll._pipeline import Route
from streamll.sink import AsyncSink, Sink

__all__ = ["Channels"]


@attrs.frozen(eq=False)
class _Drain:
    """A thread that closes channels, named by `id`, until a deadline (monotonic seconds)."""

    channels: frozenset[int]
    deadline: float
    thread: int = attrs.field(factory=_thread.get_ident)


@attrs.define
class Channels:
    """The open channels of the process, one per sink. Thread-safe.

    A channel that is to close is *leaving* until it is over, so that whoever flushes or shuts
    down meanwhile, or after an interrupted attempt, waits for it as well.
    """

    announce: Callable[..., Any]
    on_change: Callable[..., Any]
    _open: dict[int, tuple[Any, Channel]] = attrs.field(init=False, factory=dict)
    _lasting: set[int] = attrs.field(init=False, factory=set)
    _leaving: list[Channel] = attrs.field(init=False, factory=list)
    _drains: list[_Drain] = attrs.field(init=False, factory=list)
    _lock: threading.RLock = attrs.field(init=False, factory=threading.RLock)

    def routes(
        self, sinks: Sequence[Sink | AsyncSink], *, lasting: bool = False
    ) -> tuple[Route, ...]:
        """Return a route to each sink, opening channels that are not open.

        *lasting* ones stay open until `close`, whatever else is configured.
        """
        with self._lock:
            known = set(self._open)
            try:
                routes = tuple(Route(s, self._channel(s), s.delivery.only) for s in sinks)
            except BaseException:
                self.drain(self._detach(known), time.monotonic())
                raise
            if lasting:
                self._lasting.update(map(id, sinks))
            return routes

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
        going = [key for key in tuple(self._open) if key not in kept]
        channels = [self._open[key][1] for key in going]
        self._leaving += channels  # first: Ctrl-C may come before the next line
        for key in going:
            del self._open[key]
        return channels

    def drain(self, channels: Sequence[Channel], deadline: float) -> bool:
        """Close detached *channels*, in parallel, until *deadline*."""
        drain = _Drain(frozenset(map(id, channels)), deadline)
        self._drains.append(drain)
        try:
            for channel in channels:
                channel.begin_close(deadline)
            return all([channel.close(deadline) for channel in channels])  # noqa: C419 - every one
        finally:
            with self._lock:
                self._drains.remove(drain)
                self._leaving = [channel for channel in self._leaving if not channel.is_over]

    def close(self, deadline: float) -> bool:
        """Close all channels; where another thread does and has longer, only wait for that."""
        with self._lock:
            self._detach(set())
            self._lasting.clear()
            theirs = [channel for channel in self._leaving if self._is_others(channel, deadline)]
            mine = [channel for channel in self._leaving if channel not in theirs]
        done = self.drain(mine, deadline)
        return all([channel.flush(deadline) for channel in theirs]) and done  # noqa: C419

    def _is_others(self, channel: Channel, deadline: float) -> bool:
        me = _thread.get_ident()
        drains = [drain for drain in self._drains if id(channel) in drain.channels]
        return any(drain.deadline > deadline and drain.thread != me for drain in drains)

    @property
    def are_detained(self) -> bool:
        """Whether the caller interrupted the work of a channel it would have to wait for."""
        channels = (*(channel for _, channel in tuple(self._open.values())), *self._leaving)
        return any(channel.is_detained for channel in channels)

    def after_fork(self) -> None:
        """Forget, in a forked child, who held the lock and who was closing."""
        self._lock = threading.RLock()
        self._leaving = []
        self._drains = []
