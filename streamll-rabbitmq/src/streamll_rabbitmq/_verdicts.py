"""What a sink reports about a batch, from what the broker answered. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamll import Outcome, Verdict
from streamll_rabbitmq._window import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["is_failure", "is_refused", "verdicts"]

_OVERSIZE: Final = Verdict(Outcome.REJECTED_PERMANENT, "oversize")

#: A refusal (nack) is unknown: with several queues bound, some may hold the message.
_VERDICTS: Final[Mapping[Answer | None, Verdict]] = {
    Answer.RETURNED: Verdict(Outcome.REJECTED_PERMANENT, "unroutable"),
    Answer.REFUSED: Verdict(Outcome.UNKNOWN, "nack"),
    Answer.PENDING: Verdict(Outcome.UNKNOWN, "unconfirmed"),
    None: Verdict(Outcome.REJECTED_TRANSIENT, "unsent"),
}


def verdicts(
    bodies: Sequence[bytes], answers: Mapping[int, Answer | None], max_size: int
) -> dict[int, Verdict]:
    """Return the verdict of each event that was not confirmed; *answers* go by position."""
    return {
        position: _verdict(body, answers.get(position), max_size)
        for position, body in enumerate(bodies)
        if answers.get(position) is not Answer.CONFIRMED
    }


def _verdict(body: bytes, answer: Answer | None, max_size: int) -> Verdict:
    is_open = answer is None or answer is Answer.PENDING
    return _OVERSIZE if is_open and len(body) > max_size else _VERDICTS[answer]


def is_refused(answers: Mapping[int, Answer | None]) -> bool:
    """Whether the broker refused something, and has answered everything."""
    given = answers.values()
    return Answer.REFUSED in given and Answer.PENDING not in given


def is_failure(found: Mapping[int, Verdict], answers: Mapping[int, Answer | None]) -> bool:
    """Whether not one event was settled: then the attempt as a whole has failed."""
    unsettled = all(answer is None or answer is Answer.PENDING for answer in answers.values())
    return bool(found) and unsettled and _OVERSIZE not in found.values()
