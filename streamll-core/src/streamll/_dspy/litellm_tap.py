"""Watching LiteLLM's answers as they stream, on the caller's own thread.

DSPy asks `_get_stream_completion_fn` whether this request streams, and calls what it
returns. Where DSPy itself would not stream, we return a completion that does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from streamll._dspy.lm import LMCall, current

__all__ = ["streaming"]

#: Retries are LiteLLM's business before DSPy 3.4, which asks it for this strategy.
_RETRY: Final = "exponential_backoff_retry"


def streaming(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return DSPy's choice, or one that streams to us where DSPy would not stream."""

    def choose(request: dict[str, Any], cache_kwargs: Any, sync: bool = True, **more: Any) -> Any:
        theirs = original(request, cache_kwargs, sync=sync, **more)
        running = current()
        # LiteLLM assembles one choice only from a stream.
        several = (request.get("n") or 1) > 1
        if theirs is not None or running is None or running.stream is None or several:
            return theirs
        arguments = _arguments(request, cache_kwargs, more.get("headers"))
        return functools.partial(_complete if sync else _acomplete, arguments, running)

    return choose


def _arguments(request: dict[str, Any], cache: Any, headers: Any) -> dict[str, Any]:
    """Return what DSPy would pass to LiteLLM without streaming."""
    given = {**request, "cache": cache}
    return given if headers is None else {**given, "headers": headers}


def _streamed(arguments: dict[str, Any]) -> dict[str, Any]:
    options = {**(arguments.get("stream_options") or {}), "include_usage": True}
    return {**arguments, "num_retries": 0, "stream": True, "stream_options": options}


def _complete(arguments: dict[str, Any], call: LMCall) -> Any:
    import litellm  # noqa: PLC0415 - heavy, and loaded by DSPy by the time we get here

    chunks = []
    try:
        for chunk in litellm.completion(**_streamed(arguments)):
            chunks.append(chunk)
            _watch(call, chunk)
    except Exception as error:  # noqa: BLE001 - raised again, or retried
        again = _retry(error, arguments, call)
        return litellm.completion_with_retries(original_function=litellm.completion, **again)
    return _assembled(litellm, chunks, arguments, call)


async def _acomplete(arguments: dict[str, Any], call: LMCall) -> Any:
    import litellm  # noqa: PLC0415

    chunks = []
    try:
        async for chunk in await litellm.acompletion(**_streamed(arguments)):
            chunks.append(chunk)
            _watch(call, chunk)
    except Exception as error:  # noqa: BLE001 - raised again, or retried
        again = _retry(error, arguments, call)
        return await litellm.acompletion_with_retries(
            original_function=litellm.acompletion, **again
        )
    return _assembled(litellm, chunks, arguments, call)


def _retry(error: Exception, arguments: dict[str, Any], call: LMCall) -> dict[str, Any]:
    """Return the arguments of LiteLLM's retry, or raise what it would raise without a stream.

    Mirrors the wrapper of `litellm.completion`: one try, then `num_retries` by its strategy.
    The retries answer in one piece. LiteLLM wraps what fails in mid-stream; DSPy must see
    the error inside, as it would without us.
    """
    import openai  # noqa: PLC0415 - LiteLLM's errors derive from it

    if call.stream is not None:
        call.stream.failed()
    original = getattr(error, "original_exception", None)
    plain = original if isinstance(original, openai.APIError) else error
    if not call.retries or not isinstance(plain, openai.APIError):
        raise plain
    return {**arguments, "num_retries": call.retries, "retry_strategy": _RETRY}


def _assembled(litellm: Any, chunks: list[Any], arguments: dict[str, Any], call: LMCall) -> Any:
    if call.stream is not None:
        call.stream.completed()
    response = litellm.stream_chunk_builder(chunks, messages=arguments.get("messages"))
    told = [usage for chunk in chunks if (usage := getattr(chunk, "usage", None)) is not None]
    if told and response is not None:
        # The builder embellishes usage with figures of its own; DSPy gets the provider's.
        response.usage = told[-1]
    return response


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
            stream.channel(
                "tool_args", function.arguments or "", tool_call_id=part.id, tool_name=function.name
            )
    except Exception:  # noqa: BLE001 - a token we cannot show must not cost the answer
        return
