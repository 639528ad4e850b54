"""Who handles which events, and how a handler is called."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import attrs

from streamll.errors import ConfigurationError
from streamll.events import Event
from streamll.patterns import Patterns, parse_patterns

__all__ = ["Handler", "predicate"]

Predicate = Callable[[Event], Any]


def predicate(wanted: tuple[str | Predicate, ...]) -> Predicate:
    """Return what tells whether an event is one of *wanted*: globs and predicates; none is all.

    Raises:
        ConfigurationError: for anything else.
    """
    if not wanted:
        return lambda _: True
    tests = [_test(item) for item in wanted]
    return lambda event: any(test(event) for test in tests)


def _test(item: str | Predicate) -> Predicate:
    if inspect.iscoroutinefunction(item):
        raise ConfigurationError("a predicate cannot be async; for a handler of all write @on()")
    if isinstance(item, str):
        return Patterns(parse_patterns(item)).accepts
    if not callable(item):
        raise ConfigurationError(f"on() takes patterns and predicates, not {item!r}")
    return item


@attrs.frozen
class Handler:
    """One function and the events it wants."""

    function: Callable[[Event], Any]
    wants: Predicate

    @property
    def name(self) -> str:
        """Of the function, for the log."""
        return getattr(self.function, "__qualname__", type(self.function).__name__)

    async def handle(self, event: Event) -> bool:
        """Call the function if it wants *event*, and return whether it did.

        Raises:
            Exception: what the function or its predicate raises.
        """
        if not self.wants(event):
            return False
        await self._call(event)
        return True

    async def _call(self, event: Event) -> None:
        """Run an async function here, another in a thread, so that it may block."""
        if inspect.iscoroutinefunction(self.function):
            await self.function(event)
            return
        result = await asyncio.to_thread(self._blocking, event)
        if inspect.isawaitable(result):  # of a callable object with an async __call__
            await result

    def _blocking(self, event: Event) -> Any:
        try:
            return self.function(event)
        except StopIteration as error:  # no future can carry it
            raise RuntimeError("the handler raised StopIteration") from error
