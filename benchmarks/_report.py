"""What all benchmarks print: where they ran, a table, and how the goals stand."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _rounds import Samples

__all__ = ["Goal", "heading", "show", "spread", "table", "times"]

_WIDTH = 118
_console = Console(width=_WIDTH, highlight=False, markup=False, emoji=False)


@attrs.frozen
class Goal:
    """A figure to reach. A benchmark reports it; it never fails by it."""

    what: str
    reached: float
    at_most: float
    unit: str = "x"

    def __str__(self) -> str:
        verdict = "PASS" if self.reached <= self.at_most else "over"
        reached, at_most = (f"{figure:.2f}{self.unit}" for figure in (self.reached, self.at_most))
        return f"{verdict}  {self.what}: {reached} (goal <= {at_most})"


def heading(title: str, packages: Iterable[str] = ()) -> None:
    """Print what is measured, on which machine, with which versions."""
    _console.rule(f" {title} ", align="left", characters="=")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
    show(f"{_cpu()}, {os.cpu_count()} cores, load {load}, {platform.system()} {platform.release()}")
    ours = (f"Python {platform.python_version()}", f"streamll {_revision()}")
    show(", ".join((*ours, *(f"{name} {_version(name)}" for name in packages))))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text; the first column is a label, the others are figures."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        drawn.add_column(column, justify="right")
    for row in rows:
        drawn.add_row(*row)
    _console.print(drawn)


def show(*lines: object) -> None:
    """Print lines as they are."""
    print(*lines, sep="\n", flush=True)


def spread(samples: Samples, digits: int = 2) -> str:
    """Return the median and, in brackets, the quartiles."""
    low, high = samples.quartiles
    return f"{samples.median:.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def times(ratio: float) -> str:
    """Return a ratio as text."""
    return f"{ratio:.2f}x"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _revision() -> str:
    """Return the revision of the checkout, with a mark if files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+changes"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "of unknown revision"
    return found.stdout.strip()
