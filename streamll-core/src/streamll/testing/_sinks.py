"""Sinks that stand in for real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamll.errors import TransientError
from streamll.events import Batch, Event
from streamll.sink import Sink

__all__ = ["FlakySink", "MemorySink"]


class MemorySink(Sink):
    """Keeps what it is given. Read `events` and `bodies` after `streamll.flush()`."""

    def __init__(self, **delivery: Any) -> None:
        super().__init__(**delivery)
        self.events: list[Event] = []
        self.bodies: list[bytes] = []

    def write(self, batch: Batch) -> None:
        """Keep the events and their JSON."""
        self.events.extend(batch.events)
        self.bodies.extend(batch.bodies)

    def clear(self) -> None:
        """Forget what was kept."""
        self.events.clear()
        self.bodies.clear()


class FlakySink(MemorySink):
    """Fails whenever *fails* says so, else keeps the batch.

    Args:
        fails: attempt number (1, 2, 3 ...) -> the exception to raise, True for a
            `TransientError`, or a false value to succeed. The default always fails.
    """

    def __init__(
        self, fails: Callable[[int], BaseException | bool | None] = lambda _: True, **delivery: Any
    ) -> None:
        super().__init__(**delivery)
        self.attempts = 0
        self._fails = fails

    def write(self, batch: Batch) -> None:
        """Raise, or keep the batch."""
        self.attempts += 1
        failure = self._fails(self.attempts)
        if isinstance(failure, BaseException):
            raise failure
        if failure:
            raise TransientError("flaky")
        super().write(batch)
