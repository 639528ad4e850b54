"""RabbitMQ for streamll: `RabbitMQSink`, `RabbitMQSource`, `RabbitMQTopology`.

Names are resolved when asked for: the plugin is discovered without importing a client library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streamll_rabbitmq._settings import RabbitMQSettings
    from streamll_rabbitmq._sink import RabbitMQSink
    from streamll_rabbitmq._source import RabbitMQSource
    from streamll_rabbitmq._topology import RabbitMQQueue, RabbitMQTopology

__all__ = [
    "RabbitMQQueue",
    "RabbitMQSettings",
    "RabbitMQSink",
    "RabbitMQSource",
    "RabbitMQTopology",
]

_HOMES: Final = {
    "RabbitMQQueue": "streamll_rabbitmq._topology",
    "RabbitMQSettings": "streamll_rabbitmq._settings",
    "RabbitMQSink": "streamll_rabbitmq._sink",
    "RabbitMQSource": "streamll_rabbitmq._source",
    "RabbitMQTopology": "streamll_rabbitmq._topology",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamll_rabbitmq' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
