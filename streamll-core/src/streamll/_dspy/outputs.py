"""Whole answers, as DSPy hands them to adapters, in the channels that a live answer streams in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["pieces_of"]

#: Channel ("text" is the completion), text, which tool call, more data of the token.
Part = tuple[str, str, int, dict[str, Any]]


def pieces_of(output: Any) -> Iterator[Part]:
    """Yield thinking, text, tool arguments and citations of one choice: a str or a mapping."""
    whole = output if isinstance(output, Mapping) else {"text": output}
    parts = [
        ("reasoning", whole.get("reasoning_content"), 0, {}),
        ("text", whole.get("text"), 0, {}),
        *map(_tool_call, range(100), whole.get("tool_calls") or ()),
        *(("citation", _of(cited, "cited_text"), 0, {}) for cited in whole.get("citations") or ()),
    ]
    for name, text, part, extra in parts:
        if isinstance(text, str) and text:
            yield name, text, part, extra


def _tool_call(part: int, call: Any) -> tuple[str, Any, int, dict[str, Any]]:
    function = _of(call, "function")
    extra = {"tool_call_id": _of(call, "id"), "tool_name": _of(function, "name")}
    return "tool_args", _of(function, "arguments"), part, extra


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
