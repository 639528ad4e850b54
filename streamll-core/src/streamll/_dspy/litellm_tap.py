"""Watching LiteLLM's answers as they stream, on the caller's own thread.

DSPy asks `_get_stream_completion_fn` whether this request streams, and calls what it
returns. Where DSPy itself would not stream, we return a completion that does; where it does
(`dspy.streamify`), we listen to the chunks on their way.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import dspy

from streamll._dspy.lm import current
from streamll._dspy.refusals import is_refusal, note_refusal, refuses
from streamll._dspy.tokens import TokenStream

__all__ = ["streaming"]

#: Retries are LiteLLM's business before DSPy 3.4, which asks it for this strategy.
_RETRY: Final = "exponential_backoff_retry"
#: What LiteLLM does not assemble from a stream, or what is a stream already.
_WHOLE: Final = ("logprobs", "stream")


def streaming(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return DSPy's choice, or one that streams to us where DSPy would not stream."""

    def choose(request: dict[str, Any], cache_kwargs: Any, sync: bool = True, **more: Any) -> Any:
        running = current()
        theirs = dspy.settings.send_stream
        if running is None or running.stream is None or (request.get("n") or 1) > 1:
            return original(request, cache_kwargs, sync=sync, **more)
        if theirs is not None:
            with dspy.settings.context(send_stream=_Tee(theirs, running.stream)):
                complete = original(request, cache_kwargs, sync=sync, **more)
            return functools.partial(_told if sync else _atold, complete, running.stream)
        if any(request.get(key) for key in _WHOLE) or refuses(_key(request)):
            return None
        arguments = _arguments(request, cache_kwargs, more.get("headers"))
        run = _complete if sync else _acomplete
        return functools.partial(run, arguments, running.stream, running.retries)

    return choose


