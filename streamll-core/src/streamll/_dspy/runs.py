"""The token events of one LM call: scrubbed, numbered per field, merged within the window.

Each field is scrubbed as one text, so that a secret split over tokens is found. What the
scrubber still holds back when a call breaks off is not told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import attrs

from streamll import _runtime
from streamll._dspy.asked import Asked
from streamll._spans import Span
from streamll.privacy import Scrubber, StreamScrubber

__all__ = ["Run", "Runs"]

#: Characters of one token; what comes in one piece may be longer than an event can hold.
_LONGEST: Final = 16_384
#: Seconds; four updates a second still read as live, and are a tenth of what a model sends.
_PRESSED_WINDOW: Final = 0.25

#: Choice, channel, field, and which tool call of the answer.
Key = tuple[int, str, str, int]


def _scrubber() -> StreamScrubber:
    pipeline = _runtime.current()
    return pipeline.text_scrubber() if pipeline is not None else Scrubber().stream(lambda _: None)


@attrs.define
class Run:
    """The tokens of one field, or channel, of one choice.

    Attributes:
        choice, channel, field: whose tokens.
        extra: more data of each token.
        index: tokens emitted.
        length: characters emitted.
        parts: the texts.
        came: the texts as the model wrote them, to compare with what the adapter reads.
        waiting: what the token window holds back.
        sent: when the last token was emitted; seconds, monotonic.
        scrubber: holds back what may be the beginning of a secret.
        is_redacted: whether something was removed since the last token.
        is_complete: whether nothing more comes.
    """

    choice: int
    channel: str
    field: str
    extra: dict[str, Any] = attrs.field(factory=dict)
    index: int = 0
    length: int = 0
    parts: list[str] = attrs.field(factory=list)
    came: list[str] = attrs.field(factory=list, repr=False)
    waiting: str = ""
    sent: float = float("-inf")
    scrubber: StreamScrubber = attrs.field(factory=_scrubber)
    is_redacted: bool = False
    is_complete: bool = False

    @property
    def text(self) -> str:
        """What was emitted."""
        return "".join(self.parts)


class Runs:
    """Emits token and reset events of one LM call, in the order in which its text came."""

    def __init__(self, span: Span, asked: Asked) -> None:
        self._span = span
        self._asked = asked
        self._window: float = span.options.token_window_ms / 1000
        self._runs: dict[Key, Run] = {}
        self._last: Run | None = None
        self.origin = "live"

    def add(self, key: Key, text: str, extra: Mapping[str, Any]) -> None:
        """Emit what is certain of *text* now, or within the token window."""
        run = self._run(key)
        run.extra.update(extra)
        run.came.append(text)
        run.is_complete = False
        self._add(run, run.scrubber.feed(text))

    def complete(self, choice: int, field: str | None = None) -> None:
        """Emit what the scrubber holds back of a field that is complete; of None, of all."""
        for run in tuple(self._runs.values()):
            if run.choice == choice and field in (None, run.field) and not run.is_complete:
                run.is_complete = True
                self._add(run, run.scrubber.finish())

    def _add(self, run: Run, text: str) -> None:
        run.is_redacted = run.is_redacted or run.scrubber.redacted
        if not text:
            return
        if self._last is not run:
            self.flush()
            self._last = run
        run.waiting += text
        window = self._window_now()
        if not window or time.monotonic() - run.sent >= window:
            self._release(run)

    def _window_now(self) -> float:
        """Return the seconds within which tokens are merged: more where a sink is behind."""
        pipeline = _runtime.current()
        if pipeline is None or not pipeline.is_pressed(self._span):
            return self._window
        return max(self._window, _PRESSED_WINDOW)

    def _run(self, key: Key) -> Run:
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(*key[:3])
        return run

    def flush(self) -> None:
        """Emit what the window holds back."""
        run, self._last = self._last, None
        if run is not None and run.waiting:
            self._release(run)

    def _release(self, run: Run) -> None:
        text, run.waiting = run.waiting, ""
        run.sent = time.monotonic()
        for start in range(0, len(text), _LONGEST):
            self._emit(run, text[start : start + _LONGEST])

    def _emit(self, run: Run, text: str) -> None:
        data: dict[str, Any] = {"token": text}
        if run.field:
            data["field"] = run.field
        data["channel"] = run.channel
        data["index"] = run.index
        data["offset"] = run.length
        data["attempt"] = self._asked.attempt
        data["choice_index"] = run.choice
        data["origin"] = self.origin
        if run.extra:
            data.update(run.extra)
        run.index += 1
        run.length += len(text)
        run.parts.append(text)
        self._asked.streamed = True
        pipeline = _runtime.current()
        if pipeline is not None:
            redacted = ("/data/token",) if run.is_redacted else ()
            pipeline.emit(self._span, "token", data, trusted=True, redacted=redacted)
        run.is_redacted = False

    def reset(self, reason: str, choice: int | None = None) -> None:
        """Announce that the tokens of earlier attempts, of one choice or all, are void."""
        data: dict[str, Any] = {"attempt": self._asked.attempt, "reason": reason}
        if choice is not None:
            data["choice_index"] = choice
        pipeline = _runtime.current()
        if pipeline is not None:
            pipeline.emit(self._span, "reset", data, trusted=True)

    def drop(self, choice: int) -> bool:
        """Forget the tokens of *choice*; return whether any was emitted."""
        self._last = None
        was_told = any(run.index for run in self._runs.values() if run.choice == choice)
        self._runs = {key: run for key, run in self._runs.items() if run.choice != choice}
        return was_told

    def fields(self, choice: int | None = None) -> dict[str, Run]:
        """Return the run of each field that was emitted, of *choice* or of any."""
        runs = self._runs.values()
        return {r.field: r for r in runs if r.field and choice in (None, r.choice)}

    def __bool__(self) -> bool:
        return bool(self._runs)
