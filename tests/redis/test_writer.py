"""Bytes on the wire: what redis-py would have packed, cut where it must be."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll_redis import _writer
from streamll_redis._codec import EACH, entry
from streamll_redis._keys import Stream
from streamll_redis._protocol import command
from streamll_redis._writer import Script, parts, plain, trim_arguments
from support.events import body_of, make_event, make_events


def unpack(data: bytes) -> list[list[bytes]]:
    """Read commands with hiredis, as a server reads them."""
    reader = hiredis.Reader()
    reader.feed(data)
    return list(iter(reader.gets, False))


def parts_of(events, numbers=None):
    """Cut events with these numbers into parts of one stream."""
    numbers = numbers or list(range(1, len(events) + 1))
    bodies = [body_of(event) for event in events]
    return list(parts(Stream.of("s", "p"), numbers, range(len(events)), events, bodies))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_commands_are_packed_as_redis_py_packs_them(arguments: list[bytes]):
    """The reference packer and the reference reader agree with ours."""
    assert command(*arguments) == hiredis.pack_command(tuple(arguments))
    assert unpack(command(*arguments)) == [arguments]


def test_a_call_holds_every_field_of_every_event():
    """Heads are sent once and referred to; putting them back gives whole entries."""
    events = [*make_events(3), make_event(event_type="end", data={"total_tokens": 5}), make_event()]
    (part,) = parts_of(events)
    (call,) = unpack(part.call(Script.make([]), in_full=False))
    assert call[0] == b"EVALSHA"
    assert call[2:6] == [b"2", b"s", b"{s}:streamll:p", b"1"]
    assert _entries(call[5:]) == [entry(event, body_of(event)) for event in events]


def _entries(argv: list[bytes]) -> list[list[bytes]]:
    """Do what the script does with its arguments."""
    heads, at = {}, 5
    for index in range(1, int(argv[4]) + 1):
        count = int(argv[at])
        heads[b"%d" % index] = argv[at + 1 : at + 1 + count]
        at += count + 1
    return [
        [piece for pair in zip(EACH, argv[e + 1 : e + 4], strict=True) for piece in pair]
        + heads[argv[e]]
        for e in range(at, len(argv), 4)
    ]


def test_the_digest_is_that_of_the_text():
    """EVALSHA and EVAL mean the same script."""
    (part,) = parts_of(make_events(1))
    script = Script.make(trim_arguments(10, approximate=True))
    (by_digest,), (in_full,) = (unpack(part.call(script, in_full=flag)) for flag in (False, True))
    assert by_digest[1] == script.digest
    assert in_full[1] == script.text
    assert by_digest[2:] == in_full[2:]


@pytest.mark.parametrize(
    ("maxlen", "approximate", "words"),
    [(None, True, []), (5, True, [b"MAXLEN", b"~", b"5"]), (5, False, [b"MAXLEN", b"=", b"5"])],
)
def test_trimming_is_part_of_every_append(maxlen, approximate, words):
    """The script and the plain way trim alike."""
    trim = trim_arguments(maxlen, approximate=approximate)
    assert trim == words
    assert (b"'MAXLEN'" in Script.make(trim).text) == bool(words)
    (part,) = parts_of(make_events(1))
    assert unpack(plain(part, trim))[0][: 2 + len(words)] == [b"XADD", b"s", *words]


def test_a_write_is_cut_where_numbers_jump():
    """A part is a run of numbers, and names the number before it."""
    cut = parts_of(make_events(5), [3, 4, 7, 8, 9])
    assert [(part.first, part.last, part.after) for part in cut] == [(3, 4, 0), (7, 9, 4)]
    assert [list(part.positions) for part in cut] == [[0, 1], [2, 3, 4]]


def test_a_write_is_cut_where_enough_bytes_have_come_together(monkeypatch):
    """No event is lost or repeated by cutting, and no part is empty."""
    monkeypatch.setattr(_writer, "PART_BYTES", 1000)
    events = make_events(20)
    cut = parts_of(events)
    assert len(cut) > 5
    assert [event for part in cut for event in part.events] == events
    assert [part.after for part in cut] == [0, *(part.last for part in cut[:-1])]
