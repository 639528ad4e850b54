"""The text of one LM call -> token events, decoded per output field.

One `TokenStream` belongs to one LM call: it makes one parser per attempt and choice, so
calls never share state. It only ever sees text; where the text comes from is `taps`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from streamll._dspy.asked import TOOL_ARGS, Asked, new_parser, output_fields
from streamll._dspy.outputs import pieces_of
from streamll._dspy.runs import Runs
from streamll._spans import Span
from streamll._stop import check_stopped
from streamll._tokens import Parser, Piece

__all__ = ["TokenStream"]


class TokenStream:
    """Emits the tokens of one LM call. Used by the thread or task that makes the call."""

    def __init__(self, span: Span, asked: Asked | None) -> None:
        self._span = span
        self._asked = asked or Asked(None, None)
        self._fields = output_fields(self._asked.signature, span.options.stream_fields)
        self._runs = Runs(span, self._asked)
        self._parser: Parser | None = None
        self._choice = 0
        self._first: float | None = None
        self._answered_below = False
        self._replace_earlier()

    def _replace_earlier(self) -> None:
        """Announce it, where an earlier call told tokens that this one replaces."""
        asked = self._asked
        if asked.failed:  # a call below the same LM call: a router's next model
            asked.failed = False
            asked.attempt += 1
            self._void("lm_retry")
        elif asked.attempt > 1:
            self._void("adapter_fallback")
            self._runs.origin = "fallback"

    def _void(self, reason: str) -> None:
        if self._asked.streamed:
            self._runs.reset(reason)
            self._asked.streamed = False

    def begin(self) -> None:
        """Begin an attempt at the next choice; what a broken attempt told is void."""
        self._parser = None
        if self._runs.drop(self._choice):
            self._asked.attempt += 1
            self._runs.reset("lm_retry", self._choice)

    def text(self, piece: str) -> None:
        """Take the next *piece* of the completion. Raises StreamClosed to stop the program."""
        check_stopped()
        if piece:
            self._note()
            self._text(piece)

    def channel(self, name: str, piece: str | None, part: int = 0, **extra: Any) -> None:
        """Take text that is not the completion: "reasoning", "tool_args", "citation"."""
        check_stopped()
        if piece:
            self._note()
            self._channel(name, piece, part, extra)

    def completed(self) -> None:
        """End the text of one choice; the next text belongs to the next choice."""
        if self._parser is not None:
            self._take(self._parser.finish())
        self._runs.complete(self._choice)
        self._runs.flush()
        self._asked.told.append(self._told())
        self._asked.llm_span_id = self._span.span_id
        self._choice += 1

    def answered_below(self) -> None:
        """Note that another LM call, made by this one, has told the answer."""
        self._answered_below = True

    def finish(self, outputs: Any, *, error: BaseException | None, cached: bool) -> None:
        """Emit what never streamed: cached answers and engines that answer in one piece."""
        self._runs.flush()
        told = self._choice > 0 or self._answered_below
        if told or error is not None or not isinstance(outputs, list):
            return
        replay = self._span.options.replay_cached if cached else "whole"
        if replay == "off":
            return
        self._runs.origin = "cache_replay" if cached else self._runs.origin
        for output in outputs:
            self._replay(output, paced=replay == "paced")

    def _replay(self, output: Any, *, paced: bool) -> None:
        self.begin()
        for name, text, part, extra in pieces_of(output):
            for piece in _cut(text, paced=paced):
                if name == "text":
                    self._text(piece)
                else:
                    self._channel(name, piece, part, extra)
        self.completed()

    def summary(self) -> dict[str, Any]:
        """Return length and hash of each field that was emitted, to check the tokens by."""
        fields = {
            name: {"length": run.length, "sha256": _hash(run.text)}
            for name, run in self._runs.fields(choice=0).items()
        }
        return {"fields": fields} if fields else {}

    def partial(self) -> dict[str, Any]:
        """Return the text so far of each field, for a call that did not end well."""
        self._runs.flush()
        texts = {name: run.text for name, run in self._runs.fields().items()}
        return {"partial": texts} if texts else {}

    def silent(self) -> list[str]:
        """Return the fields that were wanted and of which nothing was emitted."""
        if self._answered_below:
            return []
        missing = self._fields.wanted - self._runs.fields().keys()
        return [name for name in self._fields.names if name in missing]

    def timing(self, output_tokens: int | None) -> dict[str, float]:
        """Return time to first token and rate, where tokens streamed live."""
        if self._first is None:
            return {}
        started = self._span.started
        timing = {"ttft_ms": round((self._first - started) * 1000, 3)}
        elapsed = time.perf_counter() - started
        if output_tokens and elapsed > 0:
            timing["tokens_per_second"] = round(output_tokens / elapsed, 1)
        return timing

    def __bool__(self) -> bool:
        return bool(self._runs)

    def _note(self) -> None:
        if self._first is None:
            self._first = time.perf_counter()

    def _text(self, piece: str) -> None:
        if self._parser is None:
            self._parser = new_parser(self._asked.adapter, self._fields)
        self._take(self._parser.feed(piece))

    def _channel(self, name: str, piece: str, part: int, extra: dict[str, Any]) -> None:
        told = {key: value for key, value in extra.items() if value is not None}
        self._runs.add((self._choice, name, "", part), piece, told)

    def _take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece.text:
                key = (self._choice, _channel_of(piece.field), piece.field, 0)
                self._runs.add(key, piece.text, {})
            if piece.is_last:
                self._runs.complete(self._choice, piece.field)

    def _told(self) -> dict[str, str]:
        """Return every wanted field, unscrubbed; nothing where the adapter is not decoded."""
        runs = self._runs.fields(self._choice)
        if not runs:
            return {}
        wanted = self._fields.wanted
        return {name: "".join(runs[name].came) if name in runs else "" for name in wanted}


def _channel_of(field: str) -> str:
    if field == TOOL_ARGS:
        return "tool_args"
    return "content" if field else "raw"


def _cut(text: str, *, paced: bool) -> list[str]:
    """Cut a cached answer into words, for consumers that type it out; else leave it whole."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) if paced else [text]


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()
