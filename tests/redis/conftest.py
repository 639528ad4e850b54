"""Real servers for the tests of the Redis plugin."""

from __future__ import annotations

from support.brokers import certificates, redis_server, shared_redis, start_redis

__all__ = ["certificates", "redis_server", "shared_redis", "start_redis"]
