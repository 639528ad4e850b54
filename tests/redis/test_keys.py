"""Stream keys: safe, bounded in number, and on one slot with what belongs to them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from streamll_redis._keys import VALUE_BYTES, Router, Stream, escape
from support.events import make_event


def keys_of(router: Router, events) -> list[bytes | None]:
    """Return the key each event goes to, None beyond the limit."""
    streams, refused = router.route(events)
    found = {at: stream.key for stream, positions in streams.items() for at in positions}
    assert sorted([*found, *refused]) == list(range(len(events)))
    return [found.get(at) for at in range(len(events))]


@given(st.text())
def test_no_value_can_leave_its_segment(value: str):
    """S13: separators, hash tags, globs and control characters become an underscore."""
    safe = escape(value)
    assert not re.search(r"[\s\x00-\x1f\x7f:*?\[\]{}\\^]", safe)
    assert len(safe.encode()) <= VALUE_BYTES


def test_long_values_stay_different():
    """A cut value carries a hash, so that two tenants never share a stream by accident."""
    assert escape("a" * 500) != escape("a" * 501)


@given(st.text(max_size=50))
def test_the_numbers_key_is_on_the_slot_of_the_stream(tenant: str):
    """A script may use both keys in a cluster, whatever the template renders to."""
    for template in ("plain", "s:{context.t}", "{{{context.t}}}:x", "a{{tag}}b:{context.t}"):
        router = Router(template, 1, 10, "producer")
        (stream,) = router.route([make_event(context={"t": tenant})])[0]
        assert key_slot(stream.key) == key_slot(stream.numbers_key)


def test_ten_thousand_tenants_make_at_most_a_thousand_keys():
    """S13, S17: cardinality is capped, and what is beyond is counted, not written."""
    router = Router("s:{context.tenant}", 1, 1000, "p")
    events = [make_event(context={"tenant": f"t{n}"}) for n in range(10_000)]
    keys = keys_of(router, events)
    assert len(set(keys) - {None}) == 1000
    assert keys.count(None) == 9_000
    assert keys_of(router, events[:5]) == keys[:5]


def test_an_execution_stays_in_one_partition_and_all_are_used():
    """Partitions spread executions and keep each one's order."""
    router = Router("s", 4, 1000, "p")
    keys = {n: set(keys_of(router, [make_event(execution_id=f"{n:032x}")] * 3)) for n in range(64)}
    assert all(len(used) == 1 for used in keys.values())
    assert set.union(*keys.values()) == {f"s:{n}".encode() for n in range(4)}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.sampled_from("ef"))),
    st.sampled_from(["s", "s:{operation}", "s:{context.t}", "{operation}:{context.t}"]),
    st.sampled_from([1, 3]),
)
def test_events_are_routed_together_as_they_would_be_alone(made, template: str, partitions: int):
    """What a batch knows of one event it applies to no other."""
    contexts = {name: {"t": name} for name in "ab"}
    events = [
        make_event(context=contexts[tenant], operation=operation, execution_id=execution)
        for tenant, operation, execution in made
    ]
    alone = [keys_of(Router(template, partitions, 99, "p"), [event])[0] for event in events]
    assert keys_of(Router(template, partitions, 99, "p"), events) == alone


def test_a_plain_key_is_used_as_it_is():
    """No event is looked at when there is nothing to fill in."""
    assert keys_of(Router("streamll_events", 1, 1, "p"), [make_event()]) == [b"streamll_events"]
    assert keys_of(Router("{{app}}:x", 1, 1, "p"), [make_event()]) == [b"{app}:x"]


@pytest.mark.parametrize("key", ["s", "{a}:s", "a{b}"])
def test_each_producer_has_a_number_of_its_own(key: str):
    """Two processes on one stream never skip each other's events."""
    assert Stream.of(key, "p").numbers_key != Stream.of(key, "q").numbers_key
