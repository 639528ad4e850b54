"""`stream`: run a program and iterate over its events, then its result."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from streamll import _runtime
from streamll._config import configure
from streamll._spans import LISTENER
from streamll._stop import STOP, StreamClosed
from streamll.events import Event

__all__ = ["Stream", "stream"]

#: Seconds a closed iterator waits for the program to notice.
_CLOSE_TIMEOUT: Final = 5.0


class _Done:
    """The end of the program: its result or its exception."""

    def __init__(self, result: Any = None, error: BaseException | None = None) -> None:
        self.result = result
        self.error = error


def stream(program: Callable[..., Any], /, *args: Any, **inputs: Any) -> Stream:
    """Run *program* and iterate over its events as they happen, then its result.

    ``for item in stream(program, question="...")`` from synchronous code runs the program in
    a thread with a copy of the caller's context; ``async for`` awaits `program.acall`, or runs
    a program without `aforward` in a thread. The last item is the result, e.g. a
    `dspy.Prediction`; an exception of the program is raised there. The program runs once per
    iteration. Events also go to the configured sinks.

    Leaving the loop early stops the program at its next token, LM or tool call; its calls
    close with a `cancel` event that holds the partial text. In async code, leave by closing
    the iterator (`contextlib.aclosing`) to have that done before you go on.
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

    def _context(
        self, listener: Callable[[Any], None], stop: threading.Event
    ) -> contextvars.Context:
        _prepare()
        context = contextvars.copy_context()
        context.run(LISTENER.set, listener)
        context.run(STOP.set, stop)
        return context

    def _call(self) -> Any:
        return self._program(*self._args, **self._inputs)

    def __iter__(self) -> Iterator[Event | Any]:
        items: queue.SimpleQueue[Event | _Done] = queue.SimpleQueue()
        stop = threading.Event()
        context = self._context(items.put, stop)
        thread = threading.Thread(
            target=context.run,
            args=(_run, self._call, items.put),
            name="streamll-stream",
            daemon=True,
        )
        thread.start()
        try:
            while not isinstance(item := items.get(), _Done):
                yield item
            yield _result(item)
        finally:
            stop.set()
            thread.join(_CLOSE_TIMEOUT)

    async def __aiter__(self) -> AsyncIterator[Event | Any]:
        items: asyncio.Queue[Event | _Done] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def put(item: Event | _Done) -> None:
            # Events may come from the program's own threads.
            loop.call_soon_threadsafe(items.put_nowait, item)

        context = self._context(put, stop)
        task = asyncio.create_task(self._acall(put), context=context)
        try:
            while not isinstance(item := await items.get(), _Done):
                yield item
            yield _result(item)
        finally:
            stop.set()
            await _finish(task)

    async def _acall(self, put: Callable[[Any], None]) -> None:
        try:
            if hasattr(self._program, "aforward"):
                put(_Done(await self._program.acall(*self._args, **self._inputs)))  # type: ignore[attr-defined]
            else:
                put(_Done(await asyncio.to_thread(self._call)))
        except asyncio.CancelledError:
            put(_Done(error=StreamClosed()))
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the caller iterates
            put(_Done(error=error))


def _prepare() -> None:
    """Have a pipeline, and DSPy tell us of its calls."""
    # Here, not above: `import streamll` must not import dspy.
    from streamll import _dspy  # noqa: PLC0415

    _dspy.install()
    if _runtime.current() is None:
        configure([])


def _run(call: Callable[[], Any], put: Callable[[Any], None]) -> None:
    try:
        put(_Done(call()))
    except BaseException as error:  # noqa: BLE001 - raised where the caller iterates
        put(_Done(error=error))


def _result(done: _Done) -> Any:
    if done.error is not None:
        raise done.error
    return done.result


async def _finish(task: asyncio.Task[None]) -> None:
    """Cancel what still runs and wait until it has cleaned up."""
    if not task.done():
        task.cancel()
    try:
        await task
    except (asyncio.CancelledError, StreamClosed):
        return
