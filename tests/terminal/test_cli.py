"""The command `streamll`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

import streamll
from streamll_terminal import _demo, cli
from streamll_terminal._lines import LineStyle, line
from streamll_terminal._picture import svg
from terminal.building import token

if TYPE_CHECKING:
    from pathlib import Path

MAIN = "from streamll_terminal.cli import main; main()"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["streamll", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def plugin(name: str, status: str = "loaded", error: str | None = None) -> SimpleNamespace:
    """Return what `streamll.plugins()` says of one plugin."""
    package = f"streamll-{name}"
    return SimpleNamespace(
        name=name, distribution=package, version="1.2.3", status=status, error=error, commands={}
    )


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the core's version."""
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"streamll {streamll.__version__}\n"


def test_plugins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each plugin is a row; names and errors are never read as markup or escapes."""
    found = [plugin("redis"), plugin("[bold]x", "broken", "ImportError: \x1b[2J[/foo]")]
    monkeypatch.setattr(streamll, "plugins", lambda: found)
    monkeypatch.setenv("COLUMNS", "120")
    assert run(monkeypatch, "plugins") == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["redis", "streamll-redis", "1.2.3", "loaded"]
    assert "[bold]x" in second
    assert second.rstrip().endswith(r"broken  ImportError: \x1b[2J[/foo]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plugnis"], "plugins"),
        (["demo", "--dealy", "1"], "--delay"),
        (["demo", "--delay", "-1"], "Must be >= 0"),
        (["demo", "--delay", "soon"], "soon"),
    ],
)
def test_wrong_usage_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """A wrong command or option exits with 2 after one line on stderr that helps."""
    assert run(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(rf"streamll: .*{message}.*\n", captured.err)


def test_configuration_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the user can correct exits with 2 and no traceback."""

    def broken() -> None:
        raise streamll.ConfigurationError("two packages\nbring 'x'")

    monkeypatch.setattr(streamll, "plugins", broken)
    assert run(monkeypatch, "plugins") == 2
    assert capsys.readouterr().err == "streamll: two packages bring 'x'\n"


def test_the_demo_without_dspy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where DSPy is missing the demo says what to install."""
    monkeypatch.setitem(sys.modules, "streamll.testing", None)
    assert run(monkeypatch, "demo") == 2
    assert "pip install streamll" in capsys.readouterr().err


def test_the_summary_counts_events() -> None:
    """The demo ends with the answer, on one harmless line, and one line of counts."""
    counts = Counter(
        {"llm_call.start": 2, "llm_call.token": 20, "tool_call.start": 3, "tool_call.error": 1}
    )
    summary = "2 LM calls, 20 pieces of text, 3 tool calls, 1 of them failed; 26 events in 1.2 s"
    text = _demo._closing(SimpleNamespace(answer="4\x1b[2J2"), counts, 1.234, complete=True)
    assert text == f"\n4\\x1b[2J2\n{summary}\n"
    late = _demo._closing("x", counts, 1.0, complete=False)
    assert late.endswith("not everything was delivered in time\n")


def test_the_picture_is_a_document_that_shows_the_lines() -> None:
    """Coloured lines become well-formed SVG with their text, markup included, and colours."""
    text = line(token("[bold]<answer>"), LineStyle(color=True))
    picture = svg(f"{text}\n{text}\n", title="streamll demo")
    shown = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert shown.count("'[bold]<answer>'") == 2
    assert "\x1b" not in picture


@pytest.mark.slow
def test_the_demo_end_to_end(tmp_path: Path) -> None:
    """The demo runs a real program, shows its calls and tokens, and draws its own picture."""
    picture = tmp_path / "demo.svg"
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "demo", "--delay", "0", "--svg", str(picture)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *lines, summary = done.stdout.splitlines()
    assert re.fullmatch(r"[1-9]\d* LM calls, .*; [1-9]\d* events in [\d.]+ s", summary)
    for pattern in (
        r"▶ llm_call \([0-9a-f]{8}\)",
        r"• llm_call \(\w+\) '",
        r'■ llm_call .*{"total_tokens": \d+}',
    ):
        assert any(re.search(pattern, text) for text in lines)
    assert "llm_call" in picture.read_text(encoding="utf-8").replace("&#160;", " ")
