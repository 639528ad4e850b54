"""A reader of token events as a user interface would be: it joins, and obeys resets."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamll import Event

__all__ = ["assert_complete", "channel", "data_of", "fields", "resets", "shown"]


def data_of(events: Iterable[Event], event_type: str = "token") -> list[dict[str, Any]]:
    """Return the data of all events of a type."""
    return [dict(event.data) for event in events if event.event_type == event_type]


def resets(events: Iterable[Event]) -> list[str]:
    """Return the reasons of the resets, in order."""
    return [data["reason"] for data in data_of(events, "reset")]


def channel(events: Iterable[Event], name: str) -> str:
    """Return the joined text of a channel."""
    return "".join(data["token"] for data in data_of(events) if data["channel"] == name)


def shown(events: Iterable[Event]) -> dict[str, list[str]]:
    """Return module path -> `field: text` lines that a reader has on the screen in the end.

    One line per asking module call, choice and field (or channel, in brackets).
    """
    screens: dict[str, dict[Any, str]] = defaultdict(dict)
    paths: dict[str, str] = {}
    for event in events:
        asking = event.parent_span_id or event.span_id
        paths[asking] = event.module_path or ""
        screen = screens[asking]
        if event.event_type == "token":
            key = (event.data["choice_index"], _label(event.data))
            screen[key] = screen.get(key, "") + event.data["token"]
        elif event.event_type == "reset":
            _obey(screen, event.data)
    lines: dict[str, list[str]] = defaultdict(list)
    for asking, screen in screens.items():
        lines[paths[asking]] += [f"{label}: {text}" for (_, label), text in screen.items()]
    return {path: found for path, found in lines.items() if found}


def _label(data: Any) -> str:
    return data.get("field") or f"({data['channel']})"


def _obey(screen: dict[Any, str], reset: Any) -> None:
    if "field" in reset:
        screen[reset["choice_index"], reset["field"]] = reset["text"]
        return
    choice = reset.get("choice_index")
    for key in list(screen):
        if choice in (None, key[0]):
            del screen[key]


def fields(events: Iterable[Event]) -> dict[str, str]:
    """Return field -> text in the end, for a program that asks for each field once."""
    lines = [line for found in shown(events).values() for line in found]
    split = dict(line.split(": ", 1) for line in lines)
    assert len(split) == len(lines), "a field was shown twice"
    return split


def assert_complete(events: Iterable[Event]) -> None:
    """Assert what every stream owes: contiguous numbers, exact offsets, one end per start."""
    sequences: dict[str, list[int]] = defaultdict(list)
    open_spans: set[str] = set()
    lengths: dict[Any, int] = defaultdict(int)
    counts: dict[Any, int] = defaultdict(int)
    for event in events:
        sequences[event.execution_id].append(event.sequence)
        if event.event_type == "start":
            open_spans.add(event.span_id)
        elif event.event_type in ("end", "error", "cancel"):
            assert event.span_id in open_spans, f"{event.operation} closed twice or never opened"
            open_spans.discard(event.span_id)
        elif event.event_type == "token":
            data = event.data
            key = (event.span_id, data["attempt"], data["choice_index"], _label(data))
            key += (data.get("tool_call_id"),)
            assert data["index"] == counts[key], "a token is missing or out of order"
            assert data["offset"] == lengths[key]
            counts[key] += 1
            lengths[key] += len(data["token"])
    assert not open_spans, f"{len(open_spans)} calls never closed"
    for numbers in sequences.values():
        assert numbers == list(range(1, len(numbers) + 1))
