"""Which keys hold credentials."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

__all__ = ["is_secret"]

#: Keys whose values are credentials: in lower case, without hyphens and underscores.
_SECRET_NAMES: Final = frozenset({
    "accesskey", "accesstoken", "apikey", "apisecret", "apitoken", "authorization", "authtoken",
    "awssecretaccesskey", "awssessiontoken", "bearertoken", "clientsecret", "cookie",
    "credentials", "passphrase", "passwd", "password", "privatekey", "proxyauthorization", "pwd",
    "refreshtoken", "secret", "secretaccesskey", "secretkey", "sessiontoken", "setcookie",
    "xapikey",
})  # fmt: skip
#: Characters, with room for hyphens and underscores; what is remembered stays small.
_LONGEST: Final = 64


def is_secret(name: str) -> bool:
    """Whether the value of key *name* is a credential, to judge by the name."""
    return len(name) <= _LONGEST and _judge(name)


@lru_cache(maxsize=4_096)
def _judge(name: str) -> bool:
    return name.lower().replace("_", "").replace("-", "") in _SECRET_NAMES
