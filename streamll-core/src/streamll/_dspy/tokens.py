"""The text of one LM call -> token events, decoded per output field.

One `TokenStream` belongs to one LM call: it makes one parser per attempt and choice, so
calls never share state. It only ever sees text; where the text comes from is `taps`.
"""

from __future__ import annotations

import time
from typing import Any

from streamll import _runtime
from streamll._spans import Span
from streamll._tokens import OutputFields, Parser, Piece, select_parser

__all__ = ["TokenStream"]


class TokenStream:
    """Emits the tokens of one LM call. Used by the thread or task that makes the call."""

    def __init__(self, span: Span, adapters: tuple[str, ...], fields: OutputFields) -> None:
        self._span = span
        self._adapters = adapters
        self._fields = fields
        self._attempt = 1
        self._choice = 0
        self._seen = False
        self._parsers: dict[int, Parser] = {}
        self._places: dict[tuple[int, str, str], tuple[int, int]] = {}
        self._first: float | None = None
        self._origin = "live"

    @classmethod
    def of(cls, span: Span, adapter: Any, signature: Any) -> TokenStream:
        """Return the stream for an LM call that answers *signature* by way of *adapter*."""
        kinds = type(adapter).__mro__ if adapter is not None else ()
        outputs = getattr(signature, "output_fields", {})
        chosen = span.options.stream_fields
        wanted = [name for name, info in outputs.items() if _streams(name, info, chosen)]
        return cls(span, tuple(kind.__name__ for kind in kinds), OutputFields(outputs, wanted))

    def text(self, piece: str, choice: int | None = None) -> None:
        """Take the next *piece* of the completion."""
        if piece:
            index = self._choice if choice is None else choice
            self._note()
            self._emit_all(self._parser(index).feed(piece), index)

    def channel(self, name: str, piece: str, **extra: Any) -> None:
        """Take text that is not the completion: "reasoning", "tool_args", "citation"."""
        if piece:
            self._note()
            self._emit(name, "", piece, self._choice, extra)

    def completed(self) -> None:
        """End the text of one choice; the next text belongs to the next choice."""
        parser = self._parsers.get(self._choice)
        if parser is not None:
            self._emit_all(parser.finish(), self._choice)
        self._choice += 1

    def failed(self) -> None:
        """Forget an attempt that broke off: consumers discard its tokens."""
        if self._seen and self._choice in self._parsers:
            self._reset("lm_retry")

    def _reset(self, reason: str) -> None:
        self._attempt += 1
        self._parsers.clear()
        self._places.clear()
        pipeline = _runtime.current()
        if pipeline is not None:
            pipeline.emit(
                self._span, "reset", {"attempt": self._attempt, "reason": reason}, trusted=True
            )

    def finish(self, outputs: Any, *, error: BaseException | None, cached: bool) -> None:
        """Emit what never streamed: cached answers and engines that answer in one piece."""
        if self._seen or error is not None or not isinstance(outputs, list):
            return
        self._origin = "cache_replay" if cached else "live"
        for output in outputs:
            self.text(_text_of(output))
            self.completed()

    def timing(self, output_tokens: int | None) -> dict[str, float]:
        """Return time to first token and rate, where tokens streamed live."""
        if self._first is None or self._origin != "live":
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
            parser = select_parser(self._adapters, self._fields)
            self._parsers[choice] = parser
        return parser

    def _emit_all(self, pieces: list[Piece], choice: int) -> None:
        for piece in pieces:
            if piece.text:
                channel = "content" if piece.field else "raw"
                self._emit(channel, piece.field, piece.text, choice, {})

    def _emit(
        self, channel: str, field: str, text: str, choice: int, extra: dict[str, Any]
    ) -> None:
        pipeline = _runtime.current()
        if pipeline is None:
            return
        place = (choice, channel, field)
        index, offset = self._places.get(place, (0, 0))
        self._places[place] = (index + 1, offset + len(text))
        data: dict[str, Any] = {"token": text}
        if field:
            data["field"] = field
        data.update(
            channel=channel, index=index, offset=offset, attempt=self._attempt,
            choice_index=choice, origin=self._origin, **extra,
        )  # fmt: skip
        pipeline.emit(self._span, "token", data, trusted=True)


def _streams(name: str, info: Any, chosen: frozenset[str] | None) -> bool:
    """Whether a field's tokens are wanted: those chosen, or else every string field."""
    return info.annotation is str if chosen is None else name in chosen


def _text_of(output: Any) -> str:
    text = output.get("text") if isinstance(output, dict) else output
    return text if isinstance(text, str) else ""
