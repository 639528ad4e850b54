"""One way to observe a DSPy program, in a process of its own: they patch dspy for good.

Run by `capture_cost` as ``python _capture_subjects.py NAME``. Reads a number of calls per line
from standard input, makes them, and answers each line with what they cost, as JSON. At the end
of its input it answers once more: how many records a call made.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import dspy
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["SUBJECTS"]

#: Calls a process may answer; a scripted answer each.
_MOST_CALLS: Final = 100_000


@attrs.frozen
class Observer:
    """What observes the program.

    Attributes:
        drain: returns when everything observed is delivered.
        records: how many events, spans or traces were delivered so far.
    """

    drain: Callable[[], object] = lambda: None
    records: Callable[[], int] = lambda: 0


@contextmanager
def _none() -> Iterator[Observer]:
    yield Observer()


@contextmanager
def _noop() -> Iterator[Observer]:
    """The least a DSPy callback can do; what DSPy itself spends on having one."""
    dspy.configure(callbacks=[BaseCallback()])
    yield Observer()


@contextmanager
def _streamll(**options: Any) -> Iterator[Observer]:
    from _discard import DiscardingSink  # noqa: PLC0415

    import streamll  # noqa: PLC0415 - only the subject itself pays for its imports

    receiver = DiscardingSink()
    with streamll.configure(sinks=[receiver], capture="all", **options):
        yield Observer(partial(streamll.flush, 30), lambda: receiver.received)


@contextmanager
def _openinference() -> Iterator[Observer]:
    from _discard import DiscardingExporter, batching_provider  # noqa: PLC0415
    from openinference.instrumentation.dspy import DSPyInstrumentor  # noqa: PLC0415

    receiver = DiscardingExporter()
    provider = batching_provider(receiver, capacity=100_000)
    DSPyInstrumentor().instrument(tracer_provider=provider)
    yield Observer(provider.force_flush, lambda: receiver.received)
    provider.shutdown()


@contextmanager
def _mlflow() -> Iterator[Observer]:
    """MLflow as its guide sets it up: autolog into a local SQLite store, asynchronously."""
    import mlflow  # noqa: PLC0415

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        experiment = mlflow.create_experiment("benchmark", artifact_location=folder)
        mlflow.set_experiment(experiment_id=experiment)
        mlflow.dspy.autolog(silent=True)

        def records() -> int:
            traces = mlflow.search_traces(max_results=_MOST_CALLS, return_type="list")
            return sum(len(trace.data.spans) for trace in traces)

        yield Observer(mlflow.flush_trace_async_logging, records)


SUBJECTS: Final[Mapping[str, Callable[[], AbstractContextManager[Observer]]]] = {
    "none": _none,
    "no-op callback": _noop,
    "streamll": _streamll,
    "streamll, no tokens": partial(_streamll, include_tokens=False),
    "OpenInference": _openinference,
    "MLflow autolog": _mlflow,
}


def _call(program: dspy.Module, calls: int) -> None:
    for number in range(calls):
        # No two questions alike, so that nothing is answered from a cache.
        program(question=f"What is {number} times six?")


def measure(program: dspy.Module, observer: Observer, calls: int) -> dict[str, float]:
    """Return µs per call: wall, CPU of the caller, CPU of everything until delivered."""
    wall, own, everything = time.perf_counter(), time.thread_time(), time.process_time()
    _call(program, calls)
    cost = {"wall": time.perf_counter() - wall, "program": time.thread_time() - own}
    observer.drain()
    cost["everything"] = time.process_time() - everything
    return {name: seconds / calls * 1e6 for name, seconds in cost.items()}


def main(name: str) -> None:
    """Answer lines of standard input until it ends; then say how much was recorded."""
    # Nothing else may write between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    answer = {"reasoning": "Seven times six is forty-two.", "answer": "42"}
    dspy.configure(lm=DummyLM([answer] * _MOST_CALLS))
    program = dspy.ChainOfThought("question -> answer")
    made = 0
    with SUBJECTS[name]() as observer:
        for line in sys.stdin:
            made += int(line)
            print(json.dumps(measure(program, observer, int(line))), file=answers, flush=True)
        print(json.dumps({"records": observer.records() / made}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
