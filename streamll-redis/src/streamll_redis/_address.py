"""Where a Redis is: what a URL says, read once, before anything connects. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from functools import partial
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from streamll import ConfigurationError, reject_unknown

__all__ = ["DEFAULT_URL", "Address", "Node"]

DEFAULT_URL: Final = "redis://localhost:6379"
DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_TLS: Final = "rediss"
_SENTINEL: Final = "+sentinel"
_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")

#: Query options other Redis clients take from URLs -> what to write instead.
_FOREIGN: Final = {
    "password": "put credentials before the host (redis://user:password@host), or pass password=",
    "username": "put credentials before the host (redis://user:password@host), or pass username=",
    "ssl_cert_reqs": "certificates are always verified; pass ssl_context= to decide otherwise",
    "ssl_check_hostname": "host names are always verified; pass ssl_context= to decide otherwise",
    "ssl_ca_certs": "write tls_ca_file instead",
    "ssl_certfile": "write tls_cert_file instead",
    "ssl_keyfile": "write tls_key_file instead",
    "socket_timeout": "write op_timeout instead",
    "socket_connect_timeout": "write op_timeout instead",
    "timeout": "write op_timeout instead",
    "protocol": "the sink speaks RESP2",
    "health_check_interval": "the sink checks a connection before it uses it",
    "retry_on_timeout": "the sink retries by itself, without duplicates",
    "retry_on_error": "the sink retries by itself, without duplicates",
}


@attrs.frozen
class Node:
    """One server of a cluster, or one sentinel."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str, port: int = DEFAULT_PORT) -> Node:
        """Read ``host``, ``host:port`` or ``[ipv6]:port``; *port* where there is none.

        Raises:
            ConfigurationError: for a port that is none.
        """
        parts = urlsplit(f"//{text}")
        try:
            return cls(unquote(parts.hostname or "localhost"), parts.port or port)
        except ValueError:
            raise ConfigurationError(
                "the port of the Redis URL must be 0 to 65535; "
                "write %23, %2F, %40 for '#', '/', '@' in a password"
            ) from None


@attrs.frozen(kw_only=True)
class Address:
    """Where a server listens and how to log in. Its text never holds a secret.

    Attributes:
        host: name or IP address; empty for a unix socket and behind sentinels.
        port: TCP port.
        path: unix socket path; empty for TCP.
        tls: whether to encrypt.
        db: number of the logical database.
        username: ACL user; None for the default user.
        password: None to log in without.
        sentinels: who knows the primary; empty without sentinels.
        service: name of the primary among the sentinels.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str = ""
    tls: bool = False
    db: int = 0
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    sentinels: tuple[Node, ...] = ()
    service: str = ""

    def __str__(self) -> str:
        if self.sentinels:
            return f"{self.service} of {', '.join(map(str, self.sentinels))}"
        return self.path or str(Node(self.host, self.port))

    @property
    def is_local(self) -> bool:
        """Whether traffic stays on this machine."""
        hosts = [node.host for node in self.sentinels] or [self.host]
        return bool(self.path) or all(map(_is_loopback, hosts))

    @classmethod
    def parse(cls, url: str, keywords: Collection[str] = ()) -> Address:
        """Read a ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://`` URL.

        Sentinels are listed with commas, the service is the path, the database comes behind
        it: ``redis+sentinel://s1:26379,s2:26379/mymaster/0``.

        Args:
            url: the text.
            keywords: options that are keywords elsewhere, for a better message.

        Raises:
            ConfigurationError: when any part of it is not understood. The message never
                repeats the URL, which may hold a password.
        """
        parts = _split(url)
        query = _query(parts, keywords)
        login, _, hosts = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        made = partial(cls, username=_decoded(username), password=_decoded(password))
        if parts.scheme == "unix":
            return made(host="", path=_socket_path(parts), db=_db(query.get("db", "")))
        made = partial(made, tls=parts.scheme.startswith(_TLS))
        if parts.scheme.endswith(_SENTINEL):
            return _behind_sentinels(made, hosts, parts.path, query)
        node = Node.parse(hosts)
        db = _db(query.get("db", "") or parts.path.strip("/"))
        return made(host=node.host, port=node.port, db=db)


def _behind_sentinels(
    made: partial[Address], hosts: str, path: str, query: Mapping[str, str]
) -> Address:
    service, _, db = path.strip("/").partition("/")
    if not service:
        raise ConfigurationError(
            "a Redis Sentinel URL names the service: redis+sentinel://host:26379/mymaster"
        )
    nodes = tuple(Node.parse(host, SENTINEL_PORT) for host in hosts.split(","))
    return made(
        host="", sentinels=nodes, service=unquote(service), db=_db(query.get("db", "") or db)
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: object) -> SplitResult:
    try:
        if isinstance(url, str) and "://" in url:
            parts = urlsplit(url)
            reject_unknown([parts.scheme], _SCHEMES, "Redis URL scheme")
            return parts
    except ConfigurationError:
        raise
    except ValueError:  # of brackets that hold no IPv6 address
        pass
    raise ConfigurationError(f"a Redis URL looks like {DEFAULT_URL!r}")


def _query(parts: SplitResult, keywords: Collection[str]) -> Mapping[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name in _FOREIGN:
            raise ConfigurationError(f"Redis URL option {name!r}: {_FOREIGN[name]}")
        if name in keywords:
            raise ConfigurationError(f"Redis URL option {name!r}: pass it as a keyword, {name}=...")
    reject_unknown(query, {"db", *keywords}, "Redis URL option")
    return query


def _decoded(text: str) -> str | None:
    return unquote(text) if text else None


def _db(text: str) -> int:
    if text and not text.isdecimal():
        raise ConfigurationError(f"the database of the Redis URL must be a number, not {text!r}")
    return int(text or 0)


def _socket_path(parts: SplitResult) -> str:
    if parts.hostname or not parts.path:
        raise ConfigurationError("a unix socket URL looks like 'unix:///run/redis.sock'")
    return unquote(parts.path)
