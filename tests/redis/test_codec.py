"""Entry fields: the body as it is, and its scalars beside it."""

from __future__ import annotations

import json

from streamll_redis._codec import entry
from support.events import body_of, make_event


def fields_of(event):
    """Return the entry as a dictionary of text."""
    flat = [part.decode() for part in entry(event, body_of(event))]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_the_event_field_is_the_body_unchanged():
    """The seed's consumer reads `fields[b"event"]`."""
    event = make_event()
    assert entry(event, body_of(event))[:2] == [b"event", body_of(event)]


def test_flat_fields_repeat_the_body():
    """What a dashboard shows is what the JSON says."""
    event = make_event(
        event_type="end",
        data={"total_tokens": 287},
        context={"session_id": "s1", "tenant": "t"},
        duration_ms=12.5,
    )
    fields = fields_of(event)
    body = json.loads(fields.pop("event"))
    assert fields == {
        "timestamp": body["timestamp"],
        "sequence": str(body["sequence"]),
        "event_type": "end",
        "operation": "llm_call",
        "execution_id": body["execution_id"],
        "span_id": body["span_id"],
        "module_name": "rag_pipeline",
        "session_id": "s1",
        "total_tokens": "287",
        "duration_ms": "12.5",
    }


def test_absent_is_absent_and_zero_is_zero():
    """Unknown usage is never shown as 0, and 0 is never hidden."""
    absent = fields_of(make_event(module_name=None, data={}))
    assert not {"module_name", "total_tokens", "duration_ms", "session_id"} & absent.keys()
    zero = fields_of(make_event(data={"total_tokens": 0}, duration_ms=0.0))
    assert (zero["total_tokens"], zero["duration_ms"]) == ("0", "0.0")


def test_odd_values_cost_nothing_but_themselves():
    """Lone surrogates, long text and nested usage neither raise nor bloat an entry."""
    event = make_event(context={"session_id": "x" * 1000})
    assert len(fields_of(event)["session_id"]) == 256
    nested = make_event(data={"total_tokens": {"a": 1}}, context={"session_id": [1]})
    assert not {"total_tokens", "session_id"} & fields_of(nested).keys()
    odd = make_event(context={"session_id": "\ud800"})
    assert b"session_id" in entry(odd, b"{}")
