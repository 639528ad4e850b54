"""`stream`: run a program and iterate over its events, then its result."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final

import attrs

from streamll import _runtime
from streamll._config import configure
from streamll._spans import LISTENER
from streamll._stop import STOP
from streamll.errors import StreamClosed
from streamll.events import Event

__all__ = ["Stream", "stream"]

#: Seconds a closed iterator waits for the program to notice.
_CLOSE_TIMEOUT: Final = 5.0

Put = Callable[[Any], None]


@attrs.frozen
class _Done:
    """The end of the program: its result or its exception. Always the last item."""

    result: Any = None
    error: BaseException | None = None

    def unwrap(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


def stream(program: Callable[..., Any], /, *args: Any, **inputs: Any) -> Stream:
    """Run *program* and iterate over its events as they happen, then its result.

    ``for item in stream(program, question="...")`` from synchronous code runs the program in
    a thread with a copy of the caller's context; ``async for`` awaits `program.acall`, or runs
    a program without `aforward` in a thread. The last item is the result, e.g. a
    `dspy.Prediction`; an exception of the program is raised there. The program runs once per
    iteration. Events also go to the configured sinks.

    Leaving the loop early stops the program at its next token, LM or tool call; its calls
    close with a `cancel` event that holds the partial text. The loop is left when that is
    done, or after 5 s if the program does not notice. In async code, leave by closing the
    iterator (`contextlib.aclosing`) to have it done before you go on.
    """
    return Stream(program, args, inputs)


class Stream:
    """What `stream` returns: iterable, synchronously or asynchronously, each time anew."""

    def __init__(
        self, program: Callable[..., Any], args: tuple[Any, ...], inputs: dict[str, Any]
    ) -> None:
        self._program = program
        self._args = args
        self._inputs = inputs

    def __iter__(self) -> Iterator[Event | Any]:
        items: queue.SimpleQueue[Event | _Done] = queue.SimpleQueue()
        stop = threading.Event()
        thread = self._start_thread(items.put, stop)
        try:
            while not isinstance(item := items.get(), _Done):
                yield item
            yield item.unwrap()
        finally:
            stop.set()
            thread.join(_CLOSE_TIMEOUT)

    async def __aiter__(self) -> AsyncIterator[Event | Any]:
        items: asyncio.Queue[Event | _Done] = asyncio.Queue()
        stop = threading.Event()
        cancel = self._start(_to_loop(items), stop)
        item: Event | _Done | None = None
        try:
            while not isinstance(item := await items.get(), _Done):
                yield item
            yield item.unwrap()
        finally:
            stop.set()
            cancel()
            if not isinstance(item, _Done):
                await _wait_for_end(items)

    def _start(self, put: Put, stop: threading.Event) -> Callable[[], Any]:
        """Start the program as a task, or in a thread; return what cancels it."""
        if not self._is_async():
            self._start_thread(put, stop)
            return lambda: None
        context = _context(put, stop)
        return asyncio.create_task(self._acall(put), context=context).cancel

    def _start_thread(self, put: Put, stop: threading.Event) -> threading.Thread:
        run = self._call if self._is_sync() else self._call_async
        thread = threading.Thread(
            target=_context(put, stop).run,
            args=(_run, run, put),
            name="streamll-stream",
            daemon=True,
        )
        thread.start()
        return thread

    def _is_async(self) -> bool:
        return self._has("aforward") or inspect.iscoroutinefunction(self._program)

    def _is_sync(self) -> bool:
        return not self._is_async() or self._has("forward")

    def _has(self, method: str) -> bool:
        # Of the type: a dspy.Module warns when it is asked for its own `forward`.
        return hasattr(type(self._program), method)

    def _call(self) -> Any:
        return self._program(*self._args, **self._inputs)

    def _coroutine(self) -> Coroutine[Any, Any, Any]:
        call = getattr(self._program, "acall", self._program)
        return call(*self._args, **self._inputs)  # type: ignore[no-any-return]

    def _call_async(self) -> Any:
        return asyncio.run(self._coroutine())

    async def _acall(self, put: Put) -> None:
        try:
            put(_Done(await self._coroutine()))
        except asyncio.CancelledError:
            put(_Done(error=StreamClosed()))
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the caller iterates
            put(_Done(error=error))


def _context(listener: Put, stop: threading.Event) -> contextvars.Context:
    """Return a copy of the caller's context in which the program is listened to."""
    _prepare()
    context = contextvars.copy_context()
    context.run(LISTENER.set, _after(LISTENER.get(), listener))
    context.run(STOP.set, stop)
    return context


def _after(outer: Put | None, inner: Put) -> Put:
    """Return what gives an event to both: a program that is listened to may listen itself."""
    if outer is None:
        return inner

    def both(event: Any) -> None:
        outer(event)
        inner(event)

    return both


def _prepare() -> None:
    """Have a pipeline, and DSPy tell us of its calls."""
    # Here, not above: `import streamll` must not import dspy.
    from streamll import _dspy  # noqa: PLC0415

    _dspy.install()
    if _runtime.current() is None:
        configure([])


def _run(call: Callable[[], Any], put: Put) -> None:
    try:
        put(_Done(call()))
    except BaseException as error:  # noqa: BLE001 - raised where the caller iterates
        put(_Done(error=error))


def _to_loop(items: asyncio.Queue[Event | _Done]) -> Put:
    """Return what puts an item from any thread; the program may outlive the loop."""
    loop = asyncio.get_running_loop()

    def put(item: Event | _Done) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(items.put_nowait, item)

    return put


async def _wait_for_end(items: asyncio.Queue[Event | _Done]) -> None:
    """Let the program notice that nobody listens any more, and clean up."""
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            while not isinstance(await items.get(), _Done):
                pass
    except TimeoutError:
        return
