"""streamll beside MLflow autolog, OpenInference and Logfire in one process.

Skipped where they are not installed; `scripts/coexist` runs it in an environment that has them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

#: Observer -> what must be importable for it.
NEEDS = {
    "openinference": "openinference",
    "logfire": "logfire",
    "mlflow": "mlflow",
}
PEERS = [["openinference", "mlflow"], ["logfire", "mlflow"]]
ANSWER = {"reasoning": "Because it is so.", "answer": "forty-two"}


@cache
def observed(*names: str) -> dict[str, Any]:
    """Run the program under these observers, switched on in this order."""
    for name in names:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            pytest.skip(f"{name} is not installed here; scripts/coexist has it")
    script = Path(__file__).with_name("observed.py")
    done = subprocess.run(
        [sys.executable, str(script), *names],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["streamll first", "streamll last"])
@pytest.mark.parametrize("peers", PEERS, ids="+".join)
def test_every_observer_sees_what_it_sees_alone(peers, first):
    """Same answers, same events and tokens, same number of spans, in either order."""
    without = observed(*peers)
    alone = observed("streamll")
    together = observed(*(["streamll", *peers] if first else [*peers, "streamll"]))
    assert together["answers"] == alone["answers"] == [ANSWER] * 6
    assert together["streamll"] == alone["streamll"]
    assert alone["streamll"]["texts"] == sorted([*ANSWER.values()] * 6)
    assert {name: together[name] for name in peers} == {name: without[name] for name in peers}
    assert all(together[name] > 0 for name in peers)
