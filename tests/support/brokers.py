"""Fixtures that give tests real servers.

Where a server is not installed its tests are skipped, with the reason; with ``CI=true`` they
fail instead, so that nothing goes untested unnoticed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from support import rabbitmq_server
from support.rabbitmq_server import Certificates, RabbitMQServer
from support.redis_server import RedisServer, Watched, cluster, missing_reason, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "broker",
    "certificates",
    "redis_cluster",
    "redis_sentinels",
    "redis_server",
    "require",
    "shared_redis",
    "start_redis",
]


def require(reason: str | None) -> None:
    """Skip the test, or fail it under CI, when there is a *reason* why it cannot run."""
    if reason is None:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI must run this test: {reason}")
    pytest.skip(reason)


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start servers with redis.conf options of choice; they end with the test."""
    require(missing_reason())
    started: list[RedisServer] = []

    def start(**options: Any) -> RedisServer:
        tls = options.pop("tls", None)
        named = {name.replace("_", "-"): value for name, value in options.items()}
        server = RedisServer(tmp_path / f"redis{len(started)}", named, tls=tls)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that leave it as they found it."""
    require(missing_reason())
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """The shared server, empty."""
    shared_redis.run("FLUSHALL")
    return shared_redis


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """A Redis Cluster of three primaries, first in the list, and three replicas."""
    require(missing_reason())
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture(scope="module")
def redis_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A primary and a replica, watched by three sentinels."""
    require(missing_reason())
    with watched(tmp_path_factory.mktemp("sentinels")) as group:
        yield group


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A throwaway authority and a certificate for `localhost` only."""
    return Certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def broker(certificates: Certificates) -> Iterator[RabbitMQServer]:
    """One RabbitMQ for all tests that leave it running; each uses names of its own."""
    require(rabbitmq_server.missing_reason())
    server = RabbitMQServer(certificates)
    try:
        yield server.start()
    finally:
        server.close()
