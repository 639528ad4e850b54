"""The local LLM server behaves as a provider does, for DSPy's native client and for LiteLLM."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dspy
import pytest

from streamll.testing import ScriptedAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator
from support.llm_server import HTTPFailure, LLMServer

#: What this LiteLLM imports for tools and for the Responses API, and DSPy does not install.
MCP = find_spec("mcp") is not None
ENGINES = ["lm15", "litellm"] if find_spec("dspy.clients.engines") else [None]


@pytest.fixture(autouse=True)
def _current_loop() -> Iterator[None]:
    """Lend LiteLLM an event loop: from sync code it makes itself one and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def lm_of(server: LLMServer, engine: str | None, **options: Any) -> dspy.LM:
    """Return an LM that talks to *server* with the client of that name."""
    chosen = {"engine": engine} if engine else {}
    settings = {"api_base": server.url, "api_key": "test", "cache": False, "num_retries": 0}
    return dspy.LM("openai/x", **settings, **chosen, **options)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str | None:
    """Give each client in turn."""
    return request.param


async def streamed(program: Any, **inputs: Any) -> tuple[str, Any]:
    """Run *program* through dspy.streamify; return the text of its chunks and its prediction."""
    texts, prediction = [], None
    async for item in dspy.streamify(program)(**inputs):
        if isinstance(item, dspy.Prediction):
            prediction = item
        elif item.choices:
            texts.append(item.choices[0].delta.content or "")
    return "".join(texts), prediction


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_whole_answer_and_its_usage_arrive(engine: str | None, kind: str, mode: str):
    """Text and usage come back as scripted, over either API, sync and async."""
    if kind == "responses" and engine != "lm15" and not MCP:
        pytest.skip("LiteLLM cannot use the Responses API without the mcp package")
    with LLMServer(["hello there"], usage={"input": 3, "output": 2}) as server:
        lm = lm_of(server, engine, model_type=kind)
        (output,) = lm("hi") if mode == "sync" else asyncio.run(lm.acall("hi"))
    assert (output if isinstance(output, str) else output["text"]) == "hello there"
    assert lm.history[-1]["usage"]["total_tokens"] == 5
    (request,) = server.requests
    assert request.path.endswith("/responses" if kind == "responses" else "/chat/completions")


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_a_streamed_answer_arrives_in_chunks(engine: str | None, kind: str):
    """Chunks make up the completion and the prediction is the same as without streaming."""
    if kind == "responses" and engine != "lm15":
        pytest.skip("DSPy streams the Responses API only through its native client")
    predict = dspy.Predict("q -> answer")
    with LLMServer([{"answer": "one two three"}]) as server:
        predict.set_lm(lm_of(server, engine, model_type=kind))
        text, prediction = asyncio.run(streamed(predict, q="?"))
    assert text == "[[ ## answer ## ]]\none two three\n\n[[ ## completed ## ]]"
    assert prediction.answer == "one two three"
    assert server.requests[0].body["stream"] is True


def test_native_tool_calls_arrive_whole(engine: str | None):
    """A tool call crosses the wire with its name and arguments."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    if engine != "lm15" and not MCP:
        pytest.skip("LiteLLM cannot send tools without the mcp package")
    with LLMServer([ScriptedAnswer(tool_calls=[("look", {"name": "owls"})])]) as server:
        (output,) = lm_of(server, engine)("hi", tools=[tool])
    assert output["tool_calls"][0].function.arguments == '{"name": "owls"}'


def test_a_failure_is_followed_by_success_when_dspy_retries(engine: str | None):
    """429 and 500 are answers like others: the retry gets the next one."""
    if engine != "lm15":
        pytest.skip("LiteLLM waits for seconds between its tries")
    answers = [HTTPFailure(429, retry_after=0), HTTPFailure(500, retry_after=0), "fine"]
    with LLMServer(answers) as server:
        assert lm_of(server, engine).copy(num_retries=2)("hi") == ["fine"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_failure_without_retries_reaches_the_caller(engine: str | None, status: int):
    """An HTTP error is raised with the message that the server gave."""
    failure = HTTPFailure(status, "come back later")
    with LLMServer([failure]) as server, pytest.raises(Exception, match="come back later"):
        lm_of(server, engine)("hi")
    assert len(server.requests) == 1


def test_a_connection_cut_in_mid_stream_fails_the_call(engine: str | None):
    """A stream that stops without its end is an error, not a short answer."""
    # Six words, so that what has arrived could pass for an answer.
    text = "[[ ## answer ## ]]\nshort and to the point"
    broken = ScriptedAnswer(text=text, error=OSError("cut"), error_after=6)
    predict = dspy.Predict("q -> answer")
    with LLMServer([broken], cycle=True) as server:
        predict.set_lm(lm_of(server, engine))
        with pytest.raises(Exception):  # noqa: B017, PT011 - each client has its own
            asyncio.run(streamed(predict, q="?"))
    assert server.requests[0].body["stream"] is True


def test_candidates_share_a_request_or_take_one_each(engine: str | None):
    """n=2 gives two answers: LiteLLM asks once for both, the native client once for each."""
    with LLMServer(["one", "two"]) as server:
        assert lm_of(server, engine)("hi", n=2, temperature=1.0) == ["one", "two"]
    assert len(server.requests) == (2 if engine == "lm15" else 1)


def test_eight_threads_get_an_answer_each(engine: str | None):
    """Requests side by side are served and recorded once each."""
    with LLMServer([str(number) for number in range(16)]) as server:
        lm = lm_of(server, engine)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: lm("hi")[0], range(16)))
    assert sorted(answers, key=int) == [str(number) for number in range(16)]
    assert len(server.requests) == 16
