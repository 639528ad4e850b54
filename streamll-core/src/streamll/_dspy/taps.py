"""Where the text of an LM call can be watched as it streams.

DSPy asks an engine for a whole answer. Below DSPy's cache, retry and adapter fallback, and
above the wire, we ask the same engine to stream instead, watch the pieces, and hand DSPy the
assembled answer. DSPy does not know: nothing it decides by "is this call streaming?"
changes, one request stays one request, and all of it runs on the caller's own thread.

Two places cover all engines: `execution._engine` (3.4: native and custom engines) and
`lm._get_stream_completion_fn` (LiteLLM, all versions). A program under `dspy.streamify`
already streams; there we only listen.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from dspy.clients import lm as dspy_lm

from streamll._dspy import litellm_tap
from streamll._dspy.lm import current
from streamll._dspy.refusals import is_refusal, note_refusal, refuses
from streamll._dspy.tokens import TokenStream

__all__ = ["install_taps"]


def install_taps() -> None:
    """Watch the engines of the installed DSPy."""
    original = dspy_lm._get_stream_completion_fn
    dspy_lm._get_stream_completion_fn = litellm_tap.streaming(original)
    try:
        execution = importlib.import_module("dspy.clients.execution")
    except ModuleNotFoundError:  # before 3.4 every LM goes through LiteLLM
        return
    _tap_engines(execution)


def _tap_engines(execution: Any) -> None:
    choose = execution._engine

    def engine(lm: Any, call: Any, asynchronous: bool) -> Any:
        backend, request, provider = choose(lm, call, asynchronous)
        running = current()
        streams = request is not None and hasattr(backend, "stream")
        if not streams or running is None or running.stream is None:
            return backend, request, provider
        tapped = _AsyncTapped if asynchronous else _Tapped
        return tapped(backend, provider, running.stream, execution), request, provider

    execution._engine = engine


def _watch(stream: TokenStream, event: Any) -> None:
    """Pass the text of one engine event on; never raises into the engine."""
    try:
        if event.type == "delta":
            _watch_part(stream, event.delta)
        elif event.type == "end":
            stream.completed()
    except Exception:  # noqa: BLE001 - a token we cannot show must not cost the answer
        return


def _watch_part(stream: TokenStream, part: Any) -> None:
    if part.type == "text":
        stream.text(part.text)
    elif part.type == "thinking":
        stream.channel("reasoning", part.text)
    elif part.type == "tool_call":
        told = {"tool_call_id": part.id, "tool_name": part.name}
        stream.channel("tool_args", part.input, part.part_index, **told)
    elif part.type == "citation":
        stream.channel("citation", part.text)


class _Tapped:
    """An engine whose answers are watched while they stream."""

    def __init__(self, inner: Any, provider: Any, stream: TokenStream, execution: Any) -> None:
        self._inner = inner
        self._provider = provider
        self._stream = stream
        self._execution = execution

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _key(self, request: Any) -> str:
        """Name the model, for refusals."""
        return f"{type(self._inner).__name__}/{self._provider}/{request.model}"

    def complete(self, request: Any) -> Any:
        if refuses(self._key(request)):
            return self._inner.complete(request)
        accumulator = self._execution.StreamAccumulator(request)
        begun = False
        try:
            with self._execution.closing_stream(self.stream(request)) as events:
                for event in events:
                    begun = True
                    accumulator.push(event)
        except Exception as error:
            if begun or not is_refusal(error):
                raise
            return self._whole(request)
        return accumulator.response()

    def _whole(self, request: Any) -> Any:
        response = self._inner.complete(request)
        note_refusal(self._key(request))
        return response

    def stream(self, request: Any) -> Iterator[Any]:
        self._stream.begin()
        source = self._inner.stream(request)
        events = self._execution.checked_stream(source, provider=self._provider)
        with self._execution.closing_stream(events):
            for event in events:
                _watch(self._stream, event)
                yield event


class _AsyncTapped(_Tapped):
    """The same for async engines."""

    async def complete(self, request: Any) -> Any:
        if refuses(self._key(request)):
            return await self._inner.complete(request)
        accumulator = self._execution.StreamAccumulator(request)
        begun = False
        try:
            async with self._execution.aclosing_stream(self.stream(request)) as events:
                async for event in events:
                    begun = True
                    accumulator.push(event)
        except Exception as error:
            if begun or not is_refusal(error):
                raise
            return await self._whole(request)
        return accumulator.response()

    async def _whole(self, request: Any) -> Any:
        response = await self._inner.complete(request)
        note_refusal(self._key(request))
        return response

    async def stream(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        self._stream.begin()
        source = self._inner.stream(request)
        events = self._execution.achecked_stream(source, provider=self._provider)
        async with self._execution.aclosing_stream(events):
            async for event in events:
                _watch(self._stream, event)
                yield event
