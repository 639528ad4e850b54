"""A DSPy call -> a span: start when it is announced, one closing event when it ends.

DSPy runs our handlers in the thread and context of the call itself: the start handler
before it, the end handler in a `finally` after it. So a context variable holds the running
span, and the map of open spans is the only other state. Nothing here may raise.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from streamll import _runtime
from streamll._dspy.calls import CALLS, Call
from streamll._dspy.marks import is_wanted, options_of
from streamll._dspy.names import name_module
from streamll._outcome import closing
from streamll._pipeline import Pipeline
from streamll._spans import CURRENT, LISTENER, Execution, Span
from streamll._stop import check_stopped

__all__ = ["Capture"]

logger = logging.getLogger("streamll")


class _Open:
    """A span in progress with what its end needs to know."""

    __slots__ = ("call", "details", "handled", "span")

    def __init__(self, span: Span, call: Call) -> None:
        self.span = span
        self.call = call
        self.details: Any = None
        #: The exception being handled around the call: not the call's own failure.
        self.handled = sys.exc_info()[1]


class Capture(BaseCallback):  # type: ignore[misc]
    """The process-wide DSPy callback. Thread-safe; pickles to a fresh one."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Capture, ()

    def __deepcopy__(self, memo: Any) -> Capture:
        return self

    def _start(self, kind: str, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        check_stopped()
        try:
            pipeline = _runtime.current()
            if pipeline is not None:
                self._enter(pipeline, CALLS[kind], call_id, instance, inputs)
        except Exception as error:  # noqa: BLE001 - DSPy would log it with its text
            logger.debug("streamll: start of a %s not captured: %s", kind, type(error).__name__)

    def _enter(
        self, pipeline: Pipeline, call: Call, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        parent = CURRENT.get()
        if parent is not None and _is_repeated(parent, call, instance):
            return
        options = options_of(instance) if call.is_module else None
        if parent is None and options is None and not _asked_for(pipeline):
            return
        span = _new_span(call.operation, parent, options, pipeline)
        span.severity = call.severity
        span.name = call.label(instance)
        if call.is_module:
            name_module(span, instance, options)
        opened = self._open[call_id] = _Open(span, call)
        span.enter()
        try:
            if is_wanted(span):
                pipeline.emit(span, "start", _told(call, span, instance, inputs))
            opened.details = call.begin(span, instance, inputs)
        except Exception:
            raise  # the call goes on, and its end is told
        except BaseException as stop:  # Ctrl-C: DSPy will not tell us of an end
            del self._open[call_id]
            self._leave(opened, None, stop)
            raise

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
        opened = self._open.pop(call_id, None)
        if opened is None:
            return
        try:
            self._leave(opened, outputs, exception)
        except Exception as error:  # noqa: BLE001
            logger.debug("streamll: end of a call not captured: %s", type(error).__name__)

    def _leave(self, opened: _Open, outputs: Any, exception: BaseException | None) -> None:
        span = opened.span
        error = exception if exception is not None else _unreported(opened, outputs)
        extra = self._finished(opened, outputs, error)
        pipeline = _runtime.current()
        if pipeline is None or not is_wanted(span):
            return
        event_type, severity, data = closing(error)
        data = {**opened.call.end(span, outputs), **extra} if error is None else {**extra, **data}
        pipeline.emit(span, event_type, data, severity=severity, duration_ms=span.duration_ms)

    def _finished(
        self, opened: _Open, outputs: Any, error: BaseException | None
    ) -> Mapping[str, Any]:
        """Return what the call's own end has to tell; whatever happens, its span is left."""
        try:
            return opened.call.finish(opened.span, opened.details, outputs, error)
        except Exception as failure:  # noqa: BLE001 - the closing event must not be lost
            logger.debug("streamll: end of a call not told: %s", type(failure).__name__)
            return {}
        finally:
            opened.span.exit()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        # Before 3.2, DSPy announces an LM that is not a dspy.LM as a module.
        kind = "lm" if isinstance(instance, dspy.BaseLM) else "module"
        self._start(kind, call_id, instance, inputs)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._start("lm", call_id, instance, inputs)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._start("tool", call_id, instance, inputs)

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._start("adapter_format", call_id, instance, inputs)

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._start("adapter_parse", call_id, instance, inputs)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._start("evaluate", call_id, instance, inputs)

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._start("compile", call_id, instance, inputs)

    def on_interpreter_execute_start(
        self, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        self._start("execute", call_id, instance, inputs)

    def on_interpreter_tool_call_start(
        self, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        self._start("interpreter_tool", call_id, instance, inputs)

    def on_interpreter_startup_start(
        self, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        self._start("startup", call_id, instance, inputs)

    def on_interpreter_shutdown_start(
        self, call_id: str, instance: Any, inputs: dict[str, Any]
    ) -> None:
        self._start("shutdown", call_id, instance, inputs)

    def _ended(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self._end(call_id, outputs, exception)

    on_module_end = on_lm_end = on_tool_end = _ended
    on_adapter_format_end = on_adapter_parse_end = _ended
    on_evaluate_end = on_compile_end = _ended
    on_interpreter_execute_end = on_interpreter_tool_call_end = _ended
    on_interpreter_startup_end = on_interpreter_shutdown_end = _ended


def _told(call: Call, span: Span, instance: Any, inputs: dict[str, Any]) -> Mapping[str, Any]:
    """Return the data of the start event; none where an object refuses to be read."""
    try:
        return call.start(span, instance, inputs)
    except Exception as error:  # noqa: BLE001 - a start without data, but a start
        logger.debug("streamll: start of a call without data: %s", type(error).__name__)
        return {}


def _is_repeated(parent: Span, call: Call, instance: Any) -> bool:
    """Whether DSPy announces one call twice: a method that an adapter inherits."""
    return parent.operation == call.operation and parent.details is instance


def _asked_for(pipeline: Pipeline) -> bool:
    """Whether calls outside a marked program are captured: all of them, or this one's stream."""
    return pipeline.capture_all or LISTENER.get() is not None


def _new_span(operation: str, parent: Span | None, options: Any, pipeline: Pipeline) -> Span:
    execution = parent.execution if parent else Execution()
    span = Span(operation, parent=parent, execution=execution)
    if options is not None:
        span.options = options
    elif span.options is None:
        span.options = pipeline.capture
    if options is not None and options.sinks is not None:
        span.sinks = options.sinks()
    return span


def _unreported(opened: _Open, outputs: Any) -> BaseException | None:
    """Return the exception in flight that DSPy does not report.

    Before 3.3, DSPy tells its end handlers of `Exception` only; a `KeyboardInterrupt` or a
    cancellation passes through the `finally` they run in.
    """
    error = sys.exc_info()[1]
    return error if outputs is None and error is not opened.handled else None
