"""The scripted LM as an engine of dspy 3.4 and newer.

DSPy's own code does everything around the request: cache, retries, candidates, usage,
history, streaming. Only the provider is replaced.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import attrs
import dspy
from dspy import lm15

from streamll.testing._scripted_state import dump_script, load_script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from streamll.testing._scripted_format import Message
    from streamll.testing._scripted_reply import Piece, Reply
    from streamll.testing._scripted_script import Script, ScriptedCall

__all__ = ["ESCAPE_XML", "AsyncScriptedEngine", "ScriptedEngine", "ScriptedLM", "make_lm"]

ESCAPE_XML: Final = True

# The options that adapters may set; "response_format" lets JSONAdapter ask for JSON.
_PARAMS: Final = frozenset({"temperature", "max_tokens", "response_format", "tools", "tool_choice"})


@attrs.define(eq=False, slots=False)
class _EngineBase:
    """What the sync and the async engine share: the script and the declared abilities."""

    script: Script
    supports: frozenset[str] = frozenset()

    supported_params = _PARAMS

    @property
    def supports_function_calling(self) -> bool:
        return "function_calling" in self.supports

    @property
    def supports_reasoning(self) -> bool:
        return "reasoning" in self.supports

    @property
    def supports_response_schema(self) -> bool:
        return "response_schema" in self.supports

    def dump_state(self) -> dict[str, Any]:
        return {"script": dump_script(self.script), "supports": sorted(self.supports)}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> _EngineBase:
        return cls(load_script(state["script"]), frozenset(state["supports"]))

    def _reply(self, request: lm15.Request, *, stream: bool) -> Reply:
        return self.script.reply(_messages(request), _options(request), stream=stream)


class ScriptedEngine(_EngineBase):
    """Implements `dspy.clients.engines.base.Engine`."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        reply = self._reply(request, stream=False)
        reply.complete()
        return _response(reply, request)

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        reply = self._reply(request, stream=True)
        yield lm15.StreamStartEvent(id=reply.id, model=request.model)
        for piece in reply.play():
            yield _delta(reply, piece)
        yield _end(reply)

    def close(self) -> None:
        """Hold nothing open: there is nothing to close."""


class AsyncScriptedEngine(_EngineBase):
    """Implements `dspy.clients.engines.base.AsyncEngine`."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        reply = self._reply(request, stream=False)
        await reply.acomplete()
        return _response(reply, request)

    async def stream(self, request: lm15.Request) -> AsyncIterator[lm15.StreamEvent]:
        reply = self._reply(request, stream=True)
        yield lm15.StreamStartEvent(id=reply.id, model=request.model)
        async for piece in reply.aplay():
            yield _delta(reply, piece)
        yield _end(reply)

    async def aclose(self) -> None:
        """Hold nothing open: there is nothing to close."""


class ScriptedLM(dspy.LM):  # type: ignore[misc]  # dspy is untyped
    """A `dspy.LM` on a pair of scripted engines; see `streamll.testing.ScriptedLM`."""

    def __init__(
        self, model: str, *, engine: ScriptedEngine, async_engine: Any = None, **kwargs: Any
    ) -> None:
        # A loaded state brings two engines with a script each; the pair must share one.
        if async_engine is None or async_engine.script is not engine.script:
            async_engine = AsyncScriptedEngine(engine.script, engine.supports)
        super().__init__(model, engine=engine, async_engine=async_engine, **kwargs)

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """The requests that reached the model, shared with copies of this LM."""
        return self.engine.script.calls  # type: ignore[no-any-return]


def make_lm(script: Script, model: str, supports: frozenset[str], **kwargs: Any) -> ScriptedLM:
    """Build the LM that plays *script*."""
    return ScriptedLM(model, engine=ScriptedEngine(script, supports), **kwargs)


def _messages(request: lm15.Request) -> list[Message]:
    system = request.system
    text = system if isinstance(system, str) else _text(system or ())
    first = [{"role": "system", "content": text}] if text else []
    return [*first, *({"role": m.role, "content": _text(m.parts)} for m in request.messages)]


def _text(parts: Sequence[Any]) -> str:
    return "".join(
        _text(part.content) if isinstance(part, lm15.ToolResultPart) else getattr(part, "text", "")
        for part in parts
    )


def _options(request: lm15.Request) -> dict[str, Any]:
    config = request.config
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if request.tools:
        options["tools"] = request.tools
    return {name: value for name, value in options.items() if value not in (None, ())}


def _usage(reply: Reply) -> lm15.Usage:
    return lm15.Usage(
        input_tokens=reply.usage.input,
        output_tokens=reply.usage.output,
        total_tokens=reply.usage.total,
        cache_read_tokens=reply.usage.cached,
        reasoning_tokens=reply.usage.reasoning,
    )


def _response(reply: Reply, request: lm15.Request) -> lm15.Response:
    thinking = [lm15.ThinkingPart(reply.reasoning)] if reply.reasoning else []
    calls = [lm15.ToolCallPart(call.id, call.name, call.args) for call in reply.tool_calls]
    text = [lm15.TextPart(reply.text)] if reply.text or not calls else []
    return lm15.Response(
        id=reply.id,
        model=request.model,
        message=lm15.Message.assistant([*thinking, *text, *calls]),
        finish_reason=reply.finish_reason,
        usage=_usage(reply),
    )


# Parts of one answer keep their order by index: thinking 0, text 1, tool calls from 2.
def _delta(reply: Reply, piece: Piece) -> lm15.StreamDeltaEvent:
    if piece.channel == "reasoning":
        return lm15.StreamDeltaEvent(lm15.ThinkingDelta(piece.text, part_index=0))
    if piece.channel == "text":
        return lm15.StreamDeltaEvent(lm15.TextDelta(piece.text, part_index=1))
    call = reply.tool_calls[piece.tool]
    name = {"id": call.id, "name": call.name} if piece.opens_tool else {}
    delta = lm15.ToolCallDelta(piece.text, part_index=2 + piece.tool, **name)
    return lm15.StreamDeltaEvent(delta)


def _end(reply: Reply) -> lm15.StreamEndEvent:
    return lm15.StreamEndEvent(finish_reason=reply.finish_reason, usage=_usage(reply))
