"""The line format is the seed's, for every kind of event."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from streamll_terminal._lines import LineStyle, line
from terminal.building import WHEN, make_event, token

if TYPE_CHECKING:
    from streamll import Event

SAMPLE = re.compile(
    r"""\[\d\d:\d\d:\d\d\.\d\d\d\]\ (
        ▶\ llm_call\ \([0-9a-f]{8}\)
      | •\ llm_call\ \([0-9a-f]{8}\)\ '.*'
      | ■\ llm_call\ \([0-9a-f]{8}\)\ \{"total_tokens":\ \d+\}
    )""",
    re.VERBOSE,
)
CLOCK = WHEN.astimezone().strftime("[%H:%M:%S.156]")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (make_event("start", {"model": "m", "messages": ["secret"]}), "▶ llm_call (a1b2c3d4)"),
        (token("The answer is"), "• llm_call (a1b2c3d4) 'The answer is'"),
        (token(" 42"), "• llm_call (a1b2c3d4) ' 42'"),
        (
            make_event("end", {"total_tokens": 287, "input_tokens": 200}, duration_ms=4626.0),
            '■ llm_call (a1b2c3d4) {"total_tokens": 287}',
        ),
    ],
)
def test_seed_sample(event: Event, expected: str) -> None:
    """The lines of the published sample come out character for character."""
    shown = line(event, LineStyle())
    assert shown == f"{CLOCK} {expected}"
    assert SAMPLE.fullmatch(shown)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (make_event("end", {}), "■ llm_call (a1b2c3d4)"),
        (make_event("end", {}, duration_ms=1.5), '■ llm_call (a1b2c3d4) {"duration_ms": 1.5}'),
        (
            make_event("start", {"inputs": {"q": "long"}}, operation="module_forward"),
            "▶ module_forward (a1b2c3d4)",
        ),
        (
            make_event("start", operation="module_forward", module_name="rag_pipeline"),
            "▶ module_forward (a1b2c3d4) rag_pipeline",
        ),
        (
            make_event(
                "start", operation="module_forward", module_name="rag", module_path="find.predict"
            ),
            "▶ module_forward (a1b2c3d4) find.predict",
        ),
        (
            make_event("start", {"arguments": {}}, operation="tool_call", name="search"),
            "▶ tool_call (a1b2c3d4) search",
        ),
        (
            make_event("end", {"result": "long"}, operation="tool_call", duration_ms=12.345),
            '■ tool_call (a1b2c3d4) {"duration_ms": 12.345}',
        ),
        (
            make_event("start", {"k": 5}, operation="retrieval", module_name="rag"),
            '▶ retrieval (a1b2c3d4) {"k": 5}',
        ),
        (
            make_event("error", {"type": "ValueError", "message": "no\nluck", "traceback": "x"}),
            r"✖ llm_call (a1b2c3d4) ValueError: no\nluck",
        ),
        (make_event("error", {"type": "KeyError"}), "✖ llm_call (a1b2c3d4) KeyError"),
        (make_event("cancel", {"reason": "deadline"}), "◌ llm_call (a1b2c3d4) deadline"),
        (
            make_event("docs_found", {"count": 3, "ids": [1, 2]}, operation="retrieval"),
            '• docs_found (a1b2c3d4) {"count": 3, "ids": [1, 2]}',
        ),
        (make_event("ready", operation="custom"), "• ready (a1b2c3d4)"),
        (
            make_event("progress", {"done": 3, "total": 9}, operation="evaluate"),
            '• evaluate.progress (a1b2c3d4) {"done": 3, "total": 9}',
        ),
        (
            make_event("reset", {"attempt": 2, "reason": "lm_retry"}),
            '↺ llm_call.reset (a1b2c3d4) {"attempt": 2, "reason": "lm_retry"}',
        ),
        (make_event("retry", {"attempt": 2}), '↻ llm_call.retry (a1b2c3d4) {"attempt": 2}'),
        (
            make_event("dropped", {"count": 7, "cause": "buffer_full"}, operation="streamll"),
            '! streamll.dropped (a1b2c3d4) {"count": 7, "cause": "buffer_full"}',
        ),
    ],
)
def test_other_events(event: Event, expected: str) -> None:
    """Every other kind of event follows the same pattern; inputs and results stay out."""
    assert line(event, LineStyle()) == f"{CLOCK} {expected}"


def test_ascii() -> None:
    """The ASCII style uses no other character of its own."""
    kinds = ["start", "token", "end", "error", "cancel", "reset", "retry", "dropped", "custom"]
    lines = [line(make_event(kind), LineStyle(ascii=True)) for kind in kinds]
    assert all(text.isascii() for text in lines)
    assert "".join(text.split()[1] for text in lines) == ">*#xo<~!*"


def test_colors_only_wrap_the_plain_line() -> None:
    """Removing the SGR sequences from a coloured line gives the plain line."""
    for kind in ("start", "token", "end", "error", "cancel", "reset", "custom"):
        event = make_event(kind, {"token": "x", "type": "E", "n": 1})
        colored = line(event, LineStyle(color=True))
        assert re.sub(r"\x1b\[[\d;]+m", "", colored) == line(event, LineStyle())
        assert colored.count("\x1b[0m") == colored.count("\x1b[") / 2


def test_each_main_type_has_a_color_of_its_own() -> None:
    """Start, token, end, error and cancel can be told apart by colour."""
    kinds = ("start", "token", "end", "error", "cancel")
    heads = {line(make_event(kind), LineStyle(color=True)).split()[1][:6] for kind in kinds}
    assert len(heads) == len(kinds)


@pytest.mark.parametrize(("ascii_only", "ellipsis"), [(False, "…"), (True, "...")])
def test_long_text_is_cut_with_an_ellipsis(ascii_only: bool, ellipsis: str) -> None:
    """No more than `max_chars` characters of data are shown, and a cut is visible."""
    style = LineStyle(max_chars=10, ascii=ascii_only)
    assert line(token("x" * 10), style).endswith(" 'xxxxxxxxxx'")
    assert line(token("x" * 11), style).endswith(f" 'xxxxxxxxxx'{ellipsis}")
    assert line(make_event("custom", {"a": "x" * 50}), style).endswith(f' {{"a": "xxx{ellipsis}')
    assert line(make_event("error", {"type": "x" * 50}), style).endswith(f" {'x' * 10}{ellipsis}")
    assert f" {'y' * 10}{ellipsis} (" in line(make_event("y" * 50), style)


@pytest.mark.parametrize("text", ["[/foo]", "[link=https://x]y[/link]", "list[int]", ":smile:"])
def test_markup_is_text(text: str) -> None:
    """Nothing in data is read as markup, links or emoji codes."""
    assert line(token(text), LineStyle(color=True)).endswith(f"'{text}'")
    assert line(make_event("error", {"type": "E", "message": text}), LineStyle()).endswith(text)


def test_unknown_objects_are_named_not_called() -> None:
    """An object JSON does not know is shown by type; its own code never runs."""

    class Hostile:
        def __repr__(self) -> str:
            raise AssertionError

        __str__ = __repr__

    shown = line(make_event("custom", {"x": Hostile()}), LineStyle())
    assert json.loads(shown[shown.index("{") :]) == {"x": "<Hostile>"}
