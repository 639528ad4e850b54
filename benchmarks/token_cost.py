"""What watching tokens costs: streamll beside the bare stream and `dspy.streamify`.

    python benchmarks/token_cost.py [--rounds 15] [--words 100] [--calls 100000]

One server (OpenAI's chat API, server-sent events, a process of its own) streams the same answer to
all subjects, which take turns; DSPy's native client reads it.

- "bare stream": the client's own stream, read to the end. What everybody else is compared to.
- "whole answer": a `dspy.Predict` call that does not stream.
- "streamll": the same call, observed; its tokens go to a sink that discards them.
- "streamify": the same call under `dspy.streamify` with one listener, its chunks discarded.

Each reads a short and a long answer in every round. The difference, divided by the tokens between
them, is what a token costs: what a call costs whatever its length is not in it (see
capture_cost.py). "all CPU" is that of the whole process, delivery included; "added" is the
difference to the bare stream. "first token" is from the call to the moment the first decoded
token can be read.

The second part makes many calls in one process and prints what it holds after each tenth of
them: resident memory, Python's own count of live objects, and the call state streamll keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import dspy
from _discard import DiscardingSink
from _report import Goal, heading, show, spread, table
from _rounds import Samples, interleave
from dspy import lm15
from dspy.clients.engines.lm15_engine import LM15Engine

import streamll

TESTS: Final = str(Path(__file__).parents[1] / "tests")
SIGNATURE: Final = "question -> answer"
MODEL: Final = "openai/gpt-4o-mini"
BARE: Final = "bare stream"
OURS: Final = "streamll"
PEER: Final = "streamify"
SUBJECTS: Final = (BARE, "whole answer", OURS, PEER)

#: Serves until its input ends.
_SERVER: Final = """
import sys
from support.llm_server import LLMServer
with LLMServer([{"answer": "word " * int(sys.argv[1])}], cycle=True) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@attrs.frozen
class Cost:
    """One call: seconds until its end, until the first token, of the caller's CPU and of all."""

    wall: float
    first: float
    own: float
    cpu: float


@contextmanager
def serving(words: int) -> Iterator[str]:
    """Serve an answer of *words*; yield the address."""
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": TESTS, "PATH": ""},
    )
    assert server.stdout is not None
    with server:
        yield server.stdout.readline().strip()
        server.kill()


#: Makes one call; returns when the first token and when the end was there (wall clock).
Subject = Callable[[], tuple[float, float]]


def timed(run: Subject) -> Cost:
    """Make one call of a subject."""
    wall, own, cpu = time.time(), time.thread_time(), time.process_time()
    first, end = run()
    return Cost(end - wall, first - wall, time.thread_time() - own, time.process_time() - cpu)


class FirstToken(DiscardingSink):
    """Forgets all but when the first token was emitted."""

    first = 0.0

    def write(self, batch: streamll.Batch) -> None:
        for event in batch:
            if event.event_type == "token" and not self.first:
                self.first = event.timestamp.timestamp()
        super().write(batch)


SINK: Final = FirstToken()


def bare(url: str) -> Subject:
    """Return a subject that reads the client's stream."""
    config = lm15.RouterConfig(api_keys={"openai-chat": "x"}, base_urls={"openai-chat": url})
    engine = LM15Engine(config)
    messages = _messages()
    request = lm15.request_from_openai_chat({"model": MODEL, "messages": messages})

    def run() -> tuple[float, float]:
        first = 0.0
        for event in engine.stream(request):
            if not first and event.type == "delta":
                first = time.time()
        return first, time.time()

    return run


def _messages() -> list[dict[str, Any]]:
    signature = dspy.Signature(SIGNATURE)
    return dspy.ChatAdapter().format(signature, [], {"question": "why?"})  # type: ignore[no-any-return]


def whole(program: dspy.Module) -> Subject:
    """Return a subject that waits for the whole answer."""

    def run() -> tuple[float, float]:
        program(question="why?")
        return time.time(), time.time()

    return run


def observed(program: dspy.Module, sink: FirstToken) -> Subject:
    """Return a subject that streamll observes; its CPU includes the delivery."""
    program = streamll.instrument(program.deepcopy())

    def run() -> tuple[float, float]:
        sink.first = 0.0
        program(question="why?")
        end = time.time()
        streamll.flush(30)
        return sink.first, end

    return run


def streamified(program: dspy.Module) -> Subject:
    """Return a subject under `dspy.streamify`."""

    async def read() -> tuple[float, float]:
        first = 0.0
        listener = dspy.streaming.StreamListener("answer")  # they stream once only
        streaming = dspy.streamify(program, stream_listeners=[listener])
        async for item in streaming(question="why?"):
            if not first and not isinstance(item, dspy.Prediction):
                first = time.time()
        return first, time.time()

    return lambda: asyncio.run(read())


