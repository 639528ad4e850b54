"""The text of one LM call -> token events, decoded per output field.

One `TokenStream` belongs to one LM call: it makes one parser per attempt and choice, so
calls never share state. It only ever sees text; where the text comes from is `taps`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Literal, get_args, get_origin

import attrs

from streamll import _runtime
from streamll._spans import Span
from streamll._stop import check_stopped
from streamll._tokens import OutputFields, Parser, Piece, XmlTagParser, select_parser

__all__ = ["Asked", "TokenStream"]

#: ReAct's field for the arguments of the tool it wants to call.
_TOOL_ARGS = "next_tool_args"


@attrs.define(eq=False)
class Asked:
    """What a module asked an adapter for; the LM calls that answer share it.

    Attributes:
        adapter: renders the prompt and parses the answer.
        signature: whose output fields are asked for.
        attempt: 1, or more after an answer could not be used.
        failed: whether the last answer could not be used, so that another LM call for the
            same fields replaces its tokens.
        streamed: whether tokens of this or an earlier attempt were emitted.
    """

    adapter: Any
    signature: Any
    attempt: int = 1
    failed: bool = False
    streamed: bool = False

    def again(self, adapter: Any, signature: Any) -> Asked:
        """Return what is asked next by the same module."""
        if not self.failed:
            return Asked(adapter, signature)
        return Asked(adapter, signature, self.attempt + 1, streamed=self.streamed)


@attrs.define
class _Run:
    """The tokens of one field (or channel) of one choice that go out together."""

    choice: int
    channel: str
    field: str
    extra: Mapping[str, Any]
    index: int = 0
    parts: list[str] = attrs.field(factory=list)
    length: int = 0
    waiting: str = ""
    since: float = 0.0


class TokenStream:
    """Emits the tokens of one LM call. Used by the thread or task that makes the call."""

    def __init__(self, span: Span, asked: Asked | None) -> None:
        self._span = span
        self._asked = asked or Asked(None, None)
        self._fields = _output_fields(self._asked.signature, span.options.stream_fields)
        self._choice = 0
        self._parsers: dict[int, Parser] = {}
        self._runs: dict[tuple[int, str, str], _Run] = {}
        self._last: _Run | None = None
        self._seen = False
        self._first: float | None = None
        self._origin = "live"
        if self._asked.attempt > 1 and self._asked.streamed:
            self._origin = "fallback"
            self._emit_reset("adapter_fallback")

    def text(self, piece: str, choice: int | None = None) -> None:
        """Take the next *piece* of the completion."""
        check_stopped()
        if piece:
            index = self._choice if choice is None else choice
            self._note()
            self._take(self._parser(index).feed(piece), index)

    def channel(self, name: str, piece: str, **extra: Any) -> None:
        """Take text that is not the completion: "reasoning", "tool_args", "citation"."""
        check_stopped()
        if piece:
            self._note()
            told = {key: value for key, value in extra.items() if value is not None}
            self._add(self._run(self._choice, name, "", told), piece)

    def completed(self) -> None:
        """End the text of one choice; the next text belongs to the next choice."""
        parser = self._parsers.get(self._choice)
        if parser is not None:
            self._take(parser.finish(), self._choice)
        self._flush()
        self._choice += 1

    def failed(self) -> None:
        """Forget an attempt that broke off: its tokens are announced as void."""
        self._flush()
        if self._choice in self._parsers or any(
            run.choice == self._choice for run in self._runs.values()
        ):
            self._asked.attempt += 1
            self._parsers.pop(self._choice, None)
            self._runs = {k: run for k, run in self._runs.items() if run.choice != self._choice}
            self._emit_reset("lm_retry")

    def finish(self, outputs: Any, *, error: BaseException | None, cached: bool) -> None:
        """Emit what never streamed: cached answers and engines that answer in one piece."""
        replay = self._span.options.replay_cached
        self._flush()
        if self._choice > 0 or error is not None or not isinstance(outputs, list):
            return
        if cached and replay == "off":
            return
        self._origin = "cache_replay" if cached else self._origin
        for output in outputs:
            for piece in _cut(_text_of(output), paced=cached and replay == "paced"):
                self.text(piece)
            self.completed()

    def summary(self) -> dict[str, Any]:
        """Return length and hash of each field that was emitted, to check the tokens by."""
        fields = {
            run.field: {"length": run.length, "sha256": _hash(run.parts)}
            for run in self._runs.values()
            if run.choice == 0 and run.field
        }
        return {"fields": fields} if fields else {}

    def partial(self) -> dict[str, Any]:
        """Return the text so far of each field, for a call that did not end well."""
        texts = {run.field: "".join(run.parts) for run in self._runs.values() if run.field}
        return {"partial": texts} if texts else {}

    def silent(self) -> list[str]:
        """Return the fields that were wanted and of which nothing was emitted."""
        told = {run.field for run in self._runs.values()}
        return [name for name in self._fields.names if name in self._fields.wanted - told]

    def timing(self, output_tokens: int | None) -> dict[str, float]:
        """Return time to first token and rate, where tokens streamed live."""
        if self._first is None or self._origin == "cache_replay":
            return {}
        started = self._span.started
        timing = {"ttft_ms": round((self._first - started) * 1000, 3)}
        elapsed = time.perf_counter() - started
        if output_tokens and elapsed > 0:
            timing["tokens_per_second"] = round(output_tokens / elapsed, 1)
        return timing

    def _note(self) -> None:
        self._seen = True
        if self._first is None:
            self._first = time.perf_counter()

    def _parser(self, choice: int) -> Parser:
        parser = self._parsers.get(choice)
        if parser is None:
            parser = self._parsers[choice] = _parser_for(self._asked.adapter, self._fields)
        return parser

    def _run(self, choice: int, channel: str, field: str, extra: Mapping[str, Any]) -> _Run:
        run = self._runs.get((choice, channel, field))
        if run is None:
            run = self._runs[choice, channel, field] = _Run(choice, channel, field, extra)
        if extra and extra != run.extra:
            run.extra = {**run.extra, **extra}
        return run

    def _take(self, pieces: Iterable[Piece], choice: int) -> None:
        for piece in pieces:
            if piece.text:
                self._add(self._run(choice, _channel(piece.field), piece.field, {}), piece.text)

    def _add(self, run: _Run, text: str) -> None:
        """Emit now, or with what follows within the token window."""
        window = self._span.options.token_window_ms
        if not window:
            self._emit(run, text)
            return
        if self._last is not run:
            self._flush()
            self._last = run
        now = time.monotonic()
        run.since = run.since if run.waiting else now
        run.waiting += text
        if (now - run.since) * 1000 >= window:
            self._flush()

    def _flush(self) -> None:
        run, self._last = self._last, None
        if run is not None and run.waiting:
            text, run.waiting = run.waiting, ""
            self._emit(run, text)

    def _emit(self, run: _Run, text: str) -> None:
        pipeline = _runtime.current()
        data: dict[str, Any] = {"token": text}
        if run.field:
            data["field"] = run.field
        data["channel"] = run.channel
        data["index"] = run.index
        data["offset"] = run.length
        data["attempt"] = self._asked.attempt
        data["choice_index"] = run.choice
        data["origin"] = self._origin
        if run.extra:
            data.update(run.extra)
        run.index += 1
        run.length += len(text)
        run.parts.append(text)
        self._asked.streamed = True
        if pipeline is not None:
            pipeline.emit(self._span, "token", data, trusted=True)

    def _emit_reset(self, reason: str) -> None:
        pipeline = _runtime.current()
        if pipeline is not None:
            data = {"attempt": self._asked.attempt, "reason": reason}
            pipeline.emit(self._span, "reset", data, trusted=True)


def _output_fields(signature: Any, chosen: frozenset[str] | None) -> OutputFields:
    outputs = getattr(signature, "output_fields", {})
    wanted = [name for name, info in outputs.items() if _streams(name, info.annotation, chosen)]
    return OutputFields(outputs, wanted)


def _streams(name: str, annotation: Any, chosen: frozenset[str] | None) -> bool:
    """Whether a field's tokens are wanted: those chosen, or else whatever is text.

    Text is `str`, a `Literal` of strings (ReAct's tool name) and ReAct's tool arguments.
    """
    if chosen is not None:
        return name in chosen
    if annotation is str or name == _TOOL_ARGS:
        return True
    return get_origin(annotation) is Literal and all(
        isinstance(a, str) for a in get_args(annotation)
    )


def _channel(field: str) -> str:
    if field == _TOOL_ARGS:
        return "tool_args"
    return "content" if field else "raw"


def _parser_for(adapter: Any, fields: OutputFields) -> Parser:
    kinds = type(adapter).__mro__ if adapter is not None else ()
    pipeline = _runtime.current()
    extra = dict(pipeline.parsers) if pipeline is not None else {}
    if hasattr(adapter, "field_pattern"):  # dspy before 3.3 reads XML by a regular expression
        extra.setdefault("XMLAdapter", XmlTagParser)
    return select_parser([kind.__name__ for kind in kinds], fields, extra)


def _text_of(output: Any) -> str:
    text = output.get("text") if isinstance(output, dict) else output
    return text if isinstance(text, str) else ""


def _cut(text: str, *, paced: bool) -> list[str]:
    """Cut a cached answer into words, for consumers that type it out; else leave it whole."""
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) if paced else [text]


def _hash(parts: Iterable[str]) -> str:
    return sha256("".join(parts).encode("utf-8", "replace")).hexdigest()
