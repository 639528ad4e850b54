"""Which keys hold credentials."""

from __future__ import annotations

from typing import Final

__all__ = ["HARMLESS", "is_secret"]

#: Keys whose values are credentials: in lower case, without hyphens and underscores.
_SECRET_NAMES: Final = frozenset({
    "accesskey", "accesstoken", "apikey", "apisecret", "apitoken", "authorization", "authtoken",
    "awssecretaccesskey", "awssessiontoken", "bearertoken", "clientsecret", "cookie",
    "credentials", "passphrase", "passwd", "password", "privatekey", "proxyauthorization", "pwd",
    "refreshtoken", "secret", "secretaccesskey", "secretkey", "sessiontoken", "setcookie",
    "xapikey",
})  # fmt: skip
#: Names that were judged before, at most `_MOST` of at most `_LONGEST` characters; to be asked
#: first, which takes a tenth of the time.
HARMLESS: Final[set[str]] = set()
_MOST: Final = 4_096
_LONGEST: Final = 64


def is_secret(name: str) -> bool:
    """Whether the value of key *name* is a credential, to judge by the name."""
    if name.lower().replace("_", "").replace("-", "") in _SECRET_NAMES:
        return True
    if len(HARMLESS) < _MOST and len(name) <= _LONGEST:
        HARMLESS.add(name)
    return False
