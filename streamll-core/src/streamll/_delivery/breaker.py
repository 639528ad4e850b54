"""The circuit breaker: stop trying a sink that fails, and find out when it works again.

Rules, all of them in `_RULES`:

    closed     --failure (threshold reached)-->  open
    closed     --permanent failure----------->   open
    open       --period over----------------->   half_open   one probe may go out
    half_open  --success--------------------->   closed
    half_open  --failure, permanent failure-->   open        for twice as long
    half_open  --probe lost------------------>   open        sent, but no result in time

Anything else leaves the state alone. Every change starts a new generation; a result carries
the generation of its attempt, and one from an older generation changes nothing. There is no
lock, no clock and no thread in here: `now` is monotonic seconds.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_PERIOD", "PROBE_LIMIT", "Breaker", "Change", "State"]

#: Longest open period in seconds, unless `recovery_timeout` itself is longer.
MAX_PERIOD: Final = 60.0
#: Shortest time in seconds after which a probe without a result counts as lost.
PROBE_LIMIT: Final = 30.0
_NEVER: Final = float("inf")
#: Open periods vary by this share, so that many processes do not probe in step.
JITTER: Final = 0.2


class State(Enum):
    """Whether attempts may be made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class _Signal(Enum):
    SUCCESS = "success"
    TRIPPED = "tripped"
    PERIOD_OVER = "period_over"
    PROBE_LOST = "probe_lost"


_RULES: Final = {
    (State.CLOSED, _Signal.TRIPPED): State.OPEN,
    (State.OPEN, _Signal.PERIOD_OVER): State.HALF_OPEN,
    (State.HALF_OPEN, _Signal.SUCCESS): State.CLOSED,
    (State.HALF_OPEN, _Signal.TRIPPED): State.OPEN,
    (State.HALF_OPEN, _Signal.PROBE_LOST): State.OPEN,
}


@attrs.frozen
class Change:
    """The circuit went from *old* to *new*."""

    old: State
    new: State


@attrs.define
class Breaker:
    """The circuit of one sink. Not thread-safe; its channel serialises the calls.

    Attributes:
        enabled: False keeps the circuit closed for ever; failures are still counted.
        threshold: consecutive failures that open the circuit.
        recovery: seconds of the first open period; doubles while probes fail.
        random: floats in [0, 1), for the jitter.
        observe: called with each `Change`, in order.
    """

    enabled: bool
    threshold: int
    recovery: float
    random: Callable[[], float]
    observe: Callable[[Change], None]
    state: State = State.CLOSED
    failures: int = 0
    generation: int = 0
    _reopened: int = 0
    _until: float = 0.0

    def tick(self, now: float, *, free: bool = True) -> None:
        """Let time pass: give up a lost probe; end an open period, if the sink is *free*."""
        if self.state is State.HALF_OPEN and now >= self._until:
            self._transition(_Signal.PROBE_LOST, now)
        elif self.state is State.OPEN and now >= self._until and free:
            self._transition(_Signal.PERIOD_OVER, now)

    def attempt(self, now: float) -> int:
        """Learn that an attempt, perhaps the probe, starts; return its generation."""
        if self.state is State.HALF_OPEN:
            self._until = now + max(self.recovery, PROBE_LIMIT)
        return self.generation

    def wait(self, now: float) -> float:
        """Return the seconds until an attempt may be made; 0.0 if now."""
        return max(0.0, self._until - now) if self.state is State.OPEN else 0.0

    def success(self, generation: int, now: float) -> None:
        """Report an attempt that worked."""
        if generation == self.generation:
            self.failures = 0
            self._transition(_Signal.SUCCESS, now)

    def failure(self, generation: int, now: float, *, permanent: bool = False) -> None:
        """Report an attempt that failed; *permanent* opens the circuit at once."""
        if generation != self.generation:
            return
        self.failures += 1
        probing = self.state is State.HALF_OPEN
        if self.enabled and (permanent or probing or self.failures >= self.threshold):
            self._transition(_Signal.TRIPPED, now)

    def hasten(self, now: float) -> None:
        """End an open period now, so that a closing channel makes one last try."""
        if self.state is State.OPEN:
            self._until = now

    def _transition(self, signal: _Signal, now: float) -> None:
        new = _RULES.get((self.state, signal))
        if new is None:
            return
        old, self.state = self.state, new
        self.generation += 1
        self._until = now + self._period() if new is State.OPEN else _NEVER
        self._reopened = 0 if new is State.CLOSED else self._reopened + (new is State.OPEN)
        self.observe(Change(old, new))

    def _period(self) -> float:
        longest = max(self.recovery, MAX_PERIOD)
        period = min(longest, self.recovery * 2 ** min(self._reopened, 20))
        return float(period) * (1 - JITTER + 2 * JITTER * self.random())
