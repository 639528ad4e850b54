"""One LM call: what was asked, what it used, what it cost; exactly this call's.

What DSPy records while the call runs (see `records`) is this call's alone, so parallel calls
cannot mix. A call that succeeds without billing usage was a cache hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from streamll import _runtime
from streamll._dspy.asked import Asked
from streamll._dspy.hints import hint_silence
from streamll._dspy.marks import is_wanted
from streamll._dspy.names import note_fields
from streamll._dspy.records import Records
from streamll._dspy.signatures import facts_of
from streamll._dspy.tokens import TokenStream
from streamll._spans import CURRENT, Span

__all__ = [
    "LMCall",
    "begin",
    "check_parsed",
    "current",
    "current_records",
    "end",
    "finish",
    "model_of",
    "note_unusable",
    "remember_format",
    "start",
]

#: The parameters that are told; an allow-list, so that no credential can slip through.
_REQUEST: Final = (
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "n", "stop",
    "presence_penalty", "frequency_penalty", "reasoning_effort", "rollout_id",
)  # fmt: skip


@attrs.define(kw_only=True, eq=False)
class LMCall:
    """What is known of an LM call in progress.

    Attributes:
        records: what DSPy records of it.
        asked: what the answer is for; shared with LM calls below this one.
        stream: emits the tokens; None where they are not wanted.
        retries: what LiteLLM is asked to retry; 0 from DSPy 3.4 on, which retries itself.
    """

    records: Records
    asked: Asked | None
    stream: TokenStream | None
    retries: int


def model_of(instance: Any) -> str | None:
    """Return the model's name."""
    return getattr(instance, "model", None)


def remember_format(span: Span, adapter: Any, signature: Any) -> None:
    """Note on the calling module's span which adapter renders which fields."""
    before = _asked(span)
    if span.parent is not None:
        again = before.again(adapter, signature) if before else Asked(adapter, signature)
        span.parent.details = again
    note_fields(span, facts_of(signature).outputs)


def note_unusable(span: Span, error: BaseException | None) -> None:
    """Note that an answer failed to arrive or to parse: a next one would replace it."""
    asked = _asked(span)
    if asked is not None:
        asked.failed = error is not None


def check_parsed(span: Span, outputs: Any) -> None:
    """Announce fields that were told otherwise than the adapter reads them in the end.

    Our parsers read in one pass what adapters read as a whole: an answer that repeats a field,
    or broken JSON that is repaired, may come out differently.
    """
    asked, pipeline = _asked(span), _runtime.current()
    if asked is None or pipeline is None:
        return
    for field, text in asked.wrong(outputs).items():
        data = {
            "attempt": asked.attempt,
            "reason": "mismatch",
            "field": field,
            "choice_index": asked.parsed - 1,
            "text": text,
            "llm_span_id": asked.llm_span_id,
        }
        pipeline.emit(span, "reset", data, severity="info")


def _asked(span: Span) -> Asked | None:
    known = span.parent.details if span.parent is not None else None
    if isinstance(known, LMCall):  # an LM that asks another one, e.g. a router
        return known.asked
    return known if isinstance(known, Asked) else None


