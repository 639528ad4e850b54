"""Items, outages and files for the tests of the disk spool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.delivery.doubles import Recorder, encode, eventually, make_event, open_channel, submit
from streamll._delivery.item import Item
from streamll._delivery.spool import Spool
from streamll.events import Batch

#: A sink that is down: the circuit opens at once and stays open for the test.
DOWN: dict[str, Any] = {"failure_threshold": 1, "recovery_timeout": 3600.0, "buffer_size": 10}


def items(first: int, last: int, size: int = 0, **fields: Any) -> list[Item]:
    events = [make_event(n, data={"x": "y" * size}) for n in range(first, last + 1)]
    bodies = [encode(event) for event in events]
    return [
        Item(event, body, 1.5, len(body), event.sequence, **fields)
        for event, body in zip(events, bodies, strict=True)
    ]


def refuse(batch: Batch) -> None:
    raise ConnectionRefusedError


def outage(
    path: Path, kind: type[Recorder] = Recorder, *, events: int = 500, **options: Any
) -> Any:
    """Return sink and channel after *events* met a sink that is down."""
    sink = kind(refuse, spool=str(path), **{**DOWN, **options})
    channel = open_channel(sink)
    submit(channel, make_event(0))
    eventually(lambda: sink.circuit_open)
    submit(channel, *(make_event(n) for n in range(1, events)))
    return sink, channel


def is_all_on_disk(channel: Any) -> bool:
    """Whether nothing is on its way to the disk."""
    spillway = channel._channel.waiting.spillway
    return not (spillway.spilling or spillway.staged)


def fill(path: Path, first: int, last: int, **fields: Any) -> None:
    """Leave events in the spool file *path*."""
    spool = Spool(str(path), 10**6)
    spool.open()
    spool.append(items(first, last, **fields))
    spool.close()


def found(path: Path) -> list[int]:
    """Return what the next owner of *path* reads, and leave it there."""
    spool = Spool(str(path), 10**6)
    stored = [spool.read([row]) for row in spool.open()]
    spool.close()
    return [row.event.sequence for read in stored for row in read.values()]
