"""Batches -> bytes of the Redis protocol, and the script they call. Pure.

Packed by hand because it is the hot path: redis-py packs an argument at a time. Verified in
the tests against redis-py's packer and a real server.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import attrs

from streamll_redis._codec import EACH, Head, entry, head_fields, head_of, sequences, timestamps
from streamll_redis._errors import GAP
from streamll_redis._protocol import bulk, command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamll import Event
    from streamll_redis._keys import Stream

__all__ = ["Part", "Script", "parts", "plain", "trim_arguments"]

#: Bytes of bodies in one call of the script: what a slow link still gets through in time, and
#: small enough that the server works on one part while the next is packed.
PART_BYTES: Final = 128 * 1024

#: Seconds the server remembers a producer's last number: longer than any outage after which
#: the same process still retries.
REMEMBER: Final = 86_400

# KEYS: stream, last number of the producer.
# ARGV: first and last number of this part, number before it in the same write or 0, seconds
# to remember, number of heads; per head its argument count and arguments; per event the
# index of its head and the values of EACH. Trimming once, with the last event, is enough.
_APPEND: Final = """
local call, key, arg = redis.call, KEYS[1], ARGV
local last = tonumber(call('GET', KEYS[2]) or '0')
if last < tonumber(arg[3]) then return redis.error_reply('{gap} the part before is missing') end
local from, to, i = {{}}, {{}}, 6
for head = 1, tonumber(arg[5]) do
  local count = tonumber(arg[i])
  from[tostring(head)], to[tostring(head)] = i + 1, i + count
  i = i + count + 1
end
local first = i + 4 * math.max(0, last - tonumber(arg[1]) + 1)
if first > #arg then return 0 end
for e = first, #arg - 4, 4 do
  call('XADD', key, '*', {each}, unpack(arg, from[arg[e]], to[arg[e]]))
end
local e = #arg - 3
call('XADD', key, {trim}'*', {each}, unpack(arg, from[arg[e]], to[arg[e]]))
call('SET', KEYS[2], arg[2], 'EX', arg[4])
return 1
"""


def trim_arguments(maxlen: int | None, *, approximate: bool) -> list[bytes]:
    """Return the trimming arguments of XADD."""
    if maxlen is None:
        return []
    return [b"MAXLEN", b"~" if approximate else b"=", b"%d" % maxlen]


@attrs.frozen
class Script:
    """The append script of one sink: trimming is part of its text."""

    text: bytes
    digest: bytes

    @classmethod
    def make(cls, trim: Sequence[bytes]) -> Script:
        """Write the script for these trimming arguments."""
        quoted = "".join(f"'{word.decode()}', " for word in trim)
        each = ", ".join(f"'{name.decode()}', arg[e + {n}]" for n, name in enumerate(EACH, 1))
        text = _APPEND.format(gap=GAP, trim=quoted, each=each).encode()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


@attrs.frozen(eq=False)
class Part:
    """Consecutive events of one stream, with consecutive numbers: one call of the script.

    Attributes:
        stream: where they go.
        positions: of the events in their batch.
        events: the events.
        bodies: their bodies.
        first: number of the first event.
        after: number before it in the same write, 0 for none.
    """

    stream: Stream
    positions: Sequence[int]
    events: Sequence[Event]
    bodies: Sequence[bytes]
    first: int
    after: int

    @property
    def last(self) -> int:
        """Number of the last event."""
        return self.first + len(self.events) - 1

    def call(self, script: Script, *, in_full: bool) -> bytes:
        """Return the call that appends this part; *in_full* sends the text of the script."""
        heads = _Heads()
        packed = _packed(heads.indexes(self.events), self.events, self.bodies)
        name, source = (b"EVAL", script.text) if in_full else (b"EVALSHA", script.digest)
        start = [name, source, b"2", self.stream.key, self.stream.numbers_key]
        numbers = (self.first, self.last, self.after, REMEMBER, len(heads.index))
        start += [b"%d" % number for number in numbers]
        total = len(start) + heads.count + 4 * len(self.events)
        return b"".join([b"*%d\r\n" % total, *map(bulk, start), *heads.packed, *packed])


def parts(
    stream: Stream,
    numbers: Sequence[int],
    positions: Sequence[int],
    events: Sequence[Event],
    bodies: Sequence[bytes],
) -> Iterator[Part]:
    """Cut one stream's share of a batch where numbers jump or enough bytes have come together."""
    after = 0
    for start, stop in _cuts(numbers, bodies):
        cut = slice(start, stop)
        yield Part(stream, positions[cut], events[cut], bodies[cut], numbers[start], after)
        after = numbers[stop - 1]


def _cuts(numbers: Sequence[int], bodies: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    begins = [0, *accumulate(map(len, bodies))]  # the bytes before each body
    start = 0
    for stop in _jumps(numbers):
        while start < stop:
            full = bisect_right(begins, begins[start] + PART_BYTES, start, stop + 1) - 1
            end = max(full, start + 1)
            yield start, end
            start = end


def _jumps(numbers: Sequence[int]) -> list[int]:
    """Return where runs of consecutive numbers end; numbers rise."""
    count = len(numbers)
    if numbers[-1] - numbers[0] == count - 1:
        return [count]
    return [at for at in range(1, count) if numbers[at] != numbers[at - 1] + 1] + [count]


def plain(part: Part, trim: Sequence[bytes]) -> bytes:
    """Return one XADD per event, for servers that refuse scripts; repeats are appended again."""
    start = [b"XADD", part.stream.key, *trim, b"*"]
    pairs = zip(part.events, part.bodies, strict=True)
    return b"".join(command(*start, *entry(event, body)) for event, body in pairs)


@attrs.define
class _Heads:
    """The distinct heads of one part, packed."""

    index: dict[Head, bytes] = attrs.field(factory=dict)
    packed: list[bytes] = attrs.field(factory=list)
    count: int = 0

    def indexes(self, events: Sequence[Event]) -> list[bytes]:
        """Return the packed index of each event's head."""
        known, add = self.index, self._add
        return [known.get(head) or add(head) for head in map(head_of, events)]

    def _add(self, head: Head) -> bytes:
        fields = head_fields(head)
        self.packed += map(bulk, (b"%d" % len(fields), *fields))
        self.count += len(fields) + 1
        index = self.index[head] = bulk(b"%d" % (len(self.index) + 1))
        return index


def _packed(
    indexes: Sequence[bytes], events: Sequence[Event], bodies: Sequence[bytes]
) -> list[bytes]:
    """Return the arguments of each event, in one operation each: the hottest line there is."""
    rows = zip(indexes, bodies, timestamps(events), sequences(events), strict=True)
    return [
        b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        % (index, len(body), body, len(at), at, len(number), number)
        for index, body, at, number in rows
    ]
