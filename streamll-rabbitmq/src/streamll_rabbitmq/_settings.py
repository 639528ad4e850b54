"""The options of the RabbitMQ sink: parsed and checked once, before anything connects."""

from __future__ import annotations

import ipaddress
import os
import ssl
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from streamll import ConfigurationError, Template
from streamll.settings import reject_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT_URL", "SHORT_STRING", "Address", "RabbitMQSettings"]

DEFAULT_URL: Final = "amqp://guest:guest@localhost:5672/"

MIB: Final = 1024 * 1024
#: UTF-8 bytes of an AMQP short string: exchange, routing key, message id and the like.
SHORT_STRING: Final = 255
#: Bytes of the routing key that each placeholder must at least be able to fill.
_ROOM_PER_VALUE: Final = 16
_PORTS: Final = {"amqp": 5672, "amqps": 5671}

#: Query options other AMQP clients take from URLs -> what to write instead.
_FOREIGN: Final = {
    "no_verify_ssl": "certificates are always verified; pass ssl_context= to decide otherwise",
    "verify": "certificates are always verified; pass ssl_context= to decide otherwise",
    "cacertfile": "write tls_ca_file instead",
    "cafile": "write tls_ca_file instead",
    "capath": "write tls_ca_file instead",
    "cadata": "write tls_ca_file instead",
    "certfile": "write tls_cert_file instead",
    "keyfile": "write tls_key_file instead",
    "timeout": "write op_timeout instead",
    "connection_timeout": "write op_timeout instead",
    "auth": "the sink logs in with user and password",
    "auth_mechanism": "the sink logs in with user and password",
    "name": "the connection is named after app_id",
    "channel_max": "the sink uses one channel",
    "reconnect_interval": "the circuit breaker decides: recovery_timeout",
    "fail_fast": "the sink always starts, and connects when it can",
}


@attrs.frozen(kw_only=True)
class Address:
    """Where a broker node listens and how to log in. Its text never holds a secret.

    Attributes:
        host: name or IP address.
        port: TCP port.
        vhost: virtual host.
        tls: whether to encrypt.
        username: None for "guest".
        password: None for "guest".
    """

    host: str = "localhost"
    port: int = 5672
    vhost: str = "/"
    tls: bool = False
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether traffic stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an ``amqp://`` or ``amqps://`` URL.

        Raises:
            ConfigurationError: when any part of it is not understood. The message never
                repeats the URL, which may hold a password.
        """
        parts = urlsplit(_checked_text(url))
        reject_unknown([parts.scheme], _PORTS, "RabbitMQ URL scheme")
        _reject_query(parts.query)
        return cls(
            host=unquote(parts.hostname or "localhost"),
            port=_port(parts),
            # "amqp://host" and the usual "amqp://host/" both mean the default virtual host.
            vhost=unquote(parts.path[1:]) or "/",
            tls=parts.scheme == "amqps",
            username=_decoded(parts.username),
            password=_decoded(parts.password),
        )

    @classmethod
    def parse_all(cls, urls: str | Sequence[str]) -> tuple[Address, ...]:
        """Read one URL, several separated by commas, or a list: the nodes of one cluster.

        Raises:
            ConfigurationError: also when there is none, or they differ in virtual host.
        """
        listed = urls if isinstance(urls, list | tuple) else _checked_text(urls).split(",")
        nodes = tuple(cls.parse(url) for url in listed)
        if len({node.vhost for node in nodes}) != 1:
            raise ConfigurationError("amqp_url must name nodes of one and the same virtual host")
        return nodes


def _checked_text(url: object) -> str:
    if not isinstance(url, str) or "://" not in url:
        raise ConfigurationError("a RabbitMQ URL looks like 'amqp://localhost:5672/'")
    if "#" in url or url.count("@") > 1 or "@" in urlsplit(url).path:
        raise ConfigurationError("write %23, %40, %2F for '#', '@', '/' in a RabbitMQ URL")
    return url.strip()


def _reject_query(query: str) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name in _FOREIGN:
            raise ConfigurationError(f"RabbitMQ URL option {name!r}: {_FOREIGN[name]}")
        reject_unknown([name], _OPTIONS, "RabbitMQ URL option")
        raise ConfigurationError(f"RabbitMQ URL option {name!r}: pass it as a keyword, {name}=...")


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ConfigurationError("the port of the RabbitMQ URL must be 1 to 65535") from None


def _short_string(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not 0 < _size(value) <= SHORT_STRING:
        raise ConfigurationError(f"{attribute.name} must be text of 1 to {SHORT_STRING} bytes")


def _template(value: str | Template) -> Template:
    return value if isinstance(value, Template) else Template(value)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _positive(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(f"{attribute.name} must be a number above 0, not {value!r}")


def _positive_int(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number above 0, not {value!r}")


def _boolean(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} must be True or False, not {value!r}")


@attrs.frozen(kw_only=True)
class RabbitMQSettings:
    """The checked options of one `RabbitMQSink`; see there. Immutable."""

    addresses: tuple[Address, ...]
    exchange: str = attrs.field(default="streamll", validator=_short_string)
    routing_key: Template = attrs.field(
        default=Template("streamll.{operation}.{event_type}"), converter=_template
    )
    durable: bool = attrs.field(default=True, validator=_boolean)
    mandatory: bool = attrs.field(default=True, validator=_boolean)
    declare: bool = attrs.field(default=True, validator=_boolean)
    alternate_exchange: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(_short_string)
    )
    app_id: str = attrs.field(default="streamll", validator=_short_string)
    confirm_window: int = attrs.field(default=4096, validator=_positive_int)
    max_message_size: int = attrs.field(default=16 * MIB, validator=_positive_int)
    op_timeout: float = attrs.field(default=2.0, validator=_positive)
    heartbeat: int = attrs.field(default=10, validator=_positive_int)
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = attrs.field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)

    @routing_key.validator
    def _check_routing_key(self, _: Any, value: Template) -> None:
        if _size(value.literal) + _ROOM_PER_VALUE * len(value.fields) > SHORT_STRING:
            raise ConfigurationError("routing_key leaves too little of 255 bytes for its values")

    @property
    def vhost(self) -> str:
        """The virtual host."""
        return self.addresses[0].vhost

    @property
    def value_bytes(self) -> int:
        """Bytes of the routing key that each placeholder may fill."""
        return (SHORT_STRING - _size(self.routing_key.literal)) // max(
            1, len(self.routing_key.fields)
        )

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

_OPTIONS: Final = frozenset(field.name for field in attrs.fields(RabbitMQSettings)) - {"addresses"}
