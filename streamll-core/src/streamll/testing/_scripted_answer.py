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
    """Tokens that one call reports. With no field at all it reports nothing, not even 0.

    Where one of `input`, `output` and `total` is given, the others follow from it and from the
    lengths of the texts. A `total` other than the sum needs dspy 3.4 when streaming: before,
    LiteLLM adds up the chunks by itself.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cached: int | None = None
    reasoning: int | None = None

    def filled(self, *, prompt_words: int, answer_words: int) -> ScriptedUsage:
        """Return this usage with what is missing derived from the lengths, in words."""
        if self == ScriptedUsage():
            return self
        output = answer_words if self.output is None else self.output
        rest = prompt_words if self.total is None else max(self.total - output, 0)
        given = rest if self.input is None else self.input
        total = given + output if self.total is None else self.total
        return attrs.evolve(self, input=given, output=output, total=total)


def to_usage(value: Mapping[str, int] | ScriptedUsage | None) -> ScriptedUsage | None:
    """Read a usage given as a mapping; None stays None.

    Raises:
        ConfigurationError: for an unknown key, with a suggestion.
    """
    if value is None or isinstance(value, ScriptedUsage):
        return value
    reject_unknown(value, (field.name for field in attrs.fields(ScriptedUsage)), "usage field")
    return ScriptedUsage(**value)


def _to_tool_calls(value: Sequence[Any]) -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple((str(name), dict(args)) for name, args in value)


def _known_reason(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
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
        usage: the tokens reported, a `ScriptedUsage` or a mapping of its fields; None takes
            the LM's.
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
