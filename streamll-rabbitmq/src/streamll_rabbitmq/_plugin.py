"""Registers the RabbitMQ sink and source; imports no client library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamll import hookimpl

if TYPE_CHECKING:
    from streamll.hookspecs import RegisterSink, RegisterSource

SCHEMES = ("amqp", "amqps")


@hookimpl
def streamll_register_sinks(register: RegisterSink) -> None:
    """Register `RabbitMQSink` as "rabbitmq"."""
    register("rabbitmq", "streamll_rabbitmq:RabbitMQSink", schemes=SCHEMES)


@hookimpl
def streamll_register_sources(register: RegisterSource) -> None:
    """Register `RabbitMQSource`, the read side."""
    register("rabbitmq", "streamll_rabbitmq:RabbitMQSource", schemes=SCHEMES)
