"""Redis Streams for streamll: `RedisSink` and `RedisSource`.

Names are resolved when asked for: the plugin is discovered without importing a client library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streamll_redis._settings import RedisSettings
    from streamll_redis._sink import RedisSink
    from streamll_redis._source import RedisSource

__all__ = ["RedisSettings", "RedisSink", "RedisSource"]

_HOMES: Final = {
    "RedisSettings": "streamll_redis._settings",
    "RedisSink": "streamll_redis._sink",
    "RedisSource": "streamll_redis._source",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamll_redis' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
