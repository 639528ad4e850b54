"""Many calls at once over real HTTP: no token in the wrong execution, nothing lost, order kept."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

from streamll.testing import capture_events
from support.llm_server import LLMServer
from support.tokens import assert_complete, fields

THREADS = 50
TASKS = 200
SIGNATURE = "question -> reasoning, answer"
ENGINES = ["lm15", "litellm"] if hasattr(dspy, "lm15") else [None]


def text(number):
    """What is answered to question *number*: of its own length, and full of its number."""
    return {"reasoning": f"r{number} " * (number % 7 + 1), "answer": f"a{number} " * 9}


def answer(messages):
    asked = messages[-1]["content"].partition("[[ ## question ## ]]\n")[2]
    return {name: value.strip() for name, value in text(int(asked.split()[0])).items()}


@pytest.fixture(params=ENGINES)
def lm(request):
    """An LM that talks to a local server which answers each question with its number."""
    chosen = {"engine": request.param} if request.param else {}
    with LLMServer(answer) as server:
        yield dspy.LM("openai/x", api_base=server.url, api_key="t", cache=False, **chosen)


def check(events, count):
    """Assert that each execution has the whole answer to its own question, and nothing else."""
    assert_complete(events)
    executions = defaultdict(list)
    for event in events:
        executions[event.execution_id].append(event)
    assert len(executions) == count
    for found in executions.values():
        number = int(found[0].data["inputs"]["question"])
        assert fields(found) == {name: value.strip() for name, value in text(number).items()}
    assert sum(e.event_type == "token" for e in events) > 5 * count


@pytest.mark.slow
def test_fifty_threads_at_once(lm):
    """One program object, fifty threads of a plain pool."""
    program = dspy.Predict(SIGNATURE)

    def ask(number):
        with dspy.context(lm=lm):
            return program(question=str(number)).answer

    with capture_events() as events, ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(ask, range(THREADS)))
    assert answers == [text(n)["answer"].strip() for n in range(THREADS)]
    check(events, THREADS)


@pytest.mark.slow
def test_two_hundred_tasks_at_once(lm):
    """One program object, two hundred tasks of one loop."""
    program = dspy.Predict(SIGNATURE)

    async def main():
        asked = (program.acall(question=str(number)) for number in range(TASKS))
        return [prediction.answer for prediction in await asyncio.gather(*asked)]

    with capture_events() as events, dspy.context(lm=lm):
        answers = asyncio.run(main())
    assert answers == [text(n)["answer"].strip() for n in range(TASKS)]
    check(events, TASKS)
