"""Registers the Redis sink and source; imports no client library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamll import hookimpl

if TYPE_CHECKING:
    from streamll.hookspecs import RegisterSink, RegisterSource

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


@hookimpl
def streamll_register_sinks(register: RegisterSink) -> None:
    """Register `RedisSink` as "redis"."""
    register("redis", "streamll_redis:RedisSink", schemes=SCHEMES)


@hookimpl
def streamll_register_sources(register: RegisterSource) -> None:
    """Register `RedisSource`, the read side."""
    register("redis", "streamll_redis:RedisSource", schemes=SCHEMES)
