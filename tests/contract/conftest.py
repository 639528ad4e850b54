"""Real servers for the contract of our own sinks."""

from __future__ import annotations

from support.brokers import broker, certificates, redis_server, shared_redis

__all__ = ["broker", "certificates", "redis_server", "shared_redis"]
