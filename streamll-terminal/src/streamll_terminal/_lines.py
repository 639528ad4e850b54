"""Event -> one line of text. Pure.

    [16:31:42.156] ▶ llm_call (a1b2c3d4)
    [16:31:43.156] • llm_call (a1b2c3d4) 'The answer is'
    [16:31:46.782] ■ llm_call (a1b2c3d4) {"total_tokens": 287}

Local time, symbol of the event type, operation (or the name of a custom event), the first
8 digits of the span id, and what is particular to the type. Everything that comes from data
goes through `_sanitize`; the only escape sequences in a line are the colours added here.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll_terminal._sanitize import json_text, plain, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from streamll import Event

__all__ = ["SYMBOLS", "LineStyle", "line"]


@attrs.frozen
class _Mark:
    """How one event type is marked: symbol, ASCII fallback, ANSI colour (SGR parameters)."""

    symbol: str
    ascii: str
    color: str


_MARKS: Final[Mapping[str, _Mark]] = {
    "start": _Mark("▶", ">", "36"),
    "token": _Mark("•", "*", "32"),
    "end": _Mark("■", "#", "34"),
    "error": _Mark("✖", "x", "1;31"),
    "cancel": _Mark("◌", "o", "33"),
    "reset": _Mark("↺", "<", "33"),
    "retry": _Mark("↻", "~", "33"),
    "dropped": _Mark("!", "!", "1;33"),
}
_CUSTOM: Final = _Mark("•", "*", "35")
#: Reported about an operation, which is named too: "evaluate.progress".
_REPORTS: Final = frozenset(
    {"progress", "status", "reset", "retry", "metric", "log", "dropped", "heartbeat"}
)
#: Their start carries inputs and prompts, which are too long for a line.
_PAYLOAD_OPERATIONS: Final = frozenset(
    {
        "module_forward",
        "tool_call",
        "retrieve_call",
        "embedding",
        "adapter_format",
        "adapter_parse",
        "interpreter_call",
        "evaluate",
        "compile",
    }
)

_ELLIPSIS: Final = "…"
_ASCII_ELLIPSIS: Final = "..."
#: What a stream must be able to encode to be shown more than ASCII.
SYMBOLS: Final = "".join(mark.symbol for mark in _MARKS.values()) + _ELLIPSIS

_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"


@attrs.frozen
class LineStyle:
    """Whether to add ANSI colours, to keep to ASCII symbols, and how much data to show."""

    color: bool = False
    ascii: bool = False
    max_chars: int = 1_000

    def cut(self, text: str) -> str:
        """Return at most `max_chars` characters of *text*, with an ellipsis if it was longer."""
        return text if len(text) <= self.max_chars else text[: self.max_chars] + self.ellipsis

    @property
    def ellipsis(self) -> str:
        """What stands for text that is not shown."""
        return _ASCII_ELLIPSIS if self.ascii else _ELLIPSIS


def line(event: Event, style: LineStyle) -> str:
    """Return *event* as one line without its line end."""
    mark = _MARKS.get(event.event_type, _CUSTOM)
    head = f"{mark.ascii if style.ascii else mark.symbol} {plain(style.cut(_title(event)))}"
    detail = _DETAILS.get(event.event_type, _data)(event, style)
    tail = f" {detail}" if detail else ""
    clock, span = _clock(event.timestamp), plain(event.span_id[:8])
    if style.color:
        head = f"\x1b[{mark.color}m{head}{_RESET}"
        return f"{_DIM}[{clock}]{_RESET} {head} {_DIM}({span}){_RESET}{tail}"
    return f"[{clock}] {head} ({span}){tail}"


def _title(event: Event) -> str:
    if event.event_type in _REPORTS:
        return f"{event.operation}.{event.event_type}"
    return event.operation if event.event_type in _MARKS else event.event_type


def _clock(timestamp: datetime) -> str:
    second = int(timestamp.timestamp())
    return f"{_local_time(second)}.{timestamp.microsecond // 1000:03d}"


@lru_cache(maxsize=64)
def _local_time(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def _start(event: Event, style: LineStyle) -> str:
    """Who is called; a span of the application's own shows its fields."""
    if event.operation == "llm_call":
        return ""
    is_module = event.operation == "module_forward"
    label = event.module_path or event.module_name if is_module else event.name
    if label:
        return plain(style.cut(label))
    return "" if event.operation in _PAYLOAD_OPERATIONS else _data(event, style)


def _token(event: Event, style: LineStyle) -> str:
    text = str(event.data.get("token", ""))
    shown = quoted(text[: style.max_chars])
    return shown if len(text) <= style.max_chars else shown + style.ellipsis


def _end(event: Event, style: LineStyle) -> str:
    total = event.data.get("total_tokens") if event.operation == "llm_call" else None
    if total is not None:
        return _json({"total_tokens": total}, style)
    return "" if event.duration_ms is None else _json({"duration_ms": event.duration_ms}, style)


def _error(event: Event, style: LineStyle) -> str:
    kind, message = event.data.get("type", "error"), event.data.get("message")
    return plain(style.cut(f"{kind}: {message}" if message else str(kind)))


def _cancel(event: Event, style: LineStyle) -> str:
    return plain(style.cut(str(event.data.get("reason", ""))))


def _data(event: Event, style: LineStyle) -> str:
    return _json(event.data, style) if event.data else ""


def _json(data: Any, style: LineStyle) -> str:
    return style.cut(json_text(_encode(data)))


def _stand_in(value: object) -> str:
    """Name what JSON does not know, without running its code."""
    return f"<{type(value).__name__}>"


_encode: Final = json.JSONEncoder(ensure_ascii=False, skipkeys=True, default=_stand_in).encode

_DETAILS: Final[Mapping[str, Callable[[Event, LineStyle], str]]] = {
    "start": _start,
    "token": _token,
    "end": _end,
    "error": _error,
    "cancel": _cancel,
}
