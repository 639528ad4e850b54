"""How much of a payload is kept."""

from __future__ import annotations

import attrs

from streamll.errors import ConfigurationError

__all__ = ["Limits"]


@attrs.frozen(kw_only=True)
class Limits:
    """Size limits of one event.

    Attributes:
        max_string: characters kept of one string.
        max_items: entries kept of one list or mapping.
        max_depth: nesting kept.
        max_nodes: values visited in all.
        max_event_bytes: encoded size beyond which the payload is cut harder.
    """

    max_string: int = 32_768
    max_items: int = 1_000
    max_depth: int = 16
    max_nodes: int = 20_000
    max_event_bytes: int = 262_144

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            if getattr(self, field.name) < 1:
                raise ConfigurationError(f"{field.name} must be above 0")
