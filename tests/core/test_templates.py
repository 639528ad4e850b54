"""Templates: a fixed field set, values escaped one by one, nothing reachable beyond it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.errors import ConfigurationError
from streamll.events import Event
from streamll.templates import FIELDS, Template, snake_case


def make_event(**fields: Any) -> Event:
    """Build an event from the fields that matter to a test."""
    required = {
        "event_id": "0198f3a0-0000-7000-8000-000000000001",
        "event_type": "start",
        "operation": "module_forward",
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "sequence": 1,
        "execution_id": "a" * 32,
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "severity": "info",
        "data": {},
        "schema_version": "1.0",
    }
    return Event(**{**required, **fields})


def no_dots(value: str) -> str:
    """An escape like that of a routing key."""
    return value.replace(".", "_")


def test_the_routing_example_of_the_guide_renders_as_its_comments_say() -> None:
    """`ai.{module_name}.{event_type}` gives `ai.rag_pipeline.start` for RAGPipeline."""
    template = Template("ai.{module_name}.{event_type}")
    assert template.render(make_event(module_name="RAGPipeline"), no_dots) == (
        "ai.rag_pipeline.start"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RAGPipeline", "rag_pipeline"),
        ("rag_pipeline", "rag_pipeline"),
        ("HTTPServer2", "http_server2"),
        ("Customer Care", "customer_care"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("", ""),
    ],
)
def test_snake_case_follows_python_class_names(text: str, expected: str) -> None:
    """Words end at capitals, acronyms stay whole, separators other than spaces are kept."""
    assert snake_case(text) == expected


@given(st.text())
def test_snake_case_is_idempotent(text: str) -> None:
    """A value that was snake_cased once is never changed again."""
    assert snake_case(snake_case(text)) == snake_case(text)


@pytest.mark.parametrize("field", FIELDS)
def test_every_documented_field_can_be_used(field: str) -> None:
    """Each name of FIELDS is a placeholder."""
    event = make_event(name="answer", module_name="rag")
    assert Template(f"{{{field}}}").render(event, no_dots) == getattr(event, field)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{opration}", "did you mean 'operation'"),
        ("{context.tenant.__class__}", "unknown template field"),
        ("{operation.__class__}", "unknown template field"),
        ("{operation[0]}", "unknown template field"),
        ("{context}", "context.<name>"),
        ("{context.<name>}", "write the name of a value"),
        ("{}", "unknown template field"),
        ("{0}", "unknown template field"),
        ("{operation!r}", "without format or conversion"),
        ("{operation:>20}", "without format or conversion"),
        ("{operation", "expected '}'"),
        ("operation}", "Single '}'"),
        ("", "not empty"),
    ],
)
def test_a_template_that_reaches_elsewhere_is_rejected_when_made(text: str, hint: str) -> None:
    """Unknown fields, access, conversions and bad syntax are configuration errors with a hint."""
    with pytest.raises(ConfigurationError, match=hint):
        Template(text)


def test_absent_empty_and_foreign_values_render_as_missing() -> None:
    """What is not text, a number or a boolean is never turned into text."""
    event = make_event(context={"empty": "", "object": object(), "n": 7, "on": True})
    template = Template("{module_name}|{context.empty}|{context.object}|{context.n}|{context.on}")
    assert template.render(event, no_dots, missing="none") == "none|none|none|7|true"


def test_percent_signs_and_doubled_braces_are_literal() -> None:
    """Literal text passes through: a hash tag may be written with doubled braces."""
    assert Template("100%s{{x}}{severity}").render(make_event(), no_dots) == "100%s{x}info"


def test_a_template_without_placeholders_is_constant() -> None:
    """Sinks may compute a constant key once."""
    assert Template("streamll_events").is_constant
    assert not Template("{severity}").is_constant


def test_a_template_tells_how_much_of_a_key_is_fixed() -> None:
    """Sinks with a length limit divide what the literal text leaves among the values."""
    template = Template("ai.{severity}.100%.{name}")
    assert (template.literal, template.fields) == ("ai..100%.", ("severity", "name"))


@given(operation=st.text(), tenant=st.text() | st.integers() | st.none() | st.floats())
def test_values_never_change_the_number_of_segments(operation: str, tenant: Any) -> None:
    """Whatever an event holds, rendering neither raises nor adds a segment."""
    event = make_event(operation=operation, context={"tenant": tenant})
    key = Template("ai.{operation}.{context.tenant}.{event_type}").render(event, no_dots)
    assert key.count(".") == 3
    assert "" not in key.split(".")
