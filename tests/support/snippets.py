"""The code blocks of the documents."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


@attrs.frozen
class Snippet:
    """One fenced block."""

    document: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(*documents: str, language: str = "python") -> list[Snippet]:
    """Return the blocks in *language* of the documents, paths relative to the repository."""
    found = []
    for document in documents:
        text = (ROOT / document).read_text()
        for match in _BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 1
            if match[1] == language:
                found.append(Snippet(document, line, match[1], match[2]))
    return found


def run(snippet: Snippet, **names: object) -> dict[str, object]:
    """Execute *snippet* and return its names; errors point at the document's line."""
    code = compile("\n" * snippet.line + snippet.code, snippet.document, "exec")
    scope: dict[str, object] = {"__name__": "snippet", **names}
    exec(code, scope)
    return scope
