"""Every exception streamll raises on purpose: one tree, imports nothing."""

from __future__ import annotations

from enum import Enum

__all__ = [
    "ConfigurationError",
    "DeliveryError",
    "Outcome",
    "OutcomeUnknown",
    "PermanentError",
    "PluginError",
    "StreamClosed",
    "StreamllError",
    "TransientError",
]


class StreamllError(Exception):
    """Base of all streamll exceptions."""


class ConfigurationError(StreamllError, ValueError):
    """An option, sink name or URL cannot be used; the message says what to write instead.

    Raised by `configure`, sink constructors and `consume`, never by `emit` or by an
    observed program.
    """


class PluginError(ConfigurationError):
    """A plugin that was asked for by name is broken, blocked or registered twice."""


class DeliveryError(StreamllError):
    """Base of what `Sink.write` may raise to say how an attempt ended.

    Any other exception raised by `write` counts as `TransientError`. The message is for the
    log and for `stats.last_error`, where no other exception's is shown: say what to do, and
    never quote an event or a credential.
    """


class TransientError(DeliveryError):
    """Nothing of the batch was accepted; trying again later may succeed."""


class PermanentError(DeliveryError):
    """The sink cannot work as configured (credentials, permissions, wrong server).

    The circuit opens at once and events wait in the buffer: a wrong password is tried
    once per open period, not once per event.
    """


class OutcomeUnknown(DeliveryError):
    """The batch may or may not have been accepted, e.g. a timeout after bytes left.

    The batch is tried again, so a sink that cannot recognise a repeated `event_id` may
    deliver it twice. A timeout is always *unknown*, never *failed*.
    """


class StreamClosed(BaseException):
    """Raised inside a program whose `streamll.stream` iterator was closed.

    Not an `Exception`: the program's own error handling and DSPy's retries and fallbacks must
    not mistake it for a failure.
    """


class Outcome(Enum):
    """How one event of one write attempt ended."""

    DELIVERED = "delivered"
    REJECTED_TRANSIENT = "rejected_transient"
    REJECTED_PERMANENT = "rejected_permanent"
    UNKNOWN = "unknown"
