"""Observing changes nothing: results, exceptions, history, requests are the same."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace

import attrs
import dspy
import pytest
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback

import streamll
from streamll.testing import ScriptedAnswer, ScriptedLM, capture_events
from support.llm_server import HTTPFailure, LLMServer
from support.programs import ANSWER, BATTERY, COT, QA, observe, scripted
from support.tokens import assert_complete, data_of, fields


@pytest.fixture(autouse=True)
def _fresh_cache():
    """Cached answers of one run must not reach the next."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


def comparable(outcome, ordered):
    """Requests of parallel calls come in any order; LiteLLM puts a traceback in its messages."""
    error = outcome.error and (outcome.error[0], outcome.error[1].splitlines()[0])
    outcome = attrs.evolve(outcome, error=error)
    if ordered:
        return outcome
    return (
        outcome.result,
        outcome.error,
        sorted(map(str, outcome.requests)),
        sorted(map(str, outcome.history)),
    )


@pytest.mark.parametrize("track_usage", [False, True], ids=["plain", "track_usage"])
@pytest.mark.parametrize("name", BATTERY)
def test_a_program_does_the_same_with_and_without_streamll(name, track_usage):
    """Same predictions, exceptions, history and number of LM calls."""
    run, make_lm, ordered = BATTERY[name]
    plain = observe(run, make_lm(), track_usage=track_usage)
    dspy.cache.reset_memory_cache()
    with capture_events() as events:
        watched = observe(run, make_lm(), track_usage=track_usage)
    assert comparable(watched, ordered) == comparable(plain, ordered)
    assert events
    assert_complete(events)


def test_settings_are_as_they_were_after_a_call():
    """Nothing of streamll is left in dspy.settings, and none of it shows there."""
    run, make_lm, _ = BATTERY["chat"]
    keys = ("callbacks", "usage_tracker", "caller_modules", "send_stream")
    before = {key: dspy.settings[key] for key in keys}
    with capture_events():
        observe(run, make_lm())
        assert {key: dspy.settings[key] for key in keys} == before
    assert {key: dspy.settings[key] for key in keys} == before


class Curious(DummyLM):
    """An LM that looks at the settings while it is called."""

    def __init__(self):
        super().__init__([ANSWER])
        self.seen = []

    def __call__(self, *args, **kwargs):
        self.look()
        return super().__call__(*args, **kwargs)

    def forward(self, *args, **kwargs):
        self.look()
        return super().forward(*args, **kwargs)

    def look(self):
        """Note what programs, routers and other observers would find."""
        callers = [type(module).__name__ for module in dspy.settings.caller_modules or ()]
        keys = ("usage_tracker", "send_stream", "callbacks")
        self.seen.append((callers, [dspy.settings[key] for key in keys]))
        self.seen.append([dspy.settings.get(key) for key in keys])


def looked(**settings):
    """Return what an LM sees of the settings while it is called."""
    lm = Curious()
    with dspy.context(lm=lm, **settings):
        dspy.Predict(QA)(question="why?")
    return lm.seen


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_settings_are_as_they_are_while_an_lm_is_called():
    """An LM, tool or adapter that reads dspy.settings finds nothing of ours in them."""
    callback = BaseCallback()
    plain = looked(callbacks=[callback])
    with capture_events() as events:
        assert looked(callbacks=[callback]) == plain
    assert data_of(events, "end")
    assert plain


def test_adding_a_callback_to_those_there_are_captures_once():
    """A natural idiom of programs: get the callbacks, add one, set them."""
    with capture_events() as events:
        others = [*dspy.settings.get("callbacks", []), BaseCallback()]
        with dspy.context(lm=scripted(ANSWER), callbacks=others):
            dspy.Predict(QA)(question="why?")
    assert_complete(events)
    calls = [event.operation for event in events if event.event_type == "start"]
    assert calls == ["module_forward", "adapter_format", "llm_call", "adapter_parse"]


class Corpus(list):
    """Counts the items that are read."""

    read = 0

    def __iter__(self):
        for item in list.__iter__(self):
            self.read += 1
            yield item


@pytest.mark.parametrize("made", ["before", "inside"])
def test_a_corpus_that_a_program_carries_is_not_read(made):
    """Naming a module looks at few items of a list, also where modules are made on the way."""

    class Searcher(dspy.Module):
        def __init__(self):
            super().__init__()
            self.corpus = Corpus(map(str, range(100_000)))
            self.answer = dspy.Predict(QA)

        def forward(self, question):
            answer = self.answer if made == "before" else dspy.Predict(QA)
            return answer(question=question)

    program = Searcher()
    with capture_events() as events, dspy.context(lm=ScriptedLM([ANSWER] * 20)):
        for _ in range(20):
            program(question="why?")
    assert_complete(events)
    assert program.corpus.read < 5_000


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_an_answer_longer_than_an_event_is_told_in_full():
    """Half a million characters in one piece."""
    text = "é" * 300_000 + "x" * 200_000

    class Whole(dspy.BaseLM):
        def forward(self, prompt=None, messages=None, **kwargs):
            return answer_of(f"[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]")

    with capture_events() as events, dspy.context(lm=Whole("whole/lm")):
        assert dspy.Predict(QA)(question="why?").answer == text
    assert fields(events) == {"answer": text}
    assert not any(event.truncated for event in events if event.event_type == "token")


