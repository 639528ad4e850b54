"""What a sink reports about a batch, from what was not confirmed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamll import DeliveryError, Outcome, Verdict
from streamll_redis._connection import LOST, Reply
from streamll_redis._errors import UNREACHABLE, Refusal, of_exchange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamll_redis._append import Problems

__all__ = ["KEY_LIMIT", "failure_of", "verdicts"]

KEY_LIMIT: Final = Verdict(Outcome.REJECTED_PERMANENT, "key_limit")
_UNKNOWN: Final = Verdict(Outcome.UNKNOWN, "no_answer")


def verdicts(problems: Problems) -> dict[int, Verdict]:
    """Return the verdict of each event that was not confirmed."""
    return {position: _verdict(reply) for position, reply in problems.items()}


def failure_of(
    problems: Problems, where: str, cause: Exception | None, *, key: str | None
) -> DeliveryError | None:
    """Return the exception for a batch of which nothing was confirmed.

    None when only keys are at fault, of many, so that there is no one *key*: then other events
    may well get through.
    """
    refusals = _refusals(problems.values())
    if not refusals:
        return of_exchange(cause or TimeoutError(), where)
    if refusals[0] == UNREACHABLE and isinstance(cause, DeliveryError):
        return cause  # names the server, and says why
    if key is None and all(refusal.is_about_key for refusal in refusals):
        return None
    return refusals[0].as_error(where, f"events for key {key!r}" if key else "the events")


def _refusals(replies: Iterable[Reply]) -> list[Refusal]:
    return [reply for reply in replies if isinstance(reply, Refusal)]


def _verdict(reply: Reply) -> Verdict:
    if reply is LOST:
        return _UNKNOWN
    permanent = reply.is_permanent
    outcome = Outcome.REJECTED_PERMANENT if permanent else Outcome.REJECTED_TRANSIENT
    return Verdict(outcome, reply.code.lower())
