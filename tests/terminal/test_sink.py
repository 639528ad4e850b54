"""TerminalSink as a sink: options, filters, isolation, registration."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll import ConfigurationError, Outcome
from streamll_terminal import TerminalSink, _plugin
from terminal.building import make_batch, make_event, token


def written(sink_options: dict[str, Any], *events: Any) -> list[str]:
    """Return the lines a sink with these options writes."""
    stream = io.StringIO()
    TerminalSink(file=stream, **sink_options).write(make_batch(*events))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": True}, "'colour'; did you mean 'color'"),
        ({"bufer_size": 1}, "'bufer_size'; did you mean 'buffer_size'"),
        ({"zzz": 1}, "'zzz'; known: .*max_chars"),
        ({"min_severity": "wran"}, "'wran'; did you mean 'warn'"),
        ({"color": "maybe"}, "color must be True, False or None"),
        ({"ascii": 2}, "ascii must be True, False or None"),
        ({"max_chars": 0}, "max_chars must be a whole number above 0"),
        ({"max_chars": True}, "max_chars must be a whole number above 0"),
        ({"file": "out.txt"}, "file must have a write method, not str"),
        ({"buffer_size": 0}, "buffer_size must be a whole number above 0"),
        ({"url": "terminal://stdin"}, "'stdin'; known: stderr, stdout"),
        ({"url": "terminal://?colr=1"}, "'colr'; did you mean 'color'"),
    ],
)
def test_wrong_options_are_refused_when_the_sink_is_made(
    options: dict[str, Any], message: str
) -> None:
    """A misspelt option or bad value raises at once and says what to write instead."""
    with pytest.raises(ConfigurationError, match=message):
        TerminalSink(**options)


def test_delivery_options_reach_the_channel() -> None:
    """The options of every sink are this sink's too."""
    sink = TerminalSink(buffer_size=5, only="error", color="off")  # type: ignore[arg-type]
    assert (sink.delivery.buffer_size, sink.delivery.only) == (5, ("error",))


def test_debug_events_are_hidden_by_default() -> None:
    """Adapter formatting and parsing show only when asked for."""
    events = [
        make_event("start", operation="adapter_format", severity="debug"),
        token("x"),
        make_event("error", {"type": "E"}, severity="error"),
        make_event("note", severity="strange"),
    ]
    assert len(written({}, *events)) == 3
    assert len(written({"min_severity": "debug"}, *events)) == 4
    assert len(written({"min_severity": "error"}, *events)) == 2


def test_nothing_to_show_writes_nothing() -> None:
    """A batch without visible events does not touch the stream."""
    stream = io.StringIO()
    stream.close()
    event = make_event("start", severity="debug")
    assert TerminalSink(file=stream, color=False, ascii=True).write(make_batch(event)) is None


@given(st.lists(st.booleans(), max_size=20))
def test_an_event_that_cannot_be_shown_costs_itself_only(broken: list[bool]) -> None:
    """Every sound event of a batch is written; exactly the broken ones are rejected."""
    sound = make_event("x", {"n": 1})
    events = [sound.replace(timestamp=None) if bad else sound for bad in broken]
    stream = io.StringIO()
    report = TerminalSink(file=stream).write(make_batch(*events)) or {}
    assert stream.getvalue().count("\n") == broken.count(False)
    assert sorted(report) == [index for index, bad in enumerate(broken) if bad]
    assert {verdict.outcome for verdict in report.values()} <= {Outcome.REJECTED_PERMANENT}


def test_registers_through_the_public_hook() -> None:
    """The plugin offers one sink, by name and URL scheme, without importing it."""
    calls: list[Any] = []
    _plugin.streamll_register_sinks(lambda *args, **options: calls.append((args, options)))
    assert calls == [
        (("terminal", "streamll_terminal._sink:TerminalSink"), {"schemes": ("terminal",)})
    ]


def test_the_sink_imports_neither_rich_nor_the_command_line() -> None:
    """A service that shows lines does not pay for tables and argument parsing."""
    script = "import sys, streamll_terminal; print({'rich', 'cyclopts', 'dspy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "set()\n"