def answer_of(text):
    """Return what OpenAI's client would."""
    message = SimpleNamespace(content=text, tool_calls=None)
    choice = SimpleNamespace(message=message, finish_reason="stop")
    return SimpleNamespace(choices=[choice], usage={"total_tokens": 3}, model="m")


class Odd(dspy.Module):
    """Compares by value, and has no hash."""

    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict(QA)

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None

    def forward(self, question):
        return self.answer(question=question)


def test_a_module_without_a_hash_has_its_whole_tree():
    """Modules are told apart by what they are, not by how they compare."""
    with capture_events() as events, dspy.context(lm=scripted(ANSWER)):
        Odd()(question="why?")
    assert_complete(events)
    starts = [event for event in events if event.event_type == "start"]
    assert [e.module_path for e in starts] == [None, "answer", "answer", "answer", "answer"]


CUT = ScriptedAnswer(
    text="[[ ## answer ## ]]\nshort and so on", error=OSError("cut"), error_after=7
)
BUSY = HTTPFailure(429, "slow down", retry_after=0)
DOWN = HTTPFailure(500, "down", retry_after=0)

#: name -> (answers of the server, options of the LM, options of the program)
WIRE = {
    "answer": ([ANSWER], {}, {}),
    "fallback": ([COT, '{"answer": "a"}'], {}, {}),
    "refused": ([HTTPFailure(401, "who are you")], {}, {}),
    "busy": ([BUSY], {}, {}),
    "down": ([DOWN], {}, {}),
    "cut": ([CUT], {}, {}),
    "two choices": ([ANSWER], {"temperature": 1.0}, {"n": 2}),
    "retried when busy": ([BUSY, DOWN, ANSWER], {"num_retries": 3}, {}),
    "retried when cut": ([CUT, ANSWER], {"num_retries": 3}, {}),
    "retried in vain": ([CUT], {"num_retries": 2}, {}),
}
ENGINES = ["lm15", "litellm"] if hasattr(dspy, "lm15") else [None]


def over_http(answers, engine, program, options, *, is_async=False):
    """Run a program over HTTP; return its result, its error's type, and the requests."""
    result = error = None
    settings = {"api_key": "test", "cache": False, "num_retries": 0, **options}
    chosen = {"engine": engine} if engine else {}
    with LLMServer(answers, cycle=True) as server:
        lm = dspy.LM("openai/x", api_base=server.url, **settings, **chosen)
        try:
            with dspy.context(lm=lm):
                predict = dspy.Predict(QA, **program)
                if is_async:
                    prediction = asyncio.run(predict.acall(question="why?"))
                else:
                    prediction = predict(question="why?")
                result = dict(prediction.items())
        except Exception as caught:
            error = type(caught)
        bodies = [dict(request.body) for request in server.requests]
    for body in bodies:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return result, error, bodies, [_plain_usage(entry) for entry in lm.history]


def _plain_usage(entry):
    usage = entry["usage"] if isinstance(entry, dict) else entry.usage
    return usage["total_tokens"], entry["outputs"] if isinstance(entry, dict) else entry.outputs


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", WIRE)
def test_the_server_receives_the_same_requests(name, engine, is_async):
    """As many, of the same body but for "stream"; same result, error type, usage and history."""
    answers, options, program = WIRE[name]
    if options.get("num_retries") and engine is None:
        pytest.skip("LiteLLM waits for seconds between its tries")
    seen = []
    for watching in (nullcontext(), capture_events()):
        with watching:
            seen.append(over_http(answers, engine, program, options, is_async=is_async))
    assert seen[1] == seen[0]


def test_an_early_stop_makes_no_request_more():
    """Leaving streamll.stream in mid-answer: the server was asked once."""
    with LLMServer([{"answer": "word " * 500}], cycle=True, delay=0.001) as server:
        lm = dspy.LM("openai/x", api_base=server.url, api_key="test", cache=False, num_retries=3)
        with dspy.context(lm=lm):
            for item in streamll.stream(dspy.Predict(QA), question="why?"):
                if item.event_type == "token":
                    break
        assert len(server.requests) == 1
