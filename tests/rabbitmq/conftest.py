"""A real broker for the tests of the RabbitMQ plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.brokers import broker, certificates, require
from support.rabbitmq_probe import Probe, unique
from support.rabbitmq_server import RabbitMQServer, missing_reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["broker", "certificates"]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture
def start_broker() -> Iterator[Callable[..., RabbitMQServer]]:
    """Start a broker for one test, with rabbitmq.conf lines of choice."""
    require(missing_reason())
    started: list[RabbitMQServer] = []

    def start(*settings: str) -> RabbitMQServer:
        started.append(RabbitMQServer(settings=settings))
        return started[-1].start()

    yield start
    for server in started:
        server.close()


@pytest.fixture
async def probe(broker: RabbitMQServer) -> AsyncIterator[Probe]:
    """An independent client of the shared broker."""
    async with Probe.connected(broker.url()) as connected:
        yield connected


@pytest.fixture
def exchange() -> str:
    """A name for this test's exchange."""
    return unique("exchange")
