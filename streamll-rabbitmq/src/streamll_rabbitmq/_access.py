"""How to get to a broker: where it is, as whom, how encrypted, and how long that may take."""

from __future__ import annotations

import os
import ssl
import warnings
from functools import partial
from typing import Any, Final

import attrs

from streamll import ConfigurationError
from streamll_rabbitmq._address import Address

__all__ = [
    "SHORT_STRING",
    "Access",
    "boolean",
    "positive",
    "positive_int",
    "short_string",
    "size",
]

#: UTF-8 bytes of an AMQP short string: exchange, routing key, message id and the like.
SHORT_STRING: Final = 255


def short_string(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate text that fits an AMQP short string."""
    if not isinstance(value, str) or not 0 < size(value) <= SHORT_STRING:
        raise ConfigurationError(f"{attribute.name} must be text of 1 to {SHORT_STRING} bytes")


def size(text: str) -> int:
    """Return the length of *text* in UTF-8 bytes."""
    return len(text.encode("utf-8", "replace"))


def positive(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(f"{attribute.name} must be a number above 0, not {value!r}")


def positive_int(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number above 0, not {value!r}")


def boolean(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} must be True or False, not {value!r}")


@attrs.frozen(kw_only=True)
class Access:
    """What sink and source need to connect; see `RabbitMQSink`. Immutable."""

    addresses: tuple[Address, ...]
    exchange: str = attrs.field(default="streamll", validator=short_string)
    app_id: str = attrs.field(default="streamll", validator=short_string)
    op_timeout: float = attrs.field(default=2.0, validator=positive)
    heartbeat: int = attrs.field(default=10, validator=positive_int)
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = attrs.field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)

    @property
    def target(self) -> str:
        """What is used of the broker, for messages."""
        return f"exchange {self.exchange!r}"

    @property
    def rights(self) -> str:
        """Which rights are needed, for messages."""
        return "declare=False needs only the right to write"

    @property
    def vhost(self) -> str:
        """The virtual host."""
        return self.addresses[0].vhost

    def login(self, address: Address) -> tuple[str, str]:
        """Return user and password: keywords, then URL, then environment, then "guest"."""
        env = os.environ.get
        username = self.username or address.username or env("STREAMLL_RABBITMQ_USERNAME")
        password = self.password or address.password or env("STREAMLL_RABBITMQ_PASSWORD")
        return username or "guest", password or "guest"

    def tls(self) -> ssl.SSLContext | None:
        """Return how to verify the broker, or None without TLS.

        Raises:
            ConfigurationError: when a certificate or key file cannot be loaded, or when there
                are such options but no ``amqps://`` URL.
        """
        if not any(address.tls for address in self.addresses):
            if self.ssl_context or self.tls_ca_file or self.tls_cert_file or self.tls_key_file:
                raise ConfigurationError("the options for TLS need an amqps:// URL")
            return None
        if self.ssl_context is not None:
            return self.ssl_context
        try:
            context = ssl.create_default_context(cafile=self.tls_ca_file)
            if self.tls_cert_file:
                context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"TLS files: {type(error).__name__}") from None
        return context

    def warn_if_insecure(self) -> None:
        """Warn when a password would be sent in clear, or a broker would not be verified."""
        clear = [a for a in self.addresses if not a.tls and not a.is_local]
        if any(self.login(address)[1] != "guest" for address in clear):  # the public default
            _warn(f"the password for RabbitMQ at {clear[0]} is sent in clear; use amqps://")
        context = self.ssl_context
        if context is not None and not (context.check_hostname and context.verify_mode):
            _warn(f"the certificate of RabbitMQ at {self.addresses[0]} is not verified")


_warn: Final = partial(warnings.warn, category=UserWarning, stacklevel=4)
