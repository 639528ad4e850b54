"""What `import streamll` costs a program that may never configure it.

Wall and CPU time of a fresh interpreter that imports streamll, less one that imports nothing,
in turns (other load on the machine shows in the wall time);
then the imports that take longest, by ``-X importtime``; then what must not have happened: no
dspy, no plugin, no client library, no thread.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from operator import itemgetter
from typing import Final

from _report import Goal, heading, show, spread, table
from _rounds import Samples, interleave

ROUNDS: Final = 25
_HEAVIEST: Final = 12
_GOAL_MS: Final = 80.0
_FORBIDDEN: Final = (
    "dspy",
    "litellm",
    "streamll_terminal",
    "streamll_redis",
    "streamll_rabbitmq",
    "redis",
    "aio_pika",
    "aiormq",
    "rich",
    "cyclopts",
)
#: One line of ``-X importtime``: µs of its own, µs with what it imported, name.
_LINE: Final = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def _run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def _milliseconds(code: str) -> tuple[float, float]:
    """Return wall and CPU time of an interpreter that runs *code*."""
    cpu, started = _children_cpu(), time.perf_counter()
    _run(code)
    return (time.perf_counter() - started) * 1e3, (_children_cpu() - cpu) * 1e3


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _imports() -> dict[str, float]:
    """Return the modules that a bare interpreter does not import, and the ms of each."""
    bare = _parse(_run("pass", "-X", "importtime").stderr)
    traced = _parse(_run("import streamll", "-X", "importtime").stderr)
    return {name: own for name, own in traced.items() if name not in bare}


def _parse(text: str) -> dict[str, float]:
    return {name: int(own) / 1e3 for own, name in _LINE.findall(text)}


def _by_package(modules: dict[str, float]) -> dict[str, float]:
    packages: dict[str, float] = defaultdict(float)
    for name, own in modules.items():
        packages[name.partition(".")[0]] += own
    return packages


def _side_effects() -> tuple[list[str], int]:
    """Return the forbidden modules that are loaded, and the number of threads started."""
    found = _run(
        "import sys, threading, streamll; print(threading.active_count() - 1, *sys.modules)"
    ).stdout.split()
    return [name for name in found[1:] if name in _FORBIDDEN], int(found[0])


def _show_heaviest() -> None:
    modules = _imports()
    pairs = zip(_heaviest(_by_package(modules)), _heaviest(modules), strict=True)
    rows = [(*package, *module) for package, module in pairs]
    table(("package (-X importtime, one run)", "ms", "module", "own ms"), rows)


def _heaviest(milliseconds: dict[str, float]) -> list[tuple[str, str]]:
    ranked = sorted(milliseconds.items(), key=itemgetter(1), reverse=True)
    return [(name, f"{own:.1f}") for name, own in ranked[:_HEAVIEST]]


def _show_side_effects() -> None:
    loaded, threads = _side_effects()
    show(f"{'FAIL' if loaded else 'PASS'}  not loaded: {', '.join(_FORBIDDEN)}")
    if loaded:
        show(f"      loaded: {', '.join(loaded)}")
    show(f"{'FAIL' if threads else 'PASS'}  threads started: {threads}")


def main() -> None:
    """Print the time, its parts, and what was left alone."""
    heading("import streamll", ["attrs", "msgspec", "pluggy"])
    codes = {"bare interpreter": "pass", "import streamll": "import streamll"}
    runs = interleave({name: partial(_milliseconds, code) for name, code in codes.items()}, ROUNDS)
    wall = {name: Samples([run[0] for run in runs[name]]) for name in runs}
    cpu = {name: Samples([run[1] for run in runs[name]]) for name in runs}
    for of in (wall, cpu):
        of["added"] = of["import streamll"].minus(of["bare interpreter"])
    show(f"\n{ROUNDS} rounds; median [quartiles], ms")
    rows = [(name, spread(wall[name], 1), spread(cpu[name], 1)) for name in wall]
    table(("", "wall", "CPU"), rows)
    _show_heaviest()
    show(Goal("import streamll, beyond a bare interpreter", wall["added"].median, _GOAL_MS, " ms"))
    _show_side_effects()


if __name__ == "__main__":
    main()
