"""Tokens of any program: decoded per field, complete, and void where an answer was replaced."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import threading
from typing import Any, Literal

import cloudpickle
import dspy
import pytest

import streamll
from streamll._dspy import hints, refusals
from streamll._plugins import registry
from streamll._tokens import Piece
from streamll.testing import ScriptedAnswer, ScriptedLM, capture_events, tree
from support.llm_server import HTTPFailure, LLMServer
from support.plugins import plugin_module
from support.programs import ANSWER, COT, QA, scripted
from support.tokens import assert_complete, channel, data_of, fields, resets, shown

ENGINES = hasattr(dspy, "lm15")
needs_engines = pytest.mark.skipif(not ENGINES, reason="dspy has engines from 3.4 on")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """No cached answers, hints or refusals of an earlier test."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    monkeypatch.setattr(hints, "_told", set())
    monkeypatch.setattr(refusals, "_refusing", set())


def run(program, lm, *, adapter=None, capture=None, **inputs):
    """Run *program*; return its prediction and the events."""
    with capture_events(**(capture or {})) as events, dspy.context(lm=lm, adapter=adapter):
        prediction = program(**(inputs or {"question": "why?"}))
    assert_complete(events)
    return prediction, events


ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}
TEXT = 'é 👍🏽 "quoted"\n[[ not a marker ]] {"a": 1} `code`'


@pytest.mark.parametrize("chunk", [1, 3, "word"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_tokens_of_each_field_make_up_the_field(name, chunk):
    """Three adapters, down to one character a piece: nothing of the template, nothing lost."""
    lm = scripted({"reasoning": TEXT, "answer": "forty-two"}, chunk=chunk)
    prediction, events = run(dspy.ChainOfThought(QA), lm, adapter=ADAPTERS[name]())
    assert prediction.reasoning == TEXT
    assert fields(events) == {"reasoning": TEXT, "answer": "forty-two"}
    assert {d["channel"] for d in data_of(events)} == {"content"}
    calls = [e.operation for e in events if e.event_type == "start"]
    assert calls.count("adapter_format") == calls.count("adapter_parse") == 1
    assert len(data_of(events)) > 2 or chunk == "word"


def test_async_programs_tell_the_same_tokens():
    """acall, as call."""
    _, events = run(dspy.ChainOfThought(QA), scripted(COT, chunk=4))
    with capture_events() as awaited, dspy.context(lm=scripted(COT, chunk=4)):
        asyncio.run(dspy.ChainOfThought(QA).acall(question="why?"))
    assert data_of(awaited) == data_of(events)


class Typed(dspy.Signature):
    """Fields of many types."""

    question: str = dspy.InputField()
    note: str | None = dspy.OutputField()
    mood: Literal["good", "bad"] = dspy.OutputField()
    scores: list[int] = dspy.OutputField()


def test_text_fields_stream_by_default_and_typed_ones_when_chosen():
    """A list streams its own text, once it is asked for."""
    answer = {"note": "well", "mood": "good", "scores": [1, 2]}
    lm = scripted(answer)
    assert set(fields(run(dspy.Predict(Typed), lm)[1])) == {"note", "mood"}
    program = streamll.instrument(dspy.Predict(Typed), stream_fields=["scores"])
    for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter()):
        told = fields(run(program, lm, adapter=adapter)[1])
        assert list(told) == ["scores"]
        assert json.loads(told["scores"]) == [1, 2]


def test_an_adapter_nobody_knows_streams_raw():
    """TwoStep, and a stranger's: the text as it is, on a channel of its own; never an error."""
    two_step = dspy.TwoStepAdapter(scripted(ANSWER))
    prediction, events = run(dspy.Predict(QA), ScriptedLM(["Well, forty-two."]), adapter=two_step)
    assert prediction.answer == ANSWER["answer"]
    assert channel(events, "raw") == "Well, forty-two."
    assert channel(events, "content") == ANSWER["answer"]


def test_a_subclass_is_read_like_its_base():
    """By class hierarchy: a user's own JSONAdapter, and BAMLAdapter where dspy has it."""

    class Mine(dspy.JSONAdapter):
        pass

    kinds = [Mine, *([dspy.adapters.baml_adapter.BAMLAdapter] if _has_baml() else [])]
    for kind in kinds:
        _, events = run(dspy.Predict(QA), ScriptedLM(['{"answer": "a\\u00e9\\n"}']), adapter=kind())
        assert fields(events) == {"answer": "aé\n"}


def _has_baml():
    try:
        import dspy.adapters.baml_adapter  # noqa: F401
    except ImportError:
        return False
    return True


class Shout(dspy.Adapter):
    """An adapter of its own format: ``FIELD!text``."""

    def format(self, signature, demos, inputs):
        return [{"role": "user", "content": str(inputs)}]

    def parse(self, signature, completion):
        name, _, text = completion.partition("!")
        return {name.lower(): text}


class ShoutParser:
    """Decodes ``FIELD!text``, at the end."""

    def __init__(self, fields):
        self.text = ""

    def feed(self, text):
        self.text += text
        return []

    def finish(self):
        name, _, text = self.text.partition("!")
        return [Piece(name.lower(), text, is_last=True)]


def test_a_plugin_may_bring_the_parser_of_an_adapter():
    """streamll_register_parsers: without it raw, with it decoded."""
    lm = ScriptedLM(["ANSWER!yes"], cycle=True, chunk=2)
    _, events = run(dspy.Predict(QA), lm, adapter=Shout())
    assert channel(events, "raw") == "ANSWER!yes"

    def streamll_register_parsers(register):
        register("Shout", ShoutParser)

    plugin = plugin_module("shouting", streamll_register_parsers=streamll_register_parsers)
    registry().register(plugin, "shouting")
    try:
        _, events = run(dspy.Predict(QA), lm, adapter=Shout())
    finally:
        registry().unregister(plugin)
        registry().parsers.clear()
    assert fields(events) == {"answer": "yes"}


# Programs


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def react_answers():
    think = {
        "next_thought": "I add.",
        "next_tool_name": "add",
        "next_tool_args": {"a": 1, "b": 2},
    }
    done = {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}}
    return [think, done, {"reasoning": "It adds up.", "answer": "three"}]


