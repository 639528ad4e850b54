"""The command ``streamll rabbitmq topology``."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any, Final

import attrs

from streamll import ConfigurationError
from streamll_rabbitmq._address import DEFAULT_URL, Address
from streamll_rabbitmq._connection import Link
from streamll_rabbitmq._settings import RabbitMQSettings
from streamll_rabbitmq._sink import RabbitMQSink
from streamll_rabbitmq._topology import RabbitMQQueue, RabbitMQTopology

__all__ = ["topology"]

#: Seconds the broker gets to create everything.
_PATIENCE: Final = 30.0


def topology(
    source: str | None = None,
    *,
    apply: bool = False,
    url: str | None = None,
    exchange: str | None = None,
    alternate_exchange: str | None = None,
    queue: str | None = None,
    binding: list[str] | None = None,
    queue_type: str = "classic",
    dead_letter: str | None = None,
    message_ttl: float | None = None,
    max_length: int | None = None,
    max_bytes: int | None = None,
) -> None:
    """Print the exchanges, queues and bindings a sink needs, or create what is missing.

    They are described in Python, or one queue by options. Nothing is changed or deleted.

    Args:
        source: "module:attribute", a RabbitMQTopology or a RabbitMQSink.
        apply: create what is missing.
        url: of the broker; the sink's, else amqp://localhost:5672/.
        exchange: the topic exchange; the sink's, else "streamll".
        alternate_exchange: a fanout exchange for what no queue takes.
        queue: name of a queue.
        binding: topic pattern bound to the queue, such as "ai.*.error"; may be repeated.
        queue_type: classic, quorum or stream.
        dead_letter: queue for what the queue rejects or drops; created too.
        message_ttl: seconds after which a message of the queue expires.
        max_length: messages the queue keeps.
        max_bytes: bytes of bodies the queue keeps.
    """
    limits = {"message_ttl": message_ttl, "max_length": max_length, "max_bytes": max_bytes}
    options = {"binding": binding, "dead_letter": dead_letter, **limits}
    queues = _queues(queue, queue_type, _given(options))
    if source and queues:
        raise ConfigurationError("give either module:attribute or --queue")
    settings = _settings(_loaded(source) if source else RabbitMQTopology(queues), url)
    changes = _given({"exchange": exchange, "alternate_exchange": alternate_exchange})
    settings = attrs.evolve(settings, op_timeout=_PATIENCE, declare=True, **changes)
    sys.stdout.write(f"{describe(settings)}\n")
    if apply:
        asyncio.run(_apply(settings))
        sys.stdout.write(f"applied to {', '.join(map(str, settings.addresses))}\n")


def describe(settings: RabbitMQSettings) -> str:
    """Return what a sink with these settings creates, as text."""
    kind = "topic" if settings.durable else "topic, not durable"
    lines = [f"exchange {settings.exchange} ({kind})"]
    if settings.alternate_exchange:
        lines.append(f"exchange {settings.alternate_exchange} (fanout) takes what no queue takes")
    return "\n".join([*lines, *filter(None, [str(settings.topology or "")])])


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _queues(name: str | None, kind: str, options: dict[str, Any]) -> list[RabbitMQQueue]:
    """Return the queue that options describe, and the one for its dead letters."""
    if name is None:
        if options:
            raise ConfigurationError("options of a queue need its name: --queue NAME")
        return []
    names = [name, *filter(None, [options.get("dead_letter")])]
    return [RabbitMQQueue(each, type=kind, **(options if each == name else {})) for each in names]


def _loaded(source: str) -> RabbitMQTopology | RabbitMQSink:
    module, _, attribute = source.partition(":")
    if not attribute:
        raise ConfigurationError(f"write module:attribute, e.g. {source}:topology")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does, and a console script does not
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"cannot load {source!r}: {error}") from None
    if not isinstance(found, RabbitMQTopology | RabbitMQSink):
        raise ConfigurationError(f"{source!r} is neither a RabbitMQTopology nor a RabbitMQSink")
    return found


def _settings(described: RabbitMQTopology | RabbitMQSink, url: str | None) -> RabbitMQSettings:
    if isinstance(described, RabbitMQTopology):
        return RabbitMQSettings.of(url or DEFAULT_URL, topology=described)
    settings = described.settings
    return attrs.evolve(settings, addresses=Address.parse_all(url)) if url else settings


async def _apply(settings: RabbitMQSettings) -> None:
    link = Link(settings)
    try:
        await link.channel(asyncio.get_running_loop().time() + settings.op_timeout)
    finally:
        await link.close()
