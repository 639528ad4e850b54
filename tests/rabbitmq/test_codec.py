"""What is packed by hand is what pamqp reads back; routing keys hold whatever events hold."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from streamll import Event
from streamll_rabbitmq._address import Address
from streamll_rabbitmq._codec import Codec, escape, shorten
from streamll_rabbitmq._settings import RabbitMQSettings
from support.events import make_event

anything = st.text(alphabet=st.characters(), max_size=300)


def make_codec(**options: Any) -> Codec:
    """Return a codec with some options."""
    return Codec(RabbitMQSettings(addresses=(Address(),), **options))


def properties_of(event: Event, codec: Codec) -> Any:
    """Return the properties as pamqp reads them."""
    message = codec.message(event, b"{}")
    header = ContentHeader()
    header.unmarshal(struct.pack(">HHQ", 60, 0, len(message.body)) + message.properties)
    return header.properties


def test_a_message_carries_the_native_properties() -> None:
    """Consumers can route, deduplicate and correlate without parsing the body."""
    event = make_event(event_type="start", operation="module_forward")
    found = properties_of(event, make_codec())
    assert found.message_id == event.event_id
    assert found.correlation_id == event.execution_id
    assert found.message_type == "start"
    assert found.timestamp == event.timestamp.replace(microsecond=0)
    assert (found.app_id, found.content_type, found.delivery_mode) == (
        "streamll",
        "application/json",
        2,
    )
    assert found.headers == {
        "execution_id": event.execution_id,
        "module_name": "rag_pipeline",
        "operation": "module_forward",
        "schema_version": "1.0",
        "sequence": event.sequence,
        "severity": "debug",
        "span_id": event.span_id,
    }


def test_cloudevents_attributes_are_headers() -> None:
    """Binary content mode: all attributes that are required, body and properties untouched."""
    event = make_event(event_type="start", operation="module_forward", module_name=None)
    plain, found = (properties_of(event, make_codec(cloudevents=c)) for c in (False, True))
    attributes = {k: v for k, v in found.headers.items() if k.startswith("cloudEvents:")}
    assert attributes == {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": event.event_id,
        "cloudEvents:source": "/streamll/streamll",
        "cloudEvents:type": "streamll.module_forward.start",
        "cloudEvents:time": "2026-01-02T03:04:05.678901+00:00",
        "cloudEvents:traceparent": f"00-{event.trace_id}-{event.span_id}-01",
    }
    assert {k: v for k, v in found.headers.items() if k not in attributes} == plain.headers
    assert found.content_type == plain.content_type == "application/json"


@given(text=anything, app_id=st.text(min_size=1, max_size=50))
def test_cloudevents_attributes_hold_whatever_events_hold(text: str, app_id: str) -> None:
    """The source is a URI reference, the type has no control characters."""
    event = make_event(operation=text, event_type=text, module_name=text, name=text)
    headers = properties_of(event, make_codec(cloudevents=True, app_id=app_id)).headers
    assert headers["cloudEvents:source"].isascii()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f ]", headers["cloudEvents:source"])
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", headers["cloudEvents:type"])
    assert headers.get("cloudEvents:subject", "x")


def test_a_sink_that_is_not_durable_sends_transient_messages() -> None:
    """`durable` means the messages too, not only the exchange."""
    assert properties_of(make_event(), make_codec(durable=False)).delivery_mode == 1


@given(
    event_id=anything,
    event_type=anything,
    operation=anything,
    module_name=st.none() | anything,
    severity=anything,
    execution_id=anything,
    span_id=anything,
    sequence=st.integers(),
    timestamp=st.datetimes(timezones=st.just(UTC)),
)
def test_any_event_packs_into_what_pamqp_reads(**fields: Any) -> None:
    """No event raises, and each property that fits is read back as it was (S14)."""
    event = make_event(**fields)
    found = properties_of(event, make_codec())
    assert len(found.message_id.encode()) <= 255
    for text, read in (
        (event.event_id, found.message_id),
        (event.execution_id, found.correlation_id),
        (event.event_type, found.message_type),
        (event.operation, found.headers["operation"]),
        (event.severity, found.headers["severity"]),
    ):
        fits = len(text.encode("utf-8", "replace")) <= 255
        assert not fits or read == text.encode("utf-8", "replace").decode()
    in_range = -(2**63) <= event.sequence < 2**63
    assert found.headers["sequence"] == (event.sequence if in_range else 0)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("streamll.{operation}.{event_type}", b"streamll.module_forward.start"),
        ("dspy.{operation}.{event_type}", b"dspy.module_forward.start"),
        ("ai.{module_name}.{event_type}", b"ai.rag_pipeline.start"),
        ("ai.{context.tenant}.{severity}", b"ai.acme_co.info"),
        ("{context.absent}.{name}", b"_._"),
        ("constant", b"constant"),
    ],
)
def test_routing_keys_follow_their_template(template: str, expected: bytes) -> None:
    """The guide's examples, a tenant, and what is absent."""
    event = make_event(
        event_type="start",
        operation="module_forward",
        module_name="RAGPipeline",
        severity="info",
        context={"tenant": "acme.co"},
    )
    assert make_codec(routing_key=template).routing_key(event) == expected


@given(operation=anything, module_name=st.none() | anything, tenant=anything | st.floats())
@example(operation="é" * 200, module_name="*.#", tenant="\ud800")
def test_a_routing_key_keeps_its_shape_whatever_an_event_holds(
    operation: str, module_name: str | None, tenant: Any
) -> None:
    """S12: as many segments as the template, no wildcard, no control, 255 bytes of UTF-8."""
    event = make_event(operation=operation, module_name=module_name, context={"tenant": tenant})
    codec = make_codec(routing_key="ai.{operation}.{module_name}.{context.tenant}.{event_type}")
    key = codec.message(event, b"{}").routing_key
    assert len(key) <= 255
    segments = key.decode("utf-8").split(".")
    assert len(segments) == 5
    assert "" not in segments
    assert not set("*#\x00\x1f\x7f\x85") & set(key.decode())
    assert segments[-1] == "token"


def test_long_values_that_differ_at_the_end_get_different_keys() -> None:
    """A cut value ends in a hash of the whole."""
    one, other = shorten("x" * 300 + "1", 100), shorten("x" * 300 + "2", 100)
    assert one != other
    assert len(one) == len(other) == 100


def test_escape_leaves_ordinary_values_alone() -> None:
    """Only what means something to a topic exchange, and control characters, is replaced."""
    assert escape("gpt-4o_mini é") == "gpt-4o_mini é"
    assert escape("a.b*c#d\n\x9b") == "a_b_c_d__"


def test_what_is_remembered_per_kind_is_bounded() -> None:
    """S17: user-given names cannot fill the memory, and do not mix up."""
    codec = make_codec()
    for number in range(3000):
        event = make_event(operation=f"op{number}", timestamp=datetime.now(UTC))
        assert codec.message(event, b"{}").routing_key == f"streamll.op{number}.token".encode()
    assert len(codec._kinds) <= 1024
    assert len(codec._spans) <= 1024
