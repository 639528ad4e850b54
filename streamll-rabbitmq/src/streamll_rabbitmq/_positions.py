"""Offsets of stream queues, and where reading begins. Pure, but for the time of the first read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from streamll_rabbitmq._messages import offset_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiormq.abc import DeliveredMessage

    from streamll.source import Start

__all__ = ["Offsets"]


@attrs.define(eq=False)
class Offsets:
    """How far one stream queue was read, over all connections."""

    _start: Start
    #: Offset to go on at; None until the first message.
    _next: int | None = attrs.field(default=None, init=False)
    _began: datetime | None = attrs.field(default=None, init=False)

    def first(self) -> int | datetime | str:
        """Return where to begin or go on, as the broker understands it."""
        if self._next is None and self._start.position is not None:
            self._next = int(self._start.position) + 1
        if self._next is not None:
            return self._next
        if self._start.beginning:
            return "first"
        # "Now" is when we first asked: what comes while the connection is lost is not skipped.
        now, self._began = self._began, self._began or datetime.now(UTC)
        return self._start.time or now or "next"

    def fresh(self, found: Sequence[DeliveredMessage]) -> list[DeliveredMessage]:
        """Return what was not read before: the broker begins with a whole chunk."""
        news = [delivered for delivered in found if offset_of(delivered) >= (self._next or 0)]
        if news:
            self._next = offset_of(news[-1]) + 1
        return news
