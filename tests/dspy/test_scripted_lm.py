"""ScriptedLM and the demo: scripted answers come out of DSPy's own code, on every dspy from 3.0."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dspy
import pytest

from streamll.errors import ConfigurationError
from streamll.testing import ScriptedAnswer, ScriptedLM, build_demo
from streamll.testing._scripted import requested_fields
from streamll.testing._scripted_chunks import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ENGINES = find_spec("dspy.clients.engines") is not None
DSPY = tuple(int(part) for part in version("dspy").split(".")[:2])

ADAPTERS = [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter]


class Lookup(dspy.Signature):
    """Call the right tool."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


class Thought(dspy.Signature):
    """Think natively."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def shout(messages: Sequence[Mapping[str, Any]]) -> str:
    """Answer with the last message in capitals."""
    return str(messages[-1]["content"]).upper()


def look(name: str) -> str:
    """Look something up."""
    return f"about {name}"


class Ask(dspy.Module):
    """Puts the question to the model without an adapter, so nothing falls back."""

    def forward(self, question: str) -> dspy.Prediction:
        """Ask."""
        return dspy.Prediction(answer=dspy.settings.lm(question)[0])


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error*, what it groups and what it was raised from."""
    if error is not None:
        yield error
        for one in getattr(error, "exceptions", ()):
            yield from chain_of(one)
        yield from chain_of(error.__cause__ or error.__context__)


async def collect(program: Any, texts: list[str]) -> None:
    """Stream *program* and add the text of each chunk to *texts*, until it ends or fails."""
    async for item in dspy.streamify(program)(question="?"):
        texts.append(text_of(item))  # noqa: PERF401 - what came before a failure counts


def text_of(chunk: Any) -> str:
    """Return the visible text of a chunk of either dspy or LiteLLM."""
    return chunk.choices[0].delta.content or "" if chunk.choices else ""


async def streamed(
    program: Any, way: str = "sync", **inputs: Any
) -> tuple[list[str], dspy.Prediction]:
    """Run *program* through dspy.streamify; return the texts of its chunks and its prediction."""
    stream = dspy.streamify(program, is_async_program=way == "async")(**inputs)
    *chunks, prediction = [item async for item in stream]
    return [text_of(chunk) for chunk in chunks], prediction


@pytest.fixture
def _memory_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give DSPy an empty cache in memory, so that no test sees another's answers."""
    monkeypatch.setattr(dspy, "cache", dspy.cache)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_predict_reads_fields_in_the_format_of_any_adapter(adapter: Any, mode: str):
    """Fields given as a dict come out as given, whichever adapter asks for them."""
    fields = {"answer": "a < b & c", "score": 7, "tags": ["x", "y"]}
    predict = dspy.Predict("question -> answer, score: int, tags: list[str]")
    with dspy.context(lm=ScriptedLM([fields]), adapter=adapter()):
        call = predict(question="?") if mode == "sync" else asyncio.run(predict.acall(question="?"))
    assert {name: getattr(call, name) for name in fields} == fields


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_chain_of_thought_asks_for_its_fields_by_name(adapter: Any):
    """A prompt of any adapter tells which fields it wants, in their order."""
    lm = ScriptedLM([{"reasoning": "six by seven", "answer": "42"}])
    with dspy.context(lm=lm, adapter=adapter()):
        prediction = dspy.ChainOfThought("question -> answer")(question="?")
    assert (prediction.reasoning, prediction.answer) == ("six by seven", "42")
    assert requested_fields(lm.calls[0].messages) == ("reasoning", "answer")


def test_react_runs_its_tools_on_scripted_steps():
    """ReAct calls the tool that the script names, sees its result, and extracts an answer."""
    step = {"next_thought": "look", "next_tool_name": "look", "next_tool_args": {"name": "owls"}}
    done = {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}}
    lm = ScriptedLM([step, done, {"reasoning": "seen", "answer": "owls"}])
    with dspy.context(lm=lm):
        prediction = dspy.ReAct("question -> answer", tools=[look])(question="?")
    assert prediction.answer == "owls"
    assert prediction.trajectory["observation_0"] == "about owls"
    assert len(lm.calls) == 3


def test_a_string_is_the_raw_completion():
    """Text reaches the caller unchanged, without an adapter in between."""
    assert ScriptedLM(["plain  text\n"])("hello") == ["plain  text\n"]


def test_a_mapping_answers_by_the_first_pattern_found():
    """Patterns are tried in order against the last user message, never against earlier ones."""
    lm = ScriptedLM({r"colou?r": "blue", r".": "other"})
    assert lm("the color of the sky") == ["blue"]
    assert lm("anything") == ["other"]


def test_a_function_answers_from_the_messages():
    """A function of the messages gives the answer, in any of the forms an answer has."""
    assert ScriptedLM(shout)("hello") == ["HELLO"]


