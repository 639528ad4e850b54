"""The application's own events: `emit`, `trace`, `context`, `bound`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from streamll import _runtime
from streamll._outcome import closing
from streamll._spans import CONTEXT, CURRENT, LISTENER, Execution, Span
from streamll._stop import STOP
from streamll.encoding import safe_text
from streamll.privacy import mask_values

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Trace", "bound", "context", "emit", "set_context", "trace"]

P = ParamSpec("P")
R = TypeVar("R")

#: Most characters of an event type or operation that is not a string.
_NAME_CHARS: Final = 200
_SCALARS: Final = (str, int, float, bool, type(None))


def emit(name: str, data: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
    """Emit a custom event from anywhere; it joins the running span.

    Never blocks and never raises, whatever *data* holds. A no-op until `configure`. Safe from
    any thread, signal handlers and `__del__`.

    Args:
        name: the event type; a stable name such as "docs_found", never data.
        data: the payload; a snapshot is taken.
        **fields: more payload.
    """
    pipeline = _runtime.current()
    if pipeline is None:
        return
    span = CURRENT.get() or Span("custom", parent=None, execution=Execution())
    pipeline.emit(span, _name(name), _payload(data, fields), severity="info")


def _name(name: Any) -> str:
    return name if type(name) is str else safe_text(name, _NAME_CHARS)


def _payload(data: Any, fields: dict[str, Any]) -> Mapping[str, Any]:
    """Return what the caller gave as one mapping; what is none becomes its "value"."""
    if data is None:
        return fields
    if type(data) is dict:
        return {**data, **fields} if fields else data
    if isinstance(data, Mapping) and not fields:
        return data
    return {"value": data, **fields}


class Trace:
    """A span of the application's own: ``with``, ``async with``, or a decorator.

    Emits start, then exactly one of end, error or cancel. DSPy calls inside become children.
    Each entry is a span of its own: one trace may be entered again, inside itself or by other
    threads and tasks, and a decorated function may be called concurrently.
    """

    def __init__(self, operation: str, fields: Mapping[str, Any]) -> None:
        self._operation = operation
        self._fields = fields
        self._latest: Span | None = None

    def emit(self, name: str, data: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Emit a custom event that belongs to this span, from any thread."""
        pipeline, span = _runtime.current(), self._entered()
        if pipeline is not None and span is not None:
            pipeline.emit(span, _name(name), _payload(data, fields))

    def set(self, **fields: Any) -> None:
        """Add *fields* to the data of the end event."""
        span = self._entered()
        if span is not None:
            span.result.update(fields)

    def _entered(self) -> Span | None:
        """Return the innermost span of ours in this context; in others, the latest one."""
        span = CURRENT.get()
        while span is not None and span.owner is not self:
            span = span.previous
        return span or self._latest

    def __enter__(self) -> Self:
        pipeline = _runtime.current()
        if pipeline is not None:
            parent = CURRENT.get()
            execution = parent.execution if parent else Execution()
            span = Span(self._operation, parent=parent, execution=execution)
            span.owner = self
            span.enter()
            self._latest = span
            pipeline.emit(span, "start", self._fields)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        span, pipeline = self._entered(), _runtime.current()
        if span is None or span.is_closed:
            return
        span.exit()
        if pipeline is not None:
            event_type, severity, data = closing(error)
            pipeline.emit(
                span,
                event_type,
                {**span.result, **data},
                severity=severity,
                duration_ms=span.duration_ms,
            )

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"@trace cannot decorate the generator function {function.__name__!r}: its body "
                f"runs between other code; write `with streamll.trace(...):` inside of it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with Trace(self._operation, self._fields):
                    return await function(*args, **kwargs)

            return run_async  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with Trace(self._operation, self._fields):
                return function(*args, **kwargs)

        return run


def trace(operation: str, /, **fields: Any) -> Trace:
    """Return a span named *operation*; *fields* become the data of its start event."""
    return Trace(_name(operation), fields)


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in fields.items():
        if not isinstance(value, _SCALARS):
            raise TypeError(f"context value {key!r} must be a scalar, not {type(value).__name__}")
    return {**(CONTEXT.get() or {}), **mask_values(fields)}


@contextmanager
def context(**fields: str | float | bool | None) -> Iterator[None]:
    """Put *fields* on every event emitted inside the block, in this thread or task.

    Raises:
        TypeError: for a value that is not a scalar.
    """
    token = CONTEXT.set(_checked(fields))
    try:
        yield
    finally:
        with suppress(ValueError):  # left in another context, e.g. of a framework's thread
            CONTEXT.reset(token)


def set_context(**fields: str | float | bool | None) -> None:
    """Put *fields* on every later event of this thread or task. Raises as `context` does."""
    CONTEXT.set(_checked(fields))


def bound(function: Callable[P, R]) -> Callable[P, R]:
    """Return *function* bound to the span and context that run now, for another thread.

    For thread pools DSPy does not know; `dspy.Parallel` and `batch` need none. Each call
    leaves the context of its thread as it was.
    """
    variables: tuple[ContextVar[Any], ...] = (CURRENT, CONTEXT, LISTENER, STOP)
    values = [variable.get() for variable in variables]

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        pairs = zip(variables, values, strict=True)
        tokens = [(variable, variable.set(value)) for variable, value in pairs]
        try:
            return function(*args, **kwargs)
        finally:
            for variable, token in tokens:
                variable.reset(token)

    return run
