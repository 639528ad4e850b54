"""One answer as it goes out: chunks in order, with their pace, then the end or the failure."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Literal

import attrs

from streamll.testing._scripted_answer import FinishReason, ScriptedAnswer, ScriptedUsage
from streamll.testing._scripted_chunks import Chunk, cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from streamll.testing._scripted_format import Message

__all__ = ["Piece", "Reply", "ToolCall", "usage_of"]


@attrs.frozen
class ToolCall:
    """A native tool call; `arguments` is the JSON that is streamed."""

    id: str
    name: str
    args: dict[str, Any]

    @property
    def arguments(self) -> str:
        return json.dumps(self.args, ensure_ascii=False)


@attrs.frozen
class Piece:
    """One chunk of a reply. `tool` is the index of the call that a "tool_call" piece feeds."""

    channel: Literal["reasoning", "text", "tool_call"]
    text: str
    tool: int = 0
    opens_tool: bool = False


@attrs.frozen(kw_only=True)
class Reply:
    """Everything one request gets back. Immutable; played once per request.

    A call that does not stream takes as long as its stream would: one `delay` per chunk.
    """

    id: str
    text: str
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]
    usage: ScriptedUsage
    finish_reason: FinishReason
    pieces: tuple[Piece, ...]
    delay: float
    error: BaseException | None

    def play(self) -> Iterator[Piece]:
        """Yield the chunks, each after `delay` seconds, then raise `error` if there is one."""
        for piece in self.pieces:
            time.sleep(self.delay)
            yield piece
        self._fail()

    async def aplay(self) -> AsyncIterator[Piece]:
        """Yield the chunks as `play` does, giving way to other tasks before each."""
        for piece in self.pieces:
            await asyncio.sleep(self.delay)
            yield piece
        self._fail()

    def complete(self) -> None:
        """Take the time of the whole answer, then return, or raise `error`."""
        for _ in self.play():
            pass

    async def acomplete(self) -> None:
        """Take the time of the whole answer on the event loop, then return, or raise `error`."""
        async for _ in self.aplay():
            pass

    def _fail(self) -> None:
        if self.error is not None:
            # A shared exception would otherwise collect the frames of every earlier call.
            raise self.error.with_traceback(None)

    @classmethod
    def of(
        cls,
        answer: ScriptedAnswer,
        *,
        id: str,  # noqa: A002 - the wire's own word
        text: str,
        usage: ScriptedUsage,
        chunk: Chunk,
        delay: float,
    ) -> Reply:
        """Lay out *answer*, whose fields are already rendered as *text*."""
        calls = tuple(
            ToolCall(f"{id}-tool-{index}", name, args)
            for index, (name, args) in enumerate(answer.tool_calls)
        )
        return cls(
            id=id,
            text=text,
            reasoning=answer.reasoning,
            tool_calls=calls,
            usage=usage,
            finish_reason=answer.finish_reason or ("tool_call" if calls else "stop"),
            pieces=_until_error(answer, _pieces(answer.reasoning or "", text, calls, chunk)),
            delay=delay if answer.delay is None else answer.delay,
            error=answer.error,
        )


def _pieces(
    reasoning: str, text: str, calls: Sequence[ToolCall], chunk: Chunk
) -> tuple[Piece, ...]:
    spoken = [Piece("reasoning", part) for part in cut(reasoning, chunk)]
    written = [Piece("text", part) for part in cut(text, chunk)]
    called = [
        Piece("tool_call", part, tool=index, opens_tool=position == 0)
        for index, call in enumerate(calls)
        for position, part in enumerate(cut(call.arguments, chunk))
    ]
    return (*spoken, *written, *called)


def _until_error(answer: ScriptedAnswer, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    return pieces if answer.error is None else pieces[: answer.error_after or 0]


def usage_of(
    usage: ScriptedUsage | None, answer: ScriptedAnswer, text: str, messages: Sequence[Message]
) -> ScriptedUsage:
    """Return *usage* with what it leaves open counted in words: one token per word.

    Without a *usage* everything is counted. The prompt is input; reasoning, text and tool calls
    are output.
    """
    prompt = sum(len(str(message["content"]).split()) for message in messages)
    calls = " ".join(f"{name} {json.dumps(args)}" for name, args in answer.tool_calls)
    output = len(f"{answer.reasoning or ''} {text} {calls}".split())
    stated = usage or ScriptedUsage(output=output)
    return stated.filled(prompt_words=prompt, answer_words=output)
