"""What is captured of a DSPy program, and what of it is exact."""

from __future__ import annotations

import asyncio
import copy
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import dspy
import pytest

import streamll
from streamll._spans import CURRENT
from streamll.testing import MemorySink, ScriptedLM, capture_events, tree
from support.programs import ANSWER, COT, QA, scripted
from support.tokens import assert_complete


@streamll.instrument
class Answerer(dspy.Module):
    """Marked by its class."""

    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought(QA)

    def forward(self, question):
        return self.think(question=question)

    async def aforward(self, question):
        return await self.think.acall(question=question)


class Plain(dspy.Module):
    """Not marked."""

    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict(QA)

    def forward(self, question):
        return self.answer(question=question)


@pytest.fixture
def sink():
    """A configured sink that only marked programs reach."""
    memory = MemorySink()
    streamll.configure(sinks=[memory])
    return memory


def got(sink):
    """What arrived."""
    assert streamll.flush()
    return sink.events


def run(program, lm=None, question="why?"):
    """Ask *program*, with a scripted LM."""
    with dspy.context(lm=lm or scripted(COT)):
        return program(question=question)


SHAPE = [
    "module_forward Answerer end",
    "  module_forward ChainOfThought end",
    "    module_forward Predict end",
    "      adapter_format ChatAdapter end",
    "      llm_call scripted/model end",
    "      adapter_parse ChatAdapter end",
]


def test_every_call_dspy_announces_is_in_the_tree(sink):
    """Module, adapter, LM; parents right; one closing event each; sequence contiguous."""
    run(Answerer())
    events = got(sink)
    (root,) = tree(events)
    assert list(root.lines()) == SHAPE
    assert all(node.start and len(node.closings) == 1 for node in root.walk())
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert {e.execution_id for e in events} == {events[0].execution_id}


def test_async_calls_make_the_same_tree(sink):
    """acall and call tell the same."""

    async def main():
        with dspy.context(lm=scripted(COT)):
            await Answerer().acall(question="why?")

    asyncio.run(main())
    (root,) = tree(got(sink))
    assert list(root.lines()) == SHAPE


def test_what_nobody_marked_is_not_captured_by_default(sink):
    """capture="instrumented" is opt-in."""
    run(Plain(), scripted(ANSWER))
    assert got(sink) == []


def test_capture_all_needs_no_mark():
    """Even a bare LM call is an execution of its own."""
    with capture_events() as events, dspy.context(lm=scripted(ANSWER)):
        dspy.settings.lm("hello")
    assert [e.operation for e in events if e.event_type == "start"] == ["llm_call"]


def test_an_instance_can_be_marked_and_its_copies_stay_marked(sink):
    """deepcopy, pickle and reset_copy keep the mark; other instances stay unmarked."""
    program = streamll.instrument(Plain(), name="copied")
    for clone in (
        program,
        copy.deepcopy(program),
        cloudpickle.loads(cloudpickle.dumps(program)),
        program.reset_copy(),
    ):
        run(clone, scripted(ANSWER))
    run(Plain(), scripted(ANSWER))
    roots = tree(got(sink))
    assert [root.start.module_name for root in roots] == ["copied"] * 4


def test_save_and_load_keep_a_marked_program_observed(sink, tmp_path):
    """State saved to JSON and loaded into a marked class; whole programs by pickle."""
    program = Answerer()
    program.save(tmp_path / "state.json")
    loaded = Answerer()
    loaded.load(tmp_path / "state.json")
    run(loaded)
    assert len(tree(got(sink))) == 1


def test_the_type_and_methods_of_a_marked_class_are_untouched():
    """Marking wraps nothing."""
    before = dict(vars(Plain))
    assert streamll.instrument(Plain) is Plain
    assert {k: v for k, v in vars(Plain).items() if k != "_streamll_options"} == before
    del Plain._streamll_options


def test_decorating_twice_and_subclassing_do_not_double_events(sink):
    """One call, one start."""

    @streamll.instrument
    @streamll.instrument(name="child")
    class Child(Answerer):
        pass

    run(Child())
    starts = [e for e in got(sink) if e.event_type == "start" and e.name == "Child"]
    assert len(starts) == 1


@pytest.mark.parametrize("target", [lambda x: x, object(), int, "program"])
def test_what_is_not_a_module_gets_a_type_error_that_says_what_to_do(target):
    """The message names the alternatives."""
    with pytest.raises(
        TypeError, match=r"needs a dspy\.Module class or instance.*@streamll\.trace"
    ):
        streamll.instrument(target)


