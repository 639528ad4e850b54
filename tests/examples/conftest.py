"""A real server for the examples."""

from __future__ import annotations

from support.brokers import redis_server, shared_redis

__all__ = ["redis_server", "shared_redis"]
