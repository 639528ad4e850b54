"""What an error of the broker or its client means for a batch. By exact type or reply code.

Rules:

- What the operator must change (credentials, rights, virtual host, exchange type, TLS) is
  permanent; everything else that happens before a publish is transient.
- After a publish nothing is known unless the broker confirmed it.
- Messages name host, virtual host and exchange, never user, password or payload. A broker's
  own text is repeated only where it can hold none of these.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

import aiormq.exceptions as amqp

from streamll import DeliveryError, OutcomeUnknown, PermanentError, TransientError

if TYPE_CHECKING:
    from streamll_rabbitmq._access import Access
    from streamll_rabbitmq._address import Address
    from streamll_rabbitmq._settings import RabbitMQSettings

__all__ = [
    "describe",
    "learnt_size",
    "of_connecting",
    "of_publishing",
    "of_reading",
    "refuses_writes",
    "reply_of",
    "unroutable",
]

_MAX_SIZE: Final = re.compile(r"larger than (?:configured )?max size (\d+)")

#: What a broker says of something that is there and differs.
_DIFFERENT: Final = re.compile(r"inequivalent arg .* for (exchange|queue) '([^']*)'")

_ACCESS_REFUSED: Final = 403
_PRECONDITION_FAILED: Final = 406
#: Reply codes with which a broker refuses, for good, what it was asked for.
_REFUSED: Final = frozenset({402, 403, 404, _PRECONDITION_FAILED, 530})

_CODES: Final[dict[type[BaseException], int]] = {
    amqp.ProbableAuthenticationError: 403,
    amqp.ChannelAccessRefused: 403,
    amqp.ChannelNotFoundEntity: 404,
    amqp.ChannelPreconditionFailed: 406,
    amqp.ConnectionNotAllowed: 530,
}


def reply_of(error: BaseException) -> tuple[int, str]:
    """Return reply code and text of an AMQP close; code 0 for anything else."""
    code = _CODES.get(type(error), 0)
    if code:
        return code, str(error.args[0]) if error.args else ""
    if isinstance(error, (amqp.ConnectionClosed, amqp.ChannelClosed)) and len(error.args) == 2:  # noqa: PLR2004
        return int(error.args[0] or 0), str(error.args[1])
    return 0, ""


def of_connecting(error: Exception, address: Address, settings: Access) -> DeliveryError:
    """Sort an error of connecting and declaring: no event has left, so the outcome is known."""
    if isinstance(error, DeliveryError):
        return error
    where = f"RabbitMQ at {address}"
    if type(error) is ssl.SSLCertVerificationError:
        return PermanentError(f"{where}: certificate refused: {error.verify_message}")
    if type(error) is amqp.ProbableAuthenticationError:
        return PermanentError(f"{where}: login refused; check user and password")
    code, text = reply_of(error)
    if code in _REFUSED:
        return PermanentError(f"{where}: {_refusal(code, text, settings)} ({code})")
    return TransientError(f"cannot connect to {where}: {describe(error)}")


def of_reading(error: BaseException | None, address: Address, settings: Access) -> DeliveryError:
    """Sort the end of a connection or channel that was read from; None: it was cancelled."""
    code, text = (0, "") if error is None else reply_of(error)
    where = f"RabbitMQ at {address}"
    if code in _REFUSED:
        return PermanentError(f"{where}: {_refusal(code, text, settings)} ({code})")
    what = "the queue was deleted or moved" if error is None else describe(error)
    return TransientError(f"lost {where}: {what}")


def of_publishing(
    reason: BaseException | None, address: Address, *, sent: bool, blocked: bool
) -> DeliveryError:
    """Say why a batch came to nothing: the channel closed for *reason*, or time was over."""
    where = f"RabbitMQ at {address}"
    if reason is not None:
        what = f"closed the channel: {describe(reason)}"
    else:
        what = "is blocking publishers" if blocked else "did not confirm in time"
    return (OutcomeUnknown if sent else TransientError)(f"{where} {what}")


def unroutable(settings: RabbitMQSettings) -> str:
    """Say that no queue takes the events of a sink, and what to do."""
    bound = f"exchange {settings.exchange!r}"
    if settings.alternate_exchange:
        bound += f" or the alternate exchange {settings.alternate_exchange!r}"
    return (
        f"RabbitMQ returns events: no queue is bound to {bound} for their keys "
        f"({settings.routing_key.text}); bind one, or set mandatory=False"
    )


def refuses_writes(reason: BaseException | None) -> bool:
    """Whether the channel was closed because this user may not publish."""
    return reason is not None and reply_of(reason)[0] == _ACCESS_REFUSED


def describe(error: BaseException) -> str:
    """Name *error* by types and reply code alone, e.g. "ConnectionClosed 320"."""
    code = reply_of(error)[0]
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def _refusal(code: int, text: str, settings: Access) -> str:
    where = f"{settings.target} in virtual host {settings.vhost!r}"
    match code:
        case 530:
            return f"virtual host {settings.vhost!r} does not exist or refuses this user"
        case 403:
            return f"no right to use {where}; {settings.rights}"
        case 404:
            return f"there is no {where}"
        case _:
            named = _DIFFERENT.search(text)
            what = f"{named[1]} {named[2]!r}" if named else where
            return f"{what} is not what was asked for; delete it, or ask for what it is: {text}"


def learnt_size(error: BaseException | None) -> int | None:
    """Return the broker's own size limit in bytes, if *error* says that a message exceeded it."""
    code, text = (0, "") if error is None else reply_of(error)
    match = _MAX_SIZE.search(text) if code == _PRECONDITION_FAILED else None
    return int(match.group(1)) if match else None
