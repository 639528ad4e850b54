"""What an attempt came to, in words that need no exception and no sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from streamll._named import named
from streamll.errors import Outcome, OutcomeUnknown, PermanentError
from streamll.sink import Verdict

__all__ = ["Failure", "checked", "failure_of", "verdict_at"]

#: What a sink said that is not a verdict: the event may or may not have arrived.
_MALFORMED = Verdict(Outcome.UNKNOWN)
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
    name = named(error)
    if isinstance(error, PermanentError):
        return Failure(Outcome.REJECTED_PERMANENT, name, sent)
    unknown = isinstance(error, (OutcomeUnknown, TimeoutError)) or not isinstance(error, Exception)
    return Failure(Outcome.UNKNOWN if unknown and sent else Outcome.REJECTED_TRANSIENT, name, sent)


def checked(report: Any, count: int) -> Mapping[int, Any] | None:
    """Return what a write of *count* events reported, if anything was.

    Raises:
        OutcomeUnknown: for verdicts that say of no event which, so that none can be believed;
            yet `write` has returned, so the events may have arrived.
    """
    given = report.values() if isinstance(report, Mapping) else report
    if isinstance(report, (Mapping, list, tuple)) and any(isinstance(v, Verdict) for v in given):
        _check_places(report, count)
    elif isinstance(report, Verdict):
        raise OutcomeUnknown(_WANTED)
    # What else a client's call may return says nothing.
    return dict(report) if isinstance(report, Mapping) else None


def _check_places(report: Any, count: int) -> None:
    if not isinstance(report, Mapping):
        raise OutcomeUnknown(_WANTED)
    if not all(isinstance(place, int) and 0 <= place < count for place in report):
        raise OutcomeUnknown(_WANTED)


def verdict_at(report: Any, index: int) -> Verdict | None:
    """Return the verdict on event *index*, None for delivered; *report* is the sink's word."""
    verdict = report.get(index)
    if verdict is None or (isinstance(verdict, Verdict) and verdict.outcome is Outcome.DELIVERED):
        return None
    return verdict if isinstance(verdict, Verdict) else _MALFORMED