def test_unknown_options_of_instrument_are_refused():
    """With a suggestion."""
    with pytest.raises(streamll.ConfigurationError, match="did you mean 'stream_fields'"):
        streamll.instrument(stream_field=["answer"])


def test_module_name_is_the_users_module_down_to_the_tokens(sink):
    """Routing by module_name works for LM and token events, as the guide shows."""

    @streamll.instrument
    class RAGPipeline(Answerer):
        pass

    run(RAGPipeline())
    assert {e.module_name for e in got(sink)} == {"rag_pipeline"}


def test_module_path_tells_predictors_apart(sink):
    """The attribute path from the program's root."""
    run(Answerer())
    paths = {e.name: e.module_path for e in got(sink) if e.event_type == "start"}
    assert paths["Answerer"] is None
    assert paths["ChainOfThought"] == "think"
    assert paths["Predict"] == "think.predict"


def test_options_choose_what_is_captured(sink):
    """operations=, include_inputs=, include_outputs=, include_tokens=."""
    program = streamll.instrument(Plain(), operations=["llm_call"], include_tokens=False)
    run(program, scripted(ANSWER))
    assert {e.operation for e in got(sink)} == {"llm_call"}
    assert {e.event_type for e in sink.events} == {"start", "end"}
    sink.clear()
    run(streamll.instrument(Plain(), include_inputs=False, include_outputs=False), scripted(ANSWER))
    data = [e.data for e in got(sink) if e.operation == "module_forward"]
    assert not any("inputs" in d or "outputs" in d for d in data)


def test_prompts_and_completions_stay_in_unless_asked_for(sink):
    """include_prompts is off by default."""
    run(Answerer(), question="a very particular question")
    told = [
        e.data for e in got(sink) if e.operation in ("llm_call", "adapter_format", "adapter_parse")
    ]
    assert not any("messages" in d or "completion" in d or "outputs" in d for d in told)
    sink.clear()
    run(
        streamll.instrument(Answerer(), include_prompts=True), question="a very particular question"
    )
    (start,) = [e for e in got(sink) if e.operation == "llm_call" and e.event_type == "start"]
    assert "a very particular question" in str(start.data["messages"])


def test_a_program_may_have_sinks_of_its_own(sink):
    """instrument(sinks=) sends there instead."""
    own = MemorySink()
    run(streamll.instrument(Plain(), sinks=[own]), scripted(ANSWER))
    assert got(sink) == []
    assert own.events


def test_usage_is_exact_per_call_under_threads(sink):
    """Each llm_call end carries its own call's usage, eight threads at once."""
    lm = ScriptedLM(lambda messages: {"answer": "word " * len(messages[-1]["content"])})
    program = streamll.instrument(Plain())
    questions = ["x" * n for n in range(1, 25)]
    with dspy.context(lm=lm):
        pairs = [(program, {"question": q}) for q in questions]
        dspy.Parallel(num_threads=8, disable_progress_bar=True)(pairs)
    by_execution: dict = {}
    for event in got(sink):
        by_execution.setdefault(event.execution_id, []).append(event)
    expected = sorted(usage_of(entry) for entry in lm.history)
    told = [
        e.data
        for es in by_execution.values()
        for e in es
        if e.operation == "llm_call" and e.event_type == "end"
    ]
    assert sorted(d["total_tokens"] for d in told) == expected
    for events in by_execution.values():
        (end,) = [e for e in events if e.operation == "llm_call" and e.event_type == "end"]
        root = events[-1]
        assert root.data["usage"]["total_tokens"] == end.data["total_tokens"]
        assert end.data["total_tokens"] == end.data["input_tokens"] + end.data["output_tokens"]


def usage_of(entry):
    """Total tokens of a history entry, of any DSPy version."""
    usage = entry["usage"] if isinstance(entry, dict) else entry.usage
    return usage["total_tokens"]


