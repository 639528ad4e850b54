"""`configure`, `flush`, `shutdown`: the composition root, where everything is wired."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, Self

import attrs

from streamll import _environment, _runtime
from streamll._announce import dropped_event, tell_circuit_change
from streamll._capture import CaptureOptions
from streamll._delivery import Channel
from streamll._exit import at_exit
from streamll._log import warn
from streamll._pipeline import SEVERITIES, Pipeline, Processor, Route, Source
from streamll._plugins import Plugin, registry
from streamll._routes import Channels, resolve_sinks
from streamll._sampling import sampler_for
from streamll._snapshot import Limits
from streamll.errors import ConfigurationError
from streamll.privacy import Scrubber
from streamll.settings import reject_unknown
from streamll.sink import AsyncSink, Sink

__all__ = [
    "Configuration",
    "configure",
    "drain_on_sigterm",
    "flush",
    "get_sinks",
    "plugins",
    "shutdown",
]

_CAPTURE: Final = ("instrumented", "all")
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


def configure(
    sinks: Iterable[Sink | AsyncSink | str] | None = None,
    *,
    capture: str | None = None,
    level: str | None = None,
    service: str | None = None,
    environment: str | None = None,
    release: str | None = None,
    tags: Iterable[str] = (),
    processors: Iterable[Processor] = (),
    include_inputs: bool = True,
    include_outputs: bool = True,
    include_prompts: bool = False,
    include_tokens: bool = True,
    replay_cached: str = "whole",
    token_window_ms: float = 0,
    stream_fields: Iterable[str] | None = None,
    operations: Iterable[str] | None = None,
    max_event_bytes: int = 262_144,
    max_string: int = 32_768,
    scrub: bool | Iterable[Any] = False,
    sample: float = 1.0,
    sample_errors: bool = True,
    **unknown: Any,
) -> Configuration:
    """Say where events go; effective at once, process-wide, from any thread.

    Replaces what was configured: sinks that are no longer wanted deliver what they hold (up
    to 5 s) and are closed. On an error nothing changes. As ``with configure(...):`` it
    restores the previous configuration at the end of the block.

    Args:
        sinks: instances, registered names and URLs. None reads ``STREAMLL_SINKS``, or else
            means the terminal.
        capture: "instrumented" (default) captures what `instrument` marks; "all" captures
            every DSPy call.
        level: least severity to emit: "debug" (default; includes adapter calls), "info",
            "warn", "error".
        service: name of this program in `source`; defaults to the script's name.
        environment: e.g. "staging", in `source`.
        release: e.g. a version, in `source`.
        tags: put on every event.
        processors: callables ``Event -> Event | None`` in front of the plugins' ones; one
            that raises vetoes the event.
        include_inputs, include_outputs, include_prompts, include_tokens, replay_cached,
            token_window_ms, stream_fields, operations: what is captured where `instrument`
            does not say otherwise; see `CaptureOptions`.
        max_event_bytes: encoded size of one event beyond which its payload is cut, marked.
        max_string: characters kept of one string, marked.
        scrub: True removes e-mail addresses, card numbers, IBANs, API keys and JWTs from
            every event; a list chooses among these and "phone" and "ip", and takes compiled
            expressions and functions ``str -> str``. See docs/privacy.md.
        sample: share of the executions that is sent, 0 to 1, whole ones only.
        sample_errors: send those with an error as well.

    Returns:
        The configuration, usable as a context manager.

    Raises:
        ConfigurationError: for an unknown option, sink, scheme or value; the message says
            what to write. PluginError, a subclass, for a plugin asked for that is broken.
    """
    reject_unknown(unknown, inspect.signature(configure).parameters, "option of configure()")
    _environment.check(plugin.name for plugin in registry().plugins)
    if _environment.flag("DISABLED"):
        return _apply(Configuration(sinks=(), pipeline=None, before=_replaced()))
    source = Source(
        service=service or _environment.text("SERVICE") or _environment.script_name(),
        environment=environment or _environment.text("ENVIRONMENT"),
        release=release or _environment.text("RELEASE"),
    )
    wanted = _environment.sinks() if sinks is None else sinks
    instances = resolve_sinks(wanted)
    limits = Limits(max_event_bytes=max_event_bytes, max_string=max_string)
    plugins_ = registry()
    options = CaptureOptions(
        include_inputs=include_inputs,
        include_outputs=include_outputs,
        include_prompts=include_prompts,
        include_tokens=include_tokens,
        replay_cached=replay_cached,
        token_window_ms=token_window_ms,
        stream_fields=stream_fields,
        operations=operations,
    )
    chosen = _choice("capture", capture or _environment.text("CAPTURE"), _CAPTURE)
    lost: Counter[str] = Counter()
    pipeline = Pipeline(
        routes=(),
        source=source,
        processors=(*_callables(processors), *plugins_.hooks("streamll_process_event")),
        observers=tuple(plugins_.hooks("streamll_emit")),
        level=_choice("level", level or _environment.text("LEVEL"), tuple(SEVERITIES)),
        limits=limits,
        tags=tuple(tags),
        capture=options,
        capture_all=chosen == "all",
        parsers=plugins_.parsers,
        scrubber=Scrubber.of(scrub),
        sampler=sampler_for(sample, sample_errors, lost),
        lost=lost,
    )
    if pipeline.capture_all:
        _install_dspy()
    with _lock:  # from opening the channels to replacing the others
        pipeline.routes = _channels.routes(instances)
        configuration = Configuration(sinks=instances, pipeline=pipeline, before=_replaced())
        leaving = _put_in_force(configuration)
    _channels.drain(leaving, time.monotonic() + _REPLACE_TIMEOUT)
    _tell("streamll_configured", configuration)
    return configuration


def _replaced() -> Configuration | None:
    return _current.replaced() if _current is not None else None


def _choice(what: str, value: str | None, choices: tuple[str, ...]) -> str:
    """Return *value*, or the first choice for None."""
    if value is None:
        return choices[0]
    reject_unknown([value], choices, what)
    return value


def _callables(processors: Iterable[Processor]) -> tuple[Processor, ...]:
    found = tuple(processors)
    for processor in found:
        if not callable(processor):
            raise ConfigurationError(
                f"a processor must be callable, not {type(processor).__name__}"
            )
    return found


def _install_dspy() -> None:
    try:
        capture = importlib.import_module("streamll._dspy")
    except ModuleNotFoundError as error:
        raise ConfigurationError('capture="all" needs dspy; try: pip install dspy') from error
    capture.install()


def _apply(configuration: Configuration | None) -> Configuration:
    with _lock:
        leaving = _put_in_force(configuration)
    _channels.drain(leaving, time.monotonic() + _REPLACE_TIMEOUT)
    return configuration or Configuration(sinks=(), pipeline=None)


def _put_in_force(configuration: Configuration | None) -> list[Channel]:
    """Replace what is configured; return the channels to drain. Needs the lock."""
    global _current
    _current = configuration
    _runtime.replace(configuration.pipeline if configuration is not None else None)
    at_exit(shutdown)
    return _channels.detach(configuration.sinks if configuration is not None else ())


def _tell(hook: str, *args: Any) -> None:
    """Call every implementation of *hook*; one that raises is told of and stops nobody."""
    for implementation in registry().hooks(hook):
        try:
            implementation(*args)
        except Exception as error:  # noqa: BLE001 - plugins never break the program
            warn(f"a {hook} hook raised {type(error).__name__}")


def ensure_configured(sinks: Iterable[Any] | None = None) -> None:
    """Configure from the environment where nobody called `configure`, if it names sinks."""
    with _lock:
        asked = sinks is not None or _environment.text("SINKS") is not None
        if _current is None and asked:
            configure(_environment.sinks() if sinks is None else [])


def routes_for(sinks: Iterable[Any]) -> tuple[Route, ...]:
    """Return routes to sinks that only some executions use; they live until `shutdown`."""
    return _channels.routes(resolve_sinks(sinks), lasting=True)


def get_sinks() -> list[Sink | AsyncSink]:
    """Return the sinks that are configured."""
    return list(_current.sinks) if _current is not None else []


def plugins() -> list[Plugin]:
    """Return every installed plugin: loaded, broken (with its error) or denied."""
    return list(registry().plugins)


def flush(timeout: float = 5.0) -> bool:
    """Wait until every sink has delivered what it holds, at most *timeout* seconds.

    Returns:
        Whether everything was delivered.
    """
    return _channels.flush(time.monotonic() + timeout)


def drain_on_sigterm(timeout: float = 5.0) -> None:
    """Deliver what is held when the process gets SIGTERM, then die of it as it would have.

    Opt-in: streamll installs no signal handler by itself. A handler that was there before is
    called afterwards. Call it from the main thread.

    Raises:
        ValueError: outside the main thread, as `signal.signal` does.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        shutdown(timeout)
        signal.signal(number, before)
        if callable(before):
            before(number, frame)
        else:
            os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, handle)


def shutdown(timeout: float = 5.0) -> bool:
    """Stop emitting, deliver what is held for at most *timeout* seconds, close the sinks.

    All sinks share the time; what remains is counted as "shutdown_timeout". Idempotent; also
    runs at interpreter exit.

    Returns:
        Whether everything was delivered.
    """
    global _current
    with _lock:
        was, _current = _current, None
        _runtime.replace(None)
    done = _channels.close(time.monotonic() + timeout)
    if was is not None:
        _tell("streamll_shutdown")
    return done
