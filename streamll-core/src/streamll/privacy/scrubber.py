"""The last step before the buffer: secrets leave the strings of an event."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import attrs

from streamll.errors import ConfigurationError
from streamll.events import Event
from streamll.privacy.patterns import CREDENTIALS, DEFAULT, PATTERNS
from streamll.privacy.rules import Expression, Function, Pack, Rule
from streamll.privacy.stream import StreamScrubber
from streamll.privacy.urls import URLS
from streamll.settings import reject_unknown

__all__ = ["Scrubber"]

Wanted = str | re.Pattern[str] | Callable[[str], str]

#: Values that have no text of their own to hide anything in.
_PLAIN: Final = (int, float, bool, type(None), datetime, date, time, timedelta, Decimal, UUID)


@attrs.frozen
class Scrubber:
    """Removes secrets from events. Immutable; safe to share between threads.

    Attributes:
        rules: applied one after the other. Without any choice: credentials in URLs.
    """

    rules: tuple[Rule, ...] = (URLS,)

    @classmethod
    def of(cls, wanted: bool | Iterable[Wanted]) -> Scrubber | None:
        """Return the scrubber for a `scrub=` option, or None for False.

        Raises:
            ConfigurationError: for anything that is not a name, an expression or a function.
        """
        if wanted is False:
            return None
        chosen = list(DEFAULT) if wanted is True else _listed(wanted)
        names = {item for item in chosen if isinstance(item, str)}
        reject_unknown(names, PATTERNS, "pattern of scrub")
        # In the order of the pack, whatever the user's: it settles which one wins.
        pack = Pack((CREDENTIALS, *(PATTERNS[name] for name in PATTERNS if name in names)))
        own = (_own(item) for item in chosen if not isinstance(item, str))
        return cls((pack, *own))

    def __call__(self, event: Event) -> Event:
        """Return *event* with data, context and the pointers in it scrubbed.

        Raises:
            Exception: whatever a user's function raises; the event must then not be sent.
        """
        walk = _Walk(self.rules, event.truncated or {})
        data = walk.value(event.data, "/data")
        changes: dict[str, Any] = {"data": data} if walk.redacted else {}
        if event.truncated:
            changes["truncated"] = {walk.text(k): v for k, v in event.truncated.items()}
        return self._rest(event, walk, changes)

    def envelope(self, event: Event) -> Event:
        """Return *event* with its context scrubbed, where the data is known to be clean."""
        return self._rest(event, _Walk(self.rules, {}), {}) if event.context else event

    def _rest(self, event: Event, walk: _Walk, changes: dict[str, Any]) -> Event:
        before = len(walk.redacted)
        context = walk.value(event.context, "/context") if event.context else None
        if len(walk.redacted) > before:
            changes["context"] = context
        if walk.redacted:
            known = map(walk.text, event.redacted)
            changes["redacted"] = tuple(dict.fromkeys((*known, *walk.redacted)))
        return event.replace(**changes) if changes else event

    def stream(self, on_error: Callable[[Exception], object]) -> StreamScrubber:
        """Return a scrubber for one text that arrives in pieces."""
        return StreamScrubber(self.rules, on_error)


def _listed(wanted: Any) -> list[Any]:
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise ConfigurationError('scrub must be True or a list, e.g. scrub=["email"]')
    return list(wanted)


def _own(item: Any) -> Rule:
    if isinstance(item, re.Pattern) and isinstance(item.pattern, str):
        return Expression(item)
    if callable(item):
        return Function(item)
    raise ConfigurationError(
        f"scrub takes pattern names, compiled expressions and functions, not {type(item).__name__}"
    )


class _Walk:
    """One pass over the values of an event."""

    def __init__(self, rules: Sequence[Rule], cut: Mapping[str, int]) -> None:
        self._rules = rules
        self._cut = cut
        self.redacted: list[str] = []

    def value(self, value: Any, pointer: str) -> Any:
        if isinstance(value, str):
            return self._string(value, pointer)
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, pointer)
        if isinstance(value, list | tuple):
            return [self.value(item, f"{pointer}/{n}") for n, item in enumerate(value)]
        # Only a processor can have put it there; it may hold anything.
        self.redacted.append(pointer)
        return {"$type": f"{type(value).__module__}.{type(value).__qualname__}"}

    def _string(self, value: str, pointer: str) -> str:
        scrubbed = self.text(value, cut=pointer in self._cut)
        if scrubbed != value:
            self.redacted.append(pointer)
        return scrubbed

    def _mapping(self, value: Mapping[Any, Any], pointer: str) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, item in value.items():
            name = scrubbed = self.text(str(key))
            while name in copied:
                name += "'"
            below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            if scrubbed != key:
                self.redacted.append(below)
            copied[name] = self.value(item, below)
        return copied

    def text(self, text: str, *, cut: bool = False) -> str:
        """Return *text* scrubbed; of a *cut* one, less what may be the beginning of a secret."""
        for rule in self._rules:
            text, _, _ = rule.scan(text, 0, final=not cut or rule.needs_all)
        return text
