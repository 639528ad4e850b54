"""What an attempt came to, in words that need no exception and no sink."""

from __future__ import annotations

from typing import Any

import attrs

from streamll.errors import Outcome, OutcomeUnknown, PermanentError
from streamll.sink import Verdict

__all__ = ["Failure", "failure_of", "verdict_at"]

#: What a sink said that is not a verdict: the event may or may not have arrived.
_MALFORMED = Verdict(Outcome.UNKNOWN)


@attrs.frozen
class Failure:
    """An attempt that ended in an exception.

    Attributes:
        outcome: what became of every event of the batch.
        error: type name of the exception. Never its text: that may hold payload, and
            asking for it runs foreign code.
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
    name = type(error).__name__
    if isinstance(error, PermanentError):
        return Failure(Outcome.REJECTED_PERMANENT, name, sent)
    unknown = isinstance(error, (OutcomeUnknown, TimeoutError)) or not isinstance(error, Exception)
    return Failure(Outcome.UNKNOWN if unknown and sent else Outcome.REJECTED_TRANSIENT, name, sent)


def verdict_at(report: Any, index: int) -> Verdict | None:
    """Return the verdict on event *index*, None for delivered; *report* is the sink's word."""
    verdict = report.get(index)
    if verdict is None or (isinstance(verdict, Verdict) and verdict.outcome is Outcome.DELIVERED):
        return None
    return verdict if isinstance(verdict, Verdict) else _MALFORMED
