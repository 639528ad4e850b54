"""Entry ids of streams, and where reading begins. Pure.

Redis answers with entries *after* an id, so every place to begin is the id before it. With
several keys a position is the last id of each, joined by commas: one id would not say how far
the other keys were read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from streamll import ConfigurationError
from streamll.source import Start

__all__ = ["BEGINNING", "order_of", "start_ids"]

#: Before the first entry.
BEGINNING: Final = "0-0"

_LAST_SEQUENCE: Final = 2**64 - 1
_ID: Final = re.compile(r"\d{1,20}(-\d{1,20})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def start_ids(start: Start, keys: int) -> list[str | None]:
    """Return the id to read after, for each of so many keys; None for "from now".

    Raises:
        ConfigurationError: for a position that is none of these keys.
    """
    if start.position is not None:
        return list(_checked(start.position, keys))
    if start.time is not None:
        return [_before(start.time)] * keys
    return [BEGINNING if start.beginning else None] * keys


def order_of(entry_id: str) -> tuple[int, int]:
    """Return what sorts ids by age: as text, 10 would come before 9."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _checked(position: str, keys: int) -> list[str]:
    ids = position.split(",")
    if not all(map(_ID.fullmatch, ids)):
        raise ConfigurationError(
            f"{position!r} is no position such as '1767322985000-0', no span such as '-10m' and "
            "no ISO time"
        )
    if len(ids) not in (1, keys):
        raise ConfigurationError(f"the position is of {len(ids)} partitions, not {keys}")
    return ids if len(ids) == keys else ids * keys


def _before(time: datetime) -> str:
    milliseconds = (time - _EPOCH) // timedelta(milliseconds=1)
    return f"{milliseconds - 1}-{_LAST_SEQUENCE}" if milliseconds > 0 else BEGINNING
