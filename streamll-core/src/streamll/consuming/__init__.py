"""The read side, the same for every broker: `consume` and `EventConsumer`.

    Source -> Link (reconnects) -> Reader (decodes, filters, settles) -> EventStream | EventConsumer

Delivery is at-least-once: a message is acked after its event was consumed, so what a crash
leaves unacked is delivered again; repeats within a window are recognised by `event_id`.
"""

from __future__ import annotations

from streamll.consuming._consumer import EventConsumer
from streamll.consuming._stats import ReadStats
from streamll.consuming._stream import EventStream, consume

__all__ = ["EventConsumer", "EventStream", "ReadStats", "consume"]
