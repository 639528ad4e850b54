"""The sink: a batch of events becomes one write of whole lines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

from streamll import ConfigurationError, DeliverySettings, Outcome, Sink, Verdict
from streamll.settings import reject_unknown
from streamll_terminal._lines import SYMBOLS, LineStyle, line
from streamll_terminal._settings import SEVERITIES, Severity, TerminalSettings, stream_of
from streamll_terminal._stream import Interrupted, can_encode, shows_color, write_lines

if TYPE_CHECKING:
    from streamll import Batch, Event, Report

__all__ = ["TerminalSink"]

_RANK: Final = {severity: rank for rank, severity in enumerate(SEVERITIES)}
_CANNOT_BE_SHOWN: Final = Verdict(Outcome.REJECTED_PERMANENT, "rejected")


class TerminalSink(Sink):
    """Shows events as they happen, one line each, on a text stream.

    A batch is written whole, so concurrent calls never mix inside a line. Delivery is best
    effort: a line that was written may still not be seen.

    Args:
        file: where to write; None is `sys.stdout` at the time of writing, so redirections
            and notebooks work. It is flushed, never closed.
        color: True or False decides; None colours a TTY, honouring NO_COLOR and FORCE_COLOR.
        ascii: True or False decides; None uses ASCII symbols where *file* cannot encode others.
        min_severity: the least severity shown; "debug" adds adapter formatting and parsing.
        max_chars: characters of data shown per line; longer text is cut with an ellipsis.
        url: ``terminal://stderr`` for `sys.stderr`; what `configure` passes for a sink URL.
        **delivery: `streamll.DeliverySettings` (buffer_size, only, ...).

    Raises:
        ConfigurationError: for an unknown option, with a suggestion, or a bad value.
    """

    def __init__(
        self,
        *,
        file: TextIO | None = None,
        color: bool | None = None,
        ascii: bool | None = None,  # noqa: A002 - the option's natural name
        min_severity: Severity = "info",
        max_chars: int = 1_000,
        url: str = "terminal://",
        **delivery: Any,
    ) -> None:
        known = TerminalSettings.names() | DeliverySettings.names() | {"file", "url"}
        reject_unknown(delivery, known, f"option of {type(self).__name__}")
        super().__init__(**delivery)
        if file is not None and not callable(getattr(file, "write", None)):
            raise ConfigurationError(f"file must have a write method, not {type(file).__name__}")
        self._file = file
        self._standard = stream_of(url)
        self._written: set[str] = set()  # lines of events whose batch comes again
        self._look = TerminalSettings(
            color=color, ascii=ascii, min_severity=min_severity, max_chars=max_chars
        )

    def write(self, batch: Batch) -> Report | None:
        """Write the lines of *batch* at once; an event that cannot be shown is rejected alone.

        Raises:
            PermanentError, TransientError, OutcomeUnknown: see `_stream.write_lines`.
        """
        stream = getattr(sys, self._standard) if self._file is None else self._file
        lines, rejected = self._lines(batch, self._style(stream))
        if lines:
            self._write(stream, lines)
        return rejected or None

    def _write(self, stream: TextIO, lines: list[tuple[str, str]]) -> None:
        """Write *lines*, each with its event id, less those an interrupted attempt wrote."""
        left = [pair for pair in lines if pair[0] not in self._written]
        try:
            write_lines(stream, [text for _, text in left])
        except Interrupted as error:
            self._written.update(event_id for event_id, _ in left[: error.lines])
            raise
        self._written.difference_update(event_id for event_id, _ in lines)

    def _lines(
        self, batch: Batch, style: LineStyle
    ) -> tuple[list[tuple[str, str]], dict[int, Verdict]]:
        lines: list[tuple[str, str]] = []
        rejected: dict[int, Verdict] = {}
        for index, event in enumerate(batch.events):
            if self._shows(event):
                try:
                    lines.append((event.event_id, line(event, style)))
                except Exception:  # noqa: BLE001 - a hostile event costs itself, not its batch
                    rejected[index] = _CANNOT_BE_SHOWN
        return lines, rejected

    def _shows(self, event: Event) -> bool:
        return _RANK.get(event.severity, _RANK["error"]) >= _RANK[self._look.min_severity]

    def _style(self, stream: TextIO) -> LineStyle:
        """Ask the stream each time: `sys.stdout` may be another one since the last batch."""
        look = self._look
        color = shows_color(stream, os.environ) if look.color is None else look.color
        ascii_only = not can_encode(stream, SYMBOLS) if look.ascii is None else look.ascii
        return LineStyle(color=color, ascii=ascii_only, max_chars=look.max_chars)
