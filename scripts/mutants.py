"""Puts ten known mistakes in, one at a time, and expects a test to go red for each.

Works on a copy of the sources that shadows the installed ones; the tree is not touched.
``make mutants``, or ``python scripts/mutants.py NAME ...`` for some of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "streamll-core" / "src"
DELIVERY = "streamll/_delivery/"
#: Seconds after which a run of tests counts as hanging, i.e. red.
LIMIT = 120

_QUEUE = """

class _Queue:  # the mistake: its lock is not re-entrant
    def __init__(self):
        import queue
        self._queue = queue.Queue()
    def append(self, item):
        self._queue.put(item)
    def popleft(self):
        return self._queue.get_nowait()
    def __len__(self):
        return self._queue.qsize()
    def clear(self):
        while len(self):
            self.popleft()
"""


@attrs.frozen
class Mutant:
    """A mistake: in *file*, each *old* text becomes *new*; *tests* must notice.

    *append* is put at the end of the file; *extra* are options for pytest.
    """

    name: str
    file: str
    swaps: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    append: str = ""
    extra: tuple[str, ...] = ()

    def apply(self, folder: Path) -> None:
        """Make the mistake in the copy of the sources in *folder*."""
        path = folder / self.file
        text = path.read_text()
        for old, new in self.swaps:
            if old not in text:
                raise SystemExit(f"{self.name}: {old!r} is not in {self.file} any more")
            text = text.replace(old, new)
        path.write_text(text + self.append)


FAULTS = "tests/core/delivery/test_faults.py"
DRIVERS = "tests/core/delivery/test_drivers.py"
PURE = ("tests/core/delivery/test_channel.py", "tests/core/delivery/test_ledger.py")

MUTANTS = (
    Mutant(
        "a lock in emit",
        DELIVERY + "intake.py",
        (
            (
                "        inbox.append(Item(event, body, self._clock(), len(body)))",
                "        while not self._emit_lock.acquire(timeout=60): pass\n"
                "        inbox.append(Item(event, body, self._clock(), len(body)))\n"
                "        self._emit_lock.release()",
            ),
            (
                "        self._is_roomy = False",
                "        import threading; self._emit_lock = threading.Lock()\n"
                "        self._is_roomy = False",
            ),
        ),
        (FAULTS,),
    ),
    Mutant(
        "wall clock in a timer",
        DELIVERY + "__init__.py",
        (("] = time.monotonic,", "] = lambda: time.time(),"),),
        (DRIVERS,),
    ),
    Mutant(
        "permit not released",
        DELIVERY + "breaker.py",
        (("self._until = now + max(self.recovery, PROBE_LIMIT)", "pass"),),
        ("tests/core/delivery/test_breaker.py",),
    ),
    Mutant(
        "retry that duplicates",
        DELIVERY + "holdings.py",
        (
            (
                "        if self.in_flight is not write:\n            return False\n",
                "        self.waiting.restore(write.items)\n",
            ),
        ),
        PURE,
    ),
    Mutant(
        "queue.Queue",
        DELIVERY + "inbox.py",
        (("self._inbox: deque[Item] = deque()", "self._inbox = _Queue()"),),
        (FAULTS,),
        append=_QUEUE,
    ),
    Mutant(
        "count-only bound",
        DELIVERY + "buffer.py",
        (
            (" and self.bytes + size <= self._max_bytes", ""),
            ("self.count > self._size or self.bytes > self._max_bytes", "self.count > self._size"),
        ),
        ("tests/core/delivery/test_buffer.py",),
    ),
    Mutant(
        "deadline ignored",
        DELIVERY + "driver.py",
        (
            (
                "return min(max(0.0, deadline - self._clock()), _thread.TIMEOUT_MAX)",
                "return max(0.0, deadline - self._clock()) + 5",
            ),
        ),
        (DRIVERS,),
        extra=("-k", "row_43"),
    ),
    Mutant(
        "drop not counted",
        DELIVERY + "ledger.py",
        (
            (
                "        self.queued -= count\n        self.given_up += count\n"
                "        self.dropped[reason] += count\n",
                "        self.queued -= count\n        self.given_up += count\n",
            ),
        ),
        PURE,
    ),
    Mutant(
        "fork inherits a live lock",
        DELIVERY + "driver.py",
        (("        driver._start_afresh()\n", "        pass\n"),),
        (FAULTS,),
    ),
    Mutant(
        "exception kills the worker",
        DELIVERY + "worker.py",
        (("except BaseException", "except Exception"),),
        (DRIVERS,),
    ),
)


def survives(mutant: Mutant) -> bool:
    """Run the tests on a copy with the mistake; whether they stay green."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
        mutant.apply(Path(folder))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*command, *mutant.tests, *mutant.extra], cwd=ROOT, env=environment, timeout=LIMIT,
                capture_output=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        if done.returncode not in (0, 1):
            raise SystemExit(f"{mutant.name}: pytest could not run\n{done.stdout.decode()[-2000:]}")
        return done.returncode == 0


def main(names: list[str]) -> int:
    """Try the mutants, all or those named; 1 if one survives."""
    chosen = [m for m in MUTANTS if not names or m.name in names]
    survivors = []
    for mutant in chosen:
        alive = survives(mutant)
        print(f"{'SURVIVED' if alive else 'red'}  {mutant.name}", flush=True)
        survivors += [mutant.name] * alive
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mistakes turn a test red")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
