"""Event ids are UUIDv7; trace and span ids are W3C."""

from __future__ import annotations

import os
import random
import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from streamll import _ids


def test_event_ids_are_version_7_uuids_of_the_rfc_variant():
    """RFC 9562 readers accept every event id."""
    for _ in range(1000):
        parsed = uuid.UUID(_ids.event_id())
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122


def test_event_ids_are_unique_and_sort_by_time():
    """Ids made later never sort before the millisecond of ids made earlier."""
    made = [_ids.event_id() for _ in range(50_000)]
    assert len(set(made)) == len(made)
    assert [i[:13] for i in made] == sorted(i[:13] for i in made)


@given(st.integers())
def test_the_programs_random_sequence_is_neither_seen_nor_moved(seed):
    """Seeding `random` does not repeat our ids, and making ids does not move its sequence."""
    random.seed(seed)
    expected = random.random()
    random.seed(seed)
    first = _ids.trace_id()
    assert random.random() == expected
    random.seed(seed)
    assert _ids.trace_id() != first


def test_trace_and_span_ids_are_lower_hex_of_w3c_length():
    """32 and 16 hex digits."""
    assert re.fullmatch(r"[0-9a-f]{32}", _ids.trace_id())
    assert re.fullmatch(r"[0-9a-f]{16}", _ids.span_id())


def test_a_forked_child_makes_other_ids_than_its_parent():
    """Parent and child never share an id after a fork."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        ids = [_ids.event_id() + _ids.trace_id() + _ids.span_id() for _ in range(3)]
        os.write(write, "\n".join(ids).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    child = os.read(read, 4096).decode().split()
    parent = [_ids.event_id() + _ids.trace_id() + _ids.span_id() for _ in range(3)]
    assert len(child) == 3
    for c, p in zip(child, parent, strict=True):
        assert c[14:36] != p[14:36]
        assert c[36:] != p[36:]
