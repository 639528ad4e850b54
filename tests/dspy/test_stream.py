"""streamll.stream: a program's events as an iterator that ends with its result."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time

import dspy
import pytest

import streamll
from streamll._stop import STOP
from streamll.errors import StreamClosed
from streamll.testing import ScriptedLM, capture_events, tree
from support.programs import ANSWER, COT, QA, scripted
from support.tokens import assert_complete, data_of, fields

LONG = {"reasoning": "word " * 200, "answer": "never"}


class Sync(dspy.Module):
    """Has no aforward."""

    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought(QA)

    def forward(self, question):
        return self.think(question=question)


class Async(dspy.Module):
    """Has no forward."""

    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought(QA)

    async def aforward(self, question):
        return await self.think.acall(question=question)


def slow(**options):
    return scripted(LONG, chunk=5, delay=0.002, **options)


def collect(program, mode, lm=None):
    """Run *program* to its end; return its items, from sync or async code."""

    async def main():
        return [item async for item in streamll.stream(program, question="why?")]

    with dspy.context(lm=lm or scripted(COT, chunk=3)):
        if mode == "sync":
            return list(streamll.stream(program, question="why?"))
        return asyncio.run(main())


MODES = pytest.mark.parametrize("mode", ["sync", "async"])


@MODES
@pytest.mark.parametrize("kind", [Sync, Async, lambda: dspy.ChainOfThought(QA)])
def test_a_stream_is_the_events_and_then_the_prediction(kind, mode):
    """From sync and async code, of sync and async programs; unmarked, nothing configured."""
    *events, prediction = collect(kind(), mode)
    assert isinstance(prediction, dspy.Prediction)
    assert prediction.answer == COT["answer"]
    assert_complete(events)
    assert fields(events) == COT


@MODES
def test_events_come_while_the_program_runs(mode):
    """The first token is there long before the last."""
    seen = []

    class Waits(dspy.Module):
        def forward(self, question):
            streamll.emit("before")
            assert released.wait(10), "the event was not delivered while the program ran"
            return dspy.Prediction(answer="done")

    released = threading.Event()

    async def main():
        async for item in streamll.stream(Waits(), question="?"):
            released.set() if getattr(item, "event_type", "") == "before" else seen.append(item)

    if mode == "async":
        asyncio.run(main())
    else:
        for item in streamll.stream(Waits(), question="?"):
            released.set() if getattr(item, "event_type", "") == "before" else seen.append(item)
    assert seen[-1].answer == "done"


@MODES
def test_an_exception_of_the_program_is_raised_at_the_end(mode):
    """After its error event; the type is the program's own."""
    items = []

    class Fails(dspy.Module):
        def forward(self, question):
            raise ZeroDivisionError("boom")

    def plain():
        for item in streamll.stream(Fails(), question="?"):
            items.append(item)  # noqa: PERF402 - what came before it raised

    async def awaited():
        async for item in streamll.stream(Fails(), question="?"):
            items.append(item)  # noqa: PERF401

    run = plain if mode == "sync" else lambda: asyncio.run(awaited())
    with pytest.raises(ZeroDivisionError, match="boom"):
        run()
    assert [item.event_type for item in items] == ["start", "error"]


def threads():
    """Return the threads of streams that do not end; the last thing one does is to say it did."""
    found = [t for t in threading.enumerate() if t.name == "streamll-stream"]
    for thread in found:
        thread.join(5)
    return [thread for thread in found if thread.is_alive()]


def leave_early(program, lm, count=3):
    """Take tokens until *count*, then leave the loop."""
    stream = streamll.stream(program, question="why?")
    with dspy.context(lm=lm), contextlib.closing(iter(stream)) as items:
        tokens = 0
        for item in items:
            tokens += getattr(item, "event_type", "") == "token"
            if tokens == count:
                break


async def aleave_early(program, lm, count=3):
    stream = streamll.stream(program, question="why?")
    with dspy.context(lm=lm):
        async with contextlib.aclosing(aiter(stream)) as items:
            tokens = 0
            async for item in items:
                tokens += getattr(item, "event_type", "") == "token"
                if tokens == count:
                    break


