"""What an attempt came to, in words that need no exception and no sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from streamll.encoding import safe_text
from streamll.errors import DeliveryError, Outcome, OutcomeUnknown, PermanentError
from streamll.privacy import mask_urls
from streamll.sink import Verdict

__all__ = ["Failure", "checked", "failure_of", "verdict_at"]

#: What a sink said that is not a verdict: the event may or may not have arrived.
_MALFORMED = Verdict(Outcome.UNKNOWN)
#: Characters of a message that are shown.
_MESSAGE_CHARS = 300
_WANTED = "a report is a mapping: position in the batch -> Verdict"


@attrs.frozen
class Failure:
    """An attempt that ended in an exception.

    Attributes:
        outcome: what became of every event of the batch.
        error: type name of the exception; of a `DeliveryError` its message too. Never the
            text of others: that may hold payload, and asking for it runs foreign code.
        sent: False when `open` failed, so that no event can be to blame.
    """

    outcome: Outcome
    error: str
    sent: bool = True


def failure_of(error: BaseException, *, sent: bool) -> Failure:
    """Classify *error* by type; what is unknown to streamll counts as transient.

    A timeout is unknown, and so is anything that is not an `Exception`, e.g. a cancelled
    write: bytes may have left.
    """
    name = _named(error)
    if isinstance(error, PermanentError):
        return Failure(Outcome.REJECTED_PERMANENT, name, sent)
    unknown = isinstance(error, (OutcomeUnknown, TimeoutError)) or not isinstance(error, Exception)
    return Failure(Outcome.UNKNOWN if unknown and sent else Outcome.REJECTED_TRANSIENT, name, sent)


def _named(error: BaseException) -> str:
    name = type(error).__name__
    if not isinstance(error, DeliveryError):
        return name
    said = mask_urls(safe_text(error, _MESSAGE_CHARS + 1), cut=True)[:_MESSAGE_CHARS]
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return f"{name}: {said}" if said else name


def checked(report: Any, count: int) -> Mapping[int, Any] | None:
    """Return what a write of *count* events reported, if anything was.

    Raises:
        TypeError: for verdicts that say of no event which, so that none could be believed.
    """
    given = report.values() if isinstance(report, Mapping) else report
    if isinstance(report, (Mapping, list, tuple)) and any(isinstance(v, Verdict) for v in given):
        _check_places(report, count)
    elif isinstance(report, Verdict):
        raise TypeError(_WANTED)
    # What else a client's call may return says nothing.
    return dict(report) if isinstance(report, Mapping) else None


def _check_places(report: Any, count: int) -> None:
    if not isinstance(report, Mapping):
        raise TypeError(_WANTED)
    if not all(isinstance(place, int) and 0 <= place < count for place in report):
        raise TypeError(_WANTED)


def verdict_at(report: Any, index: int) -> Verdict | None:
    """Return the verdict on event *index*, None for delivered; *report* is the sink's word."""
    verdict = report.get(index)
    if verdict is None or (isinstance(verdict, Verdict) and verdict.outcome is Outcome.DELIVERED):
        return None
    return verdict if isinstance(verdict, Verdict) else _MALFORMED
