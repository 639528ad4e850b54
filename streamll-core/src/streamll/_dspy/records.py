"""What DSPy records of an LM call, usage and history, overheard where it is recorded.

DSPy hands usage to `settings.usage_tracker` and the history entry to each of
`settings.caller_modules`. Its own client modules look these up through a name `settings` of
theirs; that name gets a view on the settings which, inside an LM call that is captured, adds a
listener of that call alone. The settings stay as they are: the program, its LMs, tools and
adapters find in them what they always did.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from dspy.dsp.utils.settings import settings

from streamll._dspy.views import PackageView, SettingsView

__all__ = ["Records", "install_records"]

#: Where DSPy records, in one or the other of its versions.
_CLIENTS: Final = ("base_lm", "execution", "typesafe", "lm")


class Records:
    """What was recorded of one LM call. Used by the thread or task that makes the call.

    Attributes:
        usage: billed usage, one entry per attempt; empty after a cache hit.
        history: the newest entry only.
    """

    def __init__(self) -> None:
        self.usage: list[Mapping[str, Any]] = []
        self.history: _Newest = _Newest()
        self._keeps_history = not settings.disable_history

    def tracker(self, inner: Any) -> Any:
        """Return what tells us and *inner*, the tracker of the settings."""
        # DSPy 3.3 answers for an older LM twice, once without tracker and history.
        is_hidden = inner is None and settings.disable_history and self._keeps_history
        return inner if is_hidden else _Tracker(self.usage, inner)


class _Tracker:
    """Stands in for `settings.usage_tracker`, which may be None."""

    def __init__(self, usage: list[Mapping[str, Any]], inner: Any) -> None:
        self._usage = usage
        self._inner = inner

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        self._usage.append(usage_entry)
        if self._inner:
            self._inner.add_usage(lm, usage_entry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Newest(list[Any]):
    """A history that keeps the newest entry only."""

    def append(self, entry: Any) -> None:
        self[:] = [entry]

    def pop(self, index: Any = -1) -> Any:
        # DSPy pops the oldest before it appends to a full history.
        return None


class _Overheard(SettingsView):
    """The settings, as DSPy's client modules see them."""

    __slots__ = ("_running",)

    def __init__(self, running: Callable[[], Records | None]) -> None:
        object.__setattr__(self, "_running", running)

    def seen(self, name: str, value: Any) -> Any:
        if name == "usage_tracker":
            records = self._running()
            return value if records is None else records.tracker(value)
        if name == "caller_modules":
            records = self._running()
            return value if records is None else [*(value or ()), records]
        return value


def install_records(running: Callable[[], Records | None]) -> None:
    """Overhear from now on; *running* returns the records of the LM call of this context."""
    view = _Overheard(running)
    for name in _CLIENTS:
        module = _client(name)
        if module is not None and hasattr(module, "settings"):
            module.settings = view  # type: ignore[attr-defined]
            if name == "lm":  # before 3.3 it also asks `dspy.settings`
                module.dspy = PackageView(module.dspy, view)  # type: ignore[attr-defined]


def _client(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"dspy.clients.{name}")
    except ModuleNotFoundError:
        return None
