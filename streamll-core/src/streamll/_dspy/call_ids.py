"""The ids that DSPy gives the calls it announces, drawn without asking the system for each.

`uuid.uuid4` lets go of the GIL for a microsecond, ten thousand times a second. CPython hands
it over by force only to a thread that saw nobody let go for 5 ms, so all other threads, the
sinks' among them, starve beside a busy program; and each time they are woken in vain.
"""

from __future__ import annotations

import uuid
from typing import Any

from streamll import _ids

__all__ = ["CallIds"]


class CallIds:
    """Stands in for the `uuid` module where DSPy looks `uuid4` up."""

    @staticmethod
    def uuid4() -> uuid.UUID:
        """Return a random UUID (RFC 9562, version 4)."""
        return uuid.UUID(int=_ids.random_bits(128), version=4)

    def __getattr__(self, name: str) -> Any:
        return getattr(uuid, name)