@MODES
@pytest.mark.parametrize("kind", [Sync, Async, lambda: dspy.ChainOfThought(QA)])
def test_leaving_early_cancels_with_the_partial_text(kind, mode, caplog):
    """Every call closes as cancel; no thread, task, log line or retry is left behind."""
    lm = slow(num_retries=3)
    with capture_events() as events:
        if mode == "sync":
            leave_early(kind(), lm)
        else:
            asyncio.run(_alone(aleave_early(kind(), lm)), debug=True)
    assert not threads()
    assert_complete(events)
    (root,) = tree(events)
    assert {node.outcome for node in root.walk() if node.operation != "adapter_format"} == {
        "cancel"
    }
    (cancelled,) = [e for e in events if e.operation == "llm_call" and e.event_type == "cancel"]
    told = "".join(d["token"] for d in data_of(events))
    assert cancelled.data["partial"]["reasoning"] == told
    assert 0 < len(told) < len(LONG["reasoning"])
    assert len(lm.calls) == 1
    assert data_of(events, "reset") == []
    assert "cancel scope" not in caplog.text
    # Errors only: it warns of a step that took long, as one may on a busy machine.
    assert not [r for r in caplog.records if r.name.startswith("asyncio") and r.levelno > 30]


async def _alone(coroutine):
    """Run *coroutine* and assert that it leaves no task behind."""
    await coroutine
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_break_without_closing_is_clean_too():
    """``async for ... break``: the program is stopped soon after, without noise."""
    lm = slow()

    async def main():
        with dspy.context(lm=lm):
            async for item in streamll.stream(Sync(), question="why?"):
                if getattr(item, "event_type", "") == "token":
                    break
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not threads():
                break

    with capture_events() as events:
        asyncio.run(main())
    assert not threads()
    assert tree(events)[0].outcome == "cancel"


def _pool_threads():
    return [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_leaving_early_stops_parallel_work():
    """dspy.Parallel: the calls in its threads stop at their next token, the others never begin."""

    class Many(dspy.Module):
        def forward(self, question):
            pairs = [(dspy.Predict("question -> reasoning, answer"), {"question": "q"})] * 4
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)

    lm = slow()
    with capture_events() as events:
        leave_early(Many(), lm)
        deadline = time.monotonic() + 20
        while _pool_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(lm.calls) <= 2
    assert_complete(events)


def test_a_stop_is_noticed_before_the_next_call():
    """A program between two LM calls stops at the second; DSPy's error handling sees nothing."""
    between = threading.Event()

    class Two(dspy.Module):
        def __init__(self):
            super().__init__()
            self.first = dspy.Predict(QA)
            self.second = dspy.Predict(QA)

        def forward(self, question):
            self.first(question=question)
            streamll.emit("between")
            assert between.wait(10)
            try:
                return self.second(question=question)
            except Exception:
                return "swallowed"

    lm = scripted(ANSWER)
    with capture_events() as events, dspy.context(lm=lm):
        items = iter(streamll.stream(Two(), question="?"))
        for item in items:
            if item.event_type == "between":
                break
        threading.Timer(0.05, between.set).start()
        items.close()
    assert len(lm.calls) == 1
    assert_complete(events)
    assert tree(events)[0].outcome == "cancel"


def stop(event):
    """Close the stream that an event belongs to, as its reader would at just this moment."""
    flag = STOP.get()
    if flag is not None:
        flag.set()
    return event


def test_a_stop_leaves_other_callbacks_balanced():
    """Another observer of DSPy sees as many ends as starts, stopped at a token or between calls."""

    class Counts(dspy.utils.callback.BaseCallback):
        open = 0

        def on_module_start(self, call_id, instance, inputs):
            self.open += 1

        def on_module_end(self, call_id, outputs, exception=None):
            self.open -= 1

        def on_lm_start(self, call_id, instance, inputs):
            self.open += 1

        def on_lm_end(self, call_id, outputs, exception=None):
            self.open -= 1

    for stops in ("token", "start", "end"):
        counts = Counts()
        last = lambda event, stops=stops: stop(event) if event.event_type == stops else event  # noqa: E731
        with dspy.context(callbacks=[counts], lm=scripted(COT)), capture_events(processors=[last]):
            with pytest.raises(StreamClosed):
                list(streamll.stream(Sync(), question="why?"))
        assert counts.open == 0


