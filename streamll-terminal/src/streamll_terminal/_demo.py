"""``streamll demo``: a real DSPy program on a scripted model, shown as it runs."""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import streamll
from streamll import ConfigurationError, Sink
from streamll_terminal._picture import svg
from streamll_terminal._sanitize import plain
from streamll_terminal._sink import TerminalSink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from streamll import Batch
    from streamll_terminal._settings import Severity

__all__ = ["run_demo"]

#: Seconds for the last lines; short, because the reader of a pipe may be gone.
_PATIENCE: Final = 2.0


class _Tally(Sink):
    """Counts events by "operation.type", for the summary."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def write(self, batch: Batch) -> None:
        self.counts.update(f"{event.operation}.{event.event_type}" for event in batch)


def run_demo(*, delay: float, debug: bool, picture: Path | None) -> None:
    """Run the program, show its events, then its answer and a summary.

    Args:
        delay: seconds between two tokens.
        debug: show adapter formatting and parsing too.
        picture: write what was shown to this file as SVG.

    Raises:
        ConfigurationError: when DSPy is not installed, or *picture* cannot be written.
    """
    program, lm, inputs = _build(delay)
    level: Severity = "debug" if debug else "info"
    tally, recording = _Tally(), io.StringIO()
    sinks: list[Sink] = [TerminalSink(min_severity=level), tally]
    if picture is not None:
        sinks.append(TerminalSink(file=recording, color=True, ascii=False, min_severity=level))
    started = time.monotonic()
    with streamll.configure(sinks=sinks):
        prediction = _run(program, lm, inputs)
        complete = streamll.flush(timeout=_PATIENCE)
    closing = _closing(prediction, tally.counts, time.monotonic() - started, complete=complete)
    sys.stdout.write(closing)
    sys.stdout.flush()
    if picture is not None:
        _save(picture, svg(recording.getvalue() + closing, title="streamll demo"))


def _build(delay: float) -> tuple[Any, Any, Mapping[str, Any]]:
    try:
        from streamll.testing import build_demo  # noqa: PLC0415 - imports DSPy, for seconds

        return build_demo(delay=delay)
    except ImportError as error:
        raise ConfigurationError(f"the demo needs DSPy ({error}); pip install streamll") from error


def _run(program: Any, lm: Any, inputs: Mapping[str, Any]) -> Any:
    import dspy  # noqa: PLC0415 - optional: a service that only shows events has none

    streamll.instrument(program)
    with dspy.context(lm=lm):
        return program(**inputs)


def _closing(prediction: Any, counts: Counter[str], seconds: float, *, complete: bool) -> str:
    answer = plain(str(getattr(prediction, "answer", prediction)))
    note = "" if complete else "; not everything was delivered in time"
    summary = (
        f"{counts['llm_call.start']} LM calls, {counts['llm_call.token']} pieces of text, "
        f"{counts['tool_call.start']} tool calls, {counts['tool_call.error']} of them failed; "
        f"{counts.total()} events in {seconds:.1f} s{note}"
    )
    return f"\n{answer}\n{summary}\n"


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
