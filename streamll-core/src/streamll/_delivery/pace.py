"""When the next attempt may be made: the circuit says so while it is not closed, else backoff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamll._delivery.backoff import Backoff
from streamll._delivery.breaker import Breaker, Change, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamll.settings import DeliverySettings

__all__ = ["Pace"]


@attrs.define
class Pace:
    """The rhythm of attempts at one sink. Pure: `now` is monotonic seconds.

    Attributes:
        settings: the sink's delivery options.
        random: floats in [0, 1), for jitter.
        breaker: the circuit.
        setbacks: failures since the last success, whatever the circuit.
        is_barred: whether the last attempt showed that none can work (`PermanentError`).
    """

    settings: DeliverySettings
    random: Callable[[], float]
    breaker: Breaker = attrs.field(init=False)
    setbacks: int = attrs.field(init=False, default=0)
    is_barred: bool = attrs.field(init=False, default=False)
    _backoff: Backoff = attrs.field(init=False)
    _changes: list[Change] = attrs.field(init=False, factory=list)
    _not_before: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self._backoff = Backoff(settings.retry_delay, self.random)
        self.breaker = Breaker(
            enabled=settings.circuit_breaker,
            threshold=settings.failure_threshold,
            recovery=settings.recovery_timeout,
            random=self.random,
            observe=self._changes.append,
        )

    def wait(self, now: float) -> float:
        """Return the seconds until an attempt may be made; 0.0 or less if now."""
        closed = self.breaker.state is State.CLOSED
        return self._not_before - now if closed else self.breaker.wait(now)

    def progress(self, generation: int, now: float, *, clean: bool) -> None:
        """Learn that the sink accepted events; not *clean* if it wants others again."""
        self.setbacks = 0
        self.is_barred = False
        self._not_before = now if clean else now + self._backoff.delay(1)
        self.breaker.success(generation, now)

    def setback(self, generation: int, now: float, *, permanent: bool) -> None:
        """Learn that an attempt failed."""
        self.setbacks += 1
        self.is_barred = permanent
        self._not_before = now + self._backoff.delay(self.setbacks)
        self.breaker.failure(generation, now, permanent=permanent)

    def hasten(self, now: float) -> None:
        """Allow one more attempt now, whatever came before."""
        self._not_before = now
        self.breaker.hasten(now)

    def take_changes(self) -> list[Change]:
        """Return the circuit changes since the last call."""
        changes, self._changes[:] = list(self._changes), []
        return changes