def test_a_stop_during_the_replay_of_a_cached_answer_leaves_no_open_call():
    """The end of a call is told even where nobody listens any more."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = scripted(COT, cache=True, model="scripted/stopped")
    first = lambda event: stop(event) if event.event_type == "token" else event  # noqa: E731
    with dspy.context(lm=lm):
        dspy.ChainOfThought(QA)(question="why?")
        with capture_events(replay_cached="paced", processors=[first]) as events:
            with pytest.raises(StreamClosed):
                list(streamll.stream(dspy.ChainOfThought(QA), question="why?"))
    assert_complete(events)
    assert tree(events)[0].outcome == "cancel"


def test_two_streams_at_once_do_not_mix():
    """Each iterator has the events of its own run only."""
    lm = ScriptedLM(
        lambda messages: {"answer": "AB"["second" in messages[-1]["content"]] * 40}, chunk=2
    )

    async def one(question):
        items = [i async for i in streamll.stream(dspy.Predict(QA), question=question)]
        return {e.execution_id for e in items[:-1]}, fields(items[:-1])

    async def main():
        with dspy.context(lm=lm):
            return await asyncio.gather(one("first"), one("second"))

    (first, told), (second, told_too) = asyncio.run(main())
    assert len(first) == len(second) == 1
    assert first != second
    assert (told["answer"], told_too["answer"]) == ("A" * 40, "B" * 40)


def test_any_callable_can_be_streamed():
    """A function, a coroutine function; their events and what they return."""

    def plain(question):
        streamll.emit("mine", {"q": question})
        return question.upper()

    async def later(question):
        return plain(question)

    for function in (plain, later):
        for mode in ("sync", "async"):
            event, result = collect(function, mode)
            assert event.event_type == "mine"
            assert result == "WHY?"


@pytest.mark.parametrize("retries", [0, 2])
def test_keyboard_interrupt_in_mid_stream_reaches_the_caller(retries):
    """As without us; the call closes as cancel, with what was told."""
    from streamll.testing import ScriptedAnswer

    broken = ScriptedAnswer(fields=COT, error=KeyboardInterrupt(), error_after=9)
    with capture_events() as events, dspy.context(lm=ScriptedLM([broken], num_retries=retries)):
        with pytest.raises(KeyboardInterrupt):
            dspy.ChainOfThought(QA)(question="why?")
    assert_complete(events)
    (cancelled,) = [e for e in events if e.operation == "llm_call" and e.event_type == "cancel"]
    assert cancelled.data["partial"]["reasoning"]
    assert data_of(events, "reset") == []


REAL_CTRL_C = """
import os, signal, sys
import dspy
import streamll
from streamll._spans import CURRENT
from streamll.testing import MemorySink, ScriptedLM

sink, tokens = MemorySink(), []

def interrupt(event):
    tokens.append(event.event_type == "token")
    if sum(tokens) == 10:
        tokens.clear()
        os.kill(os.getpid(), signal.SIGINT)
    return event

signal.signal(signal.SIGINT, signal.default_int_handler)
streamll.configure(sinks=[sink], capture="all", processors=[interrupt])
lm = ScriptedLM([{"reasoning": "word " * 50, "answer": "42"}], num_retries=3)
try:
    with dspy.context(lm=lm):
        dspy.ChainOfThought("question -> answer")(question="why?")
except KeyboardInterrupt:
    assert streamll.flush()
    cancelled = {e.operation for e in sink.events if e.event_type == "cancel"}
    print(sorted(cancelled), CURRENT.get())
"""


def test_a_real_ctrl_c_reaches_the_caller():
    """A signal of the system, in the midst of our own work on a token; no retry, no span left."""
    command = [sys.executable, "-c", REAL_CTRL_C]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['llm_call', 'module_forward'] None"


def test_forward_runs_on_the_callers_thread():
    """A thread-local set before the call is seen inside, in forward, tools and the LM."""
    local = threading.local()
    local.value = "mine"
    seen = []

    def answer(messages):
        seen.append((threading.current_thread(), local.value))
        return ANSWER

    class Looks(dspy.Module):
        def forward(self, question):
            seen.append((threading.current_thread(), local.value))
            return dspy.Predict(QA)(question=question)

    with capture_events(), dspy.context(lm=ScriptedLM(answer)):
        Looks()(question="?")
    assert seen == [(threading.current_thread(), "mine")] * 2


def test_streaming_logs_nothing(caplog):
    """DSPy warns who touches `forward`; we do not."""
    for program in (dspy.Predict(QA), Sync()):
        with dspy.context(lm=ScriptedLM([COT, COT])):
            list(streamll.stream(program, question="why?"))
    assert [record.getMessage() for record in caplog.records] == []


def test_a_stream_inside_a_streamed_program_is_heard_by_both():
    """The outer reader misses nothing of what the inner one reads."""

    class Outer(dspy.Module):
        def forward(self, question):
            *events, prediction = streamll.stream(dspy.Predict(QA), question=question)
            inner.extend(events)
            return prediction

    inner: list[streamll.Event] = []
    with dspy.context(lm=scripted(ANSWER)):
        *outer, _ = streamll.stream(Outer(), question="why?")
    assert inner
    assert {event.event_id for event in inner} < {event.event_id for event in outer}
    assert_complete(outer)
