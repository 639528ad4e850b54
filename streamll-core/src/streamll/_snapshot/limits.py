"""How much of a payload is kept."""

from __future__ import annotations

import attrs

from streamll._checks import positive_int

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

    max_string: int = attrs.field(default=32_768, validator=positive_int)
    max_items: int = attrs.field(default=1_000, validator=positive_int)
    max_depth: int = attrs.field(default=16, validator=positive_int)
    max_nodes: int = attrs.field(default=20_000, validator=positive_int)
    max_event_bytes: int = attrs.field(default=262_144, validator=positive_int)
