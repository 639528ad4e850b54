"""A program under several observers of DSPy, in a process of its own: they patch dspy for good.

Run as ``python observed.py ORDER...``, the names of the observers in the order in which they are
switched on. Prints as JSON what the program returned and what each observer saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import dspy

import streamll
from streamll.testing import MemorySink, ScriptedLM

if TYPE_CHECKING:
    from collections.abc import Callable


def use_streamll() -> Callable[[], Any]:
    """Capture everything; return what gives the events."""
    sink = MemorySink()
    streamll.configure([sink], capture="all")

    def seen() -> Any:
        streamll.flush()
        texts: dict[Any, str] = defaultdict(str)
        for event in sink.events:
            if event.event_type == "token":
                texts[event.span_id, event.data["field"]] += event.data["token"]
        calls = [e for e in sink.events if e.event_type != "token"]
        return {
            "texts": sorted(texts.values()),
            "tokens": len(sink.events) - len(calls),
            "calls": sorted(f"{e.operation} {e.event_type}" for e in calls),
        }

    return seen


def use_openinference() -> Callable[[], Any]:
    """Instrument with a tracer provider of its own; return what counts the spans."""
    from openinference.instrumentation.dspy import DSPyInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    DSPyInstrumentor().instrument(tracer_provider=provider)
    return lambda: len(exporter.get_finished_spans())


def use_logfire() -> Callable[[], Any]:
    """Instrument as Logfire does; return what counts the spans."""
    import logfire
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    processors = [SimpleSpanProcessor(exporter)]
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
    logfire.instrument_dspy()
    return lambda: len(exporter.get_finished_spans())


def use_mlflow() -> Callable[[], Any]:
    """Autolog to a local store; return what counts the spans."""
    import mlflow

    folder = tempfile.mkdtemp()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("x", artifact_location=folder))
    mlflow.dspy.autolog(silent=True)

    def seen() -> int:
        mlflow.flush_trace_async_logging()
        return sum(len(t.data.spans) for t in mlflow.search_traces(return_type="list"))

    return seen


OBSERVERS = {
    "streamll": use_streamll,
    "openinference": use_openinference,
    "logfire": use_logfire,
    "mlflow": use_mlflow,
}
ANSWER = {"reasoning": "Because it is so.", "answer": "forty-two"}


def main(names: list[str]) -> dict[str, Any]:
    """Switch the observers on, run sync, async and in threads; tell what came of it."""
    seen = {name: OBSERVERS[name]() for name in names}
    program = dspy.ChainOfThought("question -> answer")
    with dspy.context(lm=ScriptedLM([ANSWER], cycle=True, chunk=3)):
        results = [program(question="why?"), asyncio.run(program.acall(question="why?"))]
        pairs = [(program, {"question": f"q{n}"}) for n in range(4)]
        results += dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
    answers = [dict(result.items()) for result in results]
    return {"answers": answers, **{name: see() for name, see in seen.items()}}


if __name__ == "__main__":
    print("\n" + json.dumps(main(sys.argv[1:])))
