"""Every Python block of the README and the docs runs."""

from __future__ import annotations

import dspy
import pytest

import streamll
from support.snippets import ROOT, run, snippets

#: The guide's blocks need brokers and names of their own; they have tests of their own.
ELSEWHERE = {"docs/streaming-options-guide.md"}
DOCUMENTS = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
BLOCKS = snippets(*(name for name in DOCUMENTS if name not in ELSEWHERE))


@pytest.mark.parametrize("snippet", BLOCKS, ids=str)
def test_a_documented_snippet_runs_as_printed(snippet, tmp_path, monkeypatch):
    """What we print, works."""
    monkeypatch.chdir(tmp_path)
    with dspy.context():
        run(snippet)
    streamll.shutdown()
