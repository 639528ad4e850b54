"""Real servers for the snippets of the guide."""

from __future__ import annotations

from support.brokers import broker, certificates, redis_cluster, redis_server, shared_redis

__all__ = ["broker", "certificates", "redis_cluster", "redis_server", "shared_redis"]
