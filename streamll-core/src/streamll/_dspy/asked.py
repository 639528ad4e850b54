"""What a module asks an adapter for, and which of it streams.

The adapter's `format` says it before the LM call; the LM calls that answer share one `Asked`
with the adapter's `parse`, which says in the end whether the text told was the right one.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import attrs
import dspy

from streamll import _runtime
from streamll._dspy.signatures import facts_of
from streamll._tokens import OutputFields, Parser, XmlTagParser, select_parser

__all__ = ["TOOL_ARGS", "Asked", "new_parser", "output_fields"]

#: ReAct's field for the arguments of the tool it wants to call.
TOOL_ARGS = "next_tool_args"

#: What is text: `str`, and what DSPy makes of native thinking.
_TEXTS = tuple(kind for kind in (str, getattr(dspy, "Reasoning", None)) if kind is not None)


@attrs.define(eq=False)
class Asked:
    """What a module asked an adapter for; the LM calls that answer share it.

    Attributes:
        adapter: renders the prompt and parses the answer.
        signature: whose output fields are asked for.
        attempt: 1, or more after an answer could not be used.
        failed: whether the last answer could not be used, so that another LM call for the
            same fields replaces its tokens.
        streamed: whether tokens of this or an earlier attempt were emitted.
        told: the text that was decoded of each wanted field, per completed choice.
        parsed: how many choices the adapter has parsed.
        llm_span_id: the call that told it.
    """

    adapter: Any
    signature: Any
    attempt: int = 1
    failed: bool = False
    streamed: bool = False
    told: list[dict[str, str]] = attrs.field(factory=list)
    parsed: int = 0
    llm_span_id: str | None = None

    def again(self, adapter: Any, signature: Any) -> Asked:
        """Return what is asked next by the same module."""
        if not self.failed:
            return Asked(adapter, signature)
        return Asked(adapter, signature, self.attempt + 1, streamed=self.streamed)

    def wrong(self, parsed: Any) -> dict[str, str]:
        """Take what the adapter made of the next choice; return the fields that were told wrong."""
        told = self.told[self.parsed] if self.parsed < len(self.told) else {}
        self.parsed += 1
        if not told or not isinstance(parsed, dict):
            return {}
        right = {name: parsed.get(name) for name in told}
        return {
            name: text
            for name, text in right.items()
            if isinstance(text, str) and text != told[name]
        }


def output_fields(signature: Any, chosen: frozenset[str] | None) -> OutputFields:
    """Return the output fields of *signature* and which of them are wanted."""
    facts = facts_of(signature)
    known = facts.wanted.get(chosen)
    if known is None:
        wanted = [name for name, kind in facts.outputs.items() if _streams(name, kind, chosen)]
        known = facts.wanted[chosen] = OutputFields(facts.outputs, wanted)
    return known


def _streams(name: str, annotation: Any, chosen: frozenset[str] | None) -> bool:
    """Whether a field's tokens are wanted: those chosen, or else whatever is text.

    Text is also a `Literal` of strings (ReAct's tool name), an optional text, and ReAct's tool
    arguments.
    """
    if chosen is not None:
        return name in chosen
    return name == TOOL_ARGS or _is_text(annotation)


def _is_text(annotation: Any) -> bool:
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return all(isinstance(part, str) for part in parts)
    if type(None) in parts:
        return all(_is_text(part) for part in parts if part is not type(None))
    return annotation in _TEXTS


def new_parser(adapter: Any, fields: OutputFields) -> Parser:
    """Return a parser for an answer to *adapter*; unknown ones pass text through, raw."""
    kinds = type(adapter).__mro__ if adapter is not None else ()
    pipeline = _runtime.current()
    extra = dict(pipeline.parsers) if pipeline is not None else {}
    if hasattr(adapter, "field_pattern"):  # dspy before 3.3 reads XML by a regular expression
        extra.setdefault("XMLAdapter", XmlTagParser)
    return select_parser([kind.__name__ for kind in kinds], fields, extra)
