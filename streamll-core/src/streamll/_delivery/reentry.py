"""Who emits from inside a sink: the depth guard.

A sink that emits while it writes (itself, or through a logging handler) would feed itself
for ever. An event from inside a channel's own sink is refused by that channel. An event from
inside another sink is accepted once: the write that may carry it is marked as nested, and
what is emitted from inside a nested write is refused by every channel, so that two sinks
cannot feed each other either.

The mark is a context variable, so that it follows the sink into the asyncio tasks and
`asyncio.to_thread` calls it starts.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["INSIDE", "Inside", "entering"]


@attrs.frozen(eq=False)
class Inside:
    """The running call into a sink: the driver that makes it, and whether it is nested."""

    driver: object
    nested: bool

    def refuses(self, driver: object) -> bool:
        """Whether *driver* must not accept what this call emits."""
        return self.nested or self.driver is driver


#: The sink call the current code runs in; None outside of sinks.
INSIDE: ContextVar[Inside | None] = ContextVar("streamll_inside_sink", default=None)


@contextmanager
def entering(driver: object, *, nested: bool = False) -> Iterator[None]:
    """Mark the code in the block as running inside the sink of *driver*."""
    token = INSIDE.set(Inside(driver, nested))
    try:
        yield
    finally:
        INSIDE.reset(token)