def test_a_cache_hit_is_marked_and_bills_nothing(sink):
    """cache_hit is true, and usage absent rather than 0."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = scripted(ANSWER, cache=True, model="scripted/hit")
    program = streamll.instrument(Plain())
    for _ in range(2):
        run(program, lm, question="cached?")
    first, second = (
        e.data for e in got(sink) if e.operation == "llm_call" and e.event_type == "end"
    )
    assert first["cache_hit"] is False
    assert first["total_tokens"] > 0
    assert second["cache_hit"] is True
    assert "total_tokens" not in second
    tokens = [e.data for e in sink.events if e.event_type == "token"]
    assert {t["origin"] for t in tokens} == {"live", "cache_replay"}


def test_an_error_closes_every_call_on_its_way_and_reaches_the_caller(sink):
    """error events bottom up, with type and message."""
    with pytest.raises(Exception, match="down"):
        run(Answerer(), ScriptedLM([ValueError("down")] * 5))
    (root,) = tree(got(sink))
    outcomes = {node.operation: node.outcome for node in root.walk()}
    assert outcomes["llm_call"] == outcomes["module_forward"] == "error"
    assert root.closings[0].data["message"]


def test_a_tool_call_tells_its_arguments_and_result(sink):
    """Sync tools, inside a marked program."""

    def add(a: int, b: int) -> int:
        return a + b

    class Uses(dspy.Module):
        def forward(self, question):
            return dspy.Tool(add)(a=1, b=2)

    run(streamll.instrument(Uses()))
    start, end = (e for e in got(sink) if e.operation == "tool_call")
    assert start.name == start.data["tool_name"] == "add"
    assert start.data["arguments"] == {"a": 1, "b": 2}
    assert end.data["result"] == 3


def test_a_cancelled_async_call_closes_as_cancel(sink):
    """A timeout is a cancel, all the way up."""

    async def main():
        with dspy.context(lm=scripted(COT, delay=0.2)):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(Answerer().acall(question="why?"), 0.1)

    asyncio.run(main())
    (root,) = tree(got(sink))
    assert root.outcome == "cancel"
    assert all(len(node.closings) == 1 for node in root.walk())


def test_keyboard_interrupt_reaches_the_caller_and_closes_as_cancel(sink):
    """On every DSPy version, though older ones do not report it."""

    class Interrupted(dspy.Module):
        def forward(self, question):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(streamll.instrument(Interrupted()))
    assert [e.event_type for e in got(sink)] == ["start", "cancel"]


def test_success_inside_an_except_block_is_not_an_error(sink):
    """The exception being handled around a call is not the call's."""
    try:
        raise ValueError("outer")
    except ValueError:

        class ReturnsNone(dspy.Module):
            def forward(self, question):
                return None

        run(streamll.instrument(ReturnsNone()))
    assert [e.event_type for e in got(sink)] == ["start", "end"]


def test_users_callbacks_and_configure_do_not_turn_capture_off(sink):
    """dspy.configure(callbacks=[...]) and dspy.context(callbacks=[]) keep it."""

    class Mine(dspy.utils.callback.BaseCallback):
        seen = 0

        def on_module_start(self, call_id, instance, inputs):
            Mine.seen += 1

    with dspy.context(callbacks=[Mine()]):
        run(Answerer())
    with dspy.context(callbacks=[]):
        run(Answerer())
    assert len(tree(got(sink))) == 2
    assert Mine.seen == 3


def test_custom_events_in_a_tool_join_the_tool_call(sink):
    """emit works from inside tools."""

    def search(query: str) -> str:
        streamll.emit("docs_found", count=3)
        return "docs"

    class Uses(dspy.Module):
        def forward(self, question):
            return dspy.Tool(search)(query="q")

    run(streamll.instrument(Uses()))
    (found,) = [e for e in got(sink) if e.event_type == "docs_found"]
    assert found.operation == "tool_call"
    assert found.name == "search"


def test_plain_thread_pools_can_be_bound(sink):
    """streamll.bound keeps lineage where DSPy does not know the pool."""

    class Pools(dspy.Module):
        def __init__(self):
            super().__init__()
            self.answer = dspy.Predict(QA)

        def forward(self, question):
            with ThreadPoolExecutor(2) as pool:
                lm = dspy.settings.lm
                ask = streamll.bound(lambda q: self._ask(lm, q))
                return list(pool.map(ask, ["a", "b"]))

        def _ask(self, lm, question):
            with dspy.context(lm=lm):
                return self.answer(question=question)

    run(streamll.instrument(Pools()), scripted(ANSWER))
    (root,) = tree(got(sink))
    assert [child.operation for child in root.children] == ["module_forward"] * 2