def _subjects(url: str) -> dict[str, Callable[[], Cost]]:
    program = dspy.Predict(SIGNATURE)
    program.set_lm(dspy.LM(MODEL, api_base=url, api_key="x", cache=False, engine="lm15"))
    runs = (bare(url), whole(program), observed(program, SINK), streamified(program))
    return {name: partial(timed, run) for name, run in zip(SUBJECTS, runs, strict=True)}


def _costs(url: str, words: int) -> Iterator[tuple[str, Callable[[], Cost]]]:
    """Yield the subjects that read answers of *words*."""
    yield from ((f"{name}/{words}", run) for name, run in _subjects(url).items())


def _per_token(costs: Mapping[str, list[Cost]], kind: str, words: int) -> dict[str, Samples]:
    """Return µs per token: what a long answer costs more than a short one, by its length."""
    found = {}
    for name in SUBJECTS:
        short, long = costs[f"{name}/{words}"], costs[f"{name}/{5 * words}"]
        spans = [getattr(b, kind) - getattr(a, kind) for a, b in zip(short, long, strict=True)]
        found[name] = Samples([span / (4 * words) * 1e6 for span in spans])
    return found


def speed(rounds: int, words: int) -> None:
    """Print what each subject adds per token, and when its first token is there."""
    with serving(words) as short, serving(5 * words) as long, streamll.configure([SINK]):
        subjects = dict((*_costs(short, words), *_costs(long, 5 * words)))
        costs = interleave(subjects, rounds)
    wall, own, cpu = (_per_token(costs, kind, words) for kind in ("wall", "own", "cpu"))
    added = {name: found.minus(cpu[BARE]) for name, found in cpu.items()}
    caller = own[OURS].minus(own[BARE])
    first = {name: Samples([c.first * 1e3 for c in costs[f"{name}/{words}"]]) for name in SUBJECTS}
    show(f"\n{rounds} rounds, answers of {words} and {5 * words} tokens; median [quartiles]")
    table(
        ("", "wall, µs a token", "caller's CPU", "all CPU", "all CPU added", "first token, ms"),
        [(n, *(spread(found[n], 1) for found in (wall, own, cpu, added, first))) for n in SUBJECTS],
    )
    before = first[OURS].minus(first[BARE]).median
    show(
        "The first token of all but the bare stream comes after DSPy's own work for a call.",
        Goal("CPU added per token to the caller by streamll", caller.median, 25, " µs"),
        Goal("all CPU added beside dspy.streamify", added[OURS].over(added[PEER]).median, 1),
        Goal("first token beside dspy.streamify", first[OURS].over(first[PEER]).median, 1),
        Goal("first token after the bare stream's", before, 5, " ms"),
    )


class Engine:
    """Streams one short answer, without a network."""

    PIECES = ("[[ ## answer", " ## ]]\n", "for", "ty-", "two", "\n\n[[ ## completed ## ]]")

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        yield lm15.StreamStartEvent(id="1", model=request.model)
        for piece in self.PIECES:
            yield lm15.StreamDeltaEvent(lm15.TextDelta(piece))
        yield lm15.StreamEndEvent(finish_reason="stop", usage=lm15.Usage(input_tokens=1))

    def complete(self, request: lm15.Request) -> lm15.Response:
        raise NotImplementedError

    def close(self) -> None:
        """Hold nothing open."""


def memory(calls: int) -> None:
    """Print what the process holds while it makes *calls* calls."""
    lm = dspy.LM("x/y", engine=Engine(), cache=False)
    program = dspy.Predict(SIGNATURE)
    rows = []
    with (
        dspy.context(lm=lm, disable_history=True, max_trace_size=1),
        streamll.configure([sink := DiscardingSink()], capture="all"),
    ):
        for tenth in range(1, 11):
            for _ in range(calls // 10):
                program(question="why?")
            streamll.flush(30)
            rows.append((tenth * calls // 10, *_held(), sink.received))
    show(f"\n{calls} calls, four tokens each")
    titles = ("calls", "resident, MiB", "live objects", "call state", "events so far")
    table(titles, [tuple(f"{figure:,.1f}".removesuffix(".0") for figure in row) for row in rows])
    grown = rows[-1][1] - rows[1][1]
    show(Goal("resident memory grown over the last 8 tenths", grown, 4, " MiB"))


def _held() -> tuple[float, int, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    things = gc.get_objects()
    state = ("Span", "TokenStream", "Runs", "LMCall", "_Open", "Asked", "ChatParser")
    kept = sum(type(thing).__name__ in state for thing in things)
    return pages * 4096 / 2**20, len(things), kept


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--words", type=int, default=100)
    options.add_argument("--calls", type=int, default=100_000)
    given = options.parse_args()
    heading("Cost of watching tokens", ("dspy",))
    speed(given.rounds, given.words)
    memory(given.calls)


if __name__ == "__main__":
    main()
