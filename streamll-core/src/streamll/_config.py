"""`configure`: the composition root, where what the user wrote becomes a pipeline."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from streamll import _environment
from streamll._capture import CaptureOptions
from streamll._checks import check
from streamll._lifecycle import (
    Configuration,
    lasting_routes,
    put_in_force,
    tell,
    unless_configured,
)
from streamll._pipeline import SEVERITIES, Pipeline, Processor, Route, Source
from streamll._plugins import Plugin, registry
from streamll._resolve import resolve_sinks
from streamll._sampling import sampler_for
from streamll._snapshot import Limits
from streamll.errors import ConfigurationError
from streamll.privacy import Scrubber
from streamll.settings import reject_unknown
from streamll.sink import AsyncSink, Sink

__all__ = ["configure", "ensure_configured", "plugins", "routes_for"]

_CAPTURE: Final = ("instrumented", "all")


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
        return put_in_force((), None)
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
        tags=_tags(tags),
        capture=options,
        capture_all=chosen == "all",
        parsers=plugins_.parsers,
        scrubber=Scrubber.of(scrub),
        sampler=sampler_for(sample, sample_errors, lost),
        lost=lost,
    )
    if pipeline.capture_all:
        _install_dspy()
    configuration = put_in_force(instances, pipeline)
    tell("streamll_configured", configuration)
    return configuration


def _choice(what: str, value: str | None, choices: tuple[str, ...]) -> str:
    """Return *value*, or the first choice for None."""
    if value is None:
        return choices[0]
    reject_unknown([value], choices, what)
    return value


def _tags(tags: Any) -> tuple[str, ...]:
    listed = isinstance(tags, Iterable) and not isinstance(tags, (str, bytes))
    found = tuple(tags) if listed else ()
    ok = listed and all(isinstance(tag, str) for tag in found)
    check(ok, f"tags must be a list of strings, e.g. tags=['beta'], not {tags!r}")
    return found


def _callables(processors: Any) -> tuple[Processor, ...]:
    what = f"processors must be a list of functions, not {processors!r}"
    check(isinstance(processors, Iterable), what)
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


def plugins() -> list[Plugin]:
    """Return every installed plugin: loaded, broken (with its error) or denied."""
    return list(registry().plugins)


def ensure_configured(sinks: Iterable[Any] | None = None) -> None:
    """Configure from the environment where nobody called `configure`, if it names sinks."""
    if sinks is not None or _environment.text("SINKS") is not None:
        unless_configured(lambda: configure(_environment.sinks() if sinks is None else []))


def routes_for(sinks: Iterable[Any]) -> tuple[Route, ...]:
    """Return routes to sinks that only some executions use; they live until `shutdown`."""
    return lasting_routes(resolve_sinks(sinks))