def start(span: Span, instance: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of `llm_call.start`."""
    given = {**getattr(instance, "kwargs", {}), **(inputs.get("kwargs") or {})}
    model = str(model_of(instance))
    asked = _asked(span)
    data: dict[str, Any] = {
        "model": model,
        "request": {key: given[key] for key in _REQUEST if given.get(key) is not None},
    }
    if "/" in model:
        data["provider"] = model.split("/", 1)[0]
    if asked is not None:
        data["adapter"] = type(asked.adapter).__name__
        data["signature"] = facts_of(asked.signature).text
    if span.options.include_prompts:
        data["messages"] = inputs.get("messages") or inputs.get("prompt")
    return data


def begin(span: Span, instance: Any, inputs: Mapping[str, Any]) -> LMCall:
    """Begin to note what DSPy records, and the tokens."""
    asked = _asked(span)
    call = LMCall(records=Records(), asked=asked, stream=None, retries=_retries(instance))
    span.details = call
    if span.options.include_tokens and is_wanted(span):
        call.stream = TokenStream(span, asked)
    return call


def _retries(instance: Any) -> int:
    return 0 if hasattr(instance, "_engine_spec") else int(getattr(instance, "num_retries", 0) or 0)


def finish(
    span: Span, call: LMCall | None, outputs: Any, error: BaseException | None
) -> Mapping[str, Any]:
    """Emit what is left of the text, return usage and timing."""
    if call is None:
        return {}
    records = call.records
    entry = records.history[0] if records.history else None
    cached = error is None and not records.usage and _has_cache(entry)
    note_unusable(span, error)
    stream = call.stream
    if stream is not None:
        stream.finish(outputs, error=error, cached=cached)
        _tell_caller(span, stream, error)
    data = _usage(records.usage)
    for ancestor in span.ancestors() if "total_tokens" in data else ():
        ancestor.tokens.append(data["total_tokens"])
    data.update(_facts(entry))
    if error is None:
        data["cache_hit"] = cached
    if stream is not None:
        data.update(stream.timing(data.get("output_tokens")))
        data.update(stream.summary() if error is None else stream.partial())
        hint_silence(span, stream, cached=cached, error=error)
    return data


def _tell_caller(span: Span, stream: TokenStream, error: BaseException | None) -> None:
    """Let the LM call around this one, if any, know that its answer has been told."""
    caller = span.parent.details if span.parent is not None else None
    if isinstance(caller, LMCall) and caller.stream is not None and stream and error is None:
        caller.stream.answered_below()


def _has_cache(entry: Any) -> bool:
    """Whether the call went through DSPy's own bookkeeping, where unbilled means cached."""
    return entry is not None


def end(span: Span, outputs: Any) -> Mapping[str, Any]:
    """Return the completions, where prompts are captured."""
    return {"outputs": outputs} if span.options.include_prompts else {}


def _usage(billed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the usage of the call's attempts. What the provider did not say stays absent."""
    found: dict[str, Any] = {}
    for usage in billed:
        for name, value in _counts(usage):
            if isinstance(value, int) and not isinstance(value, bool):
                found[name] = found.get(name, 0) + value
    return found


def _counts(usage: Mapping[str, Any]) -> list[tuple[str, Any]]:
    prompt, completion = (
        _mapping(usage.get(key)) for key in ("prompt_tokens_details", "completion_tokens_details")
    )
    counts = [
        ("input_tokens", usage.get("prompt_tokens", usage.get("input_tokens"))),
        ("output_tokens", usage.get("completion_tokens", usage.get("output_tokens"))),
        ("total_tokens", usage.get("total_tokens")),
        ("cached_input_tokens", prompt.get("cached_tokens")),
        ("cache_write_tokens", usage.get("cache_creation_input_tokens")),
        ("reasoning_tokens", completion.get("reasoning_tokens")),
    ]
    return [(name, value) for name, value in counts if value is not None]


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    return value if isinstance(value, Mapping) else getattr(value, "__dict__", {})


def _facts(entry: Any) -> dict[str, Any]:
    """Return cost and response facts of a history entry (a mapping; attributes in 3.3)."""
    response = _of(entry, "response")
    facts = {
        "cost_usd": _of(entry, "cost"),
        "response_model": _of(entry, "response_model"),
        "response_id": getattr(response, "id", None),
    }
    return {key: value for key, value in facts.items() if isinstance(value, (str, float, int))}


def _of(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, Mapping) else getattr(entry, key, None)


def current() -> LMCall | None:
    """Return the LM call running in this context, for the taps in DSPy's engines."""
    span = CURRENT.get()
    return span.details if span is not None and isinstance(span.details, LMCall) else None


def current_records() -> Records | None:
    """Return the records of the LM call running in this context."""
    call = current()
    return None if call is None else call.records
