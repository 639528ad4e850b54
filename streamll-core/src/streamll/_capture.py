"""What is captured of a program: the options of `instrument` and `configure`."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from streamll._checks import flag, not_negative, text
from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown

__all__ = ["OPERATIONS", "CaptureOptions"]

OPERATIONS: Final = (
    "module_forward",
    "llm_call",
    "tool_call",
    "retrieve_call",
    "adapter_format",
    "adapter_parse",
    "evaluate",
    "compile",
    "interpreter_call",
)

REPLAY: Final = ("whole", "paced", "off")


def _names(value: str | Iterable[str] | None) -> frozenset[str] | None:
    if value is None:
        return None
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in (*names,)):
        raise ConfigurationError(f"stream_fields and operations are lists of names, not {value!r}")
    return frozenset(names)


def _known_operations(instance: Any, attribute: Any, value: frozenset[str] | None) -> None:
    reject_unknown(value or (), OPERATIONS, "operation")


def _known_replay(instance: Any, attribute: Any, value: str) -> None:
    reject_unknown([value], REPLAY, "replay_cached")


#: Options by number, so that a pickled program finds its own again in the same process.
_living: weakref.WeakValueDictionary[int, CaptureOptions] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


@attrs.frozen(kw_only=True, eq=False, weakref_slot=True)
class CaptureOptions:
    """What is captured below one program. Immutable; shared by deep copies.

    Attributes:
        name: stands for the class name in `module_name`.
        stream_fields: output fields whose tokens are emitted; None for all.
        operations: operations that are emitted; None for all. Hidden calls still count as
            parents, so the tree stays whole.
        include_inputs: arguments of modules, tools and interpreters.
        include_outputs: results of modules, tools and interpreters.
        include_prompts: messages sent to and completions received from the LM.
        include_tokens: token events.
        replay_cached: how an answer from DSPy's cache is told: "whole" (one token per field),
            "paced" (a token per word, for consumers that type it out), "off".
        token_window_ms: milliseconds within which pieces of a field are merged into one
            token; 0 emits each as it comes. Text is merged, never lost.
        sinks: returns the routes of these events; None for the configured sinks.
    """

    name: str | None = attrs.field(default=None, validator=text)
    stream_fields: frozenset[str] | None = attrs.field(default=None, converter=_names)
    operations: frozenset[str] | None = attrs.field(
        default=None, converter=_names, validator=_known_operations
    )
    include_inputs: bool = attrs.field(default=True, validator=flag)
    include_outputs: bool = attrs.field(default=True, validator=flag)
    include_prompts: bool = attrs.field(default=False, validator=flag)
    include_tokens: bool = attrs.field(default=True, validator=flag)
    replay_cached: str = attrs.field(default="whole", validator=_known_replay)
    token_window_ms: float = attrs.field(default=0, validator=not_negative)
    sinks: Callable[[], tuple[Any, ...]] | None = None
    number: int = attrs.field(init=False, factory=_numbers.__next__)

    def __attrs_post_init__(self) -> None:
        _living[self.number] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> CaptureOptions:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Sinks hold threads and sockets: another process gets the configured ones.
        fields = attrs.asdict(self, recurse=False, filter=lambda a, _: a.init and a.name != "sinks")
        return _restored, (self.number, fields)


def _restored(number: int, fields: dict[str, Any]) -> CaptureOptions:
    living = _living.get(number)
    same = living is not None and all(getattr(living, k) == v for k, v in fields.items())
    return living if living is not None and same else CaptureOptions(**fields)
