"""Registers the RabbitMQ sink, source and command; imports no client library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamll import hookimpl

if TYPE_CHECKING:
    from streamll.hookspecs import RegisterCommand, RegisterSink, RegisterSource

SCHEMES = ("amqp", "amqps")


@hookimpl
def streamll_register_sinks(register: RegisterSink) -> None:
    """Register `RabbitMQSink` as "rabbitmq"."""
    register("rabbitmq", "streamll_rabbitmq:RabbitMQSink", schemes=SCHEMES)


@hookimpl
def streamll_register_sources(register: RegisterSource) -> None:
    """Register `RabbitMQSource`, the read side."""
    register("rabbitmq", "streamll_rabbitmq:RabbitMQSource", schemes=SCHEMES)


@hookimpl
def streamll_register_commands(register: RegisterCommand) -> None:
    """Register ``streamll rabbitmq topology``."""
    register("topology", "streamll_rabbitmq._commands:topology")
