"""What was published on one confirm-mode channel, and what the broker said of it. Pure.

Rules:

- The broker numbers publishes 1, 2, 3 ... per channel and answers by number, one or all up to
  one, in any order.
- A return names no number, only the message id, and comes before that publish is confirmed.
  Therefore one id is in the window at most once: a return can never be laid at the wrong
  door, and a returned message is never counted as confirmed.
- An attempt that gives up waiting leaves its publishes here. When the same event comes again
  on the same channel it is not sent twice: its late answer settles it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from itertools import islice
from typing import Final

import attrs

from streamll_rabbitmq._codec import Message

__all__ = ["Answer", "Window"]

#: Late answers kept for events that may never come again.
_MAX_LATE: Final = 20_000


class Answer(Enum):
    """What the broker said of one publish."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    RETURNED = "returned"


@attrs.define(eq=False)
class _Publish:
    """One message on its way: *attempt* is the last that asked for its answer."""

    fingerprint: int
    size: int
    attempt: int
    answer: Answer = Answer.PENDING
    returned: bool = False

    def is_other(self, message: Message) -> bool:
        """Whether *message* has this id, but is not what was published under it."""
        return self.fingerprint != hash(message.body)


@attrs.define(eq=False)
class Window:
    """The publishes of one channel.

    Attributes:
        pending: publishes without an answer.
        pending_bytes: their size on the wire.
        answers: how many publishes were answered, ever.
    """

    answers: int = attrs.field(default=0, init=False)
    pending: int = attrs.field(default=0, init=False)
    pending_bytes: int = attrs.field(default=0, init=False)
    _attempt: int = attrs.field(default=0, init=False)
    _next_tag: int = attrs.field(default=1, init=False)
    _by_tag: dict[int, _Publish] = attrs.field(factory=dict, init=False)
    _by_id: dict[bytes, _Publish] = attrs.field(factory=dict, init=False)
    _tags: deque[int] = attrs.field(factory=deque, init=False)
    #: Publishes of this attempt without an answer.
    _awaited: int = attrs.field(default=0, init=False)

    def begin(self) -> None:
        """Begin an attempt."""
        self._forget_late()
        self._awaited = 0
        self._attempt += 1

    def admit(self, message: Message) -> bool:
        """Take *message* into this attempt; return whether it must go out.

        If not, it is on its way or settled, or its id is taken by another body for now: then
        it gets no answer this time.
        """
        entry = self._by_id.get(message.message_id)
        if entry is None:
            return True
        if entry.attempt == self._attempt:
            return False
        if entry.answer is not Answer.PENDING and entry.is_other(message):
            del self._by_id[message.message_id]  # settled, and nobody came back for the answer
            return True
        entry.attempt = self._attempt
        self._awaited += entry.answer is Answer.PENDING
        return False

    @property
    def is_answered(self) -> bool:
        """Whether every publish of this attempt has its answer."""
        return not self._awaited

    def has_room(self, count: int, limit: int, limit_bytes: int) -> bool:
        """Whether *count* more may go out; an empty window takes anything."""
        fits = self.pending + count <= limit and self.pending_bytes < limit_bytes
        return fits or not self.pending

    def publish(self, message: Message, size: int) -> None:
        """Record that *message* goes out now, as *size* bytes, after all before it."""
        tag = self._next_tag
        entry = _Publish(hash(message.body), size, self._attempt)
        self._by_tag[tag] = self._by_id[message.message_id] = entry
        self._tags.append(tag)
        self._next_tag = tag + 1
        self._awaited += 1
        self.pending += 1
        self.pending_bytes += size

    def returned(self, message_id: bytes) -> bool:
        """Record a return; False when no publish awaits an answer under this id."""
        entry = self._by_id.get(message_id)
        if entry is None or entry.answer is not Answer.PENDING:
            return False
        entry.returned = True
        return True

    def answered(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        """Record an ack (*confirmed*) or nack of *tag*, or of all up to it."""
        answer = Answer.CONFIRMED if confirmed else Answer.REFUSED
        if not multiple:
            self._settle(tag, answer)
        while self._tags and (self._tags[0] <= tag if multiple else self._is_settled()):
            self._settle(self._tags.popleft(), answer)

    def _is_settled(self) -> bool:
        return self._tags[0] not in self._by_tag

    def _settle(self, tag: int, answer: Answer) -> None:
        entry = self._by_tag.pop(tag, None)
        if entry is not None:
            entry.answer = Answer.RETURNED if entry.returned else answer
            self._awaited -= entry.attempt == self._attempt
            self.answers += 1
            self.pending -= 1
            self.pending_bytes -= entry.size

    def take(self, messages: Sequence[Message]) -> list[Answer | None]:
        """End an attempt: return the answers, None for what did not go out.

        Final answers are forgotten; what is pending stays for the next attempt.
        """
        entries = [self._by_id.get(message.message_id) for message in messages]
        answers = [
            None if entry is None or entry.is_other(message) else entry.answer
            for entry, message in zip(entries, messages, strict=True)
        ]
        for answer, message in zip(answers, messages, strict=True):
            if answer is not None and answer is not Answer.PENDING:
                self._by_id.pop(message.message_id, None)
        return answers

    def _forget_late(self) -> None:
        """Drop the oldest late answers beyond a bound."""
        excess = len(self._by_id) - self.pending - _MAX_LATE
        if excess > 0:
            settled = (
                key for key, entry in self._by_id.items() if entry.answer is not Answer.PENDING
            )
            for key in list(islice(settled, excess)):
                del self._by_id[key]
