"""The scripted LM as a LiteLLM provider, for dspy 3.0 to 3.3.

DSPy and LiteLLM do everything around the request: cache, history, usage, streaming. Only the
provider is replaced. LiteLLM finds providers by the prefix of the model name and hands them no
word of the LM that calls, so the LM leaves its script in a context variable.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import dspy
import litellm
from litellm.types.utils import (
    ChatCompletionDeltaToolCall,
    ChatCompletionMessageToolCall,
    Choices,
    Delta,
    Function,
    GenericStreamingChunk,
    ModelResponse,
    ModelResponseStream,
    StreamingChoices,
    Usage,
)
from litellm.utils import custom_llm_setup

from streamll.testing._scripted_script import Script, ScriptedCall, ScriptError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from streamll.testing._scripted_format import Message
    from streamll.testing._scripted_reply import Piece, Reply, ToolCall

__all__ = ["ESCAPE_XML", "ScriptedLM", "ScriptedProvider", "make_lm"]

# From dspy 3.3 on XMLAdapter reads its answers with an XML parser, before with a pattern.
ESCAPE_XML: Final = hasattr(dspy.XMLAdapter, "_group_children")

_PREFIX: Final = "scripted"
# How the request travels, which LiteLLM mixes with what is asked of the model.
_TRANSPORT: Final = frozenset({"n", "stream", "stream_options", "max_retries"})
_FINISH: Final = {"tool_call": "tool_calls"}

_script: ContextVar[Script] = ContextVar("streamll_script")
# dspy up to 3.2 restores a saved LM as a plain `dspy.LM` of that model name.
_last_script: dict[str, Script] = {}


@contextmanager
def _playing(script: Script) -> Iterator[None]:
    token = _script.set(script)
    try:
        yield
    finally:
        _script.reset(token)


class ScriptedProvider(litellm.CustomLLM):  # type: ignore[misc]  # litellm is untyped
    """Answers LiteLLM's requests for `scripted/...` models from the script of the calling LM."""

    def completion(self, **call: Any) -> ModelResponse:
        replies = _replies(call, stream=False)
        for reply in replies:
            reply.complete()
        return _response(replies, call["model_response"])

    async def acompletion(self, **call: Any) -> ModelResponse:
        replies = _replies(call, stream=False)
        for reply in replies:
            await reply.acomplete()
        return _response(replies, call["model_response"])

    # The request is read at once, in the caller's context, and not when the stream is.
    def streaming(self, **call: Any) -> Iterator[Any]:
        return _stream(_replies(call, stream=True)[0])

    def astreaming(self, **call: Any) -> AsyncIterator[Any]:
        return _astream(_replies(call, stream=True)[0])


