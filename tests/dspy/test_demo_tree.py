"""The whole event tree of the demo program: the same however it is called."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

import dspy
import pytest

from streamll.testing import build_demo, capture_events, tree

PREDICT = """\
{0}module_forward Predict end
{0}  adapter_format ChatAdapter end
{0}  llm_call scripted/model end
{0}  adapter_parse ChatAdapter end
"""
TREE = (
    "module_forward RAGPipeline end\n"
    "  module_forward Retriever end\n"
    "  module_forward Research end\n"
    "    module_forward ChainOfThought end\n"
    + PREDICT.format("      ")
    + "    module_forward ReAct end\n"
    + PREDICT.format("      ")
    + "      tool_call look_up error\n"
    + PREDICT.format("      ")
    + "      tool_call look_up end\n"
    + PREDICT.format("      ")
    + "      tool_call to_feet end\n"
    + PREDICT.format("      ")
    + "      tool_call finish end\n"
    "      module_forward ChainOfThought end\n"
    + PREDICT.format("        ")
    + PREDICT.format("  ")
)  # fmt: skip


def call(program, inputs):
    """Plain and synchronous."""
    program(**inputs)


def acall(program, inputs):
    """On an event loop."""
    asyncio.run(program.acall(**inputs))


def parallel(program, inputs):
    """Eight at once, in DSPy's threads."""
    dspy.Parallel(num_threads=8, disable_progress_bar=True)([(program, inputs)] * 8)


def batch(program, inputs):
    """Eight examples."""
    example = dspy.Example(**inputs).with_inputs(*inputs)
    program.batch([example] * 8, num_threads=8, disable_progress_bar=True)


@pytest.mark.parametrize(("way", "runs"), [(call, 1), (acall, 1), (parallel, 8), (batch, 8)])
def test_the_tree_of_the_demo_is_whole_and_the_same_however_it_is_called(way, runs):
    """Types, operations, parents; sequence contiguous; each start closed exactly once."""
    program, lm, inputs = build_demo(delay=0)
    with dspy.context(lm=lm), capture_events() as events:
        way(program, inputs)
    roots = [root for root in tree(events) if root.operation == "module_forward"]
    assert ["\n".join(root.lines()) + "\n" for root in roots] == [TREE] * runs
    for root in roots:
        for node in root.walk():
            assert node.start is not None
            assert len(node.closings) == 1
            assert node.closings[0].sequence > node.start.sequence
    by_execution = defaultdict(list)
    for event in events:
        by_execution[event.execution_id].append(event)
    assert len(by_execution) == runs
    for mine in by_execution.values():
        assert [e.sequence for e in mine] == list(range(1, len(mine) + 1))
        assert {e.trace_id for e in mine} == {mine[0].trace_id}


@pytest.mark.parametrize("way", [call, acall, parallel])
def test_tokens_of_the_demo_make_up_the_fields_of_its_predictions(way):
    """Concatenated tokens equal the outputs of the module that made the LM call."""
    program, lm, inputs = build_demo(delay=0)
    with dspy.context(lm=lm), capture_events() as events:
        way(program, inputs)
    checked = 0
    for root in tree(events):
        for node in root.walk():
            for call_node in (child for child in node.children if child.operation == "llm_call"):
                streamed = defaultdict(str)
                for token in call_node.others:
                    streamed[token.data["field"]] += token.data["token"]
                for field, text in streamed.items():
                    value = node.closings[0].data["outputs"][field]
                    assert (value if isinstance(value, str) else json.dumps(value)) == text
                    checked += 1
    assert checked >= 8
