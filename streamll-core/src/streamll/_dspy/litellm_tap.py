"""Watching LiteLLM's answers as they stream, on the caller's own thread.

DSPy asks `_get_stream_completion_fn` whether this request streams, and calls what it
returns. Where DSPy itself would not stream, we return a completion that does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from streamll._dspy.lm import LMCall, current

__all__ = ["streaming"]

#: Retries are LiteLLM's business before DSPy 3.4, which asks it for this strategy.
_RETRY: Final = "exponential_backoff_retry"


def streaming(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return DSPy's choice, or one that streams to us where DSPy would not stream."""

    def choose(request: dict[str, Any], cache_kwargs: Any, sync: bool = True, **more: Any) -> Any:  # noqa: FBT001, FBT002
        theirs = original(request, cache_kwargs, sync=sync, **more)
        running = current()
        # LiteLLM assembles one choice only from a stream.
        several = (request.get("n") or 1) > 1
        if theirs is not None or running is None or running.stream is None or several:
            return theirs
        arguments = _arguments(request, cache_kwargs, running, more.get("headers"))
        return (lambda: _complete(arguments, running)) if sync else (lambda: _acomplete(arguments, running))

    return choose


def _arguments(request: dict[str, Any], cache: Any, call: LMCall, headers: Any) -> dict[str, Any]:
    given = dict(request)
    if headers is not None:
        given["headers"] = headers
    options = {**(given.pop("stream_options", None) or {}), "include_usage": True}
    return {
        **given,
        "cache": cache,
        "num_retries": call.retries,
        "retry_strategy": _RETRY,
        "stream": True,
        "stream_options": options,
    }


def _complete(arguments: dict[str, Any], call: LMCall) -> Any:
    import litellm  # noqa: PLC0415 - heavy, and loaded by DSPy by the time we get here

    chunks = []
    try:
        for chunk in litellm.completion(**arguments):
            chunks.append(chunk)
            _watch(call, chunk)
    except BaseException:
        _failed(call)
        raise
    return _assembled(litellm, chunks, arguments, call)


async def _acomplete(arguments: dict[str, Any], call: LMCall) -> Any:
    import litellm  # noqa: PLC0415

    chunks = []
    try:
        async for chunk in await litellm.acompletion(**arguments):
            chunks.append(chunk)
            _watch(call, chunk)
    except BaseException:
        _failed(call)
        raise
    return _assembled(litellm, chunks, arguments, call)


def _assembled(litellm: Any, chunks: list[Any], arguments: dict[str, Any], call: LMCall) -> Any:
    if call.stream is not None:
        call.stream.completed()
    return litellm.stream_chunk_builder(chunks, messages=arguments.get("messages"))


def _failed(call: LMCall) -> None:
    if call.stream is not None:
        call.stream.failed()


def _watch(call: LMCall, chunk: Any) -> None:
    """Pass the text of one chunk on; never raises into the call."""
    stream = call.stream
    try:
        delta = chunk.choices[0].delta
        if stream is None:
            return
        stream.channel("reasoning", getattr(delta, "reasoning_content", None) or "")
        stream.text(delta.content or "")
        for part in delta.tool_calls or ():
            function = part.function
            stream.channel("tool_args", function.arguments or "", tool_call_id=part.id, tool_name=function.name)
    except Exception:  # noqa: BLE001 - a token we cannot show must not cost the answer
        return