def test_a_used_up_script_says_so_and_a_cycling_one_starts_again():
    """The list is used in order, once, unless told to cycle."""
    lm = ScriptedLM(["one"])
    lm("x")
    with pytest.raises(Exception, match="1 answers and this is request 2; add answers or pass cyc"):
        lm("x")
    again = ScriptedLM(["one", "two"], cycle=True)
    assert [again("x")[0] for _ in range(3)] == ["one", "two", "one"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"answers": []}, "at least one answer"),
        ({"answers": [3]}, "not int"),
        ({"answers": ["a"], "model": "openai/x"}, "must begin with 'scripted/'"),
        ({"answers": ["a"], "chunk": "words"}, "did you mean 'word'"),
        ({"answers": ["a"], "chunk": 0}, "at least 1 character"),
        ({"answers": ["a"], "usage": {"inputs": 3}}, "did you mean 'input'"),
        ({"answers": ["a"], "supports": ["function_call"]}, "did you mean 'function_calling'"),
        ({"answers": shout, "cycle": True}, "needs a list"),
    ],
)
def test_bad_options_are_refused_at_once_with_a_hint(arguments: dict[str, Any], message: str):
    """A script that cannot work fails when it is made, not at the first request."""
    with pytest.raises(ConfigurationError, match=message):
        ScriptedLM(**arguments)


def test_an_answer_has_text_or_fields_and_an_error_to_place():
    """An answer that contradicts itself is refused when it is made."""
    with pytest.raises(ConfigurationError, match="not both"):
        ScriptedAnswer(text="a", fields={"a": "b"})
    with pytest.raises(ConfigurationError, match="needs an error"):
        ScriptedAnswer(text="a", error_after=1)


@pytest.mark.parametrize(
    ("chunk", "parts"),
    [
        ("word", ["The", " answer", " is", " 42", "\n\nYes", " \n"]),
        ("phrase", ["The answer is", " 42", "\n\nYes", " \n"]),
        (8, ["The answ", "er is 42", "\n\nYes \n"]),
        (lambda text: [text[:1], text[1:]], ["T", "he answer is 42\n\nYes \n"]),
    ],
)
def test_every_way_of_cutting_keeps_the_text(chunk: Any, parts: list[str]):
    """Chunks joined are the text, whichever way it is cut."""
    text = "The answer is 42\n\nYes \n"
    assert list(cut(text, chunk)) == parts
    assert "".join(parts) == text
    assert list(cut("", "word")) == []


@pytest.mark.parametrize("way", ["sync", "async"])
def test_tokens_flow_through_streamify_and_make_up_the_completion(way: str):
    """A streamed call yields the chunks of the script and the same prediction and usage."""
    lm = ScriptedLM([{"answer": "The answer is 42"}] * 2, chunk="phrase", usage={"total": 287})
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm):
        whole = predict(question="?")
        texts, prediction = asyncio.run(streamed(predict, way, question="?"))
    assert "\nThe answer is" in texts
    assert "".join(texts).startswith("[[ ## answer ## ]]\nThe answer is 42")
    assert prediction.answer == whole.answer
    assert [entry["usage"]["total_tokens"] for entry in lm.history] == [287, 287]
    assert [call.stream for call in lm.calls] == [False, True]


@pytest.mark.usefixtures("_memory_cache")
def test_a_cached_call_does_not_reach_the_model():
    """With cache=True an equal request is answered by DSPy's cache and is not in `calls`."""
    lm = ScriptedLM(["one", "two"], cache=True)
    assert lm("same") == lm("same") == ["one"]
    assert lm("other") == ["two"]
    assert len(lm.calls) == 2


def test_an_exception_is_raised_by_the_provider():
    """A scripted exception reaches the caller, in the clothes DSPy gives provider failures."""
    lm = ScriptedLM([ValueError("no luck"), "fine"])
    with pytest.raises(Exception, match="no luck") as caught:
        lm("x")
    assert any(isinstance(error, ValueError) for error in chain_of(caught.value))
    assert lm("x") == ["fine"]


def test_a_failed_call_is_retried_as_often_as_asked():
    """With num_retries DSPy tries again, and each try takes the next answer."""
    if not ENGINES:
        pytest.skip("LiteLLM does the retries before dspy 3.4, with errors of its own")
    lm = ScriptedLM([dspy.lm15.TransportError("again", retry_after=0.0), "fine"], num_retries=1)
    assert lm("x") == ["fine"]
    assert len(lm.calls) == 2


