"""A battery of DSPy programs, each run fresh; used with and without observing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import dspy

from streamll.testing import ScriptedAnswer, ScriptedLM

QA = "question -> answer"


@attrs.frozen
class Outcome:
    """All that a program's caller can see of a run."""

    result: Any
    error: tuple[str, str] | None
    requests: list[Any]
    history: list[Any]


def _counts(usage: Any) -> Any:
    """Drop the breakdown that LiteLLM (dspy before 3.4) computes for streamed calls only."""
    if not isinstance(usage, dict):
        return usage
    return {k: _counts(v) for k, v in usage.items() if not k.endswith("_tokens_details")}


def _plain(value: Any) -> Any:
    if isinstance(value, dspy.Prediction):
        return {"store": dict(value.items()), "usage": _counts(value.get_lm_usage())}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def observe(run: Callable[[Any], Any], lm: Any, **settings: Any) -> Outcome:
    """Run *run* with *lm* and return what its caller can see."""
    result = error = None
    with dspy.context(lm=lm, **settings):
        try:
            result = _plain(run(lm))
        except Exception as caught:
            error = (type(caught).__name__, str(caught))
    history = [
        {key: _entry(item, key) for key in ("messages", "outputs", "usage", "model", "kwargs")}
        for item in lm.history
    ]
    return Outcome(result, error, [call.messages for call in lm.calls], history)


def _entry(item: Any, key: str) -> Any:
    return _counts(item[key] if isinstance(item, dict) else getattr(item, key, None))


def scripted(fields: dict[str, str], **options: Any) -> Any:
    """An LM that always answers with *fields*."""
    return ScriptedLM([fields], cycle=True, **options)


def chat(lm: Any) -> Any:
    return dspy.ChainOfThought(QA)(question="why?")


async def _achat() -> Any:
    return await dspy.ChainOfThought(QA).acall(question="why?")


def achat(lm: Any) -> Any:
    return asyncio.run(_achat())


def json_adapter(lm: Any) -> Any:
    with dspy.context(adapter=dspy.JSONAdapter()):
        return dspy.Predict(QA)(question="why?")


def xml_adapter(lm: Any) -> Any:
    with dspy.context(adapter=dspy.XMLAdapter()):
        return dspy.Predict(QA)(question="why?")


def twice(lm: Any) -> Any:
    predict = dspy.Predict(QA)
    return [predict(question="again"), predict(question="again")]


def raising(lm: Any) -> Any:
    return dspy.Predict(QA)(question="boom")


async def _lookup(name: str) -> str:
    await asyncio.sleep(0)
    return f"{name}: 42 m"


def async_tool(lm: Any) -> Any:
    async def main() -> Any:
        tool = dspy.Tool(_lookup)
        return [await tool.acall(name="tower"), await dspy.Predict(QA).acall(question="why?")]

    return asyncio.run(main())


def parallel(lm: Any) -> Any:
    predict = dspy.Predict(QA)
    pairs = [(predict, {"question": f"q{n}"}) for n in range(8)]
    return dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)


def batch(lm: Any) -> Any:
    examples = [dspy.Example(question=f"q{n}").with_inputs("question") for n in range(8)]
    return dspy.Predict(QA).batch(examples, num_threads=4, disable_progress_bar=True)


def several(lm: Any) -> Any:
    return dspy.Predict(QA, n=3, temperature=1.0)(question="why?")


def _add(a: int, b: int) -> int:
    return a + b


def react(lm: Any) -> Any:
    return dspy.ReAct(QA, tools=[_add])(question="why?")


def react_script() -> Any:
    step = {"next_thought": "Add.", "next_tool_name": "_add", "next_tool_args": {"a": 1, "b": 2}}
    last = {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}}
    return ScriptedLM([step, last, COT])


def best_of(lm: Any) -> Any:
    reward = lambda args, prediction: len(prediction.answer)  # noqa: E731
    program = dspy.BestOfN(dspy.Predict(QA), N=3, reward_fn=reward, threshold=99)
    return program(question="why?")


def thinking(lm: Any) -> Any:
    return lm("hi")


def cut_short() -> Any:
    """An LM whose answers break off in the middle."""
    return ScriptedLM([ScriptedAnswer(fields=COT, error=ValueError("cut"), error_after=7)] * 9)


def thinker() -> Any:
    """An LM that thinks and calls tools natively."""
    answer = ScriptedAnswer(reasoning="Hm.", text="yes", tool_calls=[("add", {"a": 1})])
    return ScriptedLM([answer], supports=["reasoning", "function_calling"])


COT = {"reasoning": "Because it is so.", "answer": "forty-two"}
ANSWER = {"answer": "forty-two \u00e9\U0001f600"}

#: name -> (program, LM factory, whether requests come in a fixed order)
BATTERY: dict[str, tuple[Callable[[Any], Any], Callable[[], Any], bool]] = {
    "chat": (chat, lambda: scripted(COT), True),
    "chat async": (achat, lambda: scripted(COT), True),
    "json": (json_adapter, lambda: scripted(ANSWER), True),
    "xml": (xml_adapter, lambda: scripted(ANSWER), True),
    "fallback": (chat, lambda: ScriptedLM(['{"reasoning": "r", "answer": "a"}'], cycle=True), True),
    "cache hit": (twice, lambda: scripted(ANSWER, cache=True, model="scripted/cached"), True),
    "unparseable": (raising, lambda: ScriptedLM(["nonsense"], cycle=True), True),
    "exception": (raising, lambda: ScriptedLM([ValueError("down")] * 9), True),
    "async tool": (async_tool, lambda: scripted(ANSWER), True),
    "parallel": (parallel, lambda: scripted(ANSWER), False),
    "batch": (batch, lambda: scripted(ANSWER), False),
    "n=3": (several, lambda: scripted(ANSWER), True),
    "mid-stream exception": (raising, cut_short, True),
    "react": (react, react_script, True),
    "best of n": (best_of, lambda: scripted(ANSWER, temperature=1.0), True),
    "thinking and tools": (thinking, thinker, True),
}
