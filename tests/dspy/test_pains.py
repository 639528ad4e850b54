"""The twenty pains of DSPy's users with streaming and observing, one test each.

Numbers and order are those of the survey the project began with; the issues named are of
stanfordnlp/dspy where nothing else is said.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import threading
from collections import Counter
from contextlib import suppress

import cloudpickle
import dspy
import pytest

import streamll
from streamll.testing import MemorySink, ScriptedAnswer, ScriptedLM, capture_events, tree
from support.llm_server import LLMServer
from support.programs import ANSWER, COT, QA, react_script, scripted
from support.tokens import assert_complete, channel, data_of, fields, resets, shown


@pytest.fixture(autouse=True)
def _fresh_cache():
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


def lines(events):
    """Return every field and text a reader would see in the end."""
    return sorted(line for found in shown(events).values() for line in found)


def test_pain_01_a_program_streams_once_only():
    """#8425, #8173: the second call streams too, and concurrent ones do not mix."""
    program = dspy.Predict(QA)

    async def main():
        await program.acall(question="why?")
        await asyncio.gather(*(program.acall(question="why?") for _ in range(3)))

    with capture_events() as events, dspy.context(lm=scripted(ANSWER, chunk=2)):
        asyncio.run(main())
    assert lines(events) == [f"answer: {ANSWER['answer']}"] * 4
    assert_complete(events)


def test_pain_02_parallel_breaks_with_streaming():
    """#9154: no "Not running inside an AnyIO worker thread", no None; as a stream too."""
    pairs = [(dspy.Predict(QA), {"question": f"q{n}"}) for n in range(8)]

    class Fan(dspy.Module):
        def forward(self):
            found = dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
            return dspy.Prediction(answers=[prediction.answer for prediction in found])

    with dspy.context(lm=scripted(ANSWER, chunk=2)):
        *events, prediction = streamll.stream(Fan())
    assert prediction.answers == [ANSWER["answer"]] * 8
    assert lines(events) == [f"answer: {ANSWER['answer']}"] * 8


def test_pain_03_a_copied_or_compiled_program_falls_silent():
    """#8736: any module streams, after deepcopy and compile as well; a silent field is told of."""
    program = dspy.ChainOfThought(QA)
    compiled = dspy.LabeledFewShot(k=1).compile(
        program, trainset=[dspy.Example(question="q", answer="a").with_inputs("question")]
    )
    for one in (program, copy.deepcopy(program), compiled):
        with capture_events() as events, dspy.context(lm=scripted(COT)):
            one(question="why?")
        assert fields(events) == COT


def test_pain_04_agents_hide_thoughts_steps_and_the_last_answer():
    """#8454, #2038, #8694, #7772: thought, tool, arguments, result and answer, all by default."""
    with capture_events() as events, dspy.context(lm=react_script()):
        dspy.ReAct(QA, tools=[_add])(question="why?")
    told = lines(events)
    assert {"next_thought: Add.", "next_tool_name: _add", f"answer: {COT['answer']}"} <= set(told)
    assert json.loads(channel(events, "tool_args").removesuffix("{}")) == {"a": 1, "b": 2}
    results = [e.data.get("result") for e in events if e.operation == "tool_call"]
    assert 3 in results


def _add(a: int, b: int) -> int:
    return a + b


def test_pain_05_one_field_name_in_two_predictors():
    """No ValueError, no wrong attribution: the path of the predictor is on each token."""

    class Twice(dspy.Module):
        def __init__(self):
            super().__init__()
            self.draft = dspy.Predict(QA)
            self.final = dspy.Predict(QA)

        def forward(self, question):
            return self.final(question=self.draft(question=question).answer)

    lm = ScriptedLM([{"answer": "draft"}, {"answer": "final"}])
    with capture_events() as events, dspy.context(lm=lm):
        Twice()(question="why?")
    assert shown(events) == {"draft": ["answer: draft"], "final": ["answer: final"]}


def test_pain_06_cached_answers_make_no_tokens():
    """arize-ai/phoenix#3119: replayed, marked, and billed to nobody."""
    lm = scripted(ANSWER, cache=True, model="scripted/pain6")
    with dspy.context(lm=lm):
        dspy.Predict(QA)(question="why?")
        with capture_events() as events:
            dspy.Predict(QA)(question="why?")
    assert fields(events) == ANSWER
    assert {d["origin"] for d in data_of(events)} == {"cache_replay"}
    (end,) = [e for e in events if e.operation == "llm_call" and e.event_type == "end"]
    assert end.data["cache_hit"] is True
    assert "total_tokens" not in end.data


