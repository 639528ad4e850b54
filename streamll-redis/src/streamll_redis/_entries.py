"""Replies that hold entries -> messages. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from streamll.source import Message

__all__ = ["Entry", "attempts_of", "entries_of", "message_of"]

_BODY: Final = b"event"

#: An id, and name, value, name, value ...; None for an entry that was trimmed meanwhile.
Entry = tuple[str, Sequence[bytes] | None]


def entries_of(reply: Any) -> list[Entry]:
    """Return the entries of one stream in a reply to XREAD, XREADGROUP; none for a null."""
    return [(item[0].decode(), item[1]) for item in reply[0][1]] if reply else []


def message_of(entry: Entry, key: str, *, attempts: int = 1) -> Message:
    """Return the message of an entry; its body is empty if it holds no event."""
    entry_id, fields = entry
    return Message(body=_body(fields or ()), position=entry_id, attempts=attempts, key=key)


def attempts_of(reply: Any) -> Mapping[str, int]:
    """Return id -> deliveries so far, of a reply to XPENDING."""
    return {item[0].decode(): int(item[3]) for item in reply}


def _body(fields: Sequence[bytes]) -> bytes:
    if fields and fields[0] == _BODY:  # as our sink writes it
        return fields[1]
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(_BODY, b"")
