"""Bodies that anybody may have written."""

from __future__ import annotations

import pickle
import random

import msgspec
import pytest

from streamll.consuming._decode import MAX_BYTES, MAX_DEPTH, decode
from streamll.consuming._stats import Skip
from streamll.events import Event
from support.events import body_of, make_event


def fields(**changes):
    """The fields of an event as JSON has them, changed; None removes one."""
    plain = {**msgspec.to_builtins(make_event()), **changes}
    return {key: value for key, value in plain.items() if value is not None}


def body(**changes):
    """The same as bytes."""
    return msgspec.json.encode(fields(**changes))


def nested(depth, value=1):
    """A list in a list in a list ..."""
    for _ in range(depth):
        value = [value]
    return value


def test_what_was_encoded_is_decoded_to_an_equal_event():
    """The read side sees what was emitted."""
    event = make_event(context={"tenant": "a"}, tags=("x",), duration_ms=1.5)
    assert decode(body_of(event)) == event


@pytest.mark.parametrize("version", ["1.0", "1.7", "1"])
def test_fields_of_a_later_minor_version_are_ignored(version):
    """Fields may be added within 1.x."""
    event = decode(body(schema_version=version, mood={"deep": nested(200)}))
    assert isinstance(event, Event)


@pytest.mark.parametrize(
    "changes", [{}, {"sequence": "one"}, {"data": None}, {"event_id": 5, "timestamp": 0}]
)
@pytest.mark.parametrize("version", ["2.0", "10.0", "0.9", ""])
def test_another_major_version_is_told_from_garbage_whatever_its_shape(version, changes):
    """A reader of 1.x says "schema" to 2.0, which may look like nothing it knows."""
    assert decode(body(schema_version=version, **changes)) is Skip.SCHEMA


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        pickle.dumps({"event_type": "token"}),
        body()[:-1],
        body() + b"}",
        body(schema_version=None),
        body(schema_version=2),
        body(sequence="one"),
        body(data=[]),
        body(event_id=None),
        body(timestamp="2026-01-01T00:00:00"),
        body(timestamp="yesterday"),
        b'{"mood":' + b"[" * 50_000,
        body().replace(b"token", b"tok\xffen"),
        body(data={"x": "9" * MAX_BYTES}),
    ],
    ids=range(20),
)
def test_what_is_no_event_is_garbage(garbage):
    """It is told by a value, never by an exception."""
    assert decode(garbage) is Skip.GARBAGE


@pytest.mark.parametrize("field", ["data", "source", "context"])
def test_nesting_is_limited_in_every_field_that_is_free(field):
    """One level more than the limit is garbage; the limit is not."""
    assert isinstance(decode(body(**{field: {"x": nested(MAX_DEPTH - 1)}})), Event)
    assert decode(body(**{field: {"x": nested(MAX_DEPTH)}})) is Skip.GARBAGE


def test_brackets_in_a_text_and_many_small_values_are_no_depth():
    """Wide is not deep."""
    assert isinstance(decode(body(data={"code": "[{" * 500, "rows": [[1]] * 500})), Event)


def test_a_body_of_exactly_the_largest_size_is_read():
    """The limit is in bytes of the whole body."""
    room = MAX_BYTES - len(body(data={"x": ""}))
    assert isinstance(decode(body(data={"x": "a" * room})), Event)
    assert decode(body(data={"x": "a" * (room + 1)})) is Skip.GARBAGE


def test_a_hundred_thousand_random_bodies_raise_nothing():
    """Noise, and events with a few bytes changed, cut out or put in."""
    chance = random.Random(20260102)
    seed = body(data={"token": " the", "n": 1.5}, context={"a": 1})
    for round_ in range(100_000):
        if round_ % 2:
            candidate = chance.randbytes(chance.randrange(64))
        else:
            at = chance.randrange(len(seed))
            cut = at + chance.randrange(4)
            candidate = seed[:at] + chance.randbytes(chance.randrange(3)) + seed[cut:]
        assert isinstance(decode(candidate), (Event, Skip))
