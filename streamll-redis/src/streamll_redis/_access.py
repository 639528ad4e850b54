"""How to get to a server: where it is, as whom, how encrypted, and how long that may take."""

from __future__ import annotations

import os
import ssl
import warnings
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import attrs
from redis.cluster import RedisCluster

from streamll import ConfigurationError
from streamll_redis._address import Address, Node

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider

__all__ = ["Access", "Origin", "Transport", "positive", "positive_int"]

#: What of a client's connection settings is taken over: where, who and how encrypted.
_FROM_CLIENT: Final = ("host", "port", "path", "db", "username", "password",
                       "credential_provider", "client_name", "socket_type")  # fmt: skip


def positive(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigurationError(f"{attribute.name} must be a number above 0, not {value!r}")


def positive_int(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number above 0, not {value!r}")


class Transport(Enum):
    """Which of redis-py's connection classes is used; our own TLS runs over TCP."""

    TCP = "tcp"
    UNIX = "unix"
    CLIENT_TLS = "client_tls"


@attrs.frozen
class Origin:
    """One server and the login for it.

    Attributes:
        where: its name in messages.
        transport: how it is reached.
        options: arguments of redis-py's connection class.
    """

    where: str
    transport: Transport
    options: dict[str, Any] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Access:
    """The checked options about the connection. Immutable; its text holds no secret."""

    address: Address
    op_timeout: float = attrs.field(default=2.0, validator=positive)
    client: Any = attrs.field(default=None, repr=False)
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    credential_provider: CredentialProvider | None = attrs.field(default=None, repr=False)
    sentinel_username: str | None = attrs.field(default=None, repr=False)
    sentinel_password: str | None = attrs.field(default=None, repr=False)
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = attrs.field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.credential_provider is not None and (self.username or self.password):
            raise ConfigurationError("pass credential_provider= or a password, not both")
        if self.client is not None:
            lender_of(self.client)
        self.tls()  # a certificate that cannot be loaded is found now

    def login(self) -> dict[str, Any]:
        """Return the credentials: provider, then keywords, then URL, then environment."""
        if self.credential_provider is not None:
            return {"credential_provider": self.credential_provider}
        env = os.environ.get
        return {
            "username": self.username or self.address.username or env("STREAMLL_REDIS_USERNAME"),
            "password": self.password or self.address.password or env("STREAMLL_REDIS_PASSWORD"),
        }

    def origin(self, node: Node | None = None) -> Origin:
        """Return the server at *node*, or at the address."""
        if self.client is not None:
            return self._of_client(node)
        options: dict[str, Any] = {"db": self.address.db, **self.login()}
        if self.address.path and node is None:
            options["path"] = self.address.path
            return Origin(str(self.address), Transport.UNIX, options)
        node = node or Node(self.address.host, self.address.port)
        return Origin(str(node), Transport.TCP, {**options, "host": node.host, "port": node.port})

    @property
    def seeds(self) -> list[Node]:
        """The servers of a cluster that are known beforehand: those of the client."""
        nodes = self.client.get_nodes() if hasattr(self.client, "get_nodes") else ()
        return [Node(node.host, int(node.port)) for node in nodes]

    def sentinel(self, node: Node) -> Origin:
        """Return the sentinel at *node*; it has a login of its own, or none."""
        login = {"username": self.sentinel_username, "password": self.sentinel_password}
        return Origin(str(node), Transport.TCP, {**login, "host": node.host, "port": node.port})

    def _of_client(self, node: Node | None) -> Origin:
        pool = lender_of(self.client)
        options = pool.connection_kwargs
        wanted = {name: value for name, value in options.items() if _is_taken(name)}
        if node is not None:
            wanted = {**wanted, "host": node.host, "port": node.port}
            wanted.pop("path", None)
        encrypted = pool.connection_class.__name__.startswith("SSL")
        transport = Transport.UNIX if "path" in wanted else Transport.TCP
        where = str(node or wanted.get("path") or f"{wanted.get('host')}:{wanted.get('port')}")
        return Origin(where, Transport.CLIENT_TLS if encrypted else transport, wanted)

    def tls(self) -> ssl.SSLContext | None:
        """Return how to verify the server, or None without TLS.

        Raises:
            ConfigurationError: when a certificate or key file cannot be loaded.
        """
        return (self.ssl_context or self._verifying) if self.address.tls else None

    @cached_property
    def _verifying(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.tls_ca_file)
            if self.tls_cert_file:
                context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"TLS files: {type(error).__name__}") from None
        return context

    def warn_if_insecure(self) -> None:
        """Warn when a password would be sent in clear, or a server would not be verified."""
        context = self.ssl_context
        has_password = self.credential_provider is not None or self.login()["password"]
        if has_password and not self.address.tls and not self.address.is_local:
            _warn(f"the password for Redis at {self.address} is sent in clear; use rediss://")
        if context is not None and not (context.check_hostname and context.verify_mode):
            _warn(f"the certificate of Redis at {self.address} is not verified")


def lender_of(client: Any) -> Any:
    """Return the connection pool of a client whose settings are used.

    Raises:
        ConfigurationError: for what is no client of redis-py, or leads to sentinels.
    """
    if isinstance(client, RedisCluster):
        client = client.get_redis_connection(client.get_default_node())  # type: ignore[no-untyped-call]
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise ConfigurationError("client must be a redis.Redis or a redis.RedisCluster")
    if "connection_pool" in pool.connection_kwargs:  # how redis-py marks those
        raise ConfigurationError(
            "client: one of a Sentinel names no server; write "
            "url='redis+sentinel://host:26379,host:26379/service' instead"
        )
    return pool


def _is_taken(name: str) -> bool:
    return name in _FROM_CLIENT or name.startswith(("ssl_", "socket_keepalive"))


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
