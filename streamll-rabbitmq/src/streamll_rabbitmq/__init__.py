"""RabbitMQ for streamll: `RabbitMQSink`.

Names are resolved when asked for: the plugin is discovered without importing a client library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streamll_rabbitmq._settings import RabbitMQSettings
    from streamll_rabbitmq._sink import RabbitMQSink

__all__ = ["RabbitMQSettings", "RabbitMQSink"]

_HOMES: Final = {
    "RabbitMQSettings": "streamll_rabbitmq._settings",
    "RabbitMQSink": "streamll_rabbitmq._sink",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamll_rabbitmq' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
