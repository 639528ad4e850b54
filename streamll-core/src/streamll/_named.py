"""What of an exception may be shown to the operator."""

from __future__ import annotations

from typing import Final

from streamll.encoding import safe_text
from streamll.errors import DeliveryError
from streamll.privacy import mask_urls

__all__ = ["named"]

#: Characters of a message that are shown.
_MOST: Final = 300


def named(error: BaseException) -> str:
    """Return the type name of *error*; of a `DeliveryError` its message too, on one line.

    Never the text of others: that may hold payload, and asking for it runs foreign code.
    """
    name = type(error).__name__
    if not isinstance(error, DeliveryError):
        return name
    text = safe_text(error, _MOST + 1)
    said = mask_urls(text, cut=len(text) > _MOST)[:_MOST]
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return f"{name}: {said}" if said else name