class ScriptedLM(dspy.LM):  # type: ignore[misc]  # dspy is untyped
    """A `dspy.LM` of the scripted provider; see `streamll.testing.ScriptedLM`."""

    def __init__(self, model: str, *, script: Script | None = None, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.script = script or _script_of(model)

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """The requests that reached the model, shared with copies of this LM."""
        return self.script.calls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _playing(self.script):
            return super().forward(*args, **_without_mcp(kwargs))

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        with _playing(self.script):
            return await super().aforward(*args, **_without_mcp(kwargs))


def make_lm(script: Script, model: str, supports: frozenset[str], **kwargs: Any) -> ScriptedLM:
    """Build the LM that plays *script*, and make its model known to LiteLLM."""
    _register_provider()
    abilities = {f"supports_{ability}": True for ability in supports}
    known = {"litellm_provider": _PREFIX, "mode": "chat", **abilities}
    litellm.register_model({model: known})
    _last_script[model] = script
    return ScriptedLM(model, script=script, **kwargs)


def _register_provider() -> None:
    if all(item["provider"] != _PREFIX for item in litellm.custom_provider_map):
        handler = {"provider": _PREFIX, "custom_handler": ScriptedProvider()}
        litellm.custom_provider_map.append(handler)
        custom_llm_setup()


def _without_mcp(kwargs: dict[str, Any]) -> dict[str, Any]:
    # With tools LiteLLM asks its MCP gateway first, which needs a package DSPy does not install.
    return {**kwargs, "_skip_mcp_handler": True} if kwargs.get("tools") else kwargs


def _replies(call: dict[str, Any], *, stream: bool) -> list[Reply]:
    given = call["optional_params"]
    options = {name: value for name, value in given.items() if name not in _TRANSPORT}
    count = given.get("n") or 1
    if stream and count > 1:
        raise ScriptError("LiteLLM cannot put several streamed candidates together; use n=1")
    script = _script.get(None) or _script_of(f"{_PREFIX}/{call['model']}")
    messages = [_message(message) for message in call["messages"]]
    return [script.reply(messages, options, stream=stream) for _ in range(count)]


def _script_of(model: str) -> Script:
    if model not in _last_script:
        raise ScriptError(f"no ScriptedLM was made for {model!r} in this process")
    return _last_script[model]


def _message(message: dict[str, Any]) -> Message:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else "".join(b.get("text", "") for b in content)
    return {"role": message["role"], "content": text}


def _usage(replies: Sequence[Reply]) -> Usage:
    def total(name: str) -> int | None:
        known = [n for reply in replies if (n := getattr(reply.usage, name)) is not None]
        return sum(known) if known else None

    cached, reasoning = total("cached"), total("reasoning")
    return Usage(
        prompt_tokens=total("input"),
        completion_tokens=total("output"),
        total_tokens=total("total"),
        prompt_tokens_details=None if cached is None else {"cached_tokens": cached},
        completion_tokens_details=None if reasoning is None else {"reasoning_tokens": reasoning},
    )


def _finish_reason(reply: Reply) -> str:
    return _FINISH.get(reply.finish_reason, reply.finish_reason)


def _response(replies: Sequence[Reply], response: ModelResponse) -> ModelResponse:
    response.id = replies[0].id
    response.choices = [_choice(index, reply) for index, reply in enumerate(replies)]
    response.usage = _usage(replies)
    return response


def _choice(index: int, reply: Reply) -> Choices:
    message = litellm.Message(
        content=reply.text or (None if reply.tool_calls else ""),
        tool_calls=[_called(call) for call in reply.tool_calls] or None,
        reasoning_content=reply.reasoning,
    )
    return Choices(index=index, message=message, finish_reason=_finish_reason(reply))


def _called(call: ToolCall) -> ChatCompletionMessageToolCall:
    function = Function(name=call.name, arguments=call.arguments)
    return ChatCompletionMessageToolCall(id=call.id, type="function", function=function)


def _stream(reply: Reply) -> Iterator[Any]:
    for piece in reply.play():
        yield _chunk(reply, piece)
    yield _end(reply)


async def _astream(reply: Reply) -> AsyncIterator[Any]:
    async for piece in reply.aplay():
        yield _chunk(reply, piece)
    yield _end(reply)


def _chunk(reply: Reply, piece: Piece) -> ModelResponseStream:
    choice = StreamingChoices(index=0, delta=_delta(reply, piece))
    return ModelResponseStream(id=reply.id, choices=[choice])


def _delta(reply: Reply, piece: Piece) -> Delta:
    if piece.channel == "reasoning":
        return Delta(content=None, reasoning_content=piece.text)
    if piece.channel == "text":
        return Delta(content=piece.text)
    call = reply.tool_calls[piece.tool]
    name, id_ = (call.name, call.id) if piece.opens_tool else (None, None)
    function = Function(name=name, arguments=piece.text)
    return Delta(
        content=None,
        tool_calls=[
            ChatCompletionDeltaToolCall(
                index=piece.tool, id=id_, type="function", function=function
            )
        ],
    )


# LiteLLM keeps the usage of a stream only from a chunk of this shape.
def _end(reply: Reply) -> GenericStreamingChunk:
    return GenericStreamingChunk(
        text="",
        tool_use=None,
        is_finished=True,
        finish_reason=_finish_reason(reply),
        usage=_usage([reply]).model_dump(exclude_none=True),
        index=0,
    )
