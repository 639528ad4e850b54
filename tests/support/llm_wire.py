"""The two wires of an OpenAI-compatible server: replies as JSON bodies and as event streams."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamll.testing._scripted_reply import Piece, Reply

__all__ = ["Chat", "Cut", "Json", "Responses", "played"]

Json = dict[str, Any]


class Cut(Exception):
    """The script ends the connection here."""


def played(reply: Reply) -> None:
    """Take the time of the whole reply; raise Cut if it fails."""
    for _ in _pieces(reply):
        pass


def _pieces(reply: Reply) -> Iterator[Piece]:
    try:
        yield from reply.play()
    except Exception as error:
        raise Cut from error


def _event(data: Json | str, name: str | None = None) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


class Chat:
    """`/v1/chat/completions`."""

    FINISH: ClassVar = {"tool_call": "tool_calls"}

    @staticmethod
    def messages(body: Json) -> list[Json]:
        """Return the prompt of a request as role and text."""
        return [{"role": m["role"], "content": _text(m["content"])} for m in body["messages"]]

    @classmethod
    def body(cls, replies: Sequence[Reply], body: Json) -> Json:
        """Return the whole answer to the request *body*."""
        choices = [cls._choice(index, reply) for index, reply in enumerate(replies)]
        head = {"id": replies[0].id, "object": "chat.completion", "created": 0}
        return {**head, "model": body["model"], "choices": choices, "usage": cls._usage(replies)}

    @classmethod
    def events(cls, replies: Sequence[Reply], body: Json) -> Iterator[str]:
        """Yield the answer to the request *body* as server-sent events."""
        head = {"id": replies[0].id, "object": "chat.completion.chunk", "created": 0}
        head |= {"model": body["model"]}
        for round_ in zip_longest(*map(_pieces, replies)):
            for index, piece in enumerate(round_):
                if piece is not None:
                    delta = {"role": "assistant", **cls._delta(replies[index], piece)}
                    choice = {"index": index, "delta": delta, "finish_reason": None}
                    yield _event({**head, "choices": [choice]})
        for index, reply in enumerate(replies):
            choice = {"index": index, "delta": {}, "finish_reason": cls._finish(reply)}
            yield _event({**head, "choices": [choice]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _event({**head, "choices": [], "usage": cls._usage(replies)})
        yield _event("[DONE]")

    @classmethod
    def _finish(cls, reply: Reply) -> str:
        return cls.FINISH.get(reply.finish_reason, reply.finish_reason)

    @classmethod
    def _choice(cls, index: int, reply: Reply) -> Json:
        message: Json = {"role": "assistant", "content": reply.text}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": _function(c.name, c.arguments)}
                for c in reply.tool_calls
            ]
        return {"index": index, "message": message, "finish_reason": cls._finish(reply)}

    @staticmethod
    def _delta(reply: Reply, piece: Piece) -> Json:
        if piece.channel == "reasoning":
            return {"reasoning_content": piece.text}
        if piece.channel == "text":
            return {"content": piece.text}
        call = reply.tool_calls[piece.tool]
        entry: Json = {"index": piece.tool, "function": {"arguments": piece.text}}
        if piece.opens_tool:
            entry |= {"id": call.id, "type": "function"}
            entry["function"]["name"] = call.name
        return {"tool_calls": [entry]}

    @staticmethod
    def _usage(replies: Sequence[Reply]) -> Json:
        names = {"prompt_tokens": "input", "completion_tokens": "output", "total_tokens": "total"}
        return {wire: _sum(replies, field) for wire, field in names.items()}


class Responses:
    """`/v1/responses`; one candidate, text only, which is all these tests need of it."""

    @staticmethod
    def messages(body: Json) -> list[Json]:
        """Return the prompt of a request as role and text."""
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        first = [{"role": "system", "content": body.get("instructions") or ""}]
        return first + [{"role": i["role"], "content": _text(i["content"])} for i in items]

    @classmethod
    def body(cls, replies: Sequence[Reply], body: Json) -> Json:
        """Return the whole answer to the request *body*."""
        reply = replies[0]
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        item = {"id": "item-0", "type": "message", "role": "assistant", "status": "completed"}
        return {**cls._head(reply, body), "status": "completed", "usage": cls._usage(reply)} | {
            "output": [{**item, "content": [part]}]
        }

    @classmethod
    def events(cls, replies: Sequence[Reply], body: Json) -> Iterator[str]:
        """Yield the answer to the request *body* as server-sent events."""
        head = {**cls._head(replies[0], body), "status": "in_progress", "output": []}
        place = {"item_id": "item-0", "output_index": 0, "content_index": 0}
        yield cls._event("response.created", 0, {"response": head})
        number = 0
        for number, piece in enumerate(_pieces(replies[0]), start=1):
            yield cls._event("response.output_text.delta", number, {**place, "delta": piece.text})
        done = {"response": cls.body(replies, body)}
        yield cls._event("response.completed", number + 1, done)

    @staticmethod
    def _event(kind: str, number: int, data: Json) -> str:
        return _event({"type": kind, "sequence_number": number, **data}, kind)

    @staticmethod
    def _head(reply: Reply, body: Json) -> Json:
        empty = dict.fromkeys(("error", "incomplete_details", "instructions", "metadata"))
        options = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        head = {"id": reply.id, "object": "response", "created_at": 0, "model": body["model"]}
        return {**head, **empty, **options, "temperature": 1.0, "top_p": 1.0}

    @staticmethod
    def _usage(reply: Reply) -> Json:
        names = {"input_tokens": "input", "output_tokens": "output", "total_tokens": "total"}
        return {wire: _sum([reply], field) for wire, field in names.items()} | {
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }


def _sum(replies: Sequence[Reply], field: str) -> int:
    return sum(getattr(reply.usage, field) or 0 for reply in replies)


def _function(name: str, arguments: str) -> Json:
    return {"name": name, "arguments": arguments}


def _text(content: Any) -> str:
    if isinstance(content, str) or not content:
        return content or ""
    return "".join(block.get("text", "") for block in content)
