"""What a scripted model says: one immutable answer, with its usage, pace and failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import attrs

from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown

__all__ = ["Answer", "FinishReason", "ScriptedAnswer", "ScriptedUsage", "to_answer", "to_usage"]

FinishReason = Literal["stop", "length", "tool_call", "content_filter"]


@attrs.frozen(kw_only=True)
class ScriptedUsage:
    """Tokens that one call reports; None means "not reported", which is not the same as 0."""

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cached: int | None = None
    reasoning: int | None = None

    def with_total(self) -> ScriptedUsage:
        """Return this usage with the total filled in where input and output are both known."""
        if self.total is not None or self.input is None or self.output is None:
            return self
        return attrs.evolve(self, total=self.input + self.output)


def to_usage(value: Mapping[str, int] | ScriptedUsage | None) -> ScriptedUsage | None:
    """Read a usage given as a mapping; None stays None and means "derive it".

    Raises:
        ConfigurationError: for an unknown key, with a suggestion.
    """
    if value is None or isinstance(value, ScriptedUsage):
        return value
    reject_unknown(value, (field.name for field in attrs.fields(ScriptedUsage)), "usage field")
    return ScriptedUsage(**value)


def _to_tool_calls(value: Sequence[Any]) -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple((str(name), dict(args)) for name, args in value)


def _known_reason(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        reject_unknown([value], get_args(FinishReason), "finish reason")


@attrs.frozen(kw_only=True)
class ScriptedAnswer:
    """One answer of a `ScriptedLM`. Immutable, so it can be shared between threads.

    Attributes:
        text: the raw completion, sent as it is.
        fields: output fields by name, rendered in the format of the adapter that wrote the
            prompt. Give `text` or `fields`, not both.
        reasoning: native thinking, sent before the text on the reasoning channel.
        tool_calls: native calls as (name, arguments) pairs, sent after the text.
        usage: the tokens reported, a `ScriptedUsage` or a mapping of its fields; None derives
            them by counting words, `{}` reports none (see `ScriptedLM`).
        delay: seconds before each chunk; None takes the LM's.
        error: raised instead of finishing the answer.
        error_after: chunks that are sent before `error`; None raises before the first.
        finish_reason: why the model stopped; None derives it.
    """

    text: str | None = None
    fields: Mapping[str, Any] | None = None
    reasoning: str | None = None
    tool_calls: tuple[tuple[str, dict[str, Any]], ...] = attrs.field(
        default=(), converter=_to_tool_calls
    )
    usage: ScriptedUsage | None = attrs.field(default=None, converter=to_usage)
    delay: float | None = None
    error: BaseException | None = None
    error_after: int | None = None
    finish_reason: FinishReason | None = attrs.field(default=None, validator=_known_reason)

    def __attrs_post_init__(self) -> None:
        if self.text is not None and self.fields is not None:
            raise ConfigurationError("a scripted answer has text or fields, not both")
        if self.error_after is not None and self.error is None:
            raise ConfigurationError("error_after needs an error to raise")


Answer = str | Mapping[str, Any] | BaseException | ScriptedAnswer


def to_answer(value: Answer) -> ScriptedAnswer:
    """Read the short forms: a string is text, a mapping is fields, an exception is an error.

    Raises:
        ConfigurationError: for any other type.
    """
    match value:
        case ScriptedAnswer():
            return value
        case str():
            return ScriptedAnswer(text=value)
        case BaseException():
            return ScriptedAnswer(error=value)
        case Mapping():
            return ScriptedAnswer(fields=value)
    kind = type(value).__name__
    raise ConfigurationError(
        f"an answer is a str, a dict of fields, an exception or a ScriptedAnswer, not {kind}"
    )