def test_react_tells_thought_tool_arguments_and_answer():
    """Every step as it comes: what it thinks, which tool with what, and the answer last."""
    prediction, events = run(dspy.ReAct(QA, tools=[add]), ScriptedLM(react_answers(), chunk=3))
    assert prediction.answer == "three"
    told = shown(events)
    assert told["react"][:2] == ["next_thought: I add.", "next_tool_name: add"]
    assert json.loads(told["react"][2].removeprefix("next_tool_args: ")) == {"a": 1, "b": 2}
    assert told["react"][3:5] == ["next_thought: Done.", "next_tool_name: finish"]
    assert told["extract.predict"] == ["reasoning: It adds up.", "answer: three"]
    assert json.loads(channel(events, "tool_args").removesuffix("{}")) == {"a": 1, "b": 2}
    tools = [
        e.data["tool_name"] for e in events if e.operation == "tool_call" and not e.duration_ms
    ]
    assert tools == ["add", "finish"]


class Interpreter:
    """Runs nothing: answers every code with the same output."""

    def __init__(self, output):
        self.output = output
        self.tools: dict[str, Any] = {}

    def start(self):
        pass

    def execute(self, code, variables=None):
        return self.output

    def __call__(self, code, variables=None):
        return self.output

    def shutdown(self):
        pass


def interpreted(kind, *args, output, **options):
    """Make a program of *kind* with an interpreter double, on any dspy."""
    made = Interpreter(output)
    # Compiled classes (RLM) hide their signature behind a wrapper.
    takes_factory = dspy.__version__ >= "3.3"
    given = {"interpreter_factory": lambda: made} if takes_factory else {"interpreter": made}
    return kind(*args, **given, **options)


