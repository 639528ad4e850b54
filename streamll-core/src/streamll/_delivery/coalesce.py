"""Merging adjacent tokens of one field, so that a full buffer keeps all of the text.

Two tokens are adjacent when no other event of their span lies between them. The first one
keeps its identity and sequence number and gains `data.coalesced` (how many it stands for)
and `data.last_sequence`. Text is concatenated when the event leaves the buffer, not on every
merge, so merging n tokens costs O(n).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from streamll._delivery.item import TOKEN, Item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamll.events import Event

__all__ = ["Coalescer", "finish"]

#: What tokens must have in common, besides the span, to be parts of one text.
_SAME: Final = ("field", "channel", "attempt", "choice_index", "tool_call_id")

_encode = msgspec.json.Encoder().encode


def _stream(event: Event) -> tuple[Any, ...] | None:
    """Return what identifies the text *event* is a part of; None if it is not mergeable."""
    if event.event_type != "token" or not isinstance(event.data.get("token"), str):
        return None
    return (event.span_id, *map(event.data.get, _SAME))


class Coalescer:
    """Remembers the last queued token of each span and merges later ones into it."""

    def __init__(self) -> None:
        self._tails: dict[str, Item] = {}
        #: Tokens queued unmerged since the last `compact`: what it may still gain.
        self.loose = 0

    def reset(self) -> None:
        """Forget all tails: it is not known any more which of them wait."""
        self._tails.clear()

    def note(self, item: Item) -> None:
        """Learn that *item* was queued behind everything else."""
        if item.rank == TOKEN:
            self.loose += 1
            self._tails[item.event.span_id] = item
        else:
            self._tails.pop(item.event.span_id, None)

    def forget(self, item: Item) -> None:
        """Learn that *item* left the buffer."""
        if self._tails.get(item.event.span_id) is item:
            del self._tails[item.event.span_id]

    def merge(self, item: Item) -> int:
        """Merge *item* into its queued predecessor; return the bytes that added, 0 if none."""
        tail = self._tails.get(item.event.span_id)
        stream = _stream(item.event)
        if tail is None or stream is None or _stream(tail.event) != stream:
            return 0
        if tail.attempt:  # it may have arrived: a reader would take the longer one for a repeat
            return 0
        return _join(tail, item)

    def compact(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield what remains of *items* (oldest first) once adjacent tokens are merged."""
        self._tails.clear()
        for item in items:
            if not self.merge(item):
                self.note(item)
                yield item
        self.loose = 0


def _join(tail: Item, item: Item) -> int:
    gained = len(_encode(item.event.data["token"])) - 2
    if tail.more is None:
        tail.more = []
        gained += len(_marks(tail))
    tail.more.append(item.event)
    tail.more.extend(item.more or ())
    gained += sum(len(_encode(event.data["token"])) - 2 for event in item.more or ())
    tail.weight += item.weight
    tail.size += gained
    return max(gained, 1)


def _marks(item: Item) -> bytes:
    return _encode({"coalesced": 10**9, "last_sequence": item.event.sequence * 10**6})


def finish(item: Item) -> Item:
    """Write the merged text of *item* into its event and body."""
    if item.more:
        parts = [item.event, *item.more]
        last = parts[-1]
        data = dict(item.event.data)
        data["token"] = "".join(event.data["token"] for event in parts)
        data["coalesced"] = item.weight
        data["last_sequence"] = last.data.get("last_sequence", last.sequence)
        if "is_last" in last.data:
            data["is_last"] = last.data["is_last"]
        item.event = item.event.replace(data=data)
        item.body = _encode(item.event)
        item.more = None
    return item
