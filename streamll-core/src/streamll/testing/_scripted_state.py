"""A script as JSON data, for `dump_state` and `load_state` of the LM it belongs to."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from streamll.testing._scripted_answer import ScriptedAnswer, ScriptedUsage, to_usage
from streamll.testing._scripted_script import ByFunction, ByPattern, InOrder, Script, to_source

__all__ = ["dump_script", "load_script"]


def dump_script(script: Script) -> dict[str, Any]:
    """Return the settings and answers of *script*, without its record or position.

    Raises:
        TypeError: for a function that cannot be found again by its import path.
    """
    usage = script.usage and _dump(script.usage)
    chunk = _path_of(script.chunk) if callable(script.chunk) else script.chunk
    settings = {"chunk": chunk, "delay": script.delay, "usage": usage}
    return {**settings, "escape_xml": script.escape_xml, **_dump_source(script)}


def load_script(state: Mapping[str, Any]) -> Script:
    """Build the script that `dump_script` described, at its beginning."""
    chunk = state["chunk"]
    return Script(
        source=to_source(_load_answers(state["answers"]), cycle=state["cycle"]),
        chunk=pkgutil.resolve_name(chunk) if ":" in str(chunk) else chunk,
        delay=state["delay"],
        usage=to_usage(state["usage"]),
        escape_xml=state["escape_xml"],
    )


def _dump_source(script: Script) -> dict[str, Any]:
    match script.source:
        case InOrder(answers=answers, cycle=cycle):
            return {"answers": [_dump(answer) for answer in answers], "cycle": cycle}
        case ByPattern(answers=patterns):
            dumped = {pattern: _dump(answer) for pattern, answer in patterns.items()}
            return {"answers": dumped, "cycle": False}
        case ByFunction(function=function):
            return {"answers": _path_of(function), "cycle": False}
    raise TypeError(f"a script from {type(script.source).__name__} cannot be saved")


def _dump(value: ScriptedAnswer | ScriptedUsage) -> dict[str, Any]:
    return attrs.asdict(value, filter=lambda _, given: given is not None)


def _load_answers(dumped: Any) -> Any:
    if isinstance(dumped, str):
        return pkgutil.resolve_name(dumped)
    if isinstance(dumped, Mapping):
        return {pattern: ScriptedAnswer(**answer) for pattern, answer in dumped.items()}
    return [ScriptedAnswer(**answer) for answer in dumped]


def _path_of(function: Callable[..., Any]) -> str:
    path = f"{function.__module__}:{getattr(function, '__qualname__', '')}"
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not function:
        raise TypeError(f"{function!r} cannot be saved: it is not importable as {path!r}")
    return path