def test_pain_07_json_streams_raw():
    """#8090, #9112, #8158: decoded text; no quotes, escapes or next key."""
    raw = '{"reasoning": "caf\\u00e9 \\"x\\"\\n", "answer": "y"}'
    lm = ScriptedLM([raw], chunk=1)
    with capture_events() as events, dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        dspy.ChainOfThought(QA)(question="why?")
    assert fields(events) == {"reasoning": 'café "x"\n', "answer": "y"}


def test_pain_08_only_three_adapters_can_stream():
    """#8629, #8885: subclasses decode like their base, unknown ones stream raw, none raises."""

    class Mine(dspy.ChatAdapter):
        pass

    class Unknown(dspy.Adapter):
        def format(self, signature, demos, inputs):
            return [{"role": "user", "content": "?"}]

        def parse(self, signature, completion):
            return {"answer": completion}

    with capture_events() as events, dspy.context(lm=scripted(ANSWER), adapter=Mine()):
        dspy.Predict(QA)(question="why?")
    assert fields(events) == ANSWER
    with capture_events() as events, dspy.context(lm=ScriptedLM(["so"]), adapter=Unknown()):
        assert dspy.Predict(QA)(question="why?").answer == "so"
    assert channel(events, "raw") == "so"


def test_pain_09_streaming_changes_the_program():
    """Related #9142: the fallback to JSON works while we watch, and what it replaces is void."""
    half = "[[ ## reasoning ## ]]\nhalf"
    with capture_events() as events, dspy.context(lm=ScriptedLM([half, COT])):
        assert dspy.ChainOfThought(QA)(question="why?").answer == COT["answer"]
    assert resets(events) == ["adapter_fallback"]
    assert fields(events) == COT


def test_pain_10_an_early_stop_leaves_work_and_noise(caplog):
    """#10380, #9010: no task, no request more, no "cancel scope"; the partial text is told."""

    async def main():
        async for item in streamll.stream(dspy.ChainOfThought(QA), question="why?"):
            if item.event_type == "token":
                break

    lm = scripted({"reasoning": "word " * 99, "answer": "x"}, chunk=5, delay=0.001)
    with capture_events() as events, dspy.context(lm=lm):
        asyncio.run(main(), debug=True)
    (cancelled,) = [e for e in events if e.operation == "llm_call" and e.event_type == "cancel"]
    assert cancelled.data["partial"]["reasoning"].startswith("wo")
    assert len(lm.calls) == 1
    assert "cancel scope" not in caplog.text


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_pain_11_the_last_tokens_are_lost(chunk):
    """#8182, #8889, #9085: joined tokens are the field, however the stream is cut."""
    answer = {"reasoning": "ends with marks [[ ##", "answer": "and a\n\nblank line"}
    with capture_events() as events, dspy.context(lm=scripted(answer, chunk=chunk)):
        prediction = dspy.ChainOfThought(QA)(question="why?")
    assert fields(events) == dict(prediction.items()) == answer


def test_pain_12_streaming_forces_an_async_rewrite():
    """#338, #1715, #1112: plain sync code in a plain thread, same call, same thread inside."""
    seen = []

    class Where(dspy.Module):
        def forward(self, question):
            seen.append(threading.current_thread())
            return dspy.Predict(QA)(question=question)

    def work():
        with dspy.context(lm=lm):
            Where()(question="why?")

    lm = scripted(ANSWER, chunk=2)
    thread = threading.Thread(target=work)
    with capture_events() as events:
        thread.start()
        thread.join()
    assert seen == [thread]
    assert fields(events) == ANSWER


def test_pain_13_async_tools_deadlock():
    """#8934: an agent with async tools, awaited, with everything observed."""

    async def look(name: str) -> str:
        await asyncio.sleep(0)
        return f"{name}: 42"

    step = {"next_thought": "t", "next_tool_name": "look", "next_tool_args": {"name": "a"}}
    done = {"next_thought": "d", "next_tool_name": "finish", "next_tool_args": {}}

    async def main():
        with dspy.context(lm=ScriptedLM([step, done, COT])):
            return await asyncio.wait_for(
                dspy.ReAct(QA, tools=[look]).acall(question="why?"), timeout=20
            )

    with capture_events() as events:
        assert asyncio.run(main()).answer == COT["answer"]
    assert "a: 42" in [e.data.get("result") for e in events if e.operation == "tool_call"]
    assert_complete(events)


def test_pain_14_usage_is_missing_or_wrong():
    """#8265, #8416, #7570: exact for each call, over HTTP, with track_usage and without."""
    with LLMServer([ANSWER], cycle=True, usage={"input": 7, "output": 5}) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key="test", cache=False)
        for tracked in (False, True):
            with capture_events() as events, dspy.context(lm=lm, track_usage=tracked):
                dspy.Predict(QA)(question="why?")
            (end,) = [e for e in events if e.operation == "llm_call" and e.event_type == "end"]
            counts = [end.data[key] for key in ("input_tokens", "output_tokens", "total_tokens")]
            assert counts == [7, 5, 12]


