"""What an error of Redis or its client means for a batch.

By exact type or exact error code, never by base class: in redis-py a wrong password is a
`ConnectionError`, and retrying it as one locks accounts. The texts of errors stay out of the
messages made here: they may quote commands, and commands hold payload.
"""

from __future__ import annotations

import ssl
from typing import Final

import attrs
import redis.exceptions as client

from streamll import DeliveryError, OutcomeUnknown, PermanentError, TransientError

__all__ = ["GAP", "UNREACHABLE", "Refusal", "describe", "of_connecting", "of_exchange"]

#: Error code of the append script: the part before this one is not there.
GAP: Final = "STREAMLLGAP"

#: Error codes of replies that trying again will not cure; the others may pass.
_PERMANENT_CODES: Final = frozenset({
    "CROSSSLOT", "DENIED", "ERR", "NOAUTH", "NOPERM", "NOPROTO", "WRONGPASS", "WRONGTYPE",
})  # fmt: skip

#: Error codes that concern one key; other keys of the same server may be fine.
_KEY_CODES: Final = frozenset({"WRONGTYPE", "NOPERM"})

#: What to do about a refusal, whatever was asked for.
_HINTS: Final = {
    "NOAUTH": "give a username and password",
    "NOPERM": "the rights a user needs are in the README of streamll-redis",
    "OOM": "the server is out of memory",
    "WRONGPASS": "username or password is wrong",
    "WRONGTYPE": "it holds something else than a stream; check stream_key and database",
}
#: The same by the type of the exception that connecting ends in.
_CONNECT_HINTS: Final[dict[type[Exception], str]] = {
    client.AuthenticationError: "check username and password",
    client.AuthenticationWrongNumberOfArgsError: "check username and password",
    client.AuthorizationError: "check username and password",
    client.ResponseError: "check the database number and the rights of the user",
}

#: Codes with which a server refuses scripts, but perhaps not plain commands.
_SCRIPT_CODES: Final = frozenset({"ERR", "NOPERM"})

#: Codes with which a cluster says who has a key.
_REDIRECTIONS: Final = frozenset({"MOVED", "ASK"})

_PERMANENT_TYPES: Final = frozenset({
    client.AuthenticationError,
    client.AuthenticationWrongNumberOfArgsError,
    client.AuthorizationError,
    client.DataError,
    client.NoPermissionError,
    client.ResponseError,
})  # fmt: skip


@attrs.frozen
class Refusal:
    """An error reply: the command was answered and had no effect.

    Attributes:
        code: first word of the reply.
        detail: for MOVED and ASK, where to go; else empty, as it may quote payload.
    """

    code: str
    detail: str = ""

    @classmethod
    def parse(cls, text: str) -> Refusal:
        """Read the code from an error reply; before Redis 7 scripts wrap it in an "ERR"."""
        code, _, rest = text.partition(" ")
        if code == "ERR" and rest.startswith("Error running script"):
            known = _PERMANENT_CODES | {GAP, "OOM", "READONLY", "MISCONF", "NOREPLICAS"}
            code = next((word for word in rest.split() if word in known), code)
        return cls(code, rest if code in _REDIRECTIONS else "")

    @property
    def is_permanent(self) -> bool:
        """Whether trying again cannot help."""
        return self.code in _PERMANENT_CODES

    @property
    def is_about_key(self) -> bool:
        """Whether only this key is affected."""
        return self.code in _KEY_CODES

    @property
    def refuses_scripts(self) -> bool:
        """Whether plain commands may still be accepted."""
        return self.code in _SCRIPT_CODES

    def as_error(self, where: str, what: str = "the events") -> DeliveryError:
        """Return the exception for *what* was refused as a whole."""
        kind = PermanentError if self.is_permanent else TransientError
        return kind(f"Redis at {where} refused {what}: {self.explained}")

    @property
    def explained(self) -> str:
        """The code, and what to do about it."""
        return _with_hint(self.code, _HINTS.get(self.code))


#: In place of the replies of a server that cannot be reached: nothing has left.
UNREACHABLE: Final = Refusal("UNREACHABLE")


def of_connecting(error: Exception, where: str) -> DeliveryError:
    """Sort an error of connecting: no event has left, so the outcome is known."""
    permanent = type(error) in _PERMANENT_TYPES or _is_untrusted(error)
    kind = PermanentError if permanent else TransientError
    what = _with_hint(describe(error), _CONNECT_HINTS.get(type(error)))
    return kind(f"cannot connect to Redis at {where}: {what}")


def of_exchange(error: Exception, where: str) -> DeliveryError:
    """Sort an error after bytes may have left: whatever it is, the outcome is unknown."""
    return OutcomeUnknown(f"no answer from Redis at {where}: {describe(error)}")


def _with_hint(what: str, hint: str | None) -> str:
    return f"{what} ({hint})" if hint else what


def describe(error: BaseException) -> str:
    """Name *error* by types alone, e.g. "ConnectionError/ConnectionRefusedError"."""
    cause = error.__cause__ or error.__context__
    own = type(error).__name__
    return own if cause is None else f"{own}/{type(cause).__name__}"


def _is_untrusted(error: BaseException) -> bool:
    cause = error.__cause__ or error.__context__
    return isinstance(cause, ssl.SSLCertVerificationError)
