"""How long to wait before the next attempt: exponential, jittered, capped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_DELAY", "Backoff"]

#: Longest delay, in seconds.
MAX_DELAY: Final = 30.0
#: 2**20 times any sensible base is past the cap; larger exponents only risk overflow.
_MAX_DOUBLINGS: Final = 20


@attrs.frozen
class Backoff:
    """Delays in seconds: *base*, twice that, ..., `MAX_DELAY`, each times 0.5 to 1.

    The jitter keeps many processes that lost one server from coming back in step.
    *random* returns floats in [0, 1).
    """

    base: float
    random: Callable[[], float]

    def delay(self, failures: int) -> float:
        """Return the delay after *failures* consecutive failures; 0.0 after none."""
        if failures < 1:
            return 0.0
        doublings = min(failures - 1, _MAX_DOUBLINGS)
        return float(min(MAX_DELAY, self.base * 2**doublings) * (0.5 + self.random() / 2))
