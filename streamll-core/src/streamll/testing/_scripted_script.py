"""The script of a `ScriptedLM`: which answer a request gets, and the record of requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from streamll.errors import ConfigurationError, StreamllError
from streamll.testing._scripted_answer import Answer, ScriptedAnswer, ScriptedUsage, to_answer
from streamll.testing._scripted_format import Message, last_user_text, render
from streamll.testing._scripted_reply import Reply, usage_of

if TYPE_CHECKING:
    from streamll.testing._scripted_chunks import Chunk

__all__ = [
    "AnswerFunction",
    "Answers",
    "ByFunction",
    "ByPattern",
    "InOrder",
    "Script",
    "ScriptError",
    "ScriptedCall",
    "Source",
    "to_source",
]

AnswerFunction = Callable[[Sequence[Message]], Answer]
Answers = Sequence[Answer] | Mapping[str, Answer] | AnswerFunction


class ScriptError(StreamllError):
    """The script has no answer for a request. Seen by the caller as DSPy wraps it."""


@attrs.frozen
class ScriptedCall:
    """One request that reached the model, i.e. that no cache answered.

    Attributes:
        messages: the prompt as `{"role": ..., "content": text}` mappings.
        kwargs: the generation options that were set, as this version of DSPy passes them.
        stream: whether the answer was streamed.
    """

    messages: tuple[Message, ...]
    kwargs: Mapping[str, Any]
    stream: bool


class Source(Protocol):
    """Chooses the answer to a prompt. Called from any thread."""

    def answer(self, messages: Sequence[Message]) -> Answer:
        """Return the answer to *messages*, or raise ScriptError."""


@attrs.define(eq=False)
class InOrder:
    """Each request takes the next answer."""

    answers: tuple[ScriptedAnswer, ...]
    cycle: bool = False
    taken: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def answer(self, messages: Sequence[Message]) -> ScriptedAnswer:
        with self._lock:
            index, self.taken = self.taken, self.taken + 1
        if self.cycle:
            return self.answers[index % len(self.answers)]
        if index < len(self.answers):
            return self.answers[index]
        raise ScriptError(
            f"the script has {len(self.answers)} answers and this is request {index + 1}; "
            f"add answers or pass cycle=True, or see whether an answer lacks a field of the "
            f"signature, so that DSPy asks again. The prompt ends: {_tail(messages)!r}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"answers": self.answers, "cycle": self.cycle, "taken": self.taken}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a lock cannot be pickled, so it is made anew


@attrs.frozen
class ByPattern:
    """The first pattern found in the last user message decides."""

    answers: Mapping[str, ScriptedAnswer]

    def answer(self, messages: Sequence[Message]) -> ScriptedAnswer:
        text = last_user_text(messages)
        for pattern, answer in self.answers.items():
            if re.search(pattern, text):
                return answer
        tail, patterns = _tail(messages), list(self.answers)
        raise ScriptError(f"no pattern of {patterns} matches the prompt, which ends: {tail!r}")


@attrs.frozen
class ByFunction:
    """A function of the messages decides; it must be safe to call from several threads."""

    function: AnswerFunction

    def answer(self, messages: Sequence[Message]) -> Answer:
        return self.function(messages)


def _tail(messages: Sequence[Message]) -> str:
    return last_user_text(messages)[-120:]


def to_source(answers: Answers, *, cycle: bool = False) -> Source:
    """Read the three forms of a script.

    Raises:
        ConfigurationError: for an empty or unusable script, or `cycle` without a list.
    """
    ordered = isinstance(answers, Sequence) and not isinstance(answers, str)
    if cycle and not ordered:
        raise ConfigurationError("cycle=True needs a list of answers")
    if callable(answers):
        return ByFunction(answers)
    if not answers:
        raise ConfigurationError("a script needs at least one answer")
    if isinstance(answers, Mapping):
        return ByPattern({pattern: to_answer(answer) for pattern, answer in answers.items()})
    if ordered:
        return InOrder(tuple(to_answer(answer) for answer in answers), cycle)
    raise ConfigurationError("answers must be a list, a mapping of patterns, or a function")


@attrs.define(eq=False, kw_only=True)
class Script:
    """Answers requests and records them. Thread-safe.

    A deep copy is the same script: copies of an LM talk to one model. An unpickled script goes
    on where the pickled one stood, with an empty record.
    """

    source: Source
    chunk: Chunk = "word"
    delay: float = 0.0
    usage: ScriptedUsage | None = None
    escape_xml: bool = True
    _calls: list[ScriptedCall] = attrs.field(factory=list, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    @property
    def calls(self) -> tuple[ScriptedCall, ...]:
        """The requests so far, in the order in which they came."""
        with self._lock:
            return tuple(self._calls)

    def reply(
        self, messages: Sequence[Message], kwargs: Mapping[str, Any], *, stream: bool
    ) -> Reply:
        """Record a request and return what it gets.

        Raises:
            ScriptError: if the script has no answer.
        """
        number = self._record(ScriptedCall(tuple(messages), dict(kwargs), stream))
        answer = to_answer(self.source.answer(messages))
        text = answer.text or ""
        if answer.fields is not None:
            text = render(answer.fields, messages, escape_xml=self.escape_xml)
        usage = answer.usage or self.usage
        return Reply.of(
            answer,
            id=f"scripted-{number}",
            text=text,
            usage=usage_of(usage, answer, text, messages),
            chunk=self.chunk,
            delay=self.delay,
        )

    def _record(self, call: ScriptedCall) -> int:
        with self._lock:
            self._calls.append(call)
            return len(self._calls)

    def __deepcopy__(self, memo: dict[int, Any]) -> Script:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {
            field.name: getattr(self, field.name) for field in attrs.fields(Script) if field.init
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # locks and record are made anew
