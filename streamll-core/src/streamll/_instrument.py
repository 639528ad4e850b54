"""`instrument`: mark a program, so that its calls are captured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from streamll._capture import CaptureOptions
from streamll._config import ensure_configured, routes_for
from streamll._resolve import resolve_sinks
from streamll.settings import reject_unknown

__all__ = ["instrument"]

T = TypeVar("T")


@overload
def instrument(target: T, /) -> T: ...
@overload
def instrument(
    *,
    name: str | None = ...,
    stream_fields: Iterable[str] | str | None = ...,
    sinks: Iterable[Any] | None = ...,
    include_inputs: bool = ...,
    include_outputs: bool = ...,
    include_prompts: bool = ...,
    include_tokens: bool = ...,
    replay_cached: str = ...,
    token_window_ms: float = ...,
    operations: Iterable[str] | str | None = ...,
) -> Callable[[T], T]: ...
@overload
def instrument(target: T, /, **options: Any) -> T: ...
def instrument(target: Any = None, /, **options: Any) -> Any:
    """Capture the calls of a `dspy.Module`: a decorator, bare or with options, or a call.

    ``@streamll.instrument`` marks a class and its subclasses, ``streamll.instrument(program)``
    one instance and its copies. Nothing is wrapped: the program keeps its type, behaviour and
    results. Marking again replaces the options.

    Args:
        target: a `dspy.Module` class or instance.
        name: stands for the class name in `module_name`.
        stream_fields: output fields whose tokens are emitted; default every string field.
        sinks: where this program's events go instead of the configured sinks.
        include_inputs, include_outputs: arguments and results; on by default.
        include_prompts: messages and completions of the LM; off by default.
        include_tokens: token events; on by default.
        replay_cached: "whole", "paced" or "off": how cached answers are told.
        token_window_ms: merge pieces of a field that come within this time; default 0.
        operations: the operations to emit, e.g. ["llm_call"]; default all.

    Returns:
        *target* itself, or a decorator.

    Raises:
        TypeError: for what is not a `dspy.Module`; the message says what to do.
        ConfigurationError: for an unknown option, operation or sink.
    """
    reject_unknown(options, _OPTIONS, "option of instrument()")
    if target is None:
        return functools.partial(instrument, **options)
    # Here, not above: `import streamll` must not import dspy.
    from streamll import _dspy  # noqa: PLC0415

    _dspy.mark(target, _capture_options(options))
    _dspy.install()
    ensure_configured(options.get("sinks"))
    return target


_OPTIONS = (
    "name",
    "stream_fields",
    "sinks",
    "include_inputs",
    "include_outputs",
    "include_prompts",
    "include_tokens",
    "replay_cached",
    "token_window_ms",
    "operations",
)


def _capture_options(options: dict[str, Any]) -> CaptureOptions:
    given = dict(options)
    sinks = given.pop("sinks", None)
    if sinks is None:
        return CaptureOptions(**given)
    return CaptureOptions(**given, sinks=functools.partial(routes_for, resolve_sinks(sinks)))