CODE = "```python\nprint(6 * 7)\n```"


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_program_of_thought_and_code_act_tell_their_code():
    """The code is an output field like others."""
    written = {"reasoning": "Compute.", "generated_code": CODE}
    answers = [written, {"reasoning": "So.", "answer": "42"}]
    program = interpreted(dspy.ProgramOfThought, QA, output='{"answer": 42}')
    prediction, events = run(program, ScriptedLM(answers, chunk=4))
    assert prediction.answer == "42"
    assert f"generated_code: {CODE}" in shown(events)["code_generate.predict"]
    assert ["reasoning: So.", "answer: 42"] in shown(events).values()

    acting = [{"generated_code": CODE, "finished": True}, {"reasoning": "So.", "answer": "42"}]
    _, events = run(interpreted(dspy.CodeAct, QA, [add], output="42"), ScriptedLM(acting, chunk=4))
    assert f"generated_code: {CODE}" in [line for told in shown(events).values() for line in told]


@pytest.mark.skipif(not hasattr(dspy, "RLM"), reason="this dspy has no RLM")
def test_rlm_tells_its_reasoning_and_code():
    """Each iteration of the loop, on the path of its predictor."""
    code_interpreter = pytest.importorskip("dspy.primitives.code_interpreter")
    final = code_interpreter.FinalOutput({"answer": "42"})
    answers = [{"reasoning": "Look.", "code": CODE}]
    program = interpreted(dspy.RLM, "question -> answer", output=final)
    prediction, events = run(program, ScriptedLM(answers, chunk=4))
    assert prediction.answer == "42"
    (told,) = shown(events).values()
    assert told == ["reasoning: Look.", f"code: {CODE}"]


def test_multi_chain_comparison_tells_its_comparison():
    """Sub-predictions are told where they are made, the verdict where it is reached."""
    chains = [dspy.Prediction(rationale="r", answer=str(n)) for n in range(3)]
    lm = scripted({"rationale": "All say so.", "answer": "2"}, chunk=3)
    _, events = run(dspy.MultiChainComparison(QA, M=3), lm, completions=chains, question="why?")
    assert fields(events) == {"rationale": "All say so.", "answer": "2"}


@pytest.mark.parametrize("kind", ["BestOfN", "Refine"])
def test_each_try_of_best_of_n_and_refine_is_told(kind):
    """Three tries, three answers, each under its own call; the best is returned."""
    advice = {"discussion": "d", "advice": "{}"}
    answers = [{"answer": "a"}, {"answer": "bb"}, {"answer": "ccc"}]
    if kind == "Refine":
        answers = [answers[0], advice, answers[1], advice, answers[2]]
    reward = lambda args, prediction: len(prediction.answer)  # noqa: E731
    program = getattr(dspy, kind)(dspy.Predict(QA), N=3, reward_fn=reward, threshold=9)
    prediction, events = run(program, ScriptedLM(answers, chunk=2, temperature=1.0))
    assert prediction.answer == "ccc"
    told = [line for lines in shown(events).values() for line in lines]
    assert [line for line in told if line.startswith("answer")] == [
        "answer: a",
        "answer: bb",
        "answer: ccc",
    ]


class Deep(dspy.Module):
    """Three levels, one predictor used twice, one field name in both."""

    def __init__(self):
        super().__init__()
        self.outer = dspy.ChainOfThought(QA)
        self.other = dspy.Predict(QA)

    def forward(self, question):
        first = self.outer(question=question)
        return self.other(question=first.answer)


def test_the_same_field_name_in_two_predictors_is_told_apart():
    """By the path of the predictor."""
    _, events = run(Deep(), ScriptedLM([COT, {"answer": "second"}], chunk=3))
    assert shown(events) == {
        "outer.predict": [f"reasoning: {COT['reasoning']}", f"answer: {COT['answer']}"],
        "other": ["answer: second"],
    }


def test_copies_of_a_program_tell_the_same_tokens(tmp_path):
    """Repeated, deep-copied, pickled, loaded and compiled: tokens every time."""
    program = Deep()
    program.save(tmp_path / "state.json")
    loaded = Deep()
    loaded.load(tmp_path / "state.json")
    trainset = [dspy.Example(question="q", answer="a").with_inputs("question")]
    compiled = dspy.LabeledFewShot(k=1).compile(program, trainset=trainset)
    clones = [
        program,
        program,
        copy.deepcopy(program),
        cloudpickle.loads(cloudpickle.dumps(program)),
        loaded,
        compiled,
    ]
    told = [
        shown(run(clone, ScriptedLM([COT, {"answer": "second"}], chunk=3))[1]) for clone in clones
    ]
    assert told[0]["other"] == ["answer: second"]
    assert all(other == told[0] for other in told[1:])