def test_pain_15_callbacks_leak_block_and_break():
    """#9074, #10053, #10043: a slow sink holds up nobody, lineage holds, programs still pickle."""

    class Slow(MemorySink):
        def write(self, batch):
            released.wait(20)
            return super().write(batch)

    released = threading.Event()
    sink = Slow()
    program = streamll.instrument(dspy.Predict(QA))
    streamll.configure(sinks=[sink])
    with dspy.context(lm=scripted(ANSWER)):
        for one in (program, cloudpickle.loads(cloudpickle.dumps(program))):
            assert one(question="why?").answer == ANSWER["answer"]
    assert sink.events == []
    released.set()
    assert streamll.flush()
    roots = tree(sink.events)
    assert [len(root.children) for root in roots] == [3, 3]


def test_pain_16_settings_belong_to_the_first_thread():
    """#1812, #8203, #8687: streamll.configure works from any thread, effective everywhere."""
    sink = MemorySink()
    thread = threading.Thread(target=streamll.configure, args=([sink],), kwargs={"capture": "all"})
    thread.start()
    thread.join()
    with dspy.context(lm=scripted(ANSWER)):
        dspy.Predict(QA)(question="why?")
    assert streamll.flush()
    assert fields(sink.events) == ANSWER


def test_pain_17_memory_grows():
    """#7262, #8045, #8604: nothing is kept of a call that ended, nor of one that failed.

    Spans, token state and parsers are counted here; benchmarks/token_cost.py makes 100,000 calls.
    """
    gc.collect()
    before = _alive()  # what failing tests before this one keep in their tracebacks
    failing = ScriptedAnswer(fields=COT, error=ValueError("cut"), error_after=9)
    lm = ScriptedLM([COT, failing, "[[ ## reasoning ## ]]\nhalf", COT], cycle=True)
    with streamll.configure([MemorySink()], capture="all"):
        with dspy.context(lm=lm, max_history_size=1, max_trace_size=1):
            for _ in range(40):
                with suppress(Exception):
                    dspy.ChainOfThought(QA)(question="why?")
        assert streamll.flush()
        failing.error.with_traceback(None)  # the script keeps it, and it keeps its frames
        gc.collect()
        assert _alive() == before


def _alive():
    """Count the objects that belong to calls."""
    kept = ("Asked", "LMCall", "Run", "Runs", "TokenStream", "Span", "Execution", "_Open")
    kept += ("ChatParser", "JsonParser")
    kinds = Counter(
        type(thing).__name__
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith("streamll.")
    )
    return {name: count for name, count in kinds.items() if name in kept}


def test_pain_18_optimizers_and_evaluation_are_black_boxes():
    """#7958, #10120: every example of an evaluation is a call with its own tree and tokens."""
    devset = [dspy.Example(question=f"q{n}", answer="x").with_inputs("question") for n in range(4)]
    evaluate = dspy.Evaluate(
        devset=devset, metric=lambda e, p, t=None: 1.0, num_threads=2, display_progress=False
    )
    with capture_events() as events, dspy.context(lm=scripted(ANSWER)):
        evaluate(dspy.Predict(QA))
    (root,) = tree(events)
    assert root.start.data["total"] == 4
    assert root.closings[0].data["score"] == 100.0
    assert lines(events) == [f"answer: {ANSWER['answer']}"] * 4


def test_pain_19_turns_and_calls_cannot_be_tied_together():
    """#9084, #7770, #1540: a session's context is on every event, and ids tie the calls."""
    with capture_events() as events, dspy.context(lm=scripted(ANSWER)):
        for turn in (1, 2):
            with streamll.context(session_id="s1", turn=turn):
                dspy.Predict(QA)(question="why?")
    assert {(e.context["session_id"], e.context["turn"]) for e in events} == {("s1", 1), ("s1", 2)}
    assert len({e.execution_id for e in events}) == 2
    assert all(len(e.trace_id) == 32 and len(e.span_id) == 16 for e in events)


def test_pain_20_no_standard_output_slow_and_leaking():
    """#9196, #10042: one JSON schema on every wire; no credential, and no prompt unasked."""
    sink = MemorySink()
    with LLMServer([ANSWER]) as server, streamll.configure([sink], capture="all"):
        lm = dspy.LM("openai/x", api_base=server.url, api_key="sk-not-to-be-told", cache=False)
        with dspy.context(lm=lm):
            dspy.Predict(QA)(question="why?")
        assert streamll.flush()
    events = [json.loads(body) for body in sink.bodies]
    assert {event["schema_version"] for event in events} == {"1.0"}
    assert not any("messages" in event["data"] for event in events)
    assert b"sk-not-to-be-told" not in b"".join(sink.bodies)
