"""Events folded into the tree of calls they tell of, for assertions and for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from streamll.events import CLOSING_TYPES, Event

__all__ = ["Node", "tree"]


@attrs.define
class Node:
    """One call.

    Attributes:
        operation: e.g. "llm_call".
        name: its label.
        span_id: its id.
        start: the start event; None if it was not seen.
        closings: its closing events: exactly one in a complete stream.
        others: tokens and custom events, in order.
        children: the calls made by it, in order of their first event.
    """

    operation: str
    name: str | None
    span_id: str
    start: Event | None = None
    closings: list[Event] = attrs.field(factory=list)
    others: list[Event] = attrs.field(factory=list)
    children: list[Node] = attrs.field(factory=list)

    @property
    def outcome(self) -> str | None:
        """Return "end", "error", "cancel", or None while the call runs."""
        return self.closings[0].event_type if self.closings else None

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Yield one indented line per call: operation, name, outcome."""
        yield f"{'  ' * depth}{self.operation} {self.name} {self.outcome}"
        for child in self.children:
            yield from child.lines(depth + 1)


def tree(events: Iterable[Event]) -> list[Node]:
    """Return the root calls of *events*, children attached. Accepts any order of arrival."""
    ordered = sorted(events, key=lambda event: (event.execution_id, event.sequence))
    nodes: dict[str, Node] = {}
    roots: list[Node] = []
    for event in ordered:
        node = nodes.get(event.span_id)
        if node is None:
            node = nodes[event.span_id] = Node(event.operation, event.name, event.span_id)
            parent = nodes.get(event.parent_span_id or "")
            (parent.children if parent else roots).append(node)
        _add(node, event)
    return roots


def _add(node: Node, event: Event) -> None:
    if event.event_type == "start":
        node.start = event
    elif event.event_type in CLOSING_TYPES:
        node.closings.append(event)
    else:
        node.others.append(event)