def test_concurrent_calls_of_one_program_do_not_mix():
    """One program object, sixteen tasks and eight threads: each execution has its own answer."""
    lm = ScriptedLM(lambda messages: {"answer": _question(messages) * 5}, chunk=2)
    program = dspy.Predict(QA)
    questions = [f"<{n}>" for n in range(16)]

    async def main():
        await asyncio.gather(*(program.acall(question=q) for q in questions))

    with capture_events() as events, dspy.context(lm=lm):
        asyncio.run(main())
        pairs = [(program, {"question": q}) for q in questions]
        dspy.Parallel(num_threads=8, disable_progress_bar=True)(pairs)
        examples = [dspy.Example(question=q).with_inputs("question") for q in questions]
        program.batch(examples, num_threads=4, disable_progress_bar=True)
    assert_complete(events)
    told = sorted(line for lines in shown(events).values() for line in lines)
    assert told == sorted(f"answer: {q * 5}" for q in questions * 3)


def _question(messages):
    return messages[-1]["content"].partition("[[ ## question ## ]]\n")[2].partition("\n")[0]


def test_candidates_are_told_apart_by_choice_index():
    """n=3."""
    answers = [{"answer": str(n) * 4} for n in range(3)]
    _, events = run(dspy.Predict(QA, n=3, temperature=1.0), ScriptedLM(answers, chunk=2))
    told = data_of(events)
    for n in range(3):
        joined = "".join(d["token"] for d in told if d["choice_index"] == n)
        assert joined == str(n) * 4


# Channels


def test_native_thinking_and_tool_calls_have_channels_of_their_own():
    """reasoning and tool_args, two tool calls apart from each other."""
    calls = [("add", {"a": 1}), ("add", {"b": 2})]
    answer = ScriptedAnswer(reasoning="Let me see.", text="hello", tool_calls=calls)
    lm = ScriptedLM([answer], chunk=3, supports=["reasoning", "function_calling"])
    with capture_events() as events, dspy.context(lm=lm):
        lm("hi")
    assert channel(events, "reasoning") == "Let me see."
    assert channel(events, "raw") == "hello"
    told = [d for d in data_of(events) if d["channel"] == "tool_args"]
    ids = list(dict.fromkeys(d["tool_call_id"] for d in told))
    texts = ["".join(d["token"] for d in told if d["tool_call_id"] == i) for i in ids]
    assert [json.loads(text) for text in texts] == [{"a": 1}, {"b": 2}]
    assert {d["tool_name"] for d in told} == {"add"}


@needs_engines
def test_citations_have_a_channel():
    """As an engine streams them."""
    from dspy import lm15

    class Cites:
        def complete(self, request):
            raise AssertionError("streams")

        def stream(self, request):
            yield lm15.StreamStartEvent(id="1", model=request.model)
            yield lm15.StreamDeltaEvent(lm15.TextDelta(text="It is so.", part_index=0))
            yield lm15.StreamDeltaEvent(lm15.CitationDelta(text="see here", part_index=1))
            yield lm15.StreamEndEvent(finish_reason="stop", usage=lm15.Usage())

        def close(self):
            pass

    with capture_events() as events:
        dspy.LM("x/y", engine=Cites(), cache=False)("hi")
    assert channel(events, "citation") == "see here"


# Choosing


def test_stream_fields_chooses_and_one_hint_says_why_a_field_was_silent(caplog):
    """A name nobody has, and an answer without the field: one line each, once."""
    program = streamll.instrument(dspy.Predict(QA), stream_fields=["answer", "anser"])
    with caplog.at_level(logging.WARNING, "streamll"):
        for _ in range(2):
            _, events = run(program, scripted(ANSWER))
    assert fields(events) == ANSWER
    (line,) = [r.getMessage() for r in caplog.records]
    assert "'anser'" in line
    assert "answer" in line.split("no module had it")[1]
    caplog.clear()
    silent = streamll.instrument(dspy.Predict(QA), stream_fields=["answer"])
    with caplog.at_level(logging.WARNING, "streamll"):
        for _ in range(2):
            run(silent, ScriptedLM(["ANSWER!yes"]), adapter=Shout())
    assert [r.getMessage().count("did not stream") for r in caplog.records] == [1]


