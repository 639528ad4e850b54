"""Registers the terminal sink, through the same hook as any other plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamll import hookimpl

if TYPE_CHECKING:
    from streamll.hookspecs import RegisterSink

__all__ = ["streamll_register_sinks"]


@hookimpl
def streamll_register_sinks(register: RegisterSink) -> None:
    """Register "terminal" and terminal:// URLs."""
    register("terminal", "streamll_terminal._sink:TerminalSink", schemes=("terminal",))
