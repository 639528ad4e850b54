"""Where RabbitMQ is: URLs of nodes, parsed and checked before anything connects."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from streamll import ConfigurationError
from streamll.settings import reject_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["DEFAULT_URL", "Address"]

DEFAULT_URL: Final = "amqp://guest:guest@localhost:5672/"

#: What separates the URLs of several nodes; a password may hold a comma.
_BETWEEN: Final = re.compile(r"\s*,\s*(?=\w+://)")

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
    def parse(cls, url: str, known: Iterable[str] = ()) -> Address:
        """Read an ``amqp://`` or ``amqps://`` URL; *known* are the names of keyword options.

        Raises:
            ConfigurationError: when any part of it is not understood. The message never
                repeats the URL, which may hold a password.
        """
        parts = urlsplit(_checked_text(url))
        reject_unknown([parts.scheme], _PORTS, "RabbitMQ URL scheme")
        _reject_query(parts.query, known)
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
    def parse_all(cls, urls: str | Sequence[str], known: Iterable[str] = ()) -> tuple[Address, ...]:
        """Read one URL, several separated by commas, or a list: the nodes of one cluster.

        Raises:
            ConfigurationError: also when there is none, or they differ in virtual host.
        """
        listed = urls if isinstance(urls, list | tuple) else _BETWEEN.split(str(urls))
        nodes = tuple(cls.parse(url, known) for url in listed)
        if len({node.vhost for node in nodes}) != 1:
            raise ConfigurationError("amqp_url must name nodes of one and the same virtual host")
        return nodes


def _checked_text(url: object) -> str:
    if not isinstance(url, str) or "://" not in url:
        raise ConfigurationError("a RabbitMQ URL looks like 'amqp://localhost:5672/'")
    if "#" in url or url.count("@") > 1 or "@" in urlsplit(url).path:
        raise ConfigurationError("write %23, %40, %2F for '#', '@', '/' in a RabbitMQ URL")
    return url.strip()


def _reject_query(query: str, known: Iterable[str]) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name in _FOREIGN:
            raise ConfigurationError(f"RabbitMQ URL option {name!r}: {_FOREIGN[name]}")
        reject_unknown([name], known, "RabbitMQ URL option")
        raise ConfigurationError(f"RabbitMQ URL option {name!r}: pass it as a keyword, {name}=...")


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ConfigurationError("the port of the RabbitMQ URL must be 1 to 65535") from None
