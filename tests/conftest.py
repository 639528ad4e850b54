"""What every test starts from: no configuration, no STREAMLL_* variable, a clean registry."""

from __future__ import annotations

import os

import pytest

import streamll

#: LiteLLM, which dspy before 3.4 imports, else asks the network for prices.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@pytest.fixture(autouse=True)
def _unconfigured(monkeypatch: pytest.MonkeyPatch):
    """Nothing configured before a test, nothing left behind by it."""
    for name in [name for name in os.environ if name.startswith("STREAMLL_")]:
        monkeypatch.delenv(name)
    yield
    streamll.shutdown(5)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """From Python 3.13 on, the connections that DSPy's disk cache leaves open are told of."""
    ignore = (
        "ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning"
    )
    for item in items:
        if "tests/dspy/" in item.nodeid or item.nodeid.startswith("dspy/"):
            item.add_marker(pytest.mark.filterwarnings(ignore))
