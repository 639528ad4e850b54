"""The terminal sink of streamll: one readable line per event."""

from __future__ import annotations

from streamll_terminal._sink import TerminalSink

__all__ = ["TerminalSink"]
