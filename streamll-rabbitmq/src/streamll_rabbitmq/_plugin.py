"""Registers the RabbitMQ sink; imports no client library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamll import hookimpl

if TYPE_CHECKING:
    from streamll.hookspecs import RegisterSink

SCHEMES = ("amqp", "amqps")


@hookimpl
def streamll_register_sinks(register: RegisterSink) -> None:
    """Register `RabbitMQSink` as "rabbitmq"."""
    register("rabbitmq", "streamll_rabbitmq:RabbitMQSink", schemes=SCHEMES)
