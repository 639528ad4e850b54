"""What is told of each kind of call DSPy announces. One `Call` per kind, in `CALLS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import dspy

from streamll._dspy import lm
from streamll._dspy.hints import hint_unknown
from streamll._dspy.signatures import facts_of
from streamll._snapshot import register_encoder
from streamll._spans import Span

__all__ = ["CALLS", "Call", "register_encoders"]

Data = Mapping[str, Any]


def _class_name(instance: Any) -> str:
    return type(instance).__name__


def _nothing(span: Span, instance: Any, inputs: Any) -> Data:
    return {}


def _no_details(span: Span, instance: Any, inputs: Any) -> Any:
    return None


def _no_extra(span: Span, details: Any, outputs: Any, error: BaseException | None) -> Data:
    return {}


def _no_outputs(span: Span, outputs: Any) -> Data:
    return {}


@attrs.frozen(kw_only=True)
class Call:
    """One kind of call.

    Attributes:
        operation: of its events.
        severity: of its start and end events; adapters are "debug".
        is_module: whether it may be a program's root and carries a name and path.
        label: instance -> `name`.
        start: span, instance, inputs -> data of the start event.
        begin: called after the start event; what it returns is given to `finish`.
        finish: called inside the span at its end -> data of any closing event.
        end: span, outputs -> data of the end event.
    """

    operation: str
    severity: str = "info"
    is_module: bool = False
    label: Callable[[Any], str | None] = _class_name
    start: Callable[[Span, Any, Any], Data] = _nothing
    begin: Callable[[Span, Any, Any], Any] = _no_details
    finish: Callable[[Span, Any, Any, BaseException | None], Data] = _no_extra
    end: Callable[[Span, Any], Data] = _no_outputs


def _arguments(inputs: Mapping[str, Any]) -> Data:
    """Flatten what DSPy reports for ``f(*args, **kwargs)`` to the arguments by name."""
    named = {key: value for key, value in inputs.items() if key not in ("args", "kwargs")}
    named.update(inputs.get("kwargs") or {})
    if inputs.get("args"):
        named["args"] = list(inputs["args"])
    return named


def _inputs(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    return {"inputs": _arguments(inputs)} if span.options.include_inputs else {}


def _outputs(span: Span, outputs: Any) -> Data:
    return {"outputs": outputs} if span.options.include_outputs else {}


def _module_end(span: Span, outputs: Any) -> Data:
    usage = {"usage": {"total_tokens": sum(span.tokens)}} if span.tokens else {}
    return {**_outputs(span, outputs), **usage}


def _module_finish(span: Span, details: Any, outputs: Any, error: BaseException | None) -> Data:
    hint_unknown(span, error=error)
    return {}


def _tool_start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    arguments = {"arguments": _arguments(inputs)} if span.options.include_inputs else {}
    return {"tool_name": _tool_name(instance), **arguments}


def _tool_name(instance: Any) -> str | None:
    return getattr(instance, "name", None)


def _result(span: Span, outputs: Any) -> Data:
    return {"result": outputs} if span.options.include_outputs else {}


def _retrieve_start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    top_k = inputs.get("k") or getattr(instance, "k", None)
    query = {"query": inputs.get("query")} if span.options.include_inputs else {}
    return {"top_k": top_k, **query}


def _format_begin(span: Span, instance: Any, inputs: Mapping[str, Any]) -> None:
    span.details = instance
    # The LM call that follows has the same parent: it reads its adapter and fields there.
    lm.remember_format(span, instance, _argument(inputs, "signature", 0))


def _format_start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    signature = _argument(inputs, "signature", 0)
    return {"adapter": _class_name(instance), "signature": facts_of(signature).text}


def _format_end(span: Span, outputs: Any) -> Data:
    return {"messages": outputs} if span.options.include_prompts else {}


def _parse_start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    completion = _argument(inputs, "completion", 1)
    told = {"completion": completion} if span.options.include_prompts else {}
    return {"adapter": _class_name(instance), **told}


def _parse_begin(span: Span, instance: Any, inputs: Mapping[str, Any]) -> None:
    span.details = instance


def _parse_finish(span: Span, details: Any, outputs: Any, error: BaseException | None) -> Data:
    lm.note_unusable(span, error)
    if error is None:
        lm.check_parsed(span, outputs)
    return {}


def _argument(inputs: Mapping[str, Any], name: str, position: int) -> Any:
    """Return an argument of an adapter's method; of one it inherits, DSPy reports no names."""
    named = _arguments(inputs)
    given = named.get("args", ())
    return named[name] if name in named else (given[position] if position < len(given) else None)


def _evaluate_start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    devset = inputs.get("devset") or getattr(instance, "devset", None) or ()
    metric = inputs.get("metric") or getattr(instance, "metric", None)
    return {"total": len(devset), "metric": getattr(metric, "__name__", None)}


def _evaluate_end(span: Span, outputs: Any) -> Data:
    score = getattr(outputs, "score", outputs)
    return {"score": score} if isinstance(score, (int, float)) else {}


def _compile_start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
    arguments = _arguments(inputs)
    sizes = {
        key: len(value)
        for key in ("trainset", "valset")
        if isinstance(value := arguments.get(key), list)
    }
    student = arguments.get("student")
    return {"student": _class_name(student) if student is not None else None, **sizes}


def _interpreter(action: str) -> Call:
    def start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Data:
        return {"action": action, **_inputs(span, instance, inputs)}

    def end(span: Span, outputs: Any) -> Data:
        return {"action": action, **_result(span, outputs)}

    return Call(operation="interpreter_call", start=start, end=end)


_MODULE: Final = Call(
    operation="module_forward",
    is_module=True,
    start=_inputs,
    finish=_module_finish,
    end=_module_end,
)

CALLS: Final[Mapping[str, Call]] = {
    "module": _MODULE,
    "retrieve": Call(operation="retrieve_call", start=_retrieve_start, end=_outputs),
    "lm": Call(
        operation="llm_call",
        label=lm.model_of,
        start=lm.start,
        begin=lm.begin,
        finish=lm.finish,
        end=lm.end,
    ),
    "tool": Call(operation="tool_call", label=_tool_name, start=_tool_start, end=_result),
    "adapter_format": Call(
        operation="adapter_format",
        severity="debug",
        start=_format_start,
        begin=_format_begin,
        end=_format_end,
    ),
    "adapter_parse": Call(
        operation="adapter_parse",
        severity="debug",
        start=_parse_start,
        begin=_parse_begin,
        finish=_parse_finish,
    ),
    "evaluate": Call(operation="evaluate", start=_evaluate_start, end=_evaluate_end),
    "compile": Call(operation="compile", start=_compile_start),
    "execute": _interpreter("execute"),
    "interpreter_tool": _interpreter("tool_call"),
    "startup": _interpreter("startup"),
    "shutdown": _interpreter("shutdown"),
}


def register_encoders() -> None:
    """Teach the snapshot DSPy's own types."""
    register_encoder(dspy.Example, lambda example: dict(example.items()))
    register_encoder(dspy.Tool, lambda tool: {"tool": tool.name})
    register_encoder(type(dspy.Signature), lambda signature: signature.signature)
