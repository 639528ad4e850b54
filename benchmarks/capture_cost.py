"""What capturing one dspy.ChainOfThought call costs: streamll beside what else observes DSPy.

The program is one `dspy.ChainOfThought` on DSPy's own DummyLM, which answers at once, so that
nothing but overhead is left. Each observer lives in a process of its own (they patch dspy) and
all of them stay up and take turns, `CALLS` calls each, round by round. "added" is the difference
to the process without an observer in the same round. Three figures per call:

- wall: time the caller waited. Other load on the machine shows here.
- program CPU: CPU time of the calling thread.
- all CPU: CPU time of the whole process until everything recorded was delivered.

"no-op callback" is DSPy's BaseCallback, whose handlers do nothing: what DSPy itself spends on
being observed. OpenInference exports through a batch processor to an exporter that discards;
MLflow writes to a local SQLite store from its own threads, its default; streamll has one sink
that discards and captures everything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from _capture_subjects import SUBJECTS
from _report import Goal, heading, show, spread, table, times
from _rounds import Samples, interleave

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLS: Final = 50
ROUNDS: Final = 20
_BASE: Final = "none"
_OURS: Final = "streamll"
#: Peer -> the part of what it adds that streamll may add.
_GOALS: Final = {"no-op callback": 1.1, "OpenInference": 1 / 5, "MLflow autolog": 1 / 10}

#: What is told of every call; see above.
_KINDS: Final = ("wall", "program", "everything")
_PACKAGES: Final = ("dspy", "openinference-instrumentation-dspy", "opentelemetry-sdk", "mlflow")

Cost = dict[str, float]


class Child:
    """An observed program in a process of its own."""

    def __init__(self, name: str) -> None:
        script = Path(__file__).with_name("_capture_subjects.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()

    def call(self, calls: int) -> Cost:
        """Have it make *calls* calls; return what one of them cost."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return self._answer()

    def finish(self) -> float:
        """End it; return how many events or spans one call made."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._answer()["records"]

    def _answer(self) -> Cost:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self._process.args)} ended early; run it to see why")
        answer: Cost = json.loads(line)
        return answer


def _measure() -> tuple[dict[str, list[Cost]], dict[str, float]]:
    """Return what each call cost per subject and round, and the records a call made."""
    with ExitStack() as stack:
        children = {name: stack.enter_context(Child(name)) for name in SUBJECTS}
        turns = {name: partial(child.call, CALLS) for name, child in children.items()}
        costs = interleave(turns, ROUNDS)
        return costs, {name: child.finish() for name, child in children.items()}


def _samples(costs: Mapping[str, list[Cost]], kind: str) -> dict[str, Samples]:
    return {name: Samples([cost[kind] for cost in costs[name]]) for name in costs}


def _added(costs: Mapping[str, list[Cost]], kind: str) -> dict[str, Samples]:
    samples = _samples(costs, kind)
    return {name: of.minus(samples[_BASE]) for name, of in samples.items() if name != _BASE}


def _goals(kind: str, added: Mapping[str, Samples]) -> list[Goal]:
    return [
        Goal(f"added {kind}, {_OURS} beside {peer}", added[_OURS].over(added[peer]).median, at_most)
        for peer, at_most in _GOALS.items()
    ]


def main() -> None:
    """Print the table, then the goals."""
    heading("Cost of capturing one dspy.ChainOfThought call", _PACKAGES)
    costs, records = _measure()
    wall, program, everything = (_added(costs, kind) for kind in _KINDS)
    rows = [
        (
            name,
            spread(wall[name], 0),
            spread(program[name], 0),
            spread(everything[name], 0),
            times(program[name].over(program["no-op callback"]).median),
            f"{records[name]:.0f}",
        )
        for name in wall
    ]
    base = spread(_samples(costs, "program")[_BASE], 0)
    show(f"\n{CALLS} calls a round, {ROUNDS} rounds; median [quartiles], µs a call")
    show(f"without an observer a call takes {base} of CPU; added to it:")
    table(("", "wall", "program CPU", "all CPU", "program CPU*", "records"), rows)
    show("* to the no-op callback, the median of the ratios of the rounds")
    show(*_goals("wall", wall), *_goals("program CPU", program))


if __name__ == "__main__":
    main()