def test_tokens_are_of_their_operation():
    """operations= without llm_call, or include_tokens=False: no tokens."""
    for options in ({"operations": ["module_forward"]}, {"include_tokens": False}):
        _, events = run(dspy.Predict(QA), scripted(ANSWER), capture=options)
        assert events
        assert not data_of(events)
    _, events = run(dspy.Predict(QA), scripted(ANSWER), capture={"operations": ["llm_call"]})
    assert fields(events) == ANSWER


# Cache


def replayed(**options):
    lm = scripted(COT, cache=True, model="scripted/replayed", chunk=2)
    program = dspy.ChainOfThought(QA)
    run(program, lm)
    return run(program, lm, capture=options)[1]


def test_a_cached_answer_is_replayed_whole_paced_or_not_at_all():
    """Marked as a replay; the words of "paced" make up the text."""
    whole = data_of(replayed(replay_cached="whole"))
    assert [d["token"] for d in whole] == list(COT.values())
    assert {d["origin"] for d in whole} == {"cache_replay"}
    paced = replayed(replay_cached="paced")
    assert len(data_of(paced)) > len(whole)
    assert fields(paced) == COT
    assert data_of(replayed(replay_cached="off")) == []


# Replacement


def test_a_fallback_to_json_voids_what_the_chat_adapter_told():
    """reset with attempt and reason; what follows is the answer that counts."""
    half = "[[ ## reasoning ## ]]\nwrong way\n"
    lm = ScriptedLM([half, {"reasoning": "right", "answer": "yes"}], chunk=4)
    prediction, events = run(dspy.ChainOfThought(QA), lm)
    assert prediction.answer == "yes"
    assert resets(events) == ["adapter_fallback"]
    (reset,) = data_of(events, "reset")
    assert reset["attempt"] == 2
    assert [d["attempt"] for d in data_of(events)] == sorted(d["attempt"] for d in data_of(events))
    assert fields(events) == {"reasoning": "right", "answer": "yes"}


BROKEN = ScriptedAnswer(
    text="[[ ## answer ## ]]\nthe first try and more", error=OSError("cut"), error_after=7
)


def test_a_retry_voids_what_the_broken_answer_told():
    """reset lm_retry; and without a retry the error has the partial text instead."""
    with LLMServer([BROKEN, {"answer": "second"}]) as server:
        prediction, events = run(dspy.Predict(QA), over_http(server, num_retries=2))
    assert prediction.answer == "second"
    assert resets(events) == ["lm_retry"]
    assert fields(events) == {"answer": "second"}
    with capture_events() as events, LLMServer([BROKEN], cycle=True) as server:
        with dspy.context(lm=over_http(server)):
            with pytest.raises(Exception):  # noqa: B017, PT011 - each client has its own
                dspy.Predict(QA)(question="why?")
    failed = next(e for e in events if e.operation == "llm_call" and e.event_type == "error")
    assert failed.data["partial"]["answer"] == "".join(d["token"] for d in data_of(events))
    assert failed.data["partial"]["answer"].startswith("the")
    assert "lm_retry" not in resets(events)


def over_http(server, engine=None, **options):
    settings = {"api_base": server.url, "api_key": "test", "cache": False, "num_retries": 0}
    chosen = {"engine": engine} if engine and ENGINES else {}
    return dspy.LM("openai/x", **{**settings, **chosen, **options})


@needs_engines
def test_a_retry_of_one_candidate_leaves_the_others():
    """The reset names its choice."""
    answers = [{"answer": "one"}, BROKEN, {"answer": "two"}]
    with LLMServer(answers) as server:
        lm = over_http(server, num_retries=1, temperature=1.0)
        _, events = run(dspy.Predict(QA, n=2), lm)
    (reset,) = data_of(events, "reset")
    assert reset["choice_index"] == 1
    assert list(shown(events).values()) == [["answer: one", "answer: two"]]


