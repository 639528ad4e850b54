"""Observing changes nothing: results, exceptions, history, requests are the same."""

from __future__ import annotations

from contextlib import nullcontext

import attrs
import dspy
import pytest

import streamll
from streamll.testing import ScriptedAnswer, capture_events
from support.llm_server import HTTPFailure, LLMServer
from support.programs import ANSWER, BATTERY, COT, QA, observe
from support.tokens import assert_complete


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


def over_http(answers, engine, program, options):
    """Run a program over HTTP; return its result, its error's type, and the requests."""
    result = error = None
    settings = {"api_key": "test", "cache": False, "num_retries": 0, **options}
    chosen = {"engine": engine} if engine else {}
    with LLMServer(answers, cycle=True) as server:
        lm = dspy.LM("openai/x", api_base=server.url, **settings, **chosen)
        try:
            with dspy.context(lm=lm):
                result = dict(dspy.Predict(QA, **program)(question="why?").items())
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", WIRE)
def test_the_server_receives_the_same_requests(name, engine):
    """As many, of the same body but for "stream"; same result, error type, usage and history."""
    answers, options, program = WIRE[name]
    if options.get("num_retries") and engine is None:
        pytest.skip("LiteLLM waits for seconds between its tries")
    seen = []
    for watching in (nullcontext(), capture_events()):
        with watching:
            seen.append(over_http(answers, engine, program, options))
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