class _Tee:
    """Stands in for `settings.send_stream`: every chunk is watched and passed on."""

    def __init__(self, inner: Any, stream: TokenStream) -> None:
        self._inner = inner
        self._stream = stream

    async def send(self, chunk: Any) -> None:
        _watch(self._stream, chunk)
        await self._inner.send(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _told(complete: Callable[[], Any], stream: TokenStream) -> Any:
    stream.begin()
    response = complete()
    stream.completed()
    return response


async def _atold(complete: Callable[[], Awaitable[Any]], stream: TokenStream) -> Any:
    stream.begin()
    response = await complete()
    stream.completed()
    return response


def _key(request: dict[str, Any]) -> str:
    """Name the model, for refusals."""
    return f"litellm/{request.get('api_base')}/{request.get('model')}"


def _arguments(request: dict[str, Any], cache: Any, headers: Any) -> dict[str, Any]:
    """Return what DSPy would pass to LiteLLM without streaming."""
    given = {**request, "cache": cache}
    return given if headers is None else {**given, "headers": headers}


def _streamed(arguments: dict[str, Any]) -> dict[str, Any]:
    options = {**(arguments.get("stream_options") or {}), "include_usage": True}
    return {**arguments, "num_retries": 0, "stream": True, "stream_options": options}


def _complete(arguments: dict[str, Any], stream: TokenStream, retries: int) -> Any:
    import litellm  # noqa: PLC0415 - heavy, and loaded by DSPy by the time we get here

    chunks: list[Any] = []
    stream.begin()
    try:
        response = litellm.completion(**_streamed(arguments))
        try:
            for chunk in response:
                chunks.append(chunk)
                _watch(stream, chunk)
        except BaseException:
            _close(response)
            raise
    except Exception as error:  # noqa: BLE001 - raised again, or tried again
        if not chunks and is_refusal(error):
            return _refused(litellm.completion(**_whole(arguments, retries)), arguments)
        again = _retry(error, arguments, retries)
        stream.begin()
        return litellm.completion_with_retries(original_function=litellm.completion, **again)
    return _assembled(litellm, chunks, arguments, stream)


async def _acomplete(arguments: dict[str, Any], stream: TokenStream, retries: int) -> Any:
    import litellm  # noqa: PLC0415

    chunks: list[Any] = []
    stream.begin()
    try:
        response = await litellm.acompletion(**_streamed(arguments))
        try:
            async for chunk in response:
                chunks.append(chunk)
                _watch(stream, chunk)
        except BaseException:
            await _aclose(response)
            raise
    except Exception as error:  # noqa: BLE001 - raised again, or tried again
        if not chunks and is_refusal(error):
            return _refused(await litellm.acompletion(**_whole(arguments, retries)), arguments)
        again = _retry(error, arguments, retries)
        stream.begin()
        return await litellm.acompletion_with_retries(
            original_function=litellm.acompletion, **again
        )
    return _assembled(litellm, chunks, arguments, stream)


def _close(response: Any) -> None:
    """Hang up on the provider, who may still be sending."""
    close = getattr(getattr(response, "completion_stream", None), "close", None)
    try:
        if close is not None:
            close()
    except Exception:  # noqa: BLE001 - what broke the stream is what the caller must see
        return


async def _aclose(response: Any) -> None:
    """Hang up; also while the task is being cancelled, as nothing here waits for the network."""
    try:
        await response.aclose()
    except Exception:  # noqa: BLE001
        return


def _whole(arguments: dict[str, Any], retries: int) -> dict[str, Any]:
    """Return the arguments of the request that DSPy itself would have made."""
    return {**arguments, "num_retries": retries, "retry_strategy": _RETRY}


def _refused(response: Any, arguments: dict[str, Any]) -> Any:
    note_refusal(_key(arguments))
    return response


def _retry(error: Exception, arguments: dict[str, Any], retries: int) -> dict[str, Any]:
    """Return the arguments of LiteLLM's retry, or raise what it would raise without a stream.

    Mirrors the wrapper of `litellm.completion`: one try, then `num_retries` by its strategy.
    The retries answer in one piece.
    """
    import openai  # noqa: PLC0415 - LiteLLM's errors derive from it

    plain = _plain(error)
    if not retries or not isinstance(plain, openai.APIError):
        raise plain
    return _whole(arguments, retries)


def _plain(error: Exception) -> Exception:
    """Return the error that DSPy would see without a stream.

    LiteLLM wraps what fails in mid-stream, and tells of a broken connection to an OpenAI
    server otherwise than for whole answers.
    """
    import litellm  # noqa: PLC0415
    import openai  # noqa: PLC0415

    original = getattr(error, "original_exception", None)
    plain = original if isinstance(original, openai.APIError) else error
    if isinstance(plain, litellm.APIConnectionError) and plain.llm_provider == "openai":
        message = "InternalServerError: OpenAIException - Connection error."
        plain = litellm.InternalServerError(message, plain.llm_provider, plain.model)
    return plain


def _assembled(
    litellm: Any, chunks: list[Any], arguments: dict[str, Any], stream: TokenStream
) -> Any:
    stream.completed()
    response = litellm.stream_chunk_builder(chunks, messages=arguments.get("messages"))
    told = [usage for chunk in chunks if (usage := getattr(chunk, "usage", None)) is not None]
    if told and response is not None:
        # The builder embellishes usage with figures of its own; DSPy gets the provider's.
        response.usage = told[-1]
    return response


def _watch(stream: TokenStream, chunk: Any) -> None:
    """Pass the text of one chunk on; never raises into the call."""
    try:
        if chunk.choices:
            _watch_delta(stream, chunk.choices[0].delta)
    except Exception:  # noqa: BLE001 - a token we cannot show must not cost the answer
        return


def _watch_delta(stream: TokenStream, delta: Any) -> None:
    stream.channel("reasoning", getattr(delta, "reasoning_content", None))
    stream.text(delta.content or "")
    for call in delta.tool_calls or ():
        told = {"tool_call_id": call.id, "tool_name": call.function.name}
        stream.channel("tool_args", call.function.arguments, call.index, **told)
    extras = getattr(delta, "provider_specific_fields", None) or {}
    citation = extras.get("citation") or {}
    stream.channel("citation", citation.get("cited_text"))
