"""Engines and models that do not stream: they are asked for whole answers, as without us.

Some providers refuse to stream what they answer whole (OpenAI, to organizations that are not
verified). We asked for the stream, so the refusal is ours to mend: the whole answer is asked
for at once, and of this model from then on.
"""

from __future__ import annotations

from typing import Final

import dspy

__all__ = ["is_refusal", "note_refusal", "refuses"]

_MOST: Final = 1_000
#: Bad request, forbidden, not found, not allowed, not acceptable, unprocessable.
_REFUSED: Final = (400, 403, 404, 405, 406, 422)
_refusing: set[str] = set()

_UNABLE: Final = tuple(
    kind
    for kind in (
        NotImplementedError,
        getattr(getattr(dspy, "lm15", None), "UnsupportedFeatureError", None),
        getattr(dspy, "LMUnsupportedFeatureError", None),
    )
    if kind is not None
)


def is_refusal(error: BaseException) -> bool:
    """Whether *error*, raised before any text, says that this cannot be streamed."""
    return isinstance(error, _UNABLE) or (_is_client_error(error) and "stream" in _lower(error))


def _is_client_error(error: BaseException) -> bool:
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    return status in _REFUSED


def _lower(error: BaseException) -> str:
    try:
        return str(error).lower()
    except Exception:  # noqa: BLE001 - an error that cannot be printed
        return ""


def note_refusal(model: str) -> None:
    """Remember that *model* answers whole, but refuses to stream."""
    if len(_refusing) < _MOST:
        _refusing.add(model)


def refuses(model: str) -> bool:
    """Whether *model* is known to refuse."""
    return model in _refusing
