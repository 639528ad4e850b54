"""Event -> CloudEvents 1.0 attributes as AMQP headers: binary content mode. Pure.

========================  =====================================================
cloudEvents:specversion   "1.0"
cloudEvents:id            event_id
cloudEvents:source        ``/streamll/<app_id>``
cloudEvents:type          ``streamll.<operation>.<event_type>``
cloudEvents:time          timestamp, RFC 3339
cloudEvents:subject       module_name, if any
cloudEvents:traceparent   trace_id and span_id, of W3C's form
========================  =====================================================

`data` is the body as it is, the event's JSON; `datacontenttype` is the property content_type.

The names are those of the AMQP binding, section 3.1.3.1
(github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md), which
is written for AMQP 1.0; for AMQP 0-9-1 there is no official one. RabbitMQ gives the headers of
a 0-9-1 message to AMQP 1.0 readers as application properties
(rabbitmq.com/docs/conversions), so both kinds of readers find the same names. All values are
in their canonical string form, which the binding allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from streamll.events import Event

__all__ = ["event_attributes", "kind_attributes"]

_PREFIX: Final = "cloudEvents:"


def kind_attributes(event: Event, app_id: str, kind: str) -> dict[str, str]:
    """Return what all events of one *kind* ("operation.event_type") have in common."""
    found = {
        "specversion": "1.0",
        "source": f"/streamll/{quote(app_id, safe='', errors='replace')}",
        "type": f"streamll.{kind}",
    }
    if event.module_name:
        found["subject"] = event.module_name
    return _prefixed(found)


def event_attributes(event: Event) -> dict[str, str]:
    """Return what differs from event to event."""
    return _prefixed({
        "id": event.event_id,
        "time": event.timestamp.isoformat(),
        "traceparent": f"00-{event.trace_id}-{event.span_id}-01",
    })  # fmt: skip


def _prefixed(attributes: dict[str, str]) -> dict[str, str]:
    return {_PREFIX + name: value for name, value in attributes.items()}
