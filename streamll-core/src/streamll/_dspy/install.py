"""Where DSPy is asked to tell us. Done once, when the first program is instrumented.

- Where DSPy looks up whom to tell of a call, it also finds our callback while something is
  configured. It never becomes part of the settings, so `dspy.configure(callbacks=...)`,
  `dspy.context`, `settings.save` and the thread that owns the settings are not affected, and
  nothing is captured twice.
- The choice of a callback's handler is remembered per type: DSPy's own takes two
  `isinstance` checks against protocols for every call, which is most of a callback's cost.
  So are the shapes of the functions it announces (see `arguments`).
- `ParallelExecutor` passes the running span on to its threads (`dspy.Parallel`, `batch`,
  `Evaluate`, optimizers).
- The client modules let us overhear usage and history (see `records`).
- The engines let us watch the text of an LM call as it streams (see `taps`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy.utils import callback as dspy_callback
from dspy.utils.parallelizer import ParallelExecutor

from streamll import _runtime
from streamll._dspy.arguments import Inspect
from streamll._dspy.call_ids import CallIds
from streamll._dspy.callback import Capture
from streamll._dspy.calls import register_encoders
from streamll._dspy.lm import current_records
from streamll._dspy.records import install_records
from streamll._dspy.taps import install_taps
from streamll._dspy.views import PackageView, SettingsView
from streamll._tracing import bound

__all__ = ["install"]

_installed = False
_lock = threading.Lock()


def install() -> None:
    """Ask DSPy to tell us of its calls. Idempotent and thread-safe."""
    global _installed
    with _lock:
        if _installed:
            return
        dspy_callback.dspy = PackageView(dspy, _WithCapture(Capture()))
        dspy_callback.inspect = Inspect()
        dspy_callback.uuid = CallIds()
        dspy_callback._get_on_start_handler = _remembered(dspy_callback._get_on_start_handler)
        dspy_callback._get_on_end_handler = _remembered(dspy_callback._get_on_end_handler)
        _follow_threads()
        install_records(current_records)
        install_taps()
        register_encoders()
        _installed = True


class _WithCapture(SettingsView):
    """The settings, as the module sees them that announces calls."""

    __slots__ = ("_capture",)

    def __init__(self, capture: Capture) -> None:
        object.__setattr__(self, "_capture", capture)

    def seen(self, name: str, value: Any) -> Any:
        if name == "callbacks" and isinstance(value, list) and _runtime.current() is not None:
            # First: it may stop the program, before another callback has noted a start.
            return [self._capture, *value]
        return value


class _Names:
    """Stands in for a callback, to learn the name of the handler DSPy picks."""

    def __getattr__(self, name: str) -> str:
        return name


def _remembered(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same choice of handler, made once per type and method."""
    names: WeakKeyDictionary[type, dict[Any, str]] = WeakKeyDictionary()
    probe = _Names()

    def handler(callback: Any, instance: Any, fn: Any) -> Any:
        known = names.setdefault(type(instance), {})
        key = (fn.__name__, getattr(instance, "supports_decision_requests", False))
        if key not in known:
            known[key] = original(probe, instance, fn)
        return getattr(callback, known[key])

    return handler


def _follow_threads() -> None:
    original = ParallelExecutor.execute

    def execute(self: Any, function: Callable[..., Any], data: Any) -> Any:
        return original(self, bound(function), data)

    ParallelExecutor.execute = execute


#: Shown by `streamll doctor` and in bug reports.
DSPY_VERSION: str = dspy.__version__
