"""One channel per sink: bounded buffer, batches, retry, circuit breaker, accounting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from streamll._delivery.channel import Announce
from streamll._delivery.driver import Driver as Channel
from streamll._delivery.driver import OnChange
from streamll._delivery.worker import Worker
from streamll.sink import AsyncSink, Sink

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Announce", "Channel", "OnChange", "make_channel"]


def make_channel(
    sink: Sink | AsyncSink,
    *,
    announce: Announce,
    clock: Callable[[], float] = time.monotonic,
    on_change: OnChange | None = None,
) -> Channel:
    """Return a running channel to *sink*; no thread starts before the first event,
    unless an earlier process left events on disk.

    Args:
        sink: where to; it learns of its channel.
        announce: makes the event that announces a loss, and its JSON, from its data.
        clock: monotonic seconds, also of the deadlines of `flush` and `close`.
        on_change: called as (sink, old, new) from the worker when the circuit changes.
    """
    channel = _kind(sink)(sink, clock=clock, announce=announce, on_change=on_change)
    sink._streamll_channel = channel
    if sink.delivery.spool is not None and Path(sink.delivery.spool).exists():
        channel.start()
    return channel


def _kind(sink: Sink | AsyncSink) -> type[Channel]:
    if isinstance(sink, AsyncSink):
        # Here, not above: asyncio takes long to import, and only async sinks need it.
        from streamll._delivery.loop import LoopWorker  # noqa: PLC0415

        return LoopWorker
    return Worker