def test_a_field_told_otherwise_than_it_is_read_is_put_right():
    """JSON that repeats a key: dspy takes the last, we told the first."""
    lm = ScriptedLM(['{"answer": "first", "answer": "last"}'])
    prediction, events = run(dspy.Predict(QA), lm, adapter=dspy.JSONAdapter())
    assert prediction.answer == "last"
    assert fields(events) == {"answer": "last"}


def test_a_secret_that_was_scrubbed_is_no_mismatch():
    """The password of a URL is not told, and nothing is put "right" for it."""
    answer = "postgres://user:hunter2@db/x is it"
    prediction, events = run(dspy.Predict(QA), scripted({"answer": answer}, chunk=4))
    assert prediction.answer == answer
    assert resets(events) == []
    told = "".join(d["token"] for d in data_of(events))
    assert "hunter2" not in told
    assert told.endswith("@db/x is it")


# Coalescing

LONG = {"answer": "a" * 200}


def test_a_token_window_merges_and_loses_nothing():
    """Fewer tokens, the same text, and the first is not held back."""
    lm = scripted({"reasoning": "r" * 200, "answer": "a" * 100}, chunk=2)
    _, plain = run(dspy.ChainOfThought(QA), lm)
    _, merged = run(dspy.ChainOfThought(QA), lm, capture={"token_window_ms": 60_000})
    assert fields(merged) == fields(plain)
    assert len(data_of(plain)) > 100
    assert len(data_of(merged)) == 4
    assert data_of(merged)[0] == data_of(plain)[0]


class Gated(streamll.Sink):
    """Takes nothing until its gate is opened."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gate, self.events = threading.Event(), []

    def write(self, batch):
        self.gate.wait()
        self.events.extend(batch)


def test_tokens_merge_while_a_sink_is_behind_and_none_is_dropped():
    """200 tokens to a sink that stands still, with room for 100 events."""
    sink = Gated(buffer_size=100, batch_size=1)
    with streamll.configure(sinks=[sink], capture="all"), dspy.context(lm=scripted(LONG, chunk=1)):
        dspy.Predict(QA)(question="why?")
        sink.gate.set()
        assert streamll.flush(30)
    assert fields(sink.events) == LONG
    assert sink.stats.dropped == {}


# Engines


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_what_answers_in_one_piece_is_told_in_one_piece():
    """DummyLM and a custom BaseLM without an engine."""
    from dspy.utils import DummyLM

    _, events = run(dspy.Predict(QA), DummyLM([ANSWER]))
    assert [d["token"] for d in data_of(events)] == list(ANSWER.values())
    _, events = run(dspy.Predict(QA), Legacy())
    assert [d["token"] for d in data_of(events)] == ["legacy"]


class Legacy(dspy.BaseLM):
    """A custom LM of the old interface."""

    def __init__(self):
        super().__init__("mine/legacy", cache=False)

    def forward(self, prompt=None, messages=None, **kwargs):
        from types import SimpleNamespace as Plain

        message = Plain(content="[[ ## answer ## ]]\nlegacy", tool_calls=None)
        choice = Plain(message=message, finish_reason="stop")
        return Plain(choices=[choice], usage={"total_tokens": 3}, model="mine/legacy")


class Router(dspy.BaseLM):
    """An LM that asks others, in turn, until one answers."""

    def __init__(self, *others):
        super().__init__("mine/router", cache=False)
        self.others = others

    def __call__(self, prompt=None, messages=None, **kwargs):
        return self._asked(prompt=prompt, messages=messages, **kwargs)

    @dspy.utils.callback.with_callbacks
    def _asked(self, prompt=None, messages=None, **kwargs):
        for other in self.others[:-1]:
            try:
                return other(prompt=prompt, messages=messages)
            except Exception:
                continue
        return self.others[-1](prompt=prompt, messages=messages)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_lm_that_asks_another_one_tells_the_answer_once():
    """Decoded live in the inner call; a failed inner answer is void."""
    lm = Router(ScriptedLM([ValueError("down")]), scripted(ANSWER, chunk=2))
    _, events = run(dspy.Predict(QA), lm)
    told = data_of(events)
    assert "".join(d["token"] for d in told if d.get("field") == "answer") == ANSWER["answer"]
    assert len(told) > 3
    with LLMServer([BROKEN]) as server:
        lm = Router(over_http(server), scripted(ANSWER, chunk=2))
        _, events = run(dspy.Predict(QA), lm)
    assert resets(events) == ["lm_retry"]


@needs_engines
def test_an_engine_that_does_not_stream_is_asked_for_the_whole():
    """No stream method, or one that says so: one complete() each, the answer in one piece."""
    from dspy import lm15

    class Whole:
        asked = 0

        def complete(self, request):
            self.asked += 1
            message = lm15.Message(role="assistant", parts=(lm15.TextPart("hello"),))
            return lm15.Response(
                id="1",
                model=request.model,
                message=message,
                finish_reason="stop",
                usage=lm15.Usage(),
            )

        def close(self):
            pass

    class Refuses(Whole):
        def stream(self, request):
            raise NotImplementedError

    for engine in (Whole(), Refuses()):
        with capture_events() as events:
            assert dspy.LM("x/y", engine=engine, cache=False)("hi") == ["hello"]
        assert channel(events, "raw") == "hello"
        assert engine.asked == 1


@pytest.mark.parametrize("engine", ["lm15", "litellm"] if ENGINES else [None])
def test_a_provider_that_refuses_to_stream_answers_whole(engine):
    """OpenAI does, to unverified organizations: the program must not fail for being watched."""
    refusal = HTTPFailure(400, "Your organization must be verified to stream this model.")
    with LLMServer([refusal, ANSWER, ANSWER]) as server:
        lm = over_http(server, engine)
        prediction, events = run(dspy.Predict(QA), lm)
        assert prediction.answer == ANSWER["answer"]
        run(dspy.Predict(QA), lm)
        asked = [bool(request.body.get("stream")) for request in server.requests]
    assert asked == [True, False, False]
    assert fields(events) == ANSWER


@pytest.mark.parametrize("engine", ["lm15", "litellm"] if ENGINES else [None])
def test_answers_stream_over_http(engine):
    """Server-sent events, by DSPy's native client and by LiteLLM: live, and complete."""
    with LLMServer([COT]) as server:
        prediction, events = run(dspy.ChainOfThought(QA), over_http(server, engine))
    assert prediction.answer == COT["answer"]
    assert fields(events) == COT
    assert len(data_of(events)) > 3
    (end,) = [e for e in events if e.operation == "llm_call" and e.event_type == "end"]
    assert end.data["ttft_ms"] <= end.duration_ms


