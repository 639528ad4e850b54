"""The guide's TerminalSink snippet, as printed, gives the lines it shows."""

from __future__ import annotations

import re

import dspy

import streamll
from streamll.testing import ScriptedAnswer, ScriptedLM
from support.snippets import run, snippets

GUIDE = "docs/streaming-options-guide.md"


def test_the_first_example_prints_the_lines_of_its_sample(capfd):
    """`▶ llm_call (8 hex)`, `• ... 'text'`, `■ ... {"total_tokens": N}`, times in front."""
    (snippet,) = [s for s in snippets(GUIDE) if "Beautiful real-time console output" in s.code]
    module = run(snippet, dspy=dspy)["MyModule"]()
    answer = ScriptedAnswer(text="The answer is 42", usage={"input": 280, "output": 7})
    module.llm = ScriptedLM([answer], chunk="phrase")
    assert module("What is six times seven?") == ["The answer is 42"]
    assert streamll.flush()
    lines = [line for line in capfd.readouterr().out.splitlines() if "llm_call" in line]
    span = re.search(r"\(([0-9a-f]{8})\)", lines[0])[1]
    shown = [re.sub(r"^\[\d\d:\d\d:\d\d\.\d{3}\] ", "", line) for line in lines]
    assert all(shown[n] != lines[n] for n in range(len(lines)))
    assert shown == [
        f"▶ llm_call ({span})",
        f"• llm_call ({span}) 'The answer is'",
        f"• llm_call ({span}) ' 42'",
        f'■ llm_call ({span}) {{"total_tokens": 287}}',
    ]
