"""When a link is kept and when it is renewed."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from streamll_rabbitmq._address import Address
from streamll_rabbitmq._connection import Link
from streamll_rabbitmq._settings import RabbitMQSettings
from support.events import batch_of, make_events
from support.rabbitmq_producer import patient

if TYPE_CHECKING:
    from support.rabbitmq_probe import Probe
    from support.rabbitmq_server import RabbitMQServer


@pytest.mark.parametrize(
    ("silence", "is_blocked", "is_closed", "usable"),
    [
        (0.0, False, False, True),
        (29.0, False, False, True),
        (31.0, False, False, False),
        (31.0, True, False, True),
        (0.0, False, True, False),
    ],
)
def test_a_link_without_answers_is_given_up_after_three_heartbeats(
    silence: float, is_blocked: bool, is_closed: bool, usable: bool
) -> None:
    """Unless the broker said that publishers have to wait."""
    channel: Any = SimpleNamespace(
        silence=lambda: silence,
        is_closed=is_closed,
        connection=SimpleNamespace(is_blocked=is_blocked),
    )
    link = Link(RabbitMQSettings(addresses=(Address(),), heartbeat=10))
    assert link._is_usable(channel) is usable


@pytest.mark.broker
@pytest.mark.anyio
async def test_a_forked_child_leaves_its_parents_connection_alone(
    broker: RabbitMQServer, probe: Probe, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes one of its own; the parent's goes on."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange)
    await sink.open()
    parents = sink.connection
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        assert await sink.write(batch_of(make_events(1))) is None
        assert sink.connection is not parents
        await sink.close()
    assert parents is not None
    assert not parents.is_closed
    assert await probe.count(queue) == 1
    await parents.close()
