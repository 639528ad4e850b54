"""Routing-key and stream-key templates: ``"ai.{module_name}.{event_type}"`` -> text. Pure.

Rules:

- Placeholders come from a fixed set: `FIELDS`, and ``{context.<name>}`` for one value of the
  event's context. There is no attribute or index access, no conversion and no format spec, so
  a template can reach nothing else. Everything else is rejected when the template is made.
- A value is text, a number or a boolean, in snake_case: ``RAGPipeline`` -> ``rag_pipeline``.
  Values that differ only in case therefore share a key.
- The sink's *escape* sees each value alone, so a value can never add a separator of its own.
- ``{{`` and ``}}`` stand for literal braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from string import Formatter
from typing import TYPE_CHECKING, Any, Final

import attrs

from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown

if TYPE_CHECKING:
    from streamll.events import Event

__all__ = ["FIELDS", "Template", "snake_case"]

#: The event fields a template may name, beside ``context.<name>``.
FIELDS: Final = (
    "operation",
    "event_type",
    "module_name",
    "execution_id",
    "name",
    "severity",
)

_CONTEXT: Final = re.compile(r"context\.([A-Za-z0-9_-]+)")
_ALREADY_SNAKE: Final = re.compile(r"[a-z0-9_.:-]*")
_ACRONYM_END: Final = re.compile(r"([A-Z]+)([A-Z][a-z])")
_WORD_END: Final = re.compile(r"([a-z0-9])([A-Z])")
_SPACES: Final = re.compile(r"\s+")

_Getter = Callable[["Event"], Any]


def snake_case(text: str) -> str:
    """Return *text* in snake_case: ``RAGPipeline`` -> ``rag_pipeline``. Idempotent."""
    if _ALREADY_SNAKE.fullmatch(text):
        return text
    text = _ACRONYM_END.sub(r"\1_\2", text)
    text = _WORD_END.sub(r"\1_\2", text)
    return _SPACES.sub("_", text).lower()


@attrs.frozen
class Template:
    """A key with placeholders, parsed and checked once. Immutable and safe to share.

    Attributes:
        text: the template as the user wrote it.
        fields: the names of its placeholders, in order.

    Raises:
        ConfigurationError: for an unknown placeholder, with a suggestion, or bad syntax.
    """

    text: str
    fields: tuple[str, ...] = attrs.field(init=False, eq=False)
    _pattern: str = attrs.field(init=False, repr=False, eq=False)
    _getters: tuple[_Getter, ...] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        pattern, fields = _compile(self.text)
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "_pattern", pattern)
        object.__setattr__(self, "_getters", tuple(_getter(field) for field in fields))

    @property
    def is_constant(self) -> bool:
        """Whether every event renders to the same text."""
        return not self.fields

    @property
    def literal(self) -> str:
        """The text without its placeholders: what every key contains."""
        return self._pattern % (("",) * len(self.fields))

    def render(self, event: Event, escape: Callable[[str], str], missing: str = "_") -> str:
        """Return the key of *event*; *missing* stands for absent and empty values.

        Never raises for what an event holds, provided *escape* does not.
        """
        values = [escape(snake_case(_text(get(event)))) or missing for get in self._getters]
        return self._pattern % tuple(values)


def _compile(text: str) -> tuple[str, tuple[str, ...]]:
    """Split *text* into a %-pattern and the names of its placeholders."""
    pattern: list[str] = []
    fields: list[str] = []
    for literal, field, spec, conversion in _parse(text):
        pattern.append(literal.replace("%", "%%"))
        if field is not None:
            if spec or conversion:
                raise ConfigurationError(
                    f"template {text!r}: write {{{field}}} without format or conversion"
                )
            pattern.append("%s")
            fields.append(field)
    return "".join(pattern), tuple(fields)


def _parse(text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    if not isinstance(text, str) or not text:
        raise ConfigurationError(f"a template must be text and not empty, not {text!r}")
    try:
        return list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigurationError(f"template {text!r}: {error}") from None


def _getter(field: str) -> _Getter:
    if match := _CONTEXT.fullmatch(field):
        return _context_getter(match.group(1))
    reject_unknown([field], [*FIELDS, "context.<name>"], "template field")
    if field not in FIELDS:
        raise ConfigurationError("template field 'context.<name>': write the name of a value")
    return attrgetter(field)


def _context_getter(name: str) -> _Getter:
    def get(event: Event) -> Any:
        return None if event.context is None else event.context.get(name)

    return get


def _text(value: Any) -> str:
    """Return scalars as text; other objects, whose `str` may run foreign code, as absent."""
    if type(value) is str:
        return value
    return str(value) if type(value) in {int, float, bool} else ""
