"""What is in force: one configuration at a time, and how it gives way to the next.

One lock covers the change from one configuration to another; closing what is no longer wanted
takes place outside of it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import attrs

from streamll import _runtime
from streamll._announce import dropped_event, tell_circuit_change
from streamll._channels import Channels
from streamll._checks import check, is_number
from streamll._delivery import Channel
from streamll._exit import at_exit
from streamll._log import warn
from streamll._pipeline import Pipeline, Route
from streamll._plugins import registry
from streamll.sink import AsyncSink, Sink

__all__ = [
    "Configuration",
    "cannot_wait",
    "flush",
    "get_sinks",
    "lasting_routes",
    "put_in_force",
    "seconds",
    "shutdown",
    "tell",
    "unless_configured",
]

#: Seconds the sinks that `configure` replaces get to deliver what they hold.
_REPLACE_TIMEOUT: Final = 5.0

_lock = threading.RLock()


def _after_fork() -> None:
    """Let go, in a forked child, of what a thread of the parent held."""
    global _lock
    _lock = threading.RLock()
    _channels.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@attrs.define(kw_only=True, eq=False)
class Configuration:
    """What is configured; as a context manager it restores what was there before.

    What was there before is forgotten once something else is configured, unless this is the
    context manager of a block.

    Attributes:
        sinks: the sinks.
        pipeline: what `emit` uses; None when streamll is disabled.
    """

    sinks: tuple[Sink | AsyncSink, ...]
    pipeline: Pipeline | None = attrs.field(repr=False)
    _before: Configuration | None = attrs.field(default=None, repr=False)
    _is_block: bool = attrs.field(init=False, default=False, repr=False)

    @property
    def lost(self) -> Mapping[str, int]:
        """Events that no sink was given, by reason, so far: "vetoed", "processor_error", ...

        What a sink was given and lost is in its own `stats`.
        """
        return dict(self.pipeline.lost) if self.pipeline is not None else {}

    def __enter__(self) -> Self:
        self._is_block = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        before, self._before = self._before, None
        with _lock:
            leaving = _put_in_force(before.reopened() if before is not None else None)
        _channels.drain(leaving, time.monotonic() + _REPLACE_TIMEOUT)

    def replaced(self) -> Configuration:
        """Note that something else is configured now; return this."""
        if not self._is_block:
            self._before = None
        return self

    def reopened(self) -> Configuration:
        """Return this configuration with channels that are open again."""
        pipeline = self.pipeline
        if pipeline is not None:
            pipeline = attrs.evolve(pipeline, routes=_channels.routes(self.sinks))
        again = Configuration(sinks=self.sinks, pipeline=pipeline, before=self._before)
        again._is_block = self._is_block
        return again


_current: Configuration | None = None
_channels = Channels(announce=dropped_event, on_change=tell_circuit_change)


def put_in_force(sinks: tuple[Sink | AsyncSink, ...], pipeline: Pipeline | None) -> Configuration:
    """Configure *sinks* and *pipeline*, None to emit nothing, in place of what was there."""
    with _lock:  # from opening the channels to replacing the others
        if pipeline is not None:
            pipeline.routes = _channels.routes(sinks)
        before = _current.replaced() if _current is not None else None
        configuration = Configuration(sinks=sinks, pipeline=pipeline, before=before)
        leaving = _put_in_force(configuration)
    _channels.drain(leaving, time.monotonic() + _REPLACE_TIMEOUT)
    return configuration


def _put_in_force(configuration: Configuration | None) -> list[Channel]:
    """Replace what is configured; return the channels to drain. Needs the lock."""
    global _current
    _current = configuration
    _runtime.replace(configuration.pipeline if configuration is not None else None)
    at_exit(shutdown)
    return _channels.detach(configuration.sinks if configuration is not None else ())


def unless_configured(configure: Callable[[], object]) -> None:
    """Call *configure* if nothing is configured."""
    with _lock:
        if _current is None:
            configure()


def lasting_routes(sinks: Sequence[Sink | AsyncSink]) -> tuple[Route, ...]:
    """Return routes to sinks that only some executions use; they live until `shutdown`."""
    return _channels.routes(sinks, lasting=True)


def get_sinks() -> list[Sink | AsyncSink]:
    """Return the sinks that are configured."""
    return list(_current.sinks) if _current is not None else []


def flush(timeout: float = 5.0) -> bool:
    """Wait until every sink has delivered what it holds, at most *timeout* seconds.

    Returns:
        Whether everything was delivered.
    """
    return _channels.flush(_until(timeout))


def shutdown(timeout: float = 5.0) -> bool:
    """Stop emitting, deliver what is held for at most *timeout* seconds, close the sinks.

    All sinks share the time; what remains is counted as "shutdown_timeout". Idempotent; also
    runs at interpreter exit. Called by a sink, or in a signal handler that interrupted a sink's
    accounting, it cannot wait: it only begins, and returns False.

    Returns:
        Whether everything was delivered.
    """
    global _current
    deadline = _until(timeout)
    with _lock:
        was, _current = _current, None
        _runtime.replace(None)
    done = _channels.close(deadline)
    if was is not None:
        tell("streamll_shutdown")
    return done


def cannot_wait() -> bool:
    """Whether the caller, a signal handler, interrupted what `shutdown` would wait for."""
    return _channels.are_detained


def seconds(timeout: Any) -> float:
    """Return *timeout*.

    Raises:
        ConfigurationError: when it is no number of seconds.
    """
    is_forever = isinstance(timeout, float) and timeout == math.inf
    check(is_forever or is_number(timeout), f"timeout must be a number of seconds, not {timeout!r}")
    return float(timeout)


def _until(timeout: float) -> float:
    return time.monotonic() + seconds(timeout)


def tell(hook: str, *args: Any) -> None:
    """Call every implementation of *hook*; one that raises is told of and stops nobody."""
    for implementation in registry().hooks(hook):
        try:
            implementation(*args)
        except Exception as error:  # noqa: BLE001 - plugins never break the program
            warn(f"a {hook} hook raised {type(error).__name__}")