@needs_engines
def test_the_responses_api_streams_through_the_native_client():
    """As dspy itself does."""
    with LLMServer([COT]) as server:
        lm = over_http(server, "lm15", model_type="responses")
        _, events = run(dspy.ChainOfThought(QA), lm)
    assert server.requests[0].path.endswith("/responses")
    assert fields(events) == COT
    assert len(data_of(events)) > 3


@pytest.mark.parametrize("engine", ["lm15", "litellm"] if ENGINES else [None])
def test_streamify_and_streamll_both_get_every_token(engine):
    """The chunks of dspy.streamify are as they are without us, and ours are live too."""

    async def streamed():
        items = [item async for item in dspy.streamify(dspy.Predict(QA))(question="why?")]
        chunks = [item for item in items if not isinstance(item, dspy.Prediction)]
        return [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]

    with LLMServer([ANSWER], cycle=True) as server, dspy.context(lm=over_http(server, engine)):
        plain = asyncio.run(streamed())
        with capture_events() as events:
            watched = asyncio.run(streamed())
    assert watched == plain
    assert_complete(events)
    assert fields(events) == ANSWER
    assert len(data_of(events)) > 1
    assert {d["origin"] for d in data_of(events)} == {"live"}


def test_the_end_of_a_call_has_length_and_hash_of_each_field():
    """To check by that nothing was lost on the way."""
    from hashlib import sha256

    _, events = run(dspy.ChainOfThought(QA), scripted(COT, chunk=3))
    (end,) = [e for e in events if e.operation == "llm_call" and e.event_type == "end"]
    assert end.data["fields"] == {
        name: {"length": len(text), "sha256": sha256(text.encode()).hexdigest()}
        for name, text in COT.items()
    }
    assert tree(events)
