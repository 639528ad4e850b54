"""Real servers for the tests of the Redis plugin."""

from __future__ import annotations

import pytest

from support.brokers import (
    certificates,
    redis_cluster,
    redis_sentinels,
    redis_server,
    shared_redis,
    start_redis,
)

__all__ = [
    "certificates",
    "redis_cluster",
    "redis_sentinels",
    "redis_server",
    "shared_redis",
    "start_redis",
]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"