def test_compiling_keeps_a_program_observed_and_optimises_the_right_object(sink):
    """Optimizers that call the LM and one that does not: demos land in the copy, events flow."""
    program = Answerer()
    trainset = [
        dspy.Example(question=f"q{n}", answer="forty-two").with_inputs("question") for n in range(3)
    ]
    metric = lambda e, p, t=None: True  # noqa: E731
    search = {"max_bootstrapped_demos": 2, "num_candidate_programs": 1, "num_threads": 2}
    optimizers = {
        dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2): True,
        dspy.BootstrapFewShotWithRandomSearch(metric=metric, **search): False,  # all are as good
        dspy.LabeledFewShot(k=2): True,
    }
    for optimizer, gives_demos in optimizers.items():
        with dspy.context(lm=scripted(COT)):
            compiled = optimizer.compile(program, trainset=trainset)
        assert compiled is not program
        assert bool(compiled.think.predict.demos) is gives_demos
        assert not program.think.predict.demos
        got(sink)
        sink.clear()
        run(compiled)
        (root,) = tree(got(sink))
        assert list(root.lines()) == SHAPE


def test_the_previous_calls_data_never_appears_in_a_later_event(sink):
    """Two calls share nothing."""
    program = Answerer()
    run(program, question="first secret")
    got(sink)
    sink.clear()
    run(program, question="second")
    assert "first secret" not in "".join(body.decode() for body in sink.bodies)
    assert got(sink)
    assert "first secret" not in "".join(body.decode() for body in sink.bodies)


def test_evaluate_tells_its_size_and_score():
    """The examples run below the evaluate call, in DSPy's own threads."""
    devset = [dspy.Example(question=f"q{n}", answer="x").with_inputs("question") for n in range(4)]
    with capture_events() as events, dspy.context(lm=scripted(ANSWER)):
        evaluate = dspy.Evaluate(
            devset=devset, metric=lambda e, p, t=None: 1.0, num_threads=2, display_progress=False
        )
        evaluate(Plain())
    (root,) = tree(events)
    assert root.operation == "evaluate"
    assert root.start.data["total"] == 4
    assert root.closings[0].data["score"] == 100.0
    assert len(root.children) == 4


@pytest.mark.parametrize("around", ["trace", "program"])
def test_a_programs_own_sinks_get_it_wherever_it_runs(around):
    """Also inside a trace or another program, whose own events go where they went."""
    own, configured = MemorySink(), MemorySink()
    inner = streamll.instrument(dspy.Predict(QA), sinks=[own])

    class Outer(dspy.Module):
        def forward(self, question):
            return inner(question=question)

    with streamll.configure(sinks=[configured], capture="all"), dspy.context(lm=scripted(ANSWER)):
        if around == "trace":
            with streamll.trace("request"):
                inner(question="why?")
        else:
            Outer()(question="why?")
        assert streamll.flush()
    assert {event.operation for event in own.events} >= {"module_forward", "llm_call"}
    assert len(configured.events) == 2
    assert {event.event_type for event in configured.events} == {"start", "end"}


def test_a_call_whose_data_cannot_be_read_has_a_start_all_the_same():
    """An object that refuses to be looked at costs its data, not the tree."""

    class Refusing:
        def __bool__(self):
            raise ValueError("the truth value is ambiguous")

    evaluate = dspy.Evaluate(devset=[], metric=lambda *_: 1.0)
    with capture_events() as events, pytest.raises(Exception):  # noqa: B017, PT011
        evaluate(dspy.Predict(QA), devset=Refusing())
    assert next(e.event_type for e in events if e.operation == "evaluate") == "start"
    assert_complete(events)


def test_an_interrupt_while_a_start_is_told_leaves_no_call_open():
    """Ctrl-C in our handler: the call closes as cancelled, and nothing later belongs to it."""

    def interrupt(event):
        if event.event_type == "start" and event.operation == "module_forward":
            raise KeyboardInterrupt
        return event

    with capture_events(processors=[interrupt]), dspy.context(lm=scripted(ANSWER)):
        with pytest.raises(KeyboardInterrupt):
            dspy.Predict(QA)(question="why?")
        assert CURRENT.get() is None


def test_a_name_must_be_a_string():
    """It becomes `module_name`, which readers and routing keys rely on."""
    with pytest.raises(streamll.ConfigurationError, match="name must be a string, not 5"):
        streamll.instrument(dspy.Predict(QA), name=5)


def test_configuring_in_mid_call_leaves_a_programs_own_sinks_open():
    """They live until shutdown: a start that was told there is closed there."""
    own = MemorySink()

    class Reconfigures(dspy.Module):
        def forward(self, question):
            streamll.configure(sinks=[MemorySink()], capture="all")
            return question

    program = streamll.instrument(Reconfigures(), sinks=[own])
    with streamll.configure(sinks=[]):
        program(question="why?")
        assert streamll.flush()
    assert [event.event_type for event in own.events] == ["start", "end"]
    assert own.stats.dropped == {}
