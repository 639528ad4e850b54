"""Anything becomes bounded JSON; hostile values cost themselves only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamll._snapshot import Limits, json_safe, snapshot
from streamll._snapshot.walker import Walker
from streamll.encoding import encode
from streamll.events import SCHEMA_VERSION, Event


def event(data, **changes):
    """An event around *data*."""
    fields = dict(
        event_id="0190", event_type="x", operation="y", timestamp=datetime.now(UTC), sequence=1,
        execution_id="e", trace_id="t", span_id="s", severity="info", data=data,
        schema_version=SCHEMA_VERSION,
    )  # fmt: skip
    return Event(**{**fields, **changes})


class Hostile:
    """Raises whatever it is asked."""

    def __repr__(self):
        raise RuntimeError("repr")

    __str__ = __repr__

    def __len__(self):
        raise RuntimeError("len")


@attrs.define
class Point:
    """A class of the program."""

    x: int
    y: float


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.datetimes() | st.decimals() | st.uuids() | st.builds(object) | st.builds(Hostile)
    | st.characters(categories=["Cs"]) | st.builds(Point, st.integers(), st.floats()),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.frozensets(st.integers())
    | st.dictionaries(st.text() | st.integers() | st.none(), inner),
)  # fmt: skip


@given(st.dictionaries(st.text(), anything))
@settings(max_examples=200, deadline=None)
def test_any_payload_encodes_to_json_that_reads_back(data):
    """No payload raises, and every body is valid JSON of schema 1.0."""
    safe, _ = json_safe(data)
    _, body = encode(event(safe), Limits())
    read = json.loads(body)
    assert read["schema_version"] == "1.0"
    assert set(read["data"]) <= {k.encode("utf-8", "replace").decode() for k in data}


def test_a_snapshot_does_not_follow_later_mutation():
    """What the program does afterwards cannot change the event."""
    inner = [1]
    safe, _ = json_safe({"a": inner})
    inner.append(2)
    assert safe == {"a": [1]}


def test_cycles_depth_and_huge_ints_are_marked_not_followed():
    """A cycle, 10,000 levels and an integer beyond 64 bits all encode."""
    cycle: dict = {}
    cycle["self"] = cycle
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    safe, cut = json_safe({"cycle": cycle, "deep": deep, "huge": 10**30})
    _, body = encode(event(safe), Limits())
    assert "/data/cycle/self" in cut
    assert any(pointer.startswith("/data/deep") for pointer in cut)
    assert json.loads(body)["data"]["huge"] == hex(10**30)


def test_unknown_objects_are_named_and_never_asked_for_their_text():
    """`repr` and `str` of unknown objects are not called."""
    assert json_safe(Hostile())[0] == {"$type": f"{__name__}.Hostile"}


def test_long_strings_are_cut_and_the_cut_is_marked_with_the_original_length():
    """A cut is visible: JSON pointer and original length."""
    safe, cut = json_safe({"text": "x" * 100}, Limits(max_string=10))
    assert safe == {"text": "x" * 10}
    assert cut == {"/data/text": 100}


def test_an_oversized_event_shrinks_below_the_limit_and_says_so():
    """No body is longer than the limit."""
    big = {str(i): "x" * 30_000 for i in range(100)}
    shrunk, body = encode(event(json_safe(big)[0]), Limits())
    assert len(body) <= Limits().max_event_bytes
    assert shrunk.truncated


def test_secrets_by_name_and_base64_payloads_stay_out():
    """api_key and friends are removed at any depth; images are described, not copied."""
    safe, _ = json_safe({"a": {"API_KEY": "sk-123"}, "i": "data:image/png;base64,AAAA"})
    assert "sk-123" not in json.dumps(safe)
    assert safe["i"] == {"$type": "data-uri", "media": "image/png", "length": 26}


def test_absent_values_stay_off_the_wire():
    """Unknown is absent, never null or 0."""
    body = encode(event({}), Limits())[1]
    assert not {"duration_ms", "name", "context", "tags", "truncated"} & set(json.loads(body))


def test_a_body_reads_back_as_the_same_event():
    """The wire form is complete."""
    original = event({"a": 1}, tags=("t",), context={"k": "v"}, duration_ms=1.5)
    _, body = encode(original, Limits())
    assert msgspec.json.decode(body, type=Event) == original


def test_limits_reject_values_that_make_no_sense():
    """A limit below 1 is a configuration error."""
    with pytest.raises(ValueError, match="max_string must be a whole number above 0"):
        Limits(max_string=0)


@given(anything)
@settings(max_examples=300, deadline=None)
def test_the_quick_copy_and_the_walk_agree(value):
    """The quick way of copying changes nothing but the time it takes."""
    walker = Walker(Limits())
    walked = walker.walk(value, "", 0)
    assert repr(snapshot(value, Limits())[0]) == repr(walked)


class Endless(Mapping):
    """Has as many items as one asks for."""

    asked = 0

    def __getitem__(self, key):
        return key

    def __iter__(self):
        while True:
            self.asked += 1
            yield f"k{self.asked}"

    def __len__(self):
        return 10**9


def test_no_more_is_read_than_is_kept():
    """A lazy or endless mapping is asked for what an event can hold, and one more."""
    endless = Endless()
    safe, truncated = json_safe({"rows": endless})
    assert len(safe["rows"]) == Limits().max_items
    assert truncated == {"/data/rows": 10**9}
    assert endless.asked == Limits().max_items + 1


def test_numbers_of_other_types_stay_numbers():
    """As those of numpy, which subclass Python's own."""

    class Half(float): ...

    class Two(int): ...

    assert json_safe({"a": Half(0.5), "b": Two(2)})[0] == {"a": 0.5, "b": 2}
