"""The sinks of installed plugins, by class name: ``from streamll.sinks import RedisSink``.

Resolved when asked for, so importing this module loads no plugin and no client library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamll._plugins import registry
from streamll.errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    from streamll_rabbitmq import RabbitMQSink
    from streamll_redis import RedisSink
    from streamll_terminal import TerminalSink

__all__ = ["RabbitMQSink", "RedisSink", "TerminalSink"]

#: Published class name -> registered sink name.
_NAMES: Final = {"TerminalSink": "terminal", "RedisSink": "redis", "RabbitMQSink": "rabbitmq"}


def __getattr__(name: str) -> Any:
    if not name.endswith("Sink"):
        raise AttributeError(f"module 'streamll.sinks' has no attribute {name!r}")
    registered = _NAMES.get(name, name.removesuffix("Sink").lower())
    try:
        return registry().sink(registered).resolve()
    except PluginError as error:
        raise ImportError(str(error)) from error
    except ConfigurationError:
        raise ImportError(
            f'{name} is not installed; try: pip install "streamll[{registered}]"'
            if name in _NAMES
            else f"no installed plugin registers a sink named {registered!r}"
        ) from None


def __dir__() -> list[str]:
    return sorted(__all__)
