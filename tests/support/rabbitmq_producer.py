"""A producer that retries as streamll's channel does, and remembers what it was promised."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from streamll import DeliveryError, Event, Outcome, OutcomeUnknown
from streamll_rabbitmq import RabbitMQSink
from support.events import batch_of
from support.invariants import i7_truth
from support.rabbitmq_probe import PATIENCE
from support.truth import Truth, judge

__all__ = ["Producer", "patient"]


def patient(*arguments: Any, **options: Any) -> RabbitMQSink:
    """Return a sink whose attempts have all the time a busy machine may need."""
    return RabbitMQSink(*arguments, **{"op_timeout": 60.0, **options})


class Producer:
    """One sink, and what became of the events handed to it.

    Attributes:
        given: event ids handed to the sink.
        acked: event ids the sink called delivered.
        unknown: event ids of attempts with an unknown outcome, once per attempt.
    """

    def __init__(self, sink: RabbitMQSink) -> None:
        self.sink = sink
        self.given: list[str] = []
        self.acked: list[str] = []
        self.unknown: list[str] = []

    async def attempt(self, events: Sequence[Event]) -> list[Event]:
        """Make one attempt and return what has to be tried again."""
        try:
            report = await self.sink.write(batch_of(list(events))) or {}
        except OutcomeUnknown:
            self.unknown += [event.event_id for event in events]
            return list(events)
        except DeliveryError:
            return list(events)
        bad = {i for i, v in report.items() if v.outcome is not Outcome.DELIVERED}
        self.acked += [e.event_id for i, e in enumerate(events) if i not in bad]
        unknown = {i for i in bad if report[i].outcome is Outcome.UNKNOWN}
        self.unknown += [events[i].event_id for i in unknown]
        return [events[i] for i in sorted(bad)]

    async def deliver(self, events: Sequence[Event]) -> None:
        """Try until everything is confirmed."""
        self.given += [event.event_id for event in events]
        async with asyncio.timeout(2 * PATIENCE):
            while events := await self.attempt(events):  # noqa: ASYNC110 - a broker is no event
                await asyncio.sleep(0.05)

    def check(self, bodies: Sequence[bytes]) -> Truth:
        """Assert what always holds, and return the rest."""
        truth = judge(bodies, given=self.given, acked=self.acked)
        i7_truth(truth, len(self.unknown))
        assert set(truth.duplicates) <= set(self.unknown)
        assert len(bodies) <= len(set(self.given)) + len(self.unknown)
        return truth