def test_an_error_in_mid_stream_comes_after_its_chunks():
    """`error_after` sends that many chunks, then fails the call, and no answer is made up."""
    broken = ScriptedAnswer(text="one two three four", error=OSError("cut off"), error_after=2)
    texts: list[str] = []
    with dspy.context(lm=ScriptedLM([broken])):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - anyio may group it
            asyncio.run(collect(Ask(), texts))
    assert any("cut off" in str(error) for error in chain_of(caught.value))
    assert texts == ["one", " two"]


@pytest.mark.parametrize("mode", ["sync", "async", "streamed"])
def test_native_tool_calls_arrive_parsed(mode: str):
    """A tool call given by name and arguments becomes dspy.ToolCalls, streamed or not."""
    answer = ScriptedAnswer(tool_calls=[("look", {"name": "owls and others"})])
    predict = dspy.Predict(Lookup)
    inputs = {"question": "?", "tools": [dspy.Tool(look)]}
    with dspy.context(lm=ScriptedLM([answer]), adapter=dspy.JSONAdapter()):
        if mode == "sync":
            prediction = predict(**inputs)
        elif mode == "async":
            prediction = asyncio.run(predict.acall(**inputs))
        else:
            _, prediction = asyncio.run(streamed(predict, **inputs))
    (call,) = prediction.calls.tool_calls
    assert (call.name, call.args) == ("look", {"name": "owls and others"})


def test_native_reasoning_keeps_off_the_text():
    """Reasoning travels on its own channel, whole and streamed."""
    answer = ScriptedAnswer(reasoning="let me think", fields={"answer": "42"})
    lm = ScriptedLM([answer] * 2, supports=["reasoning"])
    with dspy.context(lm=lm):
        assert dspy.Predict(Thought)(question="?").answer == "42"
        texts, prediction = asyncio.run(streamed(dspy.Predict(Thought), question="?"))
    assert prediction.answer == "42"
    assert "think" not in "".join(texts)
    if DSPY >= (3, 2):
        assert lm.history[0]["outputs"][0]["reasoning_content"] == "let me think"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 12, "output": 5}, (12, 5, 17)),
        ({"input": 12, "output": 5, "total": 40}, (12, 5, 40)),
        ({"total": 40}, (38, 2, 40)),
        ({"input": 12}, (12, 2, 14)),
        (None, (3, 2, 5)),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_usage_is_exact_per_call(
    usage: dict[str, int] | None, expected: tuple[int, ...], mode: str
):
    """The usage of a call is what the script says, or one token per word."""
    lm = ScriptedLM(["two words"], usage=usage)
    _ = lm("one two three") if mode == "sync" else asyncio.run(lm.acall("one two three"))
    reported = lm.history[-1]["usage"]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert tuple(reported[name] for name in names) == expected


def test_usage_of_an_answer_wins_and_its_details_are_kept():
    """An answer's own usage replaces the LM's; cached tokens are passed on."""
    answer = ScriptedAnswer(text="a", usage={"input": 9, "output": 1, "cached": 4})
    lm = ScriptedLM([answer], usage={"input": 1, "output": 1})
    lm("x")
    usage = lm.history[-1]["usage"]
    assert usage["total_tokens"] == 10
    assert dict(usage["prompt_tokens_details"])["cached_tokens"] == 4


def test_unreported_usage_is_absent():
    """An empty usage reports no figure, instead of zeros."""
    if not ENGINES:
        pytest.skip("LiteLLM writes zeros where a provider reports nothing")
    lm = ScriptedLM(["a"], usage={})
    lm("x")
    assert "total_tokens" not in lm.history[-1]["usage"]


def test_several_candidates_take_an_answer_each():
    """A call with n=2 gets two answers and the sum of their usage."""
    lm = ScriptedLM(["one", "two"], usage={"input": 3, "output": 1})
    assert lm("x", n=2, temperature=1.0) == ["one", "two"]
    assert lm.history[-1]["usage"]["total_tokens"] == 8


def test_calls_record_messages_and_options():
    """`calls` shows what the model was asked, and how."""
    lm = ScriptedLM(["a"])
    lm("hello", temperature=0.5)
    (call,) = lm.calls
    assert call.messages == ({"role": "user", "content": "hello"},)
    assert call.kwargs == {"temperature": 0.5}
    assert not call.stream


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda lm: lm.copy(temperature=0.3)]
)
def test_copies_play_one_script(duplicate: Any):
    """A copy takes the next answer of the same script and is seen in the same record."""
    lm = ScriptedLM(["one", "two"])
    assert lm("x") == ["one"]
    assert duplicate(lm)("x") == ["two"]
    assert len(lm.calls) == 2


def test_an_unpickled_lm_goes_on_where_the_pickled_one_stood():
    """Pickle keeps the position in the script; the record of requests starts empty."""
    lm = ScriptedLM(["one", "two"])
    lm("x")
    other = pickle.loads(pickle.dumps(lm))
    assert other.calls == ()
    assert other("x") == ["two"]
    assert asyncio.run(lm.acall("x")) == ["two"]


