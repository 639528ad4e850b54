"""The sink contract.

A sink is one class with one method::

    class WebhookSink(streamll.Sink):
        def write(self, batch): ...

Buffering, batching, retry, circuit breaker and accounting come from the channel that
streamll puts in front of every sink; a sink only makes one attempt.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs

from streamll.errors import Outcome
from streamll.settings import DeliverySettings, reject_unknown

if TYPE_CHECKING:
    from streamll.events import Batch

__all__ = ["AsyncSink", "Delivery", "Sink", "SinkStats", "Verdict"]


@attrs.frozen
class Verdict:
    """What became of one event of a batch: an outcome, and the reason a drop is counted under.

    The reason "unsent" with a transient outcome says that the event was not even tried: that
    others of its batch got through is then no sign that it is to blame.
    """

    outcome: Outcome = attrs.field(validator=attrs.validators.instance_of(Outcome))
    reason: str = ""

    @property
    def was_tried(self) -> bool:
        """Whether the sink tried to deliver the event."""
        return self.outcome is not Outcome.REJECTED_TRANSIENT or self.reason != "unsent"


#: Index in the batch -> verdict, for the events that were not delivered.
Report = Mapping[int, Verdict]


@attrs.frozen(kw_only=True)
class SinkStats:
    """A consistent snapshot of one sink's accounting, per process.

    At all times ``accepted == delivered + sum(dropped.values()) + queued + in_flight``.

    Attributes:
        accepted: events the channel took responsibility for.
        delivered: events the sink confirmed.
        dropped: reason -> events given up.
        queued: events waiting in memory or in the spool.
        queued_bytes: encoded bytes waiting in memory.
        in_flight: events inside a `write` call.
        failures: consecutive failed attempts.
        circuit: "closed", "open" or "half_open".
        retried_unknown: events tried again after an unknown outcome; the upper bound of
            duplicates a reader may see.
        last_error: type name of the last failure, with the message if it was a
            `DeliveryError`; None if none.
    """

    accepted: int = 0
    delivered: int = 0
    dropped: Mapping[str, int] = attrs.field(factory=dict)
    queued: int = 0
    queued_bytes: int = 0
    in_flight: int = 0
    failures: int = 0
    circuit: str = "closed"
    retried_unknown: int = 0
    last_error: str | None = None


class Delivery(Protocol):
    """The channel in front of a sink, as the sink sees it."""

    @property
    def is_running(self) -> bool:
        """Whether the channel accepts events."""

    @property
    def stats(self) -> SinkStats:
        """The accounting, as one consistent snapshot."""


def _options_of(kind: type) -> frozenset[str]:
    """Return the keywords a sink's constructor takes, those of every sink included."""
    own = inspect.signature(kind).parameters.values()
    named = {p.name for p in own if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD}}
    return DeliverySettings.names() | named


class _SinkBase:
    """What sync and async sinks share: options and health."""

    #: Delivery options that differ from `DeliverySettings` for this kind of sink.
    delivery_defaults: ClassVar[Mapping[str, Any]] = {}
    #: The constructor's parameter that takes the URL in ``configure(sinks=["scheme://..."])``.
    url_parameter: ClassVar[str] = "url"
    #: Options that a URL may not set, only code: credentials, clients, TLS contexts.
    code_only: ClassVar[frozenset[str]] = frozenset()
    _streamll_settings: DeliverySettings | None = None
    _streamll_channel: Delivery | None = None

    def __init__(self, **options: Any) -> None:
        kind = type(self)
        reject_unknown(options, _options_of(kind), f"option of {kind.__name__}")
        self._streamll_settings = DeliverySettings(**{**self.delivery_defaults, **options})

    @property
    def delivery(self) -> DeliverySettings:
        """The delivery options; the defaults where a subclass forgot ``super().__init__()``."""
        if self._streamll_settings is None:
            self._streamll_settings = DeliverySettings.from_options(self.delivery_defaults)
        return self._streamll_settings

    @property
    def is_running(self) -> bool:
        """Whether events are accepted now."""
        return self._streamll_channel is not None and self._streamll_channel.is_running

    @property
    def failures(self) -> int:
        """Consecutive failed attempts."""
        return self.stats.failures

    @property
    def circuit_open(self) -> bool:
        """Whether the circuit breaker holds events back."""
        return self.stats.circuit == "open"

    @property
    def stats(self) -> SinkStats:
        """The accounting, as one consistent snapshot."""
        return SinkStats() if self._streamll_channel is None else self._streamll_channel.stats


class Sink(_SinkBase):
    """Base class of sinks that use a blocking client.

    `open`, `write` and `close` are called from one worker thread, one after the other, never
    concurrently. Delivery options are keywords of the constructor (`DeliverySettings`).
    """

    def open(self) -> None:
        """Connect. Called before the first `write`, and again after a failed `open`."""

    def write(self, batch: Batch) -> Report | None:
        """Make one attempt to deliver *batch*, oldest first, in bounded time.

        Returns:
            None when every event was delivered, or the verdicts of those that were not.

        Raises:
            TransientError, PermanentError, OutcomeUnknown: see `streamll.errors`. Anything
                else counts as transient. After a raise nothing is assumed delivered.
        """
        raise NotImplementedError(f"{type(self).__name__} must define write(self, batch)")

    def close(self) -> None:
        """Release what `open` took. Called once, after the last `write`."""


class AsyncSink(_SinkBase):
    """Base class of sinks that use an asyncio client.

    The three methods run on one background event loop that all async sinks share; they are
    never called concurrently for one sink. The contract is that of `Sink`.
    """

    async def open(self) -> None:
        """Connect. Called before the first `write`, and again after a failed `open`."""

    async def write(self, batch: Batch) -> Report | None:
        """Make one attempt to deliver *batch*; see `Sink.write`."""
        raise NotImplementedError(f"{type(self).__name__} must define async write(self, batch)")

    async def close(self) -> None:
        """Release what `open` took. Called once, after the last `write`."""
