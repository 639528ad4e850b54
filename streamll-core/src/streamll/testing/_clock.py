"""A clock that only moves when told."""

from __future__ import annotations

import attrs

__all__ = ["FakeClock"]


@attrs.define
class FakeClock:
    """Stands in for `time.monotonic`: call it for the time, `advance` it. Seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by *seconds*."""
        self.now += seconds