@pytest.mark.parametrize("answers", [["HI"], {"hi": "HI"}, shout])
def test_a_saved_lm_plays_its_script_from_the_beginning(answers: Any):
    """The state is JSON and makes an LM again that answers, sync and async."""
    lm = ScriptedLM(answers, cycle=isinstance(answers, list))
    state = json.loads(json.dumps(lm.dump_state()))
    if ENGINES or hasattr(dspy.BaseLM, "load_state"):
        again = dspy.BaseLM.load_state(state, allow_custom_lm_class=True)
    else:
        again = dspy.LM(**state)
    assert again("hi") == ["HI"]
    assert asyncio.run(again.acall("hi")) == ["HI"]
    assert not ENGINES or len(again.calls) == 2


def test_a_script_that_is_not_data_cannot_be_saved():
    """Saving a nested function or an exception is refused with the reason."""
    if not ENGINES:
        pytest.skip("before dspy 3.4 the script is not part of the state")
    with pytest.raises(TypeError, match="not importable"):
        ScriptedLM(lambda messages: "a").dump_state()
    with pytest.raises(TypeError, match="not JSON serializable"):
        ScriptedLM([ValueError("a")]).dump_state()


def test_eight_threads_share_a_script_without_losing_an_answer():
    """Under contention each answer is used once and each request is recorded once."""
    answers = [str(number) for number in range(80)]
    lm = ScriptedLM(answers)
    barrier = threading.Barrier(8)

    def ten(_: int) -> list[str]:
        barrier.wait()
        return [lm("x")[0] for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        seen = [answer for batch in pool.map(ten, range(8)) for answer in batch]
    assert sorted(seen, key=int) == answers
    assert len(lm.calls) == 80


def test_importing_the_testing_package_does_not_import_dspy():
    """Only calling ScriptedLM or build_demo costs an import of dspy."""
    code = "import sys, streamll.testing; sys.exit('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def runs_of_the_demo(demo: Any, way: str) -> list[str]:
    """Run the demo program on its eight questions, one of four ways; return the answers."""
    examples = [dspy.Example(question=q).with_inputs("question") for q in demo.questions]
    program = demo.program
    if way == "sync":
        predictions = [program(**example.inputs()) for example in examples]
    elif way == "async":
        predictions = asyncio.run(_gathered(program, examples))
    elif way == "parallel":
        parallel = dspy.Parallel(num_threads=8, disable_progress_bar=True)
        predictions = parallel([(program, example) for example in examples])
    else:
        predictions = program.batch(examples, num_threads=8, disable_progress_bar=True)
    return [prediction.answer for prediction in predictions]


async def _gathered(program: Any, examples: Sequence[Any]) -> list[Any]:
    return await asyncio.gather(*(program.acall(**example.inputs()) for example in examples))


@pytest.mark.parametrize("way", ["sync", "async", "parallel", "batch"])
def test_the_demo_gives_each_question_its_own_answer(way: str):
    """However runs overlap, an answer is about its question and takes the same 7 requests."""
    demo = build_demo(delay=0)
    with dspy.context(lm=demo.lm):
        answers = runs_of_the_demo(demo, way)
    names = [question.split("the ")[1].split(" lighthouse")[0] for question in demo.questions]
    assert len(set(answers)) == 8
    assert all(name in answer for name, answer in zip(names, answers, strict=True))
    assert len(demo.lm.calls) == 7 * 8


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_demo_runs_on_every_adapter(adapter: Any):
    """The script answers in the format that it is asked for."""
    demo = build_demo(seed=3, delay=0)
    with dspy.context(lm=demo.lm, adapter=adapter()):
        prediction = demo.program(**demo.inputs)
    assert prediction.answer.startswith("The ")
    assert len(demo.lm.calls) == 7


def test_the_demo_has_one_failed_look_up_that_the_agent_handles():
    """The first tool call raises, the agent sees the error and finds the height elsewhere."""
    demo = build_demo(delay=0)
    with dspy.context(lm=demo.lm):
        context = demo.program.retrieve(query=demo.inputs["question"])
        found = demo.program.research(**demo.inputs, passages=context.passages)
    observations = [found.trajectory[f"observation_{step}"] for step in range(4)]
    assert "lost in a storm" in observations[0]
    assert observations[1].endswith(" metres")
    assert str(observations[2]) in found.height


def test_the_demo_knows_what_it_cannot_answer():
    """A question about anything else fails with the list of what the demo knows."""
    demo = build_demo(delay=0)
    with dspy.context(lm=demo.lm), pytest.raises(Exception, match="the demo knows only"):
        demo.program(question="Why is the sky blue?")
