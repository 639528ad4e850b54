"""Which events are meant: `only=` of sinks and of `consume`, `consumer.on("error")`."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from streamll.errors import ConfigurationError

if TYPE_CHECKING:
    from streamll.events import Event

__all__ = ["Patterns", "parse_patterns"]

#: Kinds of event whose answer is remembered; custom names may be unbounded.
_MOST_KNOWN: Final = 1_000


def parse_patterns(only: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the globs of a sequence or a comma-separated string; None, which means all, stays.

    Raises:
        ConfigurationError: for anything else.
    """
    if only is None:
        return None
    if isinstance(only, bytes) or not isinstance(only, Iterable):
        raise ConfigurationError(f"{only!r} is no pattern; write e.g. only=['token', 'error']")
    globs = [part.strip() for part in only.split(",")] if isinstance(only, str) else list(only)
    if not globs:
        raise ConfigurationError("only=[] would keep no event at all; leave it out to keep all")
    for glob in globs:
        if not isinstance(glob, str) or not glob:
            raise ConfigurationError(f"{glob!r} is no pattern; write e.g. only=['token', 'error']")
    return tuple(globs)


class Patterns:
    """Globs over the event type, the operation and "operation.type". Safe to share."""

    __slots__ = ("_globs", "_known")

    def __init__(self, globs: tuple[str, ...] | None) -> None:
        self._globs = globs
        self._known: dict[tuple[str, str], bool] = {}

    def accepts(self, event: Event) -> bool:
        """Whether one of the globs matches; the answer per kind of event is remembered."""
        if self._globs is None:
            return True
        kind = (event.event_type, event.operation)
        known = self._known.get(kind)
        if known is None:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            known = self._known[kind] = self._matches(*kind)
        return known

    def _matches(self, event_type: str, operation: str) -> bool:
        names = (event_type, operation, f"{operation}.{event_type}")
        return any(fnmatchcase(name, glob) for glob in self._globs or () for name in names)
